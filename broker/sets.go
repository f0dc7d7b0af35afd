package broker

import (
	"noctule/broker/behalf"
	"noctule/broker/message"
	"noctule/topictree"
	"noctule/wsnet"
)

// Subscriptions that are made on behalf of sessions are held as sets. All that one origin has given to one
// session is one set, and sessions with the same list, of this loop, are members of one and the same: the
// index, the crowds and the list of topics exist once a set, and a session costs one place in its members
// and one grant (grants.go), however many topics there are.
//
// A filter's crowd refers to the sets that contain it. A set is planted, which is to enter its topics in the
// index, before it has its first member, and uprooted after its last has left; both in pieces.
// A member that has subscribed to one of the filters itself, or has it by an earlier grant, is passed over in
// the fan-out, so that it gets one copy.
//
// Rejected: one subscription a client and topic with an origin beside it (50 topics took 4 KB a client and
// 20 us a connect), and marks per origin in a table beside the list (a session's reconciliation then walks it
// all at each CONNECT).

// set is one behalf.Set on one loop.
type set struct {
	key    setKey
	topics []setTopic     // planted so far, by filter
	shares []behalf.Topic // shared subscriptions, which each member joins by itself, by filter

	source *behalf.Set // set while not all is planted
	next   int         // of source: to be planted next
	refs   int         // grants and pins

	uprooting bool
	members   []*client // nil: left while a fan-out in slices is under way
	busy      int       // fan-outs in slices under way
	left      int       // places of members that are nil
	turn      uint64    // counts fan-outs in slices
	moved     map[int]move
	kept      kept
}

// setKey identifies the contents of a set, and whether its members get what they may not read otherwise.
type setKey struct {
	behalf.Key
	bypass bool
}

// setTopic is one plain topic of a set.
type setTopic struct {
	id    topictree.FilterID
	subID uint32
	opts  options
	rh    uint8
	had   bool // of a list of what is new to a client: it had the topic before, by whatever subscription
}

// move is a member that left for another set during a fan-out in slices: fan-outs that began before still
// have to reach it.
type move struct {
	c    *client
	turn uint64
}

// setRef is a set in the crowd of one of its filters.
type setRef struct {
	set   *set
	subID uint32
	opts  options
}

// crowdExtra is what a crowd has beside members of its own.
type crowdExtra struct {
	sets []setRef
	taps []*Tap
}

// plantStep is how many topics are entered in the index at a time.
const plantStep = 512

// pin finds or makes the set of contents on this loop and holds it. It is ready once plant says so.
func (s *shard) pin(x *behalf.Set, bypass bool) *set {
	key := setKey{x.Key(), bypass}
	st := s.sets[key]
	if st == nil {
		st = &set{key: key, source: x}
		if s.sets == nil {
			s.sets = make(map[setKey]*set)
		}
		s.sets[st.key] = st
	}
	if st.uprooting {
		st.uprooting = false
		st.replant(x)
	}
	st.refs++
	return st
}

// replant goes back to planting, from where uproot has got to.
func (x *set) replant(source *behalf.Set) {
	x.source, x.next, x.shares = source, 0, nil
	all := source.Topics()
	for plain := 0; x.next < len(all) && (plain < len(x.topics) || all[x.next].IsShared()); x.next++ {
		if all[x.next].IsShared() {
			x.shares = append(x.shares, all[x.next])
		} else {
			plain++
		}
	}
}

// unpin lets go of a set. One that nobody holds goes, in pieces.
func (s *shard) unpin(x *set) {
	x.refs--
	if x.refs == 0 {
		s.uproot(x)
	}
}

