package store

import (
	"encoding/binary"
)

// Records of what servers have subscribed sessions to: lists of topics, each stored once, and grants that
// refer to them.

// SetKey names a list of topics; all zero: none.
type SetKey [16]byte

// Set is a list of topics.
type Set struct {
	Key    SetKey
	Topics []SetTopic
}

// SetTopic is one topic of a list.
type SetTopic struct {
	Filter  string // with $share/NAME/ if it is shared
	Options uint8  // as in SUBSCRIBE
	ID      uint32 // Subscription Identifier; 0 none
	End     int64  // when it ends by itself, in seconds of the broker's clock; 0: never
}

// topicEnds is a bit of a topic's options, which SUBSCRIBE has reserved: when it ends follows. Without it the
// record is as it was before there were ends, and programs of then refuse one that has it.
const topicEnds = 0x40

// Grant is what a session has of one origin.
type Grant struct {
	Session     uint64
	Origin      string
	Place       uint8 // among the session's grants, from 0: of several with a filter the first counts
	Revision    uint64
	Set         SetKey
	Unsubscribe uint8 // of the client: 0 ends it, 1 ends it until the next CONNECT, 2 is refused
	Bypass      bool  // access rules are left out of account
	PerConnect  bool  // each CONNECT makes the list anew
	Muted       []string
	OwedAll     bool     // not all retained messages of its topics have been sent
	Owed        []string // the same for these topics only
}

// unsubscribeMost is the highest value of Grant.Unsubscribe.
const unsubscribeMost = 2

// setTopicMin is the least number of bytes of a topic in a Set.
const setTopicMin = 3

// PutSet stores x.
func (b *Batch) PutSet(x *Set) { b.PutSetValue(x.Key, x.Value()) }

// PutSetValue stores a set whose value was made before.
func (b *Batch) PutSetValue(key SetKey, value []byte) { b.Put(Sets, key[:], value) }

// Value is what is stored under the key of x.
func (x *Set) Value() []byte {
	n := 16
	for i := range x.Topics {
		n += 16 + len(x.Topics[i].Filter)
	}
	v := binary.AppendUvarint(append(make([]byte, 0, n), version), uint64(len(x.Topics)))
	for i := range x.Topics {
		t := &x.Topics[i]
		if t.End > 0 {
			v = binary.AppendUvarint(append(v, t.Options|topicEnds), uint64(t.End))
		} else {
			v = append(v, t.Options)
		}
		v = binary.AppendUvarint(v, uint64(t.ID))
		v = appendText(v, t.Filter)
	}
	return v
}

// DeleteSet removes a set, once no grant refers to it.
func (b *Batch) DeleteSet(key SetKey) { b.Delete(Sets, key[:]) }

// ReadSet reads a pair of Sets. Its texts are copies.
func ReadSet(key, value []byte) (x Set, err error) {
	r := newReader(value)
	if len(key) != len(x.Key) {
		r.bad = true
	}
	copy(x.Key[:], key)
	n := r.uvarint()
	if n > uint64(len(r.b)/setTopicMin) {
		r.bad, n = true, 0
	}
	if n > 0 {
		x.Topics = make([]SetTopic, 0, n)
	}
	for ; n > 0 && !r.bad; n-- {
		t := SetTopic{Options: r.byte()}
		if t.Options&topicEnds != 0 {
			t.Options &^= topicEnds
			t.End = int64(r.uvarint())
			r.bad = r.bad || t.End <= 0
		}
		t.ID, t.Filter = uint32(r.uvarint()), string(r.text())
		if t.Options&3 > 2 || t.Options>>4 > 2 || t.Filter == "" {
			r.bad = true
		}
		x.Topics = append(x.Topics, t)
	}
	return x, r.end(Sets)
}

// Bits of a Grant's flags, above those of Unsubscribe.
const (
	grantBypass     = 4
	grantPerConnect = 8
	grantOwedAll    = 16
	grantOwed       = 32
	grantFlags      = 63
)

// PutGrant stores g.
func (b *Batch) PutGrant(g *Grant) {
	v := make([]byte, 0, 64+len(g.Origin))
	f := g.Unsubscribe | flag(g.Bypass)*grantBypass | flag(g.PerConnect)*grantPerConnect
	f |= flag(g.OwedAll)*grantOwedAll | flag(len(g.Owed) > 0)*grantOwed
	v = append(v, version, f, g.Place)
	v = binary.AppendUvarint(v, g.Revision)
	v = append(v, g.Set[:]...)
	v = appendTexts(v, g.Muted)
	if len(g.Owed) > 0 {
		v = appendTexts(v, g.Owed)
	}
	b.Put(Grants, grantKey(g.Session, g.Origin), appendLong(v, g.Origin))
}

// appendTexts appends a list of texts and, before it, their number.
func appendTexts(v []byte, list []string) []byte {
	v = binary.AppendUvarint(v, uint64(len(list)))
	for _, text := range list {
		v = appendText(v, text)
	}
	return v
}

// texts reads what appendTexts has written. The texts are copies.
func (r *reader) texts() (list []string) {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		list = append(list, string(r.text()))
	}
	return list
}

// DeleteGrant removes what a session has of an origin.
func (b *Batch) DeleteGrant(session uint64, origin string) {
	b.Delete(Grants, grantKey(session, origin))
}

// DropGrants removes all grants of a session.
func (b *Batch) DropGrants(session uint64) { b.drop(Grants, session) }

func grantKey(session uint64, origin string) []byte {
	return appendKey(num(make([]byte, 0, ownerSize+min(len(origin), longKey)), session), origin)
}

// ReadGrant reads a pair of Grants. Its texts are copies.
func ReadGrant(key, value []byte) (g Grant, err error) {
	r := newReader(value)
	g.Session = keyNum(key, 0, r)
	f := r.byte()
	g.Unsubscribe, g.Bypass, g.PerConnect = f&3, f&grantBypass != 0, f&grantPerConnect != 0
	if f > grantFlags || g.Unsubscribe > unsubscribeMost {
		r.bad = true
	}
	g.Place, g.Revision = r.byte(), r.uvarint()
	for i := range g.Set {
		g.Set[i] = r.byte()
	}
	g.OwedAll = f&grantOwedAll != 0
	g.Muted = r.texts()
	if f&grantOwed != 0 {
		g.Owed = r.texts()
	}
	if !r.bad {
		g.Origin = keyText(key[ownerSize:], r)
		r.bad = r.bad || g.Origin == ""
	}
	return g, r.end(Grants)
}
