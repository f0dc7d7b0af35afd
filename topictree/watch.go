package topictree

import "slices"

// watcher hears of the first and the last subscriber of a filter.
type watcher struct {
	f func(filter string, wanted bool)
}

// Watch has f called whenever a filter, or a shared subscription by its "$share/NAME/FILTER", gets its first
// subscriber on any loop (wanted) or loses its last, and before it returns for all that have some. For one
// filter the calls come in order, and the last one is what holds; one may come twice. f runs under a lock, on
// the goroutine of the change: it must not block, and not use the Index. stop ends it. Without a watcher a
// change costs one comparison, and Match never anything.
func (x *Index) Watch(f func(filter string, wanted bool)) (stop func()) {
	w := &watcher{f}
	for i := range x.parts {
		p := &x.parts[i]
		p.mu.Lock()
		p.watchers = append(slices.Clip(p.watchers), w)
		p.mu.Unlock()
	}
	x.Each(func(id FilterID) bool {
		p := x.part(id.hash)
		p.mu.Lock()
		defer p.mu.Unlock()
		if id.wanted() { // still
			f(id.name, true)
		}
		return true
	})
	return func() {
		for i := range x.parts {
			p := &x.parts[i]
			p.mu.Lock()
			p.watchers = slices.DeleteFunc(slices.Clone(p.watchers), func(o *watcher) bool { return o == w })
			p.mu.Unlock()
		}
	}
}

// wanted reports whether an entry has subscribers. Its part's mu is held.
func (e *Entry) wanted() bool {
	if e.share != nil {
		return e.share.members > 0
	}
	return e.loops.Load() != 0
}

// tell tells the watchers of a change. p.mu is held.
func (p *part) tell(e *Entry, wanted bool) {
	for _, w := range p.watchers {
		w.f(e.name, wanted)
	}
}
