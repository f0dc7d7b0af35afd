package topictree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Options are the limits of an Index or a Retained. Zero values mean the defaults named.
type Options struct {
	MaxLevels int   // 201: 200 slashes
	MaxBytes  int   // of one filter or topic, 65535
	MaxCount  int64 // filters or topics; no limit by default
}

func (o Options) withDefaults() Options {
	if o.MaxLevels == 0 {
		o.MaxLevels = 201
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 65535
	}
	return o
}

// Errors of Add, AddShared and Set.
var (
	ErrTooDeep = errors.New("topictree: too many levels")
	ErrTooLong = errors.New("topictree: too long")
	ErrFull    = errors.New("topictree: too many entries")
)

func (o *Options) check(name []byte, count int64) error {
	switch {
	case len(name) > o.MaxBytes:
		return ErrTooLong
	case bytes.Count(name, []byte("/")) >= o.MaxLevels:
		return ErrTooDeep
	case o.MaxCount > 0 && count >= o.MaxCount:
		return ErrFull
	}
	return nil
}

// Entry is one filter, or one shared subscription, in an Index. It is opaque: compare and keep FilterIDs.
type Entry struct {
	name   string                   // set before it is published, then read-only
	hash   uint64                   // of the filter; set before it is published, then read-only
	loops  atomic.Uint64            // bit set of those with subscribers; a share's home, 0 once it has gone
	shares atomic.Pointer[shareSet] // shared subscriptions of this filter
	share  *shareInfo               // of a shared subscription
}

// Filter is the filter that an id stands for, for a shared subscription with its "$share/NAME/".
func (e *Entry) Filter() string { return e.name }

func (e *Entry) is(_ int, name []byte) bool { return e.name == string(name) }

func (e *Entry) sum(hasher, int) uint64 { return e.hash }

// shareInfo is what only shared subscriptions have. Guarded by the part's mutex.
type shareInfo struct {
	carrier *Entry // the filter's own entry
	group   string
	members int
}

// shareSet is the shared subscriptions of one filter. Match reads list without a lock: what it has seen of
// it never changes, others are added behind, and entries without loops have gone. A change costs the same
// however many there are.
type shareSet struct {
	list []*Entry

	// Guarded by the part's mutex:
	of   map[string]*Entry // by share name, once there are many
	gone int               // entries of list that have gone
}

// mapFrom is the number of shared subscriptions of one filter from which they are found through a map.
const mapFrom = 16

// find returns the entry of a share name, nil if there is none.
func (s *shareSet) find(group string) *Entry {
	if s == nil {
		return nil
	}
	if s.of != nil {
		return s.of[group]
	}
	for _, e := range s.list {
		if e.share.group == group && e.loops.Load() != 0 {
			return e
		}
	}
	return nil
}

// with returns the set with e.
func (s *shareSet) with(e *Entry) *shareSet {
	if s == nil {
		return &shareSet{list: []*Entry{e}}
	}
	next := &shareSet{list: append(s.list, e), of: s.of, gone: s.gone}
	switch {
	case next.of != nil:
		next.of[e.share.group] = e
	case len(next.list) >= mapFrom:
		next.of = make(map[string]*Entry)
		for _, e := range next.list {
			if e.loops.Load() != 0 {
				next.of[e.share.group] = e
			}
		}
	}
	return next
}

// without returns the set without e; nil when it was the last.
func (s *shareSet) without(e *Entry) *shareSet {
	e.loops.Store(0)
	delete(s.of, e.share.group)
	s.gone++
	switch {
	case s.gone == len(s.list):
		return nil
	case s.gone <= len(s.list)/2:
		return s
	}
	var next *shareSet
	for _, e := range s.list {
		if e.loops.Load() != 0 {
			next = next.with(e)
		}
	}
	return next
}

// FilterID names a filter in an Index. It is comparable, and is never another filter's while somebody holds
// it: an id that was removed matches nothing. nil means none.
type FilterID = *Entry

// shards is the number of parts of the table, each with a mutex of its own.
const shards = 256

// Index maps topic filters to the event loops (0 to 63) that have subscribers for them, and shared
// subscriptions to their home loops. It is safe for concurrent use; Match takes no lock.
type Index struct {
	// Set by New, then read-only:
	opts Options
	hash hasher

	parts [shards]part
	trie  struct {
		mu   sync.Mutex
		root node[Entry]
	}

	// Atomic:
	filters, wild, sharedCount, bytes atomic.Int64
}

// part is one shard of the filters: its mutex guards the entries, its table has those without wildcards.
type part struct {
	mu       sync.Mutex
	table    table[Entry, *Entry]
	watchers []*watcher // guarded by mu
	_        [64]byte   // the next mutex is in another cache line
}

// New returns an empty index.
func New(o Options) *Index {
	return &Index{opts: o.withDefaults(), hash: newHasher()}
}

func (x *Index) part(hash uint64) *part { return &x.parts[hash>>56%shards] }