// plant enters up to limit topics in the index; true when all are there.
func (s *shard) plant(x *set, limit int) bool {
	if x.source == nil {
		return true
	}
	all := x.source.Topics()
	for ; x.next < len(all) && limit > 0; limit-- {
		t := &all[x.next]
		x.next++
		if t.IsShared() {
			x.shares = append(x.shares, *t)
			continue
		}
		id, err := s.b.index.Add([]byte(t.Filter), s.index)
		if err != nil { // Check has allowed it: the index is full
			s.logf(LevelWarning, "Subscription to %q on behalf of clients refused: %v.", t.Filter, err)
			continue
		}
		if x.topics == nil {
			x.topics = make([]setTopic, 0, len(all)-x.next+1)
		}
		st := setTopic{id: id, subID: t.ID, opts: optionsOf(t), rh: t.RetainHandling}
		if x.key.bypass {
			st.opts |= covered // nobody is asked
		}
		x.topics = append(x.topics, st)
		if x.kept.routed {
			s.enterDurable(id)
		}
		cr := s.crowdFor(id)
		cr.more.sets = append(cr.more.sets, setRef{set: x, subID: st.subID, opts: st.opts})
	}
	if x.next < len(all) {
		return false
	}
	x.source = nil
	return true
}

// optionsOf is the options of a topic.
func optionsOf(t *behalf.Topic) options {
	o := options(t.QoS)
	if t.NoLocal {
		o |= noLocal
	}
	if t.RetainAsPublished {
		o |= retainAsPublished
	}
	return o
}

// crowdFor makes sure that a filter has a crowd, with room for sets.
func (s *shard) crowdFor(id topictree.FilterID) *crowd {
	cr := s.crowds[id]
	if cr == nil {
		cr = &crowd{}
		if one := s.only[id]; one != nil {
			cr.list = []member{one.member(id)}
			delete(s.only, id)
		}
		s.crowds[id] = cr
	}
	if cr.more == nil {
		cr.more = &crowdExtra{}
	}
	return cr
}

// uproot takes the topics of a set that nobody holds out of the index, a piece now and the rest in later
// turns. Should somebody want it again meanwhile, planting begins where it has got to.
func (s *shard) uproot(x *set) {
	if x.refs > 0 {
		return
	}
	x.uprooting = true
	for n := 0; len(x.topics) > 0; n++ {
		if n == plantStep {
			s.loop.Again(uprootTask{x})
			return
		}
		last := len(x.topics) - 1
		id := x.topics[last].id
		x.topics = x.topics[:last] // and not cleared: retained messages may be under way by the list
		if x.kept.routed {
			s.leaveRouted(id)
		}
		s.dropRef(id, x)
	}
	if s.sets[x.key] == x {
		delete(s.sets, x.key)
	}
}

// uprootTask goes on with uproot.
type uprootTask struct{ x *set }

// Run implements wsnet.Task.
func (t uprootTask) Run(l *wsnet.Loop) { l.Handler().(*shard).uproot(t.x) }

// dropRef takes a set out of the crowd of a filter.
func (s *shard) dropRef(id topictree.FilterID, x *set) {
	cr := s.crowds[id]
	refs := cr.more.sets
	for i := range refs {
		if refs[i].set == x {
			last := len(refs) - 1
			refs[i] = refs[last]
			refs[last] = setRef{}
			cr.more.sets = refs[:last]
			break
		}
	}
	s.settleCrowd(id, cr)
}

// settleCrowd gives up what a crowd does not need, and the crowd itself when it is empty.
func (s *shard) settleCrowd(id topictree.FilterID, cr *crowd) {
	if cr.more != nil && len(cr.more.sets) == 0 && len(cr.more.taps) == 0 {
		cr.more = nil
	}
	if len(cr.list) == 0 && cr.more == nil && cr.jobs.Len() == 0 {
		s.forget(id)
	}
}

