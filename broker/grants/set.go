package grants

import (
	"strings"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/retained"
)

// set is one behalf.Set on one loop.
type set[C comparable] struct {
	key       setKey
	uprooting bool

	topics []retained.Topic // planted so far, by filter
	shares []behalf.Topic   // shared subscriptions, which each member joins by itself, by filter

	source *behalf.Set // set while not all is planted
	next   int         // of source: to be planted next
	grants int         // that have it
	pins   int         // others that hold it for a time

	ending  *ending[C] // nil: nothing in it ends by itself
	members fanout.Set[C]
	kept    kept
}

// setKey identifies the contents of a set, and whether its members get what they may not read otherwise.
type setKey struct {
	behalf.Key
	bypass bool
}

// plantStep is how many topics are entered in the index at a time.
const plantStep = 512

// pin finds or makes the set of contents on this loop and holds it. It is ready once plant says so.
func (t *Table[C]) pin(x *behalf.Set, bypass bool) *set[C] {
	t.loop.MustBeHere()
	key := setKey{x.Key(), bypass}
	st := t.sets[key]
	if st == nil {
		st = &set[C]{key: key, source: x, ending: endingOf[C](x)}
		if t.sets == nil {
			t.sets = make(map[setKey]*set[C])
		}
		t.sets[st.key] = st
	}
	if st.uprooting {
		st.uprooting = false
		st.replant(x)
	}
	st.pins++
	return st
}

// replant goes back to planting, from where uproot has got to.
func (x *set[C]) replant(source *behalf.Set) {
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
func (t *Table[C]) unpin(x *set[C]) {
	t.loop.MustBeHere()
	x.pins--
	t.uproot(x)
}

// plant enters up to limit topics in the index; true when all are there.
func (t *Table[C]) plant(x *set[C], limit int) bool {
	t.loop.MustBeHere()
	if x.source == nil {
		return true
	}
	all := x.source.Topics()
	for ; x.next < len(all) && limit > 0; limit-- {
		p := &all[x.next]
		x.next++
		if p.IsShared() {
			x.shares = append(x.shares, *p)
			continue
		}
		id, err := t.index.Add([]byte(p.Filter), t.at)
		if err != nil { // Check has allowed it: the index is full
			t.warn("Subscription to %q on behalf of clients refused: %v.", p.Filter, err)
			continue
		}
		if x.topics == nil {
			x.topics = make([]retained.Topic, 0, len(all)-x.next+1)
		}
		st := retained.Topic{
			ID: id, SubID: p.ID, Options: optionsOf(p), RetainHandling: p.RetainHandling,
		}
		if x.key.bypass {
			st.Options |= fanout.Covered // nobody is asked
		}
		x.topics = append(x.topics, st)
		if x.kept.routed {
			t.journal.Enter(id)
		}
		t.receivers.Attach(id, fanout.Ref[C]{Set: &x.members, SubID: st.SubID, Options: st.Options})
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
func (t *Table[C]) uproot(x *set[C]) {
	t.loop.MustBeHere()
	if x.grants+x.pins > 0 {
		return
	}
	x.uprooting = true
	for n := 0; len(x.topics) > 0; n++ {
		if n == plantStep {
			t.loop.Again(func() { t.uproot(x) })
			return
		}
		last := len(x.topics) - 1
		id := x.topics[last].ID
		x.topics = x.topics[:last] // and not cleared: retained messages may be under way by the list
		if x.kept.routed {
			t.journal.Leave(id)
		}
		t.receivers.Detach(id, &x.members)
	}
	if t.sets[x.key] == x {
		delete(t.sets, x.key)
	}
}

// find returns the place of a filter among the plain topics, which are all planted.
func (x *set[C]) find(filter string) (int, bool) {
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
func (x *set[C]) len() int {
	if x == nil {
		return 0
	}
	return len(x.topics) + len(x.shares)
}

// contents is the set as those who are no loop know it.
func (x *set[C]) contents() *behalf.Set {
	if x == nil {
		return nil
	}
	if x.ending != nil {
		return x.ending.of(x)
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

// plain is the number of topics that are no shared subscriptions.
func (x *set[C]) plain() int {
	if x == nil {
		return 0
	}
	return len(x.topics)
}

// contains reports whether a filter, plain or shared, is in the set.
func (x *set[C]) contains(filter string) bool {
	if x == nil {
		return false
	}
	if strings.HasPrefix(filter, "$share/") {
		for i := range x.shares {
			if x.shares[i].Filter == filter {
				return true
			}
		}
		return false
	}
	_, ok := x.find(filter)
	return ok
}

// ready is a planted set, pinned until unpinLoose.
func (t *Table[C]) ready(x *behalf.Set, bypass bool) *set[C] {
	if x.Len() == 0 {
		return nil
	}
	st := t.pin(x, bypass)
	t.plant(st, x.Len())
	t.loose = append(t.loose, st)
	return st
}

// unpinLoose lets go of what ready has made, once the grants hold what they took.
func (t *Table[C]) unpinLoose() {
	for i, x := range t.loose {
		t.unpin(x)
		t.loose[i] = nil
	}
	t.loose = t.loose[:0]
}
