package source

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/lookup"
	"noctule/broker/lookup/redis"
)

// answer is what a source says of a login, or, where it keeps passwords, what it has of a user. It is
// immutable.
type answer struct {
	verdict   auth.Verdict // Allow, Deny, or Defer if it does not know the user; with a hash, that decides
	hash      *hash.Hash
	superuser bool
	username  string // takes the place of CONNECT's; ""
	groups    []string
	rules     []rule
	listed    bool // there are rules, maybe none
	expires   time.Time
	topics    any // to be subscribed to
}

// cost is what an answer takes in a cache.
func cost(a *answer) (bytes int, of any) {
	n := 192 + len(a.username)
	if a.hash != nil {
		n += 512
	}
	for _, g := range a.groups {
		n += 16 + len(g)
	}
	for i := range a.rules {
		n += 32 + len(a.rules[i].filter)
	}
	if a.topics != nil {
		n += sizeOf(a.topics)
	}
	return n, nil
}

// sizeOf is about what a value takes that was read from JSON.
func sizeOf(v any) int {
	switch x := v.(type) {
	case string:
		return 32 + len(x)
	case []any:
		n := 32
		for _, item := range x {
			n += sizeOf(item)
		}
		return n
	case map[string]any:
		n := 64
		for k, item := range x {
			n += 64 + len(k) + sizeOf(item)
		}
		return n
	}
	return 16
}

// How a webservice answers.
const (
	answerStatus = "status" // by its status, and a body if it likes
	answerJSON   = "json"   // {"ok":true} or {"Ok":true}, with 200
	answerText   = "text"   // ok, with 200
)

// Limits of an answer.
const (
	rulesMax  = 10000
	groupsMax = 1000
)

// reply is the body of a webservice's answer with 200, which may be empty.
type reply struct {
	Result    string   `json:"result"` // allow, deny or unknown; "": by the status
	OK        *bool    `json:"ok"`     // of answerJSON
	Username  string   `json:"username"`
	Superuser bool     `json:"superuser"`
	Groups    []string `json:"groups"`
	Rules     []string `json:"rules"`      // lines as behind "topic" in an ACL file
	ExpiresIn *float64 `json:"expires_in"` // seconds
	Topics    any      `json:"topics"`     // to be subscribed to: a list as package presub reads it
}

// readHTTP reads the answer of a webservice about a login: 200 and 204 are yes, 401 and 403 no, 404 that it
// does not know the user. 408, 429 and what is above 499 are no answer; everything else is none either, and
// says nothing about the webservice.
func readHTTP(form string) func(status int, body []byte) (*answer, error) {
	return func(status int, body []byte) (*answer, error) {
		a := &answer{}
		var more bool
		if a.verdict, more = verdictOf(form, status); a.verdict == auth.Ask {
			return nil, lookup.StatusError(status)
		}
		if !more {
			return a, nil
		}
		text := strings.TrimSpace(string(body))
		if form == answerText {
			if text != "ok" {
				a.verdict = auth.Deny
			}
			return a, nil
		}
		if form == answerStatus && (status == http.StatusNoContent || !strings.HasPrefix(text, "{")) {
			return a, nil
		}
		var r reply
		if err := json.Unmarshal([]byte(text), &r); err != nil { // which may repeat what is in it
			return nil, lookup.Final{Err: errors.New("the answer is not the JSON that it has to be")}
		}
		if form == answerJSON {
			if r.OK == nil || !*r.OK {
				a.verdict = auth.Deny
			}
			return a, nil
		}
		if err := a.take(&r, now()); err != nil {
			return nil, lookup.Final{Err: err}
		}
		return a, nil
	}
}

// verdictOf is what a status says, Ask if it is no answer, and whether there is more to be read.
func verdictOf(form string, status int) (v auth.Verdict, more bool) {
	final := status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
	switch {
	case form != answerStatus && final && status != http.StatusOK:
		return auth.Deny, false // mosquitto-go-auth takes it for no
	case status == http.StatusOK || status == http.StatusNoContent:
		return auth.Allow, true
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return auth.Deny, false
	case status == http.StatusNotFound:
		return auth.Defer, false
	}
	return auth.Ask, false
}

// take takes the body of an answer. What cannot be read is no answer: a rule that is not understood may be
// one that denies.
func (a *answer) take(r *reply, at time.Time) error {
	switch r.Result {
	case "", "allow":
	case "deny":
		a.verdict = auth.Deny
	case "unknown":
		a.verdict = auth.Defer
	default:
		return errors.New("the answer's result is not allow, deny or unknown")
	}
	if auth.ValidName(r.Username) != r.Username || len(r.Groups) > groupsMax || len(r.Rules) > rulesMax {
		return errors.New("the answer's username, groups or rules are not usable")
	}
	a.username, a.superuser, a.groups, a.topics = r.Username, r.Superuser, r.Groups, r.Topics
	a.listed = r.Rules != nil
	for i, line := range r.Rules {
		x, err := parseLine(line)
		if err != nil {
			return fmt.Errorf("rule %d of the answer: %w", i+1, err)
		}
		a.rules = append(a.rules, x)
	}
	if s := r.ExpiresIn; s != nil {
		if !(*s > 0 && *s < float64(100*365*24*3600)) {
			return errors.New("the answer's expires_in is no number of seconds")
		}
		a.expires = at.Add(time.Duration(*s * float64(time.Second)))
	}
	return nil
}

