package auth

import (
	"bytes"
	"strings"
)

// An access list of an ACL file is asked for every message, so it is an index: filters without wildcards are
// one look-up in a map, all others are a trie with a level an edge. A list says no if any of its denying
// filters matches, and otherwise yes if any other that matches gives the access asked for; so the order of
// lines does not matter and the bits of all filters that match are simply joined.
//
// %c and %u are edges of their own that match the client id or the username there and then: one trie serves
// all clients, and a client costs nothing but its two names.

// denied marks a filter that denies.
const denied Access = 1 << 7

// filters is one access list. It is immutable once it is built.
type filters struct {
	exact  map[string]Access
	wild   node // those with wildcards or names in them
	denies node // those that deny, with all others left out
	some   bool // one that denies is there
	named  bool // %c or %u is there
}

// node is one level of a trie.
type node struct {
	next           map[string]*node
	plus           *node
	client         *node  // %c
	user           *node  // %u
	bits           Access // of the filter that ends here
	hash           Access // of the filter that goes on with # here
	somewhereBelow bool   // a filter ends here or below; at the root only those not starting with $ count
}

// Names of the edges that stand for the client.
const (
	clientEdge = "%c"
	userEdge   = "%u"
)

// add puts a filter in. Only patterns know names.
func (f *filters) add(filter string, a Access, pattern bool) {
	names := pattern && hasName(filter)
	f.named = f.named || names
	if a == denied {
		f.some = true
		f.denies.add(filter, a, pattern)
	}
	if names || strings.ContainsAny(filter, "+#") {
		f.wild.add(filter, a, pattern)
		return
	}
	if f.exact == nil {
		f.exact = make(map[string]Access)
	}
	f.exact[filter] |= a
}

// hasName reports whether a whole level of a filter is %c or %u.
func hasName(filter string) bool {
	for level := range strings.SplitSeq(filter, "/") {
		if level == clientEdge || level == userEdge {
			return true
		}
	}
	return false
}

func (n *node) add(filter string, a Access, pattern bool) {
	if filter[0] != '$' {
		n.somewhereBelow = true
	}
	for level := range strings.SplitSeq(filter, "/") {
		if level == "#" {
			n.hash |= a
			return
		}
		n = n.step(level, pattern)
		n.somewhereBelow = true
	}
	n.bits |= a
}

// step returns the node behind an edge, made if need be.
func (n *node) step(level string, pattern bool) *node {
	at := &n.plus
	switch {
	case level == "+":
	case pattern && level == clientEdge:
		at = &n.client
	case pattern && level == userEdge:
		at = &n.user
	default:
		if n.next == nil {
			n.next = make(map[string]*node)
		}
		to := n.next[level]
		if to == nil {
			to = &node{}
			n.next[level] = to
		}
		return to
	}
	if *at == nil {
		*at = &node{}
	}
	return *at
}

// names are what %c and %u stand for.
type names struct {
	client, user string
	hasUser      bool
}

// check decides about one topic.
func (f *filters) check(a Access, topic []byte, who *names) Verdict {
	w := walk{who: who, found: f.exact[string(topic)], stop: denied}
	if !f.some {
		w.stop = a
	}
	if w.found&w.stop == 0 {
		w.root(&f.wild, topic)
	}
	switch {
	case w.found&denied != 0:
		return Deny
	case w.found&a != 0:
		return Allow
	}
	return Ignore
}

// walk joins the bits of all filters that match a topic.
type walk struct {
	who   *names
	found Access
	stop  Access // once one of these is found, the rest does not matter
}

// root starts a walk. A topic that begins with $ is matched only by filters that do too [MQTT-4.7.2-1].
func (w *walk) root(n *node, topic []byte) {
	if len(topic) > 0 && topic[0] == '$' {
		level, rest, more := nextLevel(topic)
		if to := n.next[string(level)]; to != nil {
			w.match(to, rest, more)
		}
		return
	}
	w.match(n, topic, true)
}

// match visits a node; more says that rest, which may be empty, still has levels.
func (w *walk) match(n *node, rest []byte, more bool) {
	w.found |= n.hash // it matches its parent too [MQTT-4.7.1-2]
	if !more {
		w.found |= n.bits
		return
	}
	if w.found&w.stop != 0 {
		return
	}
	level, after, more := nextLevel(rest)
	if to := n.next[string(level)]; to != nil {
		w.match(to, after, more)
	}
	if n.plus != nil {
		w.match(n.plus, after, more)
	}
	if n.client != nil {
		if after, more, ok := skip(rest, w.who.client); ok {
			w.match(n.client, after, more)
		}
	}
	if n.user != nil && w.who.hasUser {
		if after, more, ok := skip(rest, w.who.user); ok {
			w.match(n.user, after, more)
		}
	}
}

// nextLevel splits off the first level; more says that another one follows.
func nextLevel(b []byte) (level, rest []byte, more bool) {
	return bytes.Cut(b, []byte{'/'})
}

// skip takes a name, which may have several levels, off the front.
func skip(b []byte, name string) (rest []byte, more, ok bool) {
	n := len(name)
	switch {
	case len(b) < n || string(b[:n]) != name:
		return nil, false, false
	case len(b) == n:
		return nil, false, true
	case b[n] == '/':
		return b[n+1:], true, true
	}
	return nil, false, false
}
