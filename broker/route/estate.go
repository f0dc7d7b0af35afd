package route

import (
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/topictree"
)

// Estate is the shared subscriptions of a session that has ended, whose members what it has not acknowledged
// goes to. The zero value has none.
type Estate struct {
	shares []bequest
	dealt  map[arrival]int // how often a message was dealt that may have come by more than one of them
}

// arrival is a message that came by a shared subscription with a mark.
type arrival struct {
	m    any // *message.Stored, as it may have been read more than once, else *message.Message
	mark uint8
}

// bequest is a shared subscription of the session that has ended.
type bequest struct {
	group, filter []byte
	mark          uint8
}

// Add adds a subscription by its whole name, if it is a shared one.
func (e *Estate) Add(name string) {
	if group, filter, shared := codec.SplitShare([]byte(name)); shared {
		e.shares = append(e.shares, bequest{group: group, filter: filter, mark: Mark(name)})
	}
}

// Mark is a mark of a shared subscription. It is stored, so it follows from the name alone; two may have the
// same.
func Mark(name string) uint8 {
	h := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint8(1 + h%session.ShareMax)
}

// Of is the shared subscription by which m came with a mark; false if the session has left it. That is known
// by its mark and by what it matches; where that is not enough, a message that is there twice came by one
// after the other.
func (e *Estate) Of(m *message.Message, mark uint8) (group, filter []byte, ok bool) {
	var fits []*bequest
	for i := range e.shares {
		if b := &e.shares[i]; b.mark == mark && topictree.MatchFilter(b.filter, m.Topic) {
			fits = append(fits, b)
		}
	}
	at := 0
	switch {
	case len(fits) == 0:
		return nil, nil, false
	case len(fits) > 1:
		if e.dealt == nil {
			e.dealt = make(map[arrival]int)
		}
		key := arrival{m: m, mark: mark}
		if m.Stored != nil {
			key.m = m.Stored
		}
		at = e.dealt[key] % len(fits)
		e.dealt[key]++
	}
	return fits[at].group, fits[at].filter, true
}
