package auth

import (
	"errors"
	"fmt"
	"strings"

	"noctule/codec"
)

// Rule is one line of a list: what may be done with the topics that a filter matches, or, without any access,
// that nothing may be.
type Rule struct {
	Access Access // of Read and Write; 0 denies both
	Filter string
}

// ParseRule reads what stands behind "topic" in an ACL file: a filter alone, to read and write, or an access
// (read, write, readwrite, deny) and a filter, spaces included. The filter is not looked at: Check does.
func ParseRule(text string) (Rule, error) {
	word, rest := nextWord(strings.TrimRight(text, " \t\n\v\f\r"))
	if word == "" {
		return Rule{}, errors.New("no topic")
	}
	if rest == "" {
		return Rule{Read | Write, word}, nil
	}
	r := Rule{Filter: strings.TrimSpace(rest)}
	switch word {
	case "read":
		r.Access = Read
	case "write":
		r.Access = Write
	case "readwrite":
		r.Access = Read | Write
	case "deny":
	default:
		return Rule{}, fmt.Errorf("%q is no access: read, write, readwrite, deny", word)
	}
	return r, nil
}

// Check reports what is wrong with the filter. $share is a level like others here.
func (r Rule) Check() error {
	form := r.Filter
	if strings.HasPrefix(form, "$share/") {
		form = "x" + form
	}
	if err := codec.CheckTopicFilter([]byte(form)); err != nil {
		return fmt.Errorf("%q is no filter", r.Filter)
	}
	return nil
}

// bits are what a list notes.
func (r Rule) bits() Access {
	if r.Access == 0 {
		return denied
	}
	return r.Access & (Read | Write)
}

// NewRules makes the rules of one client of a list, as an ACL file has them for its user: lines that deny
// come first, otherwise the order does not matter, and what no line allows is denied. Subscriptions are
// granted, and each message is checked. No lines allow nothing.
func NewRules(list []Rule) (Rules, error) {
	f := &filters{}
	for _, r := range list {
		if err := r.Check(); err != nil {
			return nil, err
		}
		f.add(r.Filter, r.bits(), false)
	}
	return &aclRules{own: f}, nil
}
