package broker

import (
	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/wsnet"
)

// Subscriptions that are made on behalf of sessions are held as sets. All that one origin has given to one
// session is one set, and sessions with the same list, of this loop, are members of one and the same: the
// index, the crowds and the list of topics exist once a set, and a session costs one place in its members
// and one grant (grants.go), however many topics there are.
//
// A filter's crowd (fanout) refers to the sets that contain it. A set is planted, which is to enter its
// topics in the index, before it has its first member, and uprooted after its last has left; both in pieces.
// A member that has subscribed to one of the filters itself, or has it by an earlier grant, is passed over in
// the fan-out, so that it gets one copy.
//
// Rejected: one subscription a client and topic with an origin beside it (50 topics took 4 KB a client and
// 20 us a connect), and marks per origin in a table beside the list (a session's reconciliation then walks it
// all at each CONNECT).

// set is one behalf.Set on one loop.
type set struct {
	key    setKey
	topics []retained.Topic // planted so far, by filter
	shares []behalf.Topic   // shared subscriptions, which each member joins by itself, by filter

	source *behalf.Set // set while not all is planted
	next   int         // of source: to be planted next
	grants int         // that have it
	pins   int         // others that hold it for a time

	uprooting bool
	members   fanout.Set[*client]
	kept      kept
}

// setKey identifies the contents of a set, and whether its members get what they may not read otherwise.
type setKey struct {
	behalf.Key
	bypass bool
}

// plantStep is how many topics are entered in the index at a time.
const plantStep = 512

// pin finds or makes the set of contents on this loop and holds it. It is ready once plant says so.
func (s *shard) pin(x *behalf.Set, bypass bool) *set {
	s.loop.MustBeHere()
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
	st.pins++
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
	s.loop.MustBeHere()
	x.pins--
	s.uproot(x)
}

// plant enters up to limit topics in the index; true when all are there.
func (s *shard) plant(x *set, limit int) bool {
	s.loop.MustBeHere()
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
			x.topics = make([]retained.Topic, 0, len(all)-x.next+1)
		}
		st := retained.Topic{
			ID: id, SubID: t.ID, Options: optionsOf(t), RetainHandling: t.RetainHandling,
		}
		if x.key.bypass {
			st.Options |= fanout.Covered // nobody is asked
		}
		x.topics = append(x.topics, st)
		if x.kept.routed {
			s.journal.Enter(id)
		}
		s.receivers.Attach(id, fanout.Ref[*client]{Set: &x.members, SubID: st.SubID, Options: st.Options})
	}
	if x.next < len(all) {
		return false
	}
	x.source = nil
	return true
}

// optionsOf is the options of a topic.
func optionsOf(t *behalf.Topic) fanout.Options {
	return fanout.NewOptions(t.QoS, t.NoLocal, t.RetainAsPublished)
}

// uproot takes the topics of a set that nobody holds out of the index, a piece now and the rest in later
// turns. Should somebody want it again meanwhile, planting begins where it has got to.
func (s *shard) uproot(x *set) {
	s.loop.MustBeHere()
	if x.grants+x.pins > 0 {
		return
	}
	x.uprooting = true
	for n := 0; len(x.topics) > 0; n++ {
		if n == plantStep {
			s.loop.Again(uprootTask{x})
			return
		}
		last := len(x.topics) - 1
		id := x.topics[last].ID
		x.topics = x.topics[:last] // and not cleared: retained messages may be under way by the list
		if x.kept.routed {
			s.journal.Leave(id)
		}
		s.receivers.Detach(id, &x.members)
	}
	if s.sets[x.key] == x {
		delete(s.sets, x.key)
	}
}

// uprootTask goes on with uproot.
type uprootTask struct{ x *set }

// Run implements wsnet.Task.
func (t uprootTask) Run(l *wsnet.Loop) { l.Handler().(*shard).uproot(t.x) }

// find returns the place of a filter among the plain topics, which are all planted.
func (x *set) find(filter string) (int, bool) {
	lo, hi := 0, len(x.topics)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if x.topics[mid].ID.Filter() < filter {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(x.topics) && x.topics[lo].ID.Filter() == filter
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
			Filter: t.ID.Filter(), ID: t.SubID, QoS: t.Options.QoS(), RetainHandling: t.RetainHandling,
			NoLocal:           t.Options.Has(fanout.NoLocal),
			RetainAsPublished: t.Options.Has(fanout.RetainAsPublished),
		})
	}
	return behalf.NewSet(append(list, x.shares...))
}
