package auth

import (
	"strings"
)

// ACL is an access control file. It is immutable; what it says about clients is shared between all clients of
// one user where it does not depend on the client id.
type ACL struct {
	users     map[string]*aclRules
	others    *aclRules // users that the file does not name
	anonymous *aclRules
	warnings  []string
}

// aclRules is what the file says about one client: its own list, then the patterns, then no.
type aclRules struct {
	own       *filters // nil: none
	patterns  *filters // nil: none
	who       names
	dangerous bool // + or # in a name: patterns give nothing
}

// LoadACL reads an ACL file: "user NAME", "topic [read|write|readwrite|deny] FILTER" and "pattern ...", words
// separated by spaces, comments with # in the first column. Whatever else is there is a *FileError.
func LoadACL(path string) (*ACL, error) {
	s := &source{path: path, what: "acl_file"}
	p := newACLParser(s)
	if err := s.read(p.line); err != nil {
		return nil, err
	}
	return p.finish(), nil
}

// aclParser collects the lists of a file.
type aclParser struct {
	s         *source
	users     map[string]*filters
	anonymous *filters
	name      string
	named     bool     // a user line was there
	patterns  *filters // nil: none
	nameless  *filters // the patterns that clients without a username have
}

func newACLParser(s *source) *aclParser {
	return &aclParser{s: s, users: make(map[string]*filters), anonymous: &filters{}}
}

// line takes one line.
func (p *aclParser) line(line string) error {
	line = strings.TrimRight(line, " \t\n\v\f\r")
	word, rest := nextWord(line)
	switch word {
	case "":
		return nil
	case "user":
		name := strings.TrimSpace(rest)
		if name == "" {
			return p.s.fail("Missing username in acl_file \"%s\".", p.s.path)
		}
		p.name, p.named = name, true
		return nil
	case "topic", "pattern":
		return p.entry(rest, word == "pattern")
	}
	return p.s.fail("Invalid line in acl_file \"%s\".", p.s.path)
}

// nextWord splits at spaces; only spaces separate, as in Mosquitto.
func nextWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(strings.TrimLeft(s, " "), " ")
	return word, rest
}

// entry takes what stands behind "topic" or "pattern": one word is a filter, to read and write; otherwise the
// first word is the access and the rest, spaces included, the filter.
func (p *aclParser) entry(text string, pattern bool) error {
	word, _ := nextWord(text)
	if word == "" {
		return p.s.fail("Empty topic in acl_file \"%s\".", p.s.path)
	}
	r, err := ParseRule(text)
	if err != nil {
		return p.s.fail("Invalid topic access type \"%s\" in acl_file \"%s\".", word, p.s.path)
	}
	if r.Check() != nil {
		return p.s.fail("Invalid ACL topic \"%s\" in acl_file \"%s\".", r.Filter, p.s.path)
	}
	filter, access := r.Filter, r.bits()
	if pattern {
		p.pattern(filter, access)
		return nil
	}
	p.list().add(filter, access, false)
	return nil
}

func (p *aclParser) pattern(filter string, access Access) {
	byUser := strings.Contains(filter, userEdge)
	if !byUser && !strings.Contains(filter, clientEdge) {
		p.s.warn("ACL pattern '%s' does not contain '%%c' or '%%u'.", filter)
	}
	if p.patterns == nil {
		p.patterns, p.nameless = &filters{}, &filters{}
	}
	p.patterns.add(filter, access, true)
	if !byUser {
		p.nameless.add(filter, access, true)
	}
}

// list is the list that topic lines belong to now.
func (p *aclParser) list() *filters {
	if !p.named {
		return p.anonymous
	}
	f := p.users[p.name]
	if f == nil {
		f = &filters{}
		p.users[p.name] = f
	}
	return f
}

// finish makes the file's rules. A client without a name in the list shares those of its user.
func (p *aclParser) finish() *ACL {
	a := &ACL{
		users:     make(map[string]*aclRules, len(p.users)),
		others:    &aclRules{patterns: p.patterns},
		anonymous: &aclRules{own: p.anonymous, patterns: p.nameless},
		warnings:  p.s.warnings,
	}
	for name, f := range p.users {
		a.users[name] = &aclRules{own: f, patterns: p.patterns}
	}
	return a
}

// Warnings are what is worth telling about the file, whole log lines.
func (a *ACL) Warnings() []string { return a.warnings }

// Rules implements Authorizer.
func (a *ACL) Rules(clientID, username string, hasUsername bool) Rules {
	r := a.anonymous
	if hasUsername {
		r = a.others
		if own := a.users[username]; own != nil {
			r = own
		}
	}
	if r.patterns == nil {
		return r
	}
	dangerous := strings.ContainsAny(clientID, "+#") || strings.ContainsAny(username, "+#")
	if !dangerous && !r.patterns.named {
		return r
	}
	return &aclRules{
		own: r.own, patterns: r.patterns, dangerous: dangerous,
		who: names{client: clientID, user: username, hasUser: hasUsername},
	}
}

// Check implements Rules. The file says nothing about subscriptions: they are granted, and each message is
// checked on its way.
func (r *aclRules) Check(a Access, topic []byte) Verdict {
	if a&(Subscribe|Unsubscribe) != 0 {
		return Allow
	}
	if r.own != nil {
		if v := r.own.check(a, topic, &r.who); v != Ignore {
			return v
		}
	}
	if r.patterns != nil && !r.dangerous {
		if v := r.patterns.check(a, topic, &r.who); v != Ignore {
			return v
		}
	}
	return Deny
}

// Covers implements Rules.
func (r *aclRules) Covers(filter []byte) bool {
	if len(filter) == 0 {
		return false
	}
	if r.own != nil {
		if r.own.touched(filter, &r.who) {
			return false
		}
		if r.own.covered(Read, filter, &r.who) {
			return true
		}
	}
	return r.patterns != nil && !r.dangerous && !r.patterns.touched(filter, &r.who) &&
		r.patterns.covered(Read, filter, &r.who)
}
