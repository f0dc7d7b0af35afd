package auth

// Whether one filter lies within another, for subscriptions: where a single filter of the list covers the
// whole subscription and none that denies touches it, its messages need no check.

// covered reports that the list allows a to every topic that filter matches. It is right when it says yes;
// it may say no where several filters together would cover.
func (f *filters) covered(a Access, filter []byte, who *names) bool {
	if f.exact[string(filter)]&a != 0 {
		return true
	}
	c := cover{who: who, access: a, left: coverSteps}
	if filter[0] != '$' {
		return c.within(&f.wild, filter, true)
	}
	level, rest, more := nextLevel(filter)
	to := f.wild.next[string(level)]
	return to != nil && c.within(to, rest, more)
}

// touched reports that a filter of the list that denies may match a topic that filter matches. It is right
// when it says no.
func (f *filters) touched(filter []byte, who *names) bool {
	if !f.some {
		return false
	}
	c := cover{who: who, left: coverSteps}
	if filter[0] != '$' {
		return c.touches(&f.denies, filter, true, true)
	}
	level, rest, more := nextLevel(filter)
	to := f.denies.next[string(level)]
	return to != nil && c.touches(to, rest, more, false)
}

// coverSteps bounds the nodes that one question may visit: the client chooses the filter. Beyond it the
// answer is the one that is always safe.
const coverSteps = 1000

type cover struct {
	who    *names
	access Access
	left   int
}

// within reports that a filter below n covers rest.
func (c *cover) within(n *node, rest []byte, more bool) bool {
	if c.left--; c.left < 0 {
		return false
	}
	if n.hash&c.access != 0 {
		return true
	}
	if !more {
		return n.bits&c.access != 0
	}
	level, after, more := nextLevel(rest)
	if string(level) == "#" {
		return false
	}
	if n.plus != nil && c.within(n.plus, after, more) {
		return true
	}
	// A level "+" in rest is not among the keys, and not in names that are asked about.
	if to := n.next[string(level)]; to != nil && c.within(to, after, more) {
		return true
	}
	if n.client != nil {
		if after, more, ok := skip(rest, c.who.client); ok && c.within(n.client, after, more) {
			return true
		}
	}
	if n.user != nil && c.who.hasUser {
		if after, more, ok := skip(rest, c.who.user); ok && c.within(n.user, after, more) {
			return true
		}
	}
	return false
}

// touches reports that a filter below n and rest have a topic in common.
func (c *cover) touches(n *node, rest []byte, more, root bool) bool {
	if c.left--; c.left < 0 {
		return true
	}
	if n.hash != 0 {
		return true
	}
	if !more {
		return n.bits != 0
	}
	level, after, more := nextLevel(rest)
	if string(level) == "#" {
		return n.somewhereBelow
	}
	if n.plus != nil && c.touches(n.plus, after, more, false) {
		return true
	}
	if string(level) == "+" {
		for edge, to := range n.next {
			if root && edge != "" && edge[0] == '$' {
				continue
			}
			if c.touches(to, after, more, false) {
				return true
			}
		}
	} else if to := n.next[string(level)]; to != nil && c.touches(to, after, more, false) {
		return true
	}
	if n.client != nil && c.touchesName(n.client, rest, c.who.client) {
		return true
	}
	return n.user != nil && c.who.hasUser && c.touchesName(n.user, rest, c.who.user)
}

// touchesName takes the levels of a name off rest, which may have wildcards, and goes on at n.
func (c *cover) touchesName(n *node, rest []byte, name string) bool {
	more := true
	for left, again := []byte(name), true; again; {
		if !more {
			return false
		}
		var want, level []byte
		want, left, again = nextLevel(left)
		level, rest, more = nextLevel(rest)
		switch {
		case string(level) == "#":
			return n.somewhereBelow
		case string(level) != "+" && string(level) != string(want):
			return false
		}
	}
	return c.touches(n, rest, more, false)
}
