package topictree

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Retained maps topic names to values and finds them by wildcard. It is safe for concurrent use; Get and
// cursors take no lock.
type Retained[V any] struct {
	// Set by NewRetained, then read-only:
	opts Options
	hash hasher

	mu    sync.Mutex // of all writers
	root  node[V]
	count atomic.Int64
}

// NewRetained returns an empty map.
func NewRetained[V any](o Options) *Retained[V] {
	return &Retained[V]{opts: o.withDefaults(), hash: newHasher()}
}

// Len is the number of topics.
func (r *Retained[V]) Len() int { return int(r.count.Load()) }

// Set stores v under a valid topic name.
func (r *Retained[V]) Set(topic []byte, v V) (old V, existed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.node(topic)
	if n == nil || n.value.Load() == nil {
		if err := r.opts.check(topic, r.count.Load()); err != nil {
			return old, false, err
		}
		n, _ = r.root.makePath(r.hash, string(topic))
		n.value.Store(&v)
		r.count.Add(1)
		return old, false, nil
	}
	return *n.value.Swap(&v), true, nil
}

// node finds the node of a topic; nil if there is none.
func (r *Retained[V]) node(topic []byte) *node[V] {
	n := &r.root
	for at := 0; ; at = len(n.path) + 1 {
		n = n.kids.find(at, r.hash.sum(topic[at:levelEnd(topic, at)]), topic[at:levelEnd(topic, at)])
		switch {
		case n == nil || len(n.path) > len(topic) || n.path[at:] != string(topic[at:len(n.path)]):
			return nil
		case len(n.path) == len(topic):
			return n
		case topic[len(n.path)] != '/':
			return nil
		}
	}
}

// Get returns the value of a topic.
func (r *Retained[V]) Get(topic []byte) (v V, ok bool) {
	if n := r.node(topic); n != nil {
		if p := n.value.Load(); p != nil {
			return *p, true
		}
	}
	return v, false
}

// Delete removes a topic.
func (r *Retained[V]) Delete(topic []byte) (old V, existed bool) {
	return r.delete(topic, func(V) bool { return true })
}

// DeleteIf removes a topic if its value satisfies cond, which is called under the lock.
func (r *Retained[V]) DeleteIf(topic []byte, cond func(V) bool) (deleted bool) {
	_, deleted = r.delete(topic, cond)
	return deleted
}

func (r *Retained[V]) delete(topic []byte, cond func(V) bool) (old V, existed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.node(topic)
	if n == nil {
		return old, false
	}
	p := n.value.Load()
	if p == nil || !cond(*p) {
		return old, false
	}
	n.value.Store(nil)
	n.prune(r.hash)
	r.count.Add(-1)
	return *p, true
}

// Cursor walks the topics that match a filter, a piece at a time. It belongs to one goroutine and holds no
// lock between calls. Topics that are there all the time are seen exactly once; those that come or go
// meanwhile may be seen or not.
type Cursor[V any] struct {
	r      *Retained[V]
	filter string
	stack  []frame[V]
}

// frame is one node on the way down, with the children that are still to be visited.
type frame[V any] struct {
	n     *node[V]
	kids  *slots[node[V], *node[V]] // the generation being visited; nil until it is
	next  int                       // slot
	used  int                       // where the next level of the filter begins; beyond its end: none left
	fresh bool                      // not yet looked at
}

// Cursor starts a walk; filter is valid and no shared subscription.
func (r *Retained[V]) Cursor(filter []byte) *Cursor[V] {
	c := &Cursor[V]{r: r, filter: string(filter)}
	c.stack = append(c.stack, frame[V]{n: &r.root, fresh: true})
	return c
}

// Next looks at no more than steps nodes, calls yield for each topic that matches, and reports whether the
// walk is over. yield must not call Next.
func (c *Cursor[V]) Next(steps int, yield func(topic string, v V)) (done bool) {
	for ; steps > 0 && len(c.stack) > 0; steps-- {
		f := &c.stack[len(c.stack)-1]
		if f.fresh {
			f.fresh = false
			c.visit(f, yield)
		}
		c.descend(f)
	}
	return len(c.stack) == 0
}

// want is the level of the filter that the children of f must match; false when none can.
func (c *Cursor[V]) want(f *frame[V]) (level string, ok bool) {
	if f.used > len(c.filter) {
		return "", false
	}
	return firstLevel(c.filter[f.used:]), true
}

// visit yields the node's own value if its path matches: at the end of the filter, or where "#" begins or
// goes on.
func (c *Cursor[V]) visit(f *frame[V], yield func(string, V)) {
	if f.n == &c.r.root {
		return
	}
	if level, more := c.want(f); more && level != "#" {
		return
	}
	if p := f.n.value.Load(); p != nil {
		yield(f.n.path, *p)
	}
}

// descend goes on to the next child, or up when there is none.
func (c *Cursor[V]) descend(f *frame[V]) {
	level, ok := c.want(f)
	switch {
	case !ok:
		c.pop()
	case level == "+" || level == "#":
		c.nextKid(f)
	case f.next > 0:
		c.pop()
	default:
		f.next = 1
		at := c.below(f)
		k := f.n.kids.find(at, c.r.hash.text(level), []byte(level))
		if k == nil || !c.push(f, k, at) {
			c.pop()
		}
	}
}

// nextKid looks at one child.
func (c *Cursor[V]) nextKid(f *frame[V]) {
	if f.kids == nil {
		if f.kids = f.n.kids.slots.Load(); f.kids == nil {
			c.pop()
			return
		}
	}
	for f.next < len(f.kids.at) {
		k := f.kids.at[f.next].Load()
		f.next++
		if k == nil || k == f.kids.grave.Load() {
			continue
		}
		if f.n == &c.r.root && strings.HasPrefix(k.path, "$") { // [MQTT-4.7.2-1]
			continue
		}
		c.push(f, k, c.below(f))
		return
	}
	c.pop()
}

// below is node.below for readers.
func (c *Cursor[V]) below(f *frame[V]) int {
	if f.n == &c.r.root {
		return 0
	}
	return len(f.n.path) + 1
}

// push goes to a child whose label begins at at, if that matches the filter.
func (c *Cursor[V]) push(f *frame[V], k *node[V], at int) bool {
	used := f.used
	for more := true; more; {
		if used > len(c.filter) {
			return false
		}
		want := firstLevel(c.filter[used:])
		if want == "#" {
			break
		}
		level := firstLevel(k.path[at:])
		if want != "+" && want != level {
			return false
		}
		used += len(want) + 1
		at += len(level) + 1
		more = at <= len(k.path)
	}
	c.stack = append(c.stack, frame[V]{n: k, used: used, fresh: true})
	return true
}

func (c *Cursor[V]) pop() {
	c.stack[len(c.stack)-1] = frame[V]{}
	c.stack = c.stack[:len(c.stack)-1]
}
