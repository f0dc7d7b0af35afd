package topictree

import (
	"strings"
	"sync/atomic"
)

// node is the end of a path in a trie: one that holds something, or where paths part. What lies between it
// and the node above is its label, one level or more, "+" among them. So there are at most twice as many
// nodes as paths, however deep they are. V is what the end of a path holds. It takes 64 bytes.
//
// Readers take no lock; writers hold the trie's mutex. A node says its whole path, not its label: that is
// what makes it the same node, and the bytes of it the same, when one is put in between it and the one
// above or taken out again. A reader that has come to a node no longer in the trie finds there what was
// below it: the nodes that stayed, with all that has been done to them since. It held nothing when it went.
type node[V any] struct {
	path   string   // from the root on; set before it is published, then read-only
	parent *node[V] // nil: the root. Guarded by the trie's mutex

	kids   table[node[V], *node[V]] // children by the first level of their labels
	plus   atomic.Pointer[node[V]]  // the child whose label begins with "+"
	single atomic.Pointer[V]        // what the path with "/+" holds
	multi  atomic.Pointer[V]        // what the path with "/#" holds
	value  atomic.Pointer[V]        // what the path holds
}

// below is where in their paths the labels of a node's children begin.
func (n *node[V]) below() int {
	if n.parent == nil {
		return 0
	}
	return len(n.path) + 1
}

// is reports whether the label that begins at at begins with a level.
func (n *node[V]) is(at int, level []byte) bool {
	end := at + len(level)
	return len(n.path) >= end && n.path[at:end] == string(level) && (len(n.path) == end || n.path[end] == '/')
}

func (n *node[V]) sum(h hasher, at int) uint64 { return h.text(firstLevel(n.path[at:])) }

// child finds the child whose label begins with a level.
func (n *node[V]) child(h hasher, at int, level []byte) *node[V] {
	if string(level) == "+" {
		return n.plus.Load()
	}
	return n.kids.find(at, h.sum(level), level)
}

// link makes k a child, in the place of another one if old is not nil: of one whose label begins alike.
func (n *node[V]) link(h hasher, k, old *node[V]) {
	at := n.below()
	k.parent = n
	switch {
	case firstLevel(k.path[at:]) == "+":
		n.plus.Store(k)
	case old != nil:
		n.kids.replace(h, at, old, k)
	default:
		n.kids.insert(h, at, k)
	}
}

// unlink takes a child out.
func (n *node[V]) unlink(h hasher, k *node[V]) {
	if n.plus.Load() == k {
		n.plus.Store(nil)
		return
	}
	n.kids.remove(h, n.below(), k)
}

// only is the child of a node that has no other one, else nil.
func (n *node[V]) only() (k *node[V]) {
	k = n.plus.Load()
	switch n.kids.len() {
	case 0:
		return k
	case 1:
		if k == nil {
			n.kids.each(func(one *node[V]) { k = one })
			return k
		}
	}
	return nil
}

// end is where a path whose last level is level holds its value; n is the node above it, or its own when
// the level is a literal.
func (n *node[V]) end(level string) *atomic.Pointer[V] {
	switch level {
	case "+":
		return &n.single
	case "#":
		return &n.multi
	}
	return &n.value
}

// prune takes a node out of the trie that neither holds anything nor is where paths part, and then the one
// above if it was there for that only.
func (n *node[V]) prune(h hasher) {
	for n.parent != nil && n.value.Load() == nil && n.multi.Load() == nil && n.single.Load() == nil {
		above := n.parent
		switch k := n.only(); {
		case k != nil:
			above.link(h, k, n)
			return
		case n.plus.Load() != nil || n.kids.len() > 0:
			return
		}
		above.unlink(h, n)
		n = above
	}
}

// split says where a filter is in the trie: at the end of stem, under last, which is "" for a literal
// level. Without a stem it is at the root.
func split(filter string) (stem, last string, ok bool) {
	i := strings.LastIndexByte(filter, '/')
	switch last = filter[i+1:]; {
	case last != "+" && last != "#":
		return filter, "", true
	case i < 0:
		return "", last, false
	}
	return filter[:i], last, true
}

// findPath finds the node where a filter ends, or for + and # the one above, and that level; n is nil when
// there is none. It takes no lock.
func (n *node[V]) findPath(h hasher, filter string) (end *node[V], last string) {
	stem, last, ok := split(filter)
	if !ok {
		return n, last
	}
	for at := 0; ; {
		n = n.child(h, at, []byte(firstLevel(stem[at:])))
		switch {
		case n == nil || len(n.path) > len(stem) || n.path[at:] != stem[at:len(n.path)]:
			return nil, ""
		case len(n.path) == len(stem):
			return n, last
		case stem[len(n.path)] != '/':
			return nil, ""
		}
		at = len(n.path) + 1
	}
}

// makePath is findPath, and makes what is not there.
func (n *node[V]) makePath(h hasher, filter string) (end *node[V], last string) {
	stem, last, ok := split(filter)
	if !ok {
		return n, last
	}
	for {
		at := n.below()
		k := n.child(h, at, []byte(firstLevel(stem[at:])))
		if k == nil {
			k = &node[V]{path: keep(stem, filter)}
			n.link(h, k, nil)
			return k, last
		}
		if common := at + commonLevels(k.path[at:], stem[at:]); common < len(k.path) {
			k = n.part(h, k, keep(stem[:common], filter))
		}
		if len(k.path) == len(stem) {
			return k, last
		}
		n = k
	}
}

// part puts a node with a path between n and its child k.
func (n *node[V]) part(h hasher, k *node[V], path string) *node[V] {
	between := &node[V]{path: path, parent: n}
	between.link(h, k, nil) // it can be seen only when all is there
	n.link(h, between, k)
	return between
}

// keep is what a node keeps of the beginning of a filter: it must not keep a long one alive.
func keep(path, filter string) string {
	if len(filter) > 4*len(path)+64 {
		return strings.Clone(path)
	}
	return path
}

// firstLevel is what is before the first slash.
func firstLevel(path string) string {
	if before, _, ok := strings.Cut(path, "/"); ok {
		return before
	}
	return path
}

// commonLevels is the length of the levels with which two paths begin; they have the first one in common.
func commonLevels(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	if (n == len(a) || a[n] == '/') && (n == len(b) || b[n] == '/') {
		return n
	}
	return strings.LastIndexByte(a[:n], '/')
}
