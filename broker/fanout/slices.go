package fanout

import (
	"noctule/broker/message"
	"noctule/topictree"
)

// job is one message on its way through a crowd: members before next have it, members from end on came
// later. After the crowd's own members it goes through the parts.
type job[C comparable] struct {
	m         *message.Message
	parts     []part[C]
	next, end int
	owed      bool
}

// part is a set in a job: members from end on came later.
type part[C comparable] struct {
	ref  Ref[C]
	end  int
	turn uint64
}

// Queue has a message, which is kept, wait for the slices of a crowd of which Deliver has said so. Taps get
// it now. owed is for who asks what has ended. first says that Serve is to be called in a later turn: nobody
// has booked it yet.
func (t *Table[C]) Queue(id topictree.FilterID, m *message.Message, owed bool) (first bool) {
	cr := t.crowds[id]
	j := job[C]{m: m, end: len(cr.list), owed: owed}
	if cr.more != nil {
		j.parts = cr.more.parts()
		cr.more.tap(m)
	}
	cr.jobs.Push(j)
	return cr.jobs.Len() == 1
}

// parts begins a job for the sets of a crowd.
func (x *extra[C]) parts() []part[C] {
	list := make([]part[C], 0, len(x.sets))
	for _, r := range x.sets {
		if len(r.Set.members) == 0 {
			continue
		}
		r.Set.busy++
		r.Set.turn++
		list = append(list, part[C]{ref: r, end: len(r.Set.members), turn: r.Set.turn})
	}
	return list
}

// Under is the message of the oldest job of a filter, nil if there is none.
func (t *Table[C]) Under(id topictree.FilterID) *message.Message {
	if cr := t.crowds[id]; cr != nil && cr.jobs.Len() > 0 {
		return cr.jobs.At(0).m
	}
	return nil
}

// Serve shows a filter's oldest job to the next receivers, a slice of them. over says that all have it now,
// owed what Queue was told.
func (t *Table[C]) Serve(id topictree.FilterID, visit Visit[C]) (over, owed bool) {
	cr := t.crowds[id]
	j := cr.jobs.At(0)
	if !t.serve(j, cr, id, visit) {
		return false, j.owed
	}
	cr.over++
	return true, cr.jobs.Pop().owed
}

// Rest reports whether a filter has no job any more; then the places of those who have left are closed.
func (t *Table[C]) Rest(id topictree.FilterID) bool {
	cr := t.crowds[id]
	if cr.jobs.Len() > 0 {
		return false
	}
	t.sweep(id, cr)
	return true
}

// serve shows one slice of a job; true when it was the last.
func (t *Table[C]) serve(j *job[C], cr *crowd[C], id topictree.FilterID, visit Visit[C]) bool {
	var nobody C
	left := t.slice
	if j.end >= 0 {
		end := min(j.next+left, j.end)
		left -= end - j.next
		for i := j.next; i < end; i++ {
			if mb := cr.list[i]; mb.C != nobody {
				visit(id, Hit[C]{Member: mb}, j.m)
			}
		}
		j.next = end
		if j.next < j.end {
			return false
		}
		j.next, j.end = 0, -1 // on to the parts
	}
	for len(j.parts) > 0 {
		if left == 0 {
			return false
		}
		p := &j.parts[0]
		for ; j.next < p.end && left > 0; left-- {
			p.serve(id, j.next, j.m, visit)
			j.next++
		}
		if j.next == p.end {
			t.done(p.ref.Set)
			j.parts, j.next = j.parts[1:], 0
		}
	}
	return true
}

// serve shows a message to the member at one place, or to who was there when it was published.
func (p *part[C]) serve(id topictree.FilterID, at int, m *message.Message, visit Visit[C]) {
	var nobody C
	x := p.ref.Set
	if c := x.members[at]; c != nobody {
		visit(id, p.ref.hit(c), m)
		return
	}
	if mv, ok := x.moved[at]; ok && mv.turn >= p.turn {
		h := p.ref.hit(mv.c)
		h.Left = true
		visit(id, h, m)
	}
}

// sweep closes the gaps that members left while slices were under way.
func (t *Table[C]) sweep(id topictree.FilterID, cr *crowd[C]) {
	if cr.left > 0 {
		var nobody C
		to := 0
		for from := range cr.list {
			if cr.list[from].C != nobody {
				t.place(id, cr, from, to)
				to++
			}
		}
		clear(cr.list[to:])
		cr.list, cr.left = cr.list[:to], 0
	}
	t.settle(id, cr)
}

// Barrier is a place in the queue of a filter's jobs. The zero value is none.
type Barrier struct {
	crowd any // *crowd, whose jobs it waits for, until this number of them are over
	until uint32
}

// Passed reports whether the jobs that were under way when b was first asked about are over. Then b is none
// again.
func (t *Table[C]) Passed(id topictree.FilterID, b *Barrier) bool {
	cr := t.crowds[id]
	switch {
	case cr == nil || cr.jobs.Len() == 0:
	case b.crowd != any(cr):
		b.crowd, b.until = cr, cr.over+uint32(cr.jobs.Len())
		return false
	case int32(b.until-cr.over) > 0: // the number may wrap
		return false
	}
	b.crowd = nil
	return true
}
