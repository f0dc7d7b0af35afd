package goauth

import (
	"bufio"
	"fmt"
	"strings"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/internal/regular"
)

// topic is a filter that gives something, as a backend has it: %u and %c stand for the client.
type topic struct {
	access auth.Access // of Read, Write and Subscribe; 0 denies
	filter string
}

// grant is what one backend allows one client. It is immutable.
type grant struct {
	rules auth.Rules // what it may read and write
	subs  auth.Rules // where a filter that may be read is one that may be subscribed to
	// hash says that # may be subscribed to: a right to read alone does not give that.
	hash bool
}

// everything is the grant of a backend without a list.
type everything struct{}

// Check implements auth.Rules.
func (everything) Check(auth.Access, []byte) auth.Verdict { return auth.Allow }

// Covers implements auth.Rules.
func (everything) Covers([]byte) bool { return true }

func grantAll() *grant { return &grant{everything{}, everything{}, true} }

// names are what %u and %c stand for.
type names struct{ user, client string }

// newGrant makes what topics come to for one client. One whose filter is none with the names in it is left
// out; one that denies would be missing where it is wanted, so nothing is allowed then.
func newGrant(list []topic, who names) *grant {
	g := &grant{}
	var rules, subs []auth.Rule
	for _, t := range list {
		filter, ok := who.fill(t.filter)
		r := auth.Rule{Access: t.access &^ auth.Subscribe, Filter: filter}
		ok = ok && r.Check() == nil
		switch {
		case !ok && t.access == 0:
			return &grant{rules: nothing(), subs: nothing()}
		case !ok:
			continue
		case t.access == 0:
			rules, subs = append(rules, r), append(subs, r)
			continue
		}
		if r.Access != 0 {
			rules = append(rules, r)
		}
		if t.access&auth.Subscribe != 0 {
			subs = append(subs, auth.Rule{Access: auth.Read, Filter: filter})
			g.hash = g.hash || filter == "#" && t.access != auth.Read|auth.Subscribe
		}
	}
	g.rules, g.subs = mustRules(rules), mustRules(subs)
	return g
}

// mustRules are rules of filters that were checked.
func mustRules(list []auth.Rule) auth.Rules {
	r, err := auth.NewRules(list)
	if err != nil {
		return nothing()
	}
	return r
}

func nothing() auth.Rules {
	r, _ := auth.NewRules(nil) // which has no errors
	return r
}

// fill puts the names in. It reports false where a name is missing, or is more than a part of a level: with
// "+", "#" or "/" it could reach the topics of others.
func (w names) fill(template string) (string, bool) {
	if !strings.Contains(template, "%u") && !strings.Contains(template, "%c") {
		return template, true
	}
	ok := true
	for place, name := range map[string]string{"%u": w.user, "%c": w.client} {
		if strings.Contains(template, place) && (name == "" || strings.ContainsAny(name, "+#/%")) {
			ok = false
		}
	}
	return strings.NewReplacer("%u", w.user, "%c", w.client).Replace(template), ok
}

// allows reports whether it gives an access.
func (g *grant) allows(a auth.Access, topic []byte) bool {
	if a != auth.Subscribe {
		return g.rules.Check(a, topic) == auth.Allow
	}
	if _, name, shared := codec.SplitShare(topic); shared {
		topic = name
	}
	if string(topic) == "#" && !g.hash {
		return false
	}
	return g.subs.Check(auth.Read, topic) == auth.Allow // a level of wildcards is one that + matches
}

// access is an access list of the plug-in's files: Mosquitto's, but that lines before any user are
// everybody's, that subscribe is an access of its own, and that what may be read or is readwrite may be
// subscribed to.
type access struct {
	users     map[string][]topic
	everyone  []topic
	warnings  []string
	templates bool              // there are names in everyone
	shared    map[string]*grant // of users, and of others by ""; if there are no names in everyone
}

// loadAccess reads a list. With known it leaves out users who are not. An error is an *auth.FileError.
func loadAccess(path string, known func(user string) bool) (*access, error) {
	raw, err := regular.ReadFile(path)
	if err != nil {
		return nil, &auth.FileError{
			Path: path,
			Text: fmt.Sprintf("Unable to open acl_file \"%s\".", path),
			Err:  err,
		}
	}
	a := &access{users: map[string][]topic{}, shared: map[string]*grant{}}
	user, named, left := "", false, false
	scan := bufio.NewScanner(strings.NewReader(string(raw)))
	scan.Buffer(nil, 1<<20)
	for n := 1; scan.Scan(); n++ {
		line := scan.Text()
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch {
		case rest == "":
			return nil, invalid(path, n)
		case word == "user":
			user, named, left = rest, true, known != nil && !known(rest)
			if left {
				a.warnings = append(a.warnings, fmt.Sprintf(
					"Warning: '%s' has a list of user '%s', who is not in the password file: it is left out.",
					path,
					user,
				))
			} else if a.users[user] == nil {
				a.users[user] = []topic{}
			}
		case word != "topic" && word != "pattern":
			return nil, invalid(path, n)
		default:
			t, err := parseTopic(rest)
			if err != nil {
				return nil, invalid(path, n)
			}
			a.add(t, word == "pattern" || !named, user, left)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, &auth.FileError{
			Path: path,
			Text: fmt.Sprintf("Unable to read acl_file \"%s\".", path),
			Err:  err,
		}
	}
	a.share()
	return a, nil
}

func invalid(path string, line int) error {
	return &auth.FileError{
		Path: path,
		Line: line,
		Text: fmt.Sprintf("Invalid line in acl_file \"%s\".", path),
	}
}

// add notes a line.
func (a *access) add(t topic, everyone bool, user string, left bool) {
	a.templates = a.templates || strings.Contains(t.filter, "%u") || strings.Contains(t.filter, "%c")
	switch {
	case everyone:
		a.everyone = append(a.everyone, t)
	case !left:
		a.users[user] = append(a.users[user], t)
	}
}

// parseTopic reads what stands behind topic or pattern.
func parseTopic(text string) (topic, error) {
	if filter, ok := strings.CutPrefix(text, "subscribe "); ok {
		t := topic{auth.Subscribe, strings.TrimSpace(filter)}
		return t, auth.Rule{Filter: t.filter}.Check()
	}
	r, err := auth.ParseRule(text)
	if err != nil {
		return topic{}, err
	}
	t := topic{r.Access, r.Filter}
	if t.access&auth.Read != 0 {
		t.access |= auth.Subscribe
	}
	return t, r.Check()
}

// of is what it allows a client.
func (a *access) of(who names) *grant {
	own, listed := a.users[who.user]
	if a.templates {
		return newGrant(append(own[:len(own):len(own)], a.everyone...), who)
	}
	key := ""
	if listed {
		key = who.user
	}
	return a.shared[key]
}

// share makes the grants that several clients have in common.
func (a *access) share() {
	if a.templates {
		return
	}
	a.shared[""] = newGrant(a.everyone, names{})
	for user, own := range a.users {
		a.shared[user] = newGrant(append(own[:len(own):len(own)], a.everyone...), names{})
	}
}