// Add sets the loop's bit for a filter, which codec has validated and which is no shared subscription.
func (x *Index) Add(filter []byte, loop int) (FilterID, error) {
	hash := x.hash.sum(filter)
	p := x.part(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	e, err := x.enter(p, hash, filter)
	if err != nil {
		return nil, err
	}
	if e.loops.Or(1<<loop) == 0 {
		p.tell(e, true)
	}
	return e, nil
}

// enter finds or makes the entry of a filter. p.mu is held.
func (x *Index) enter(p *part, hash uint64, filter []byte) (*Entry, error) {
	if e := x.find(hash, filter); e != nil {
		return e, nil
	}
	if err := x.opts.check(filter, x.filters.Load()); err != nil {
		return nil, err
	}
	e := &Entry{name: string(filter), hash: hash}
	x.filters.Add(1)
	x.bytes.Add(entryBytes + int64(len(filter)))
	if hasWildcard(filter) {
		x.plant(e)
	} else {
		p.table.insert(x.hash, 0, e)
	}
	return e, nil
}

// find finds the entry of a filter; nil if there is none. It takes no lock.
func (x *Index) find(hash uint64, filter []byte) *Entry {
	if !hasWildcard(filter) {
		return x.part(hash).table.find(0, hash, filter)
	}
	if n, last := x.trie.root.findPath(x.hash, string(filter)); n != nil {
		return n.end(last).Load()
	}
	return nil
}

// entryBytes is what an entry takes beside its name: the struct and its share of the table.
const entryBytes = int64(unsafe.Sizeof(Entry{})) + 16

// plant puts a wildcard filter into the trie.
func (x *Index) plant(e *Entry) {
	x.trie.mu.Lock()
	defer x.trie.mu.Unlock()
	n, last := x.trie.root.makePath(x.hash, e.name)
	n.end(last).Store(e)
	x.wild.Add(1)
}

// uproot takes a wildcard filter out of the trie.
func (x *Index) uproot(e *Entry) {
	x.trie.mu.Lock()
	defer x.trie.mu.Unlock()
	n, last := x.trie.root.findPath(x.hash, e.name)
	n.end(last).Store(nil)
	n.prune(x.hash)
	x.wild.Add(-1)
}

// Lookup finds the id of a filter.
func (x *Index) Lookup(filter []byte) (FilterID, bool) {
	hash := x.hash.sum(filter)
	e := x.find(hash, filter)
	if e == nil || e.loops.Load() == 0 {
		return nil, false
	}
	return e, true
}

// Remove clears the loop's bit; with the last one the filter goes.
func (x *Index) Remove(id FilterID, loop int) {
	p := x.part(id.hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	old := id.loops.And(^(1 << loop))
	if old == 0 {
		return // it had no bit: removed already
	}
	if old == 1<<loop {
		p.tell(id, false)
	}
	x.release(p, id)
}

// release removes an entry that nobody needs any more. p.mu is held.
func (x *Index) release(p *part, e *Entry) {
	if e.loops.Load() != 0 || e.shares.Load() != nil {
		return
	}
	if x.find(e.hash, []byte(e.name)) != e {
		return
	}
	x.filters.Add(-1)
	x.bytes.Add(-entryBytes - int64(len(e.name)))
	if hasWildcard([]byte(e.name)) {
		x.uproot(e)
	} else {
		p.table.remove(x.hash, 0, e)
	}
}

// AddShared counts one member more of a share group on a filter. All members get the same id; home is the
// loop that deals, the same for all.
func (x *Index) AddShared(group, filter []byte, home int) (FilterID, error) {
	hash := x.hash.sum(filter)
	p := x.part(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	carrier, err := x.enter(p, hash, filter)
	if err != nil {
		return nil, err
	}
	old := carrier.shares.Load()
	if e := old.find(string(group)); e != nil {
		e.share.members++
		return e, nil
	}
	e := &Entry{
		name: fmt.Sprintf("$share/%s/%s", group, filter), hash: hash,
		share: &shareInfo{carrier: carrier, group: string(group), members: 1},
	}
	e.loops.Store(1 << home)
	carrier.shares.Store(old.with(e))
	x.sharedCount.Add(1)
	p.tell(e, true)
	return e, nil
}

// RemoveShared counts one member less; with the last one the shared subscription goes.
func (x *Index) RemoveShared(id FilterID) {
	p := x.part(id.hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	if id.share.members == 0 {
		return
	}
	if id.share.members--; id.share.members > 0 {
		return
	}
	carrier := id.share.carrier
	carrier.shares.Store(carrier.shares.Load().without(id))
	x.sharedCount.Add(-1)
	p.tell(id, false)
	x.release(p, carrier)
}

// LookupShared finds the id of a shared subscription.
func (x *Index) LookupShared(group, filter []byte) (FilterID, bool) {
	hash := x.hash.sum(filter)
	p := x.part(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := x.find(hash, filter)
	if e == nil {
		return nil, false
	}
	e = e.shares.Load().find(string(group))
	return e, e != nil
}

// Filter is the filter of an id, for a shared subscription with its "$share/NAME/".
func (x *Index) Filter(id FilterID) string { return id.name }

// Len is the number of filters, those that only shared subscriptions use included, and of shared
// subscriptions.
func (x *Index) Len() (filters, shared int) { return int(x.filters.Load()), int(x.sharedCount.Load()) }

// Hit is one match: the loops that have subscribers, or the home loop of a shared subscription.
type Hit struct {
	ID     FilterID
	Loops  uint64
	Shared bool
}

// Matches is the result of Match, and its scratch memory: a reused one does not allocate.
type Matches struct {
	Hits []Hit

	todo []step
	sums []uint64 // of the topic's levels; 0: not worked out yet
}

// Trim gives memory back that only very many hits need.
func (m *Matches) Trim() {
	if cap(m.Hits) > 4096 {
		m.Hits = nil
	}
}

// step is a node whose path matches the beginning of the topic.
type step struct {
	n     *node[Entry]
	at    int // where the next level of the topic begins; beyond its end when there is none
	level int // the number of that level
}

// Match finds all filters that match a valid topic name. Topics that begin with $ are not matched by a
// leading wildcard [MQTT-4.7.2-1].
func (x *Index) Match(topic []byte, m *Matches) {
	x.Start(topic, m)
	x.More(topic, m, math.MaxInt)
}

// Start begins to find what Match finds, in pieces of bounded work.
func (x *Index) Start(topic []byte, m *Matches) {
	m.Hits, m.todo = m.Hits[:0], m.todo[:0]
	hash := x.hash.sum(topic)
	if e := x.part(hash).table.find(0, hash, topic); e != nil {
		m.add(e)
	}
	if x.wild.Load() == 0 {
		return
	}
	m.sums = m.sums[:0]
	wild := len(topic) == 0 || topic[0] != '$'
	x.descend(topic, m, step{n: &x.trie.root}, 0, wild)
}

// More looks at no more than steps nodes, adds what it finds to the hits, and reports whether that was all.
// The topic is that of Start. Filters that are there all the time are found once; those that come or go
// between two calls may be found or not.
func (x *Index) More(topic []byte, m *Matches, steps int) (over bool) {
	for ; steps > 0 && len(m.todo) > 0; steps-- {
		last := len(m.todo) - 1
		s := m.todo[last]
		m.todo = m.todo[:last]
		if s.at > len(topic) {
			m.addPointer(&s.n.value)
			m.addPointer(&s.n.multi) // "a/#" matches "a" as well
			continue
		}
		x.descend(topic, m, s, len(s.n.path)+1, true)
	}
	return len(m.todo) == 0
}

// descend takes what a node holds for the topic, and notes which of its children match it further. Their
// labels begin at below; wild says that wildcards count.
func (x *Index) descend(topic []byte, m *Matches, s step, below int, wild bool) {
	end := levelEnd(topic, s.at)
	if wild {
		m.addPointer(&s.n.multi)
		if end == len(topic) {
			m.addPointer(&s.n.single)
		}
		if k := s.n.plus.Load(); k != nil {
			m.follow(topic, k, below+1, end, s.level+1)
		}
	}
	if s.n.kids.slots.Load() == nil {
		return
	}
	level := topic[s.at:end]
	if k := s.n.kids.find(below, m.sum(x.hash, s.level, level), level); k != nil {
		m.follow(topic, k, below+len(level), end, s.level+1)
	}
}

// follow compares the rest of a node's label, from i on, with the topic, from at on, where level levels
// end. It takes note of the node if they match.
func (m *Matches) follow(topic []byte, n *node[Entry], i, at, level int) {
	for ; i < len(n.path); i++ {
		switch c := n.path[i]; {
		case c == '+': // a level: the topic has none in it
			at = levelEnd(topic, at)
		case at == len(topic) || topic[at] != c:
			return
		default:
			at++
			if c == '/' {
				level++
			}
		}
	}
	if at == len(topic) || topic[at] == '/' {
		m.todo = append(m.todo, step{n, at + 1, level})
	}
}

// levelEnd is where the level ends that begins at at, or in which at is.
func levelEnd(topic []byte, at int) int {
	if i := bytes.IndexByte(topic[at:], '/'); i >= 0 {
		return at + i
	}
	return len(topic)
}

// sum is the hash of a level, worked out once.
func (m *Matches) sum(h hasher, number int, level []byte) uint64 {
	for len(m.sums) <= number {
		m.sums = append(m.sums, 0)
	}
	if m.sums[number] == 0 {
		m.sums[number] = h.sum(level)
	}
	return m.sums[number]
}

func (m *Matches) addPointer(p *atomic.Pointer[Entry]) {
	if e := p.Load(); e != nil {
		m.add(e)
	}
}

// add appends what an entry stands for.
func (m *Matches) add(e *Entry) {
	if loops := e.loops.Load(); loops != 0 {
		m.Hits = append(m.Hits, Hit{ID: e, Loops: loops})
	}
	set := e.shares.Load()
	if set == nil {
		return
	}
	m.Hits = slices.Grow(m.Hits, len(set.list)) // once for all groups
	for _, s := range set.list {
		if home := s.loops.Load(); home != 0 {
			m.Hits = append(m.Hits, Hit{ID: s, Loops: home, Shared: true})
		}
	}
}
