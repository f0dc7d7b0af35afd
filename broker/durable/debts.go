package durable

import (
	"sync"
	"sync/atomic"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/topictree"
)

// Routes is which loops have durable subscribers of a filter; for a shared subscription, durable members.
// Messages for others are no debt. Safe for concurrent use.
type Routes struct {
	loops sync.Map   // topictree.FilterID -> *atomic.Uint64, a bit set that changes under mu
	mu    sync.Mutex // held while a filter's loops change
}

// Of is a filter's loops, as a bit set.
func (r *Routes) Of(id topictree.FilterID) uint64 {
	if set, ok := r.loops.Load(id); ok {
		return set.(*atomic.Uint64).Load()
	}
	return 0
}

func (r *Routes) add(id topictree.FilterID, loop int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set, _ := r.loops.LoadOrStore(id, &atomic.Uint64{})
	set.(*atomic.Uint64).Or(1 << loop)
}

func (r *Routes) remove(id topictree.FilterID, loop int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set, ok := r.loops.Load(id)
	if !ok {
		return
	}
	bits := set.(*atomic.Uint64)
	if bits.And(^(uint64(1) << loop)); bits.Load() == 0 {
		r.loops.Delete(id)
	}
}

// Enter counts a filter that a durable session, or a set that such have, has on this loop.
func (j *Journal) Enter(id topictree.FilterID) {
	if j.members[id]++; j.members[id] == 1 {
		j.Routes.add(id, j.source)
	}
}

// Leave is the end of Enter.
func (j *Journal) Leave(id topictree.FilterID) {
	if j.members[id]--; j.members[id] > 0 {
		return
	}
	delete(j.members, id)
	j.Routes.remove(id, j.source)
}

// Owe notes that a loop is to take m for a filter, if it has durable subscribers there; true when it has.
func (j *Journal) Owe(m *message.Message, id topictree.FilterID, loop int) bool {
	if j == nil || m.QoS == 0 || j.Routes.Of(id)&(1<<loop) == 0 {
		return false
	}
	j.putTransit(m, id, loop)
	return true
}

// OweShared is Owe for a shared subscription that another loop deals or has the member of.
func (j *Journal) OweShared(m *message.Message, id topictree.FilterID, loop int) bool {
	if j == nil || m.QoS == 0 || j.Routes.Of(id) == 0 {
		return false
	}
	j.putTransit(m, id, loop)
	return true
}

func (j *Journal) putTransit(m *message.Message, id topictree.FilterID, loop int) {
	t := store.Transit{Message: j.Ref(m), Loop: uint8(loop), Filter: id.Filter()}
	j.Batch.PutTransit(&t)
}

// OweTopic notes that m is being passed on to all whose subscriptions match its topic, or to those of one
// loop, in later turns.
func (j *Journal) OweTopic(m *message.Message, loop int) {
	j.Batch.PutTransit(&store.Transit{Message: j.Ref(m), Loop: uint8(loop)})
}

// PaidTopic is the end of OweTopic.
func (j *Journal) PaidTopic(m *message.Message, loop int) {
	st := m.Keep().Stored
	j.Batch.DeleteTransit(&store.Transit{Message: st.ID, Loop: uint8(loop)})
	j.Unref(st)
}

// Paid notes that this loop has taken m for a filter.
func (j *Journal) Paid(m *message.Message, id topictree.FilterID) {
	st := m.Keep().Stored
	t := store.Transit{Message: st.ID, Loop: uint8(j.source), Filter: id.Filter()}
	j.Batch.DeleteTransit(&t)
	j.Unref(st)
}
