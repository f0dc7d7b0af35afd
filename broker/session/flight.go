package session

import (
	"cmp"
	"slices"

	"noctule/internal/ring"
)

// flight is what was sent and is not acknowledged, in the order of the first sending, each with its packet
// id. Ids advance, 1 to 65535 and then from 1 again, past those in use [MQTT-2.2.1-3] [MQTT-2.2.1-4]; so an
// id comes again as late as it can, and an acknowledgement that comes late ends no other message.
//
// What is acknowledged out of order leaves a gap in the list, without a message, until it is the oldest or
// compact closes it. Invariants, checked by the model tests:
//
//	list[0] is no gap; gaps <= max(gapsMin, half of the list)
//	ids of what is no gap are unique
//	ids of list[old.young:], gaps included, ascend up to last: they were given since ids last began at 1
//	old knows where in list[:old.young] an id is; nil if nothing is there
//	resent <= len(list)
//
// Tried in thought and left: a table of 65535 places or a map by id, which cost more than the messages for a
// case that is rare; a place in the list that follows from the id alone, which needs a gap for each id that
// was acknowledged since the oldest, and ends when there are 65535.
type flight struct {
	list   ring.Ring[entry]
	old    *oldIDs
	used   int32  // messages sent on this connection and unacknowledged
	resent int32  // entries that were sent on this connection, or are gaps; the list's first
	gaps   int32  // gaps in the list
	last   uint16 // packet id given last
}

// oldIDs is where entries are that were sent before ids began at 1 again.
type oldIDs struct {
	places []oldPlace // by id
	next   int        // places before have ids below the one that has was asked about last
	young  int        // number of entries in list that are old
	popped int        // entries that have left the list since places was made
}

// oldPlace is where an id was when places was made; what is there now tells whether it still is.
type oldPlace struct {
	id uint16
	at int32
}

// flightMax is how many entries a flight can have: one for each packet id.
const flightMax = 65535

// gapsMin is how many gaps are left alone: closing them costs a walk through the list.
const gapsMin = 32

// find returns the place of a packet id; most often it is the oldest entry's.
func (f *flight) find(id uint16) (int, bool) {
	if f.list.Len() > 0 && f.list.At(0).id == id {
		return 0, true
	}
	return f.search(id)
}

// is reports whether the packet id at a place is id, and in use.
func (f *flight) is(i int, id uint16) bool {
	e := f.list.At(i)
	return e.id == id && e.state != done
}

func (f *flight) search(id uint16) (int, bool) {
	n := f.list.Len()
	if n == 0 {
		return 0, false
	}
	i := int(id) - int(f.list.At(0).id) // the place, as long as no gap was closed and no id left out
	if i < 0 {
		i += 65535
	}
	if i < n && f.is(i, id) {
		return i, true
	}
	lo, hi := 0, n
	if f.old != nil {
		if i, ok := f.old.find(f, id); ok {
			return i, true
		}
		lo = f.old.young
	}
	for lo < hi {
		if mid := (lo + hi) / 2; f.list.At(mid).id < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < n && f.is(lo, id)
}

func (o *oldIDs) find(f *flight, id uint16) (int, bool) {
	k, ok := slices.BinarySearchFunc(o.places, id, func(p oldPlace, id uint16) int {
		return cmp.Compare(p.id, id)
	})
	if !ok {
		return 0, false
	}
	i := int(o.places[k].at) - o.popped
	return i, i >= 0 && f.is(i, id)
}

// has reports whether an old entry has a packet id. The ids that it is asked about ascend.
func (o *oldIDs) has(f *flight, id uint16) bool {
	for o.next < len(o.places) && o.places[o.next].id < id {
		o.next++
	}
	if o.next == len(o.places) || o.places[o.next].id != id {
		return false
	}
	i := int(o.places[o.next].at) - o.popped
	return i >= 0 && f.is(i, id)
}

// nextID is the packet id for the next message. One must be free, which is so while fewer messages than a
// window can have are in flight.
func (f *flight) nextID() uint16 {
	if f.old == nil && f.last < 65535 {
		return f.last + 1
	}
	return f.freeID()
}

func (f *flight) freeID() uint16 {
	for ; ; f.last++ { // past what is used, for good
		if f.last == 65535 {
			f.last = 0
			f.age()
		}
		if id := f.last + 1; f.old == nil || !f.old.has(f, id) {
			return id
		}
	}
}

// age makes all entries old.
func (f *flight) age() {
	f.old = nil
	n := f.list.Len()
	if n == 0 {
		return
	}
	places := make([]oldPlace, 0, n-int(f.gaps))
	for i := range n {
		if e := f.list.At(i); e.state != done && e.id != 0 {
			places = append(places, oldPlace{e.id, int32(i)})
		}
	}
	slices.SortFunc(places, func(a, b oldPlace) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.at, b.at))
	})
	f.old = &oldIDs{places: places, young: n}
}

// push adds e, with a packet id from nextID, as sent on this connection; the pointer is good until the next
// call. What is written into e just before it is copied would stall the copy.
func (f *flight) push(e entry, id uint16, qos uint8) *entry {
	f.list.Push(e)
	in := f.list.At(f.list.Len() - 1)
	in.id, in.state = id, WaitAck
	if qos == 2 {
		in.state = WaitRec
	}
	f.last = id
	f.resent++
	return in
}

// remove takes an entry out. In the middle of the list it leaves a gap.
func (f *flight) remove(i int) {
	if i > 0 {
		e := f.list.At(i)
		e.state, e.m, e.seq = done, nil, 0
		if f.gaps++; f.gaps > gapsMin && int(f.gaps) > f.list.Len()/2 {
			f.compact()
		}
		return
	}
	f.pop()
	for f.gaps > 0 && f.list.At(0).state == done {
		f.gaps--
		f.pop()
	}
}

// pop takes the oldest entry out.
func (f *flight) pop() {
	f.list.Pop()
	f.resent = max(f.resent-1, 0)
	if o := f.old; o != nil {
		o.popped++
		if o.young--; o.young == 0 {
			f.old = nil
		}
	}
}

// compact closes the gaps. As many acknowledgements as there are gaps have paid for the walk.
func (f *flight) compact() {
	young := 0
	if f.old != nil {
		young = f.old.young
	}
	n, resent, old := 0, 0, 0
	for i := range f.list.Len() {
		e := f.list.At(i)
		if e.state == done {
			continue
		}
		if i < int(f.resent) {
			resent++
		}
		if i < young {
			old++
		}
		*f.list.At(n) = *e
		n++
	}
	f.list.Truncate(n)
	f.gaps, f.resent, f.old = 0, int32(resent), nil
	if old > 0 {
		f.age()
		f.old.young = old
		f.old.places = slices.DeleteFunc(f.old.places, func(p oldPlace) bool { return int(p.at) >= old })
	}
}

// adopt numbers what Restore has put into an empty flight. An entry without a packet id, or with that of
// another one, gets a free one behind last.
func (f *flight) adopt(last uint16) {
	f.last = last
	f.age()
	if f.old == nil {
		return
	}
	for i := 1; i < len(f.old.places); i++ {
		if p := f.old.places[i]; p.id == f.old.places[i-1].id {
			f.list.At(int(p.at)).id = 0
		}
	}
	f.age()
	for i := range f.list.Len() {
		if e := f.list.At(i); e.id == 0 {
			e.id = f.nextID()
			f.last = e.id
		}
	}
	f.age()
}
