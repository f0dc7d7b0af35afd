package source

import (
	"fmt"
	"strconv"
	"strings"

	"noctule/broker/auth"
	"noctule/codec"
)

// who is whom rules are for.
type who struct{ clientID, username string }

// rule is one of a list, as a source has it: its filter is a template.
type rule struct {
	access auth.Access // of Read, Write and Subscribe; 0 denies
	filter string
}

// accessOf reads an access by its word, or by mosquitto-go-auth's number: 1 read, 2 write, 4 subscribe.
func accessOf(word string) (auth.Access, bool) {
	switch word {
	case "read":
		return auth.Read, true
	case "write":
		return auth.Write, true
	case "readwrite":
		return auth.Read | auth.Write, true
	case "subscribe":
		return auth.Subscribe, true
	case "deny":
		return 0, true
	}
	n, err := strconv.ParseUint(word, 10, 3)
	var a auth.Access
	for bit, one := range map[uint64]auth.Access{1: auth.Read, 2: auth.Write, 4: auth.Subscribe} {
		if n&bit != 0 {
			a |= one
		}
	}
	return a, err == nil && n > 0
}

// wordOf is the word for an access.
func wordOf(a auth.Access) string {
	switch a {
	case auth.Read:
		return "read"
	case auth.Write:
		return "write"
	default:
		return "subscribe"
	}
}

// parseLine reads what stands behind "topic" in an ACL file, or "subscribe FILTER".
func parseLine(text string) (rule, error) {
	if filter, ok := strings.CutPrefix(strings.TrimSpace(text), "subscribe "); ok {
		r := rule{auth.Subscribe, strings.TrimSpace(filter)}
		return r, r.check()
	}
	x, err := auth.ParseRule(text)
	if err != nil {
		return rule{}, err
	}
	r := rule{x.Access, x.Filter}
	return r, r.check()
}

func checkLine(text string) error {
	_, err := parseLine(text)
	return err
}

// check tries the filter with names that do no harm.
func (r rule) check() error {
	filled, ok := fill(r.filter, who{"x", "x"})
	if !ok {
		return fmt.Errorf("%q is no filter", r.filter)
	}
	return auth.Rule{Filter: filled}.Check()
}

// fill puts names in the places of %u and %c. It reports false where a name is missing, or is more than a
// part of a level: with "+", "#" or "/" it could reach the topics of others.
func fill(template string, w who) (filled string, ok bool) {
	if !strings.Contains(template, "%") {
		return template, true
	}
	ok = true
	name := func(v string) string {
		ok = ok && v != "" && !strings.ContainsAny(v, "+#/") && auth.ValidName(v) != ""
		return v
	}
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		switch {
		case strings.HasPrefix(template[i:], "%u"):
			b.WriteString(name(w.username))
			i++
		case strings.HasPrefix(template[i:], "%c"):
			b.WriteString(name(w.clientID))
			i++
		default:
			b.WriteByte(template[i])
		}
	}
	return b.String(), ok
}

// rulesOf makes the rules of one client. A rule that allows and whose name cannot be put in is left out; one
// that denies would be missing where it is wanted, so nothing is allowed then. Once there is a rule about
// subscriptions, all have to lie within one; without, they are granted and each message is checked.
func rulesOf(list []rule, w who) auth.Rules {
	var base, subs []auth.Rule
	for _, r := range list {
		filter, ok := fill(r.filter, w)
		x := auth.Rule{Access: r.access &^ auth.Subscribe, Filter: filter}
		switch {
		case (!ok || x.Check() != nil) && r.access == 0:
			none, _ := auth.NewRules(nil) // which has no errors
			return none
		case !ok || x.Check() != nil:
			continue
		}
		if r.access&auth.Subscribe != 0 {
			subs = append(subs, auth.Rule{Access: auth.Read, Filter: filter})
		}
		if x.Access != 0 || r.access == 0 {
			base = append(base, x)
		}
	}
	rules, err := auth.NewRules(base)
	if err != nil { // each has been checked
		rules, _ = auth.NewRules(nil)
	}
	if subs == nil {
		return rules
	}
	l := &listed{Rules: rules}
	if l.subs, err = auth.NewRules(subs); err != nil {
		l.subs, _ = auth.NewRules(nil)
	}
	return l
}

// listed are rules that say which subscriptions there may be.
type listed struct {
	auth.Rules
	subs auth.Rules
}

// Check implements auth.Rules.
func (l *listed) Check(a auth.Access, topic []byte) auth.Verdict {
	if a != auth.Subscribe {
		return l.Rules.Check(a, topic)
	}
	if _, name, shared := codec.SplitShare(topic); shared {
		topic = name
	}
	if l.subs.Covers(topic) {
		return auth.Allow
	}
	return auth.Deny
}

// all are the rules of a superuser.
type all struct{}

// Check implements auth.Rules.
func (all) Check(auth.Access, []byte) auth.Verdict { return auth.Allow }

// Covers implements auth.Rules.
func (all) Covers([]byte) bool { return true }
