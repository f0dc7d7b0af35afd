package topictree

// Each visits every filter and every shared subscription, in no order, until yield returns false. It takes
// no lock: what is added or removed meanwhile may be visited or not, nothing is visited twice.
func (x *Index) Each(yield func(FilterID) bool) {
	ok := true
	visit := func(e *Entry) {
		if ok && e.loops.Load() != 0 {
			ok = yield(e)
		}
		if set := e.shares.Load(); set != nil {
			for _, s := range set.list {
				if ok && s.loops.Load() != 0 {
					ok = yield(s)
				}
			}
		}
	}
	for i := range x.parts {
		x.parts[i].table.each(visit)
	}
	x.trie.root.each(visit)
}

// each visits what the node and all below hold.
func (n *node[V]) each(f func(*V)) {
	for _, p := range []*V{n.value.Load(), n.single.Load(), n.multi.Load()} {
		if p != nil {
			f(p)
		}
	}
	if k := n.plus.Load(); k != nil {
		k.each(f)
	}
	n.kids.each(func(k *node[V]) { k.each(f) })
}