// readUser reads the row of a user: the stored password, and if it likes whether it is a superuser.
func readUser(form hash.Form) func(rows *sql.Rows) (*answer, error) {
	return func(rows *sql.Rows) (*answer, error) {
		a, n := &answer{verdict: auth.Defer}, 0
		err := lookup.EachRow(rows, func(columns []string, values []sql.NullString) error {
			if n++; n > 1 {
				return errors.New("a user with more than one row")
			}
			if len(columns) > 2 {
				return errors.New("columns beyond the stored password and superuser")
			}
			if err := a.store(form, values[0].String); err != nil {
				return err
			}
			a.superuser = len(values) > 1 && values[1].Valid && truth(values[1].String)
			return nil
		})
		return a, err
	}
}

// readTruth reads whether the first column of the first row says yes; none is no.
func readTruth(rows *sql.Rows) (*answer, error) {
	a := &answer{verdict: auth.Deny}
	first := true
	err := lookup.EachRow(rows, func(_ []string, values []sql.NullString) error {
		if first && values[0].Valid && truth(values[0].String) {
			a.verdict = auth.Allow
		}
		first = false
		return nil
	})
	return a, err
}

// truth is what databases say for yes: true, t, or a number that is not 0.
func truth(v string) bool {
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		return n != 0
	}
	yes, err := strconv.ParseBool(v)
	return err == nil && yes
}

// store takes a stored password. One that is empty is no user's; one that is not understood is no.
func (a *answer) store(form hash.Form, text string) error {
	if text == "" {
		return nil
	}
	h, err := form.Parse(text)
	var weak *hash.WeakError
	switch {
	case errors.As(err, &weak):
		return fmt.Errorf("the stored password: %w", weak)
	case err != nil:
		return errors.New("the stored password is no hash in a known form")
	}
	a.verdict, a.hash = auth.Allow, h
	return nil
}

// readRules reads rows of rules: the columns access and topic, or topic alone, which has to be with an access
// that was asked about (and may be read and write otherwise).
func readRules(asked bool) func(rows *sql.Rows) (*answer, error) {
	return func(rows *sql.Rows) (*answer, error) {
		a := &answer{verdict: auth.Allow, listed: true}
		err := lookup.EachRow(rows, func(columns []string, values []sql.NullString) error {
			if len(a.rules) >= rulesMax {
				return fmt.Errorf("more than %d rules", rulesMax)
			}
			r := rule{access: auth.Read | auth.Write}
			for i, v := range values {
				name := strings.ToLower(columns[i])
				switch {
				case name == "topic" || len(values) == 1:
					r.filter = v.String
				case name == "access" && !asked:
					var ok bool
					if r.access, ok = accessOf(v.String); !ok {
						return errors.New(
							"the column access is not read, write, readwrite, subscribe or deny",
						)
					}
				default:
					return fmt.Errorf("unknown column %s", columns[i])
				}
			}
			if err := r.check(); err != nil {
				return err
			}
			a.rules = append(a.rules, r)
			return nil
		})
		return a, err
	}
}

// readRedisUser reads what Redis has of a user: the stored password, and whether it is a superuser.
func (r *Redis) readUser(form hash.Form) func(replies []redis.Reply) (*answer, error) {
	return func(replies []redis.Reply) (*answer, error) {
		a := &answer{verdict: auth.Defer}
		if err := a.store(form, replies[0].First()); err != nil {
			return nil, err
		}
		a.superuser = len(replies) > 1 && truth(replies[1].First())
		return a, nil
	}
}

// readRules reads the sets of a user's rules.
func (r *Redis) readRules(replies []redis.Reply) (*answer, error) {
	a := &answer{verdict: auth.Allow, listed: true}
	for i, x := range r.Rules {
		for _, text := range replies[i].Texts {
			one, err := parseSet(x.Access, text)
			if err != nil {
				return nil, err
			}
			if a.rules = append(a.rules, one); len(a.rules) > rulesMax {
				return nil, fmt.Errorf("more than %d rules", rulesMax)
			}
		}
	}
	return a, nil
}

// parseSet reads a member of a set whose access may be said elsewhere.
func parseSet(access, text string) (rule, error) {
	if access == "" {
		return parseLine(text)
	}
	a, _ := accessOf(access) // which was checked
	x := rule{a, text}
	return x, x.check()
}
