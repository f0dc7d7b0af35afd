package topictree

import (
	"strings"
	"sync/atomic"
)

// node is one level of a path in a trie. V is what the end of a path holds. Readers take no lock; writers
// hold the trie's mutex. It takes 64 bytes.
type node[V any] struct {
	name   string   // set before it is published, then read-only
	parent *node[V] // set before it is published, then read-only

	kids   table[node[V], *node[V]] // children by level
	plus   atomic.Pointer[node[V]]  // the child "+", unless no path goes on below it
	single atomic.Pointer[V]        // what "+" below this node holds
	multi  atomic.Pointer[V]        // what "#" below this node holds
	value  atomic.Pointer[V]        // what a path that ends here holds
}

func (n *node[V]) key() string { return n.name }

func (n *node[V]) sum(h hasher) uint64 { return h.text(n.name) }

// child returns the child of a level, made if it is not there. The level is part of a name of size bytes.
func (n *node[V]) child(h hasher, level string, size int) *node[V] {
	if level == "+" {
		k := n.plus.Load()
		if k == nil {
			k = &node[V]{name: "+", parent: n}
			n.plus.Store(k)
		}
		return k
	}
	k := n.kids.find(h.text(level), []byte(level))
	if k == nil {
		if size > 4*len(level)+64 {
			level = strings.Clone(level) // a node must not keep a long name alive
		}
		k = &node[V]{name: level, parent: n}
		n.kids.insert(h, k)
	}
	return k
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

// prune removes n and its ancestors as far as they hold nothing.
func (n *node[V]) prune(h hasher) {
	for n.parent != nil && n.value.Load() == nil && n.multi.Load() == nil && n.single.Load() == nil &&
		n.plus.Load() == nil && n.kids.slots.Load() == nil {
		if n.parent.plus.Load() == n {
			n.parent.plus.Store(nil)
		} else {
			n.parent.kids.remove(h, n)
		}
		n = n.parent
	}
}

// findPath finds the node of a filter's last level, or for + and # the one above, and that level; n is nil
// when there is none. It takes no lock.
func (n *node[V]) findPath(h hasher, filter []byte) (end *node[V], last string) {
	for level, rest, more := nextLevel(filter); n != nil; level, rest, more = nextLevel(rest) {
		switch {
		case string(level) == "#":
			return n, "#"
		case string(level) == "+":
			if !more {
				return n, "+"
			}
			n = n.plus.Load()
		default:
			n = n.kids.find(h.sum(level), level)
			if !more {
				return n, ""
			}
		}
	}
	return nil, ""
}

// makePath is findPath, and makes what is not there.
func (n *node[V]) makePath(h hasher, filter string) (end *node[V], last string) {
	for rest, more := filter, true; more; {
		last, rest, more = strings.Cut(rest, "/")
		if !more && last == "+" || last == "#" {
			break
		}
		n = n.child(h, last, len(filter))
	}
	return n, last
}