// find returns the place of a filter among the plain topics, which are all planted.
func (x *set) find(filter string) (int, bool) {
	lo, hi := 0, len(x.topics)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if x.topics[mid].id.Filter() < filter {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(x.topics) && x.topics[lo].id.Filter() == filter
}

// len is the number of topics.
func (x *set) len() int {
	if x == nil {
		return 0
	}
	return len(x.topics) + len(x.shares)
}

// contents is the set as those who are no loop know it.
func (x *set) contents() *behalf.Set {
	if x == nil {
		return nil
	}
	list := make([]behalf.Topic, 0, x.len())
	for i := range x.topics {
		t := &x.topics[i]
		list = append(list, behalf.Topic{
			Filter: t.id.Filter(), ID: t.subID, QoS: t.opts.qos(), RetainHandling: t.rh,
			NoLocal: t.opts&noLocal != 0, RetainAsPublished: t.opts&retainAsPublished != 0,
		})
	}
	return behalf.NewSet(append(list, x.shares...))
}

// enter adds a member and returns its place.
func (x *set) enter(c *client) int {
	x.members = append(x.members, c)
	return len(x.members) - 1
}

// leave takes the member at a place out; to is the set that it moves to, nil if it does not.
func (x *set) leave(at int, to *set) {
	c := x.members[at]
	if x.busy > 0 {
		x.members[at] = nil
		x.left++
		if to != nil {
			if x.moved == nil {
				x.moved = make(map[int]move)
			}
			x.moved[at] = move{c: c, turn: x.turn}
		}
		return
	}
	last := len(x.members) - 1
	if at != last {
		x.members[at] = x.members[last]
		x.members[at].place(x, at)
	}
	x.members[last] = nil
	x.members = x.members[:last]
}

// done ends a fan-out in slices; with the last one the gaps are closed.
func (x *set) done() {
	x.busy--
	if x.busy > 0 || x.left == 0 {
		return
	}
	to := 0
	for _, c := range x.members {
		if c != nil {
			x.members[to] = c
			c.place(x, to)
			to++
		}
	}
	clear(x.members[to:])
	x.members, x.left, x.moved = x.members[:to], 0, nil
}

// part is a set in a fan-out in slices: members from end on came later.
type part struct {
	ref  setRef
	end  int
	turn uint64
}

// parts begins a fan-out in slices to the sets of a crowd.
func (e *crowdExtra) parts() []part {
	list := make([]part, 0, len(e.sets))
	for _, ref := range e.sets {
		x := ref.set
		if len(x.members) == 0 {
			continue
		}
		x.busy++
		x.turn++
		list = append(list, part{ref: ref, end: len(x.members), turn: x.turn})
	}
	return list
}

// members is the number of members of all sets.
func (e *crowdExtra) members() int {
	n := 0
	for i := range e.sets {
		n += len(e.sets[i].set.members)
	}
	return n
}

// fanOut delivers m to the members of all sets, and to taps.
func (e *crowdExtra) fanOut(s *shard, id topictree.FilterID, m *message.Message) {
	for i := range e.sets {
		ref := &e.sets[i]
		for _, c := range ref.set.members {
			if c != nil {
				s.deliverGranted(ref, id, c, m)
			}
		}
	}
	for _, t := range e.taps {
		t.take(m)
	}
}

// deliverPart delivers to the member at one place of a fan-out in slices.
func (s *shard) deliverPart(p *part, id topictree.FilterID, at int, m *message.Message) {
	x := p.ref.set
	if c := x.members[at]; c != nil {
		s.deliverGranted(&p.ref, id, c, m)
		return
	}
	if mv, ok := x.moved[at]; ok && mv.turn >= p.turn && !mv.c.ended {
		// It was a member when the message was published, and is one of another set now. If that has the
		// filter too, the message is for it still.
		if ref, ok := mv.c.granted(id); ok && (m.Number == 0 || !mv.c.awaitsGranted(id, m)) {
			s.deliver(member{c: mv.c, subID: ref.subID, opts: ref.opts}, m)
		}
	}
}

// deliverGranted gives m to a member of a set, unless the client has the filter otherwise.
func (s *shard) deliverGranted(ref *setRef, id topictree.FilterID, c *client, m *message.Message) {
	if c.masks(ref.set, id) || m.Number != 0 && c.awaitsGranted(id, m) {
		return
	}
	s.deliver(member{c: c, subID: ref.subID, opts: ref.opts}, m)
}

// list appends up to limit of the members of all sets, from a place on, as the printed tree shows them.
func (e *crowdExtra) list(out []subscriber, from, limit int) []subscriber {
	for i := range e.sets {
		ref := &e.sets[i]
		n := len(ref.set.members)
		for at := from; at < n && limit > 0; at++ {
			sub := subscriber{qos: ref.opts.qos()}
			if c := ref.set.members[at]; c != nil {
				sub.id = c.id
			}
			out = append(out, sub)
			limit--
		}
		from = max(0, from-n)
	}
	return out
}
