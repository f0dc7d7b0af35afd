package topictree

import "sync/atomic"

// node is one level of a path in a trie. V is what the end of a path holds. Readers take no lock; writers
// hold the trie's mutex.
type node[V any] struct {
	named
	parent *node[V] // set before it is published, then read-only

	kids  table[node[V], *node[V]] // children by level; its counters are guarded by the trie's mutex
	plus  atomic.Pointer[node[V]]  // the child "+"
	multi atomic.Pointer[V]        // what "#" below this node holds
	value atomic.Pointer[V]        // what a path that ends here holds
}

// child returns the child of a level, made if it is not there.
func (n *node[V]) child(h hasher, level []byte) *node[V] {
	if string(level) == "+" {
		k := n.plus.Load()
		if k == nil {
			k = &node[V]{named: named{name: "+"}, parent: n}
			n.plus.Store(k)
		}
		return k
	}
	hash := h.sum(level)
	k := n.kids.find(hash, level)
	if k == nil {
		k = &node[V]{named: named{hash, string(level)}, parent: n}
		n.kids.insert(k)
	}
	return k
}

// prune removes n and its ancestors as far as they hold nothing.
func (n *node[V]) prune() {
	for n.parent != nil && n.value.Load() == nil && n.multi.Load() == nil && n.plus.Load() == nil &&
		n.kids.slots.Load() == nil {
		if n.parent.plus.Load() == n {
			n.parent.plus.Store(nil)
		} else {
			n.parent.kids.remove(n)
		}
		n = n.parent
	}
}
