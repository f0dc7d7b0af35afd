package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"noctule/broker/message"
	"noctule/codec"
)

// The records, each with what puts it into a batch, what removes it, and what reads it. Numbers in keys are
// big endian, so that keys sort by them; numbers in values are varints. A value begins with its version.

// version is the first byte of every value.
const version = 1

// Meta is about the store as a whole.
type Meta struct {
	Epoch uint64 // counts the starts of a broker on this store: high bits of the numbers it gives out
	Seed  uint64 // of the hash that says which loop a session lives on
	Loops uint64 // number of loops of that broker
}

// Clock is how the times in a store are to be read: they are of the broker's own clock, which goes on evenly.
type Clock struct {
	Ahead int64 // the system's clock is ahead of it by so many milliseconds
	Seen  int64 // Unix milliseconds by the broker's clock: it has been later than this
}

// Session is a session without its subscriptions and messages.
type Session struct {
	Number   uint64 // unique among all sessions ever in this store
	ClientID string
	Username string

	MountPoint        string // of its topics
	AnyUser, AnyMount bool   // Username or MountPoint is empty because it is not known

	Expiry    uint32 // Session Expiry Interval, seconds; 0: it ends with its connection
	OfflineAt int64  // seconds by the broker's clock (see Clock); 0 while it is online
	Will      *Will  // nil without one
}

// Will is a Will Message that may still have to be sent.
type Will struct {
	Message message.Message
	Delay   uint32 // seconds
	Expiry  uint32 // Message Expiry Interval, seconds; 0 none
}

// Subscription is one subscription of a session.
type Subscription struct {
	Session uint64
	Filter  string // with $share/NAME/ if it is shared
	Options uint8  // as in SUBSCRIBE, without Retain Handling
	ID      uint32 // Subscription Identifier; 0 none
	Owed    bool   // not all of its retained messages have been sent
}

// subscriptionOwed is the bit of a stored subscription's options that says so.
const subscriptionOwed = 1 << 7

// State says how far the delivery of an entry is.
type State uint8

// The states of an entry.
const (
	Queued   State = iota // not sent, or sent with QoS 1 and a packet id that is not noted
	WaitAck               // QoS 1 sent
	WaitRec               // QoS 2 sent
	WaitComp              // PUBREL sent; the message is the receiver's
)

// Entry is one outgoing message of a session.
type Entry struct {
	Session        uint64
	Seq            uint64 // order in the session
	Message        uint64 // id; 0 in WaitComp
	QoS            uint8
	State          State
	Retain         bool
	Share          uint8  // 0 to 3: mark of the shared subscription by which it came; 0: by none
	PacketID       uint16 // 0 in Queued
	SubscriptionID uint32
}

// Handshake is an incoming QoS 2 message between PUBLISH and PUBREL.
type Handshake struct {
	Session  uint64
	PacketID uint16
	Message  uint64 // id; 0: the packet id is known and nothing is to be passed on
}

// Transit is a message that one loop has promised to another, for the sessions there that subscribe to a
// filter, or for one member of a shared subscription, and that the other has not taken yet. Without a filter
// it is for all sessions and shared subscriptions that match its topic: not all of them are known yet.
type Transit struct {
	Message uint64
	Loop    uint8  // AllLoops if it is for the sessions of all
	Filter  string // with $share/NAME/ if it is shared
}

// AllLoops is the number of no loop.
const AllLoops = 255

// longKey is the length from which a text in a key is replaced: stores have keys of 32 KiB at most, topics
// and filters may be twice as long.
const longKey = 16 << 10

// appendKey appends a topic or filter, or NUL, which neither contains, and a hash of a long one.
func appendKey(k []byte, text string) []byte {
	if len(text) < longKey {
		return append(k, text...)
	}
	sum := sha256.Sum256([]byte(text))
	return append(append(k, 0), sum[:]...)
}

// keyText is a text that appendKey has put into a key, or the one that the value has in its place.
func keyText(key []byte, r *reader) string {
	if len(key) > 0 && key[0] == 0 {
		return string(r.text())
	}
	return string(key)
}

// appendLong appends the text to a value if the key does not have it.
func appendLong(v []byte, text string) []byte {
	if len(text) < longKey {
		return v
	}
	return appendText(v, text)
}

func num(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// scratch is the key or value under construction; large enough for all but texts.
type scratch [64]byte

// PutMeta stores m.
func (b *Batch) PutMeta(m *Meta) {
	var s scratch
	v := append(s[:0], version)
	v = binary.AppendUvarint(v, m.Epoch)
	v = binary.AppendUvarint(v, m.Seed)
	v = binary.AppendUvarint(v, m.Loops)
	b.Put(Config, []byte("state"), v)
}

// ReadMeta reads the value of a Meta.
func ReadMeta(value []byte) (m Meta, err error) {
	r := newReader(value)
	m.Epoch, m.Seed, m.Loops = r.uvarint(), r.uvarint(), r.uvarint()
	return m, r.end(Config)
}

// clockKey is the key of the Clock.
const clockKey = "clock"

// IsClock reports whether a key of Config is that of the Clock.
func IsClock(key []byte) bool { return string(key) == clockKey }

// PutClock stores c.
func (b *Batch) PutClock(c *Clock) {
	var s scratch
	v := binary.AppendVarint(append(s[:0], version), c.Ahead)
	b.Put(Config, []byte(clockKey), binary.AppendVarint(v, c.Seen))
}

// ReadClock reads the value of a Clock. A store without one has Unix times.
func ReadClock(value []byte) (c Clock, err error) {
	r := newReader(value)
	c.Ahead, c.Seen = r.varint(), r.varint()
	return c, r.end(Config)
}

// Flags of a session.
const (
	sessionWill  = 1 << iota // the will is at the end
	sessionOwner             // the mount point follows, and the flags below are set
	sessionAnyUser
	sessionAnyMount
	sessionFlags = 1<<iota - 1
)

// PutSession stores s without its subscriptions and messages.
func (b *Batch) PutSession(s *Session) {
	var k scratch
	v := make([]byte, 0, 64+len(s.ClientID)+len(s.Username))
	v = append(v, version)
	v = appendText(v, s.ClientID)
	v = appendText(v, s.Username)
	v = binary.AppendUvarint(v, uint64(s.Expiry))
	v = binary.AppendVarint(v, s.OfflineAt)
	f := sessionOwner | flag(s.AnyUser)*sessionAnyUser | flag(s.AnyMount)*sessionAnyMount
	v = append(v, f|flag(s.Will != nil)*sessionWill)
	v = appendText(v, s.MountPoint)
	if w := s.Will; w != nil {
		v = binary.AppendUvarint(v, uint64(w.Delay))
		v = binary.AppendUvarint(v, uint64(w.Expiry))
		v = appendMessage(v, &w.Message)
	}
	b.Put(Sessions, num(k[:0], s.Number), v)
}

// DropSession removes a session with all that belongs to it, except its grants, which few have, and the
// messages it refers to.
func (b *Batch) DropSession(number uint64) {
	var k scratch
	b.Delete(Sessions, num(k[:0], number))
	b.drop(Subscriptions, number)
	b.drop(Entries, number)
	b.drop(Inbound, number)
}

// ReadSession reads a pair of Sessions. Its texts are copies.
func ReadSession(key, value []byte) (s Session, err error) {
	r := newReader(value)
	s.Number = keyNum(key, 0, r)
	s.ClientID, s.Username = string(r.text()), string(r.text())
	s.Expiry, s.OfflineAt = uint32(r.uvarint()), r.varint()
	f := r.byte()
	if f&sessionOwner != 0 {
		s.AnyUser, s.AnyMount = f&sessionAnyUser != 0, f&sessionAnyMount != 0
		s.MountPoint = string(r.text())
	} else { // of before it was stored; who had no name may have been imported without it
		s.AnyUser, s.AnyMount = s.Username == "", true
	}
	if f > sessionFlags {
		r.bad = true
	}
	if f&sessionWill != 0 {
		s.Will = &Will{Delay: uint32(r.uvarint()), Expiry: uint32(r.uvarint())}
		s.Will.Message = r.message()
	}
	return s, r.end(Sessions)
}

// PutSubscription stores s.
func (b *Batch) PutSubscription(s *Subscription) {
	var v scratch
	o := s.Options | flag(s.Owed)*subscriptionOwed
	value := binary.AppendUvarint(append(v[:0], version, o), uint64(s.ID))
	b.Put(Subscriptions, subscriptionKey(s.Session, s.Filter), appendLong(value, s.Filter))
}

// DeleteSubscription removes a session's subscription.
func (b *Batch) DeleteSubscription(session uint64, filter string) {
	b.Delete(Subscriptions, subscriptionKey(session, filter))
}

func subscriptionKey(session uint64, filter string) []byte {
	return appendKey(num(make([]byte, 0, ownerSize+min(len(filter), longKey)), session), filter)
}

// ReadSubscription reads a pair of Subscriptions. Its texts are copies.
func ReadSubscription(key, value []byte) (s Subscription, err error) {
	r := newReader(value)
	s.Session = keyNum(key, 0, r)
	s.Options, s.ID = r.byte(), uint32(r.uvarint())
	s.Owed, s.Options = s.Options&subscriptionOwed != 0, s.Options&^subscriptionOwed
	if !r.bad {
		s.Filter = keyText(key[ownerSize:], r)
	}
	return s, r.end(Subscriptions)
}

// PutMessage stores m under an id.
func (b *Batch) PutMessage(id uint64, m *message.Message) {
	b.putMessage(Messages, id, nil, m)
}

// putMessage writes the value straight into the batch: messages are what there is most of.
func (b *Batch) putMessage(t Table, id uint64, key []byte, m *message.Message) {
	if key == nil {
		b.head(Put, t, 8)
		b.b = num(b.b, id)
	} else {
		b.head(Put, t, len(key))
		b.b = append(b.b, key...)
	}
	b.b = binary.AppendUvarint(b.b, uint64(1+messageLen(m)))
	b.b = append(b.b, version)
	b.b = appendMessage(b.b, m)
}

// DeleteMessage removes a message, once nothing refers to it.
func (b *Batch) DeleteMessage(id uint64) {
	var k scratch
	b.Delete(Messages, num(k[:0], id))
}

// ReadMessage reads the value of a message; it is a loan like the value.
func ReadMessage(value []byte) (m message.Message, err error) {
	r := newReader(value)
	m = r.message()
	return m, r.end(Messages)
}

// KeyNumber is the number with which a key begins.
func KeyNumber(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// PutRetained stores m as the retained message of its topic.
func (b *Batch) PutRetained(m *message.Message) {
	key := m.Topic
	if len(key) >= longKey {
		key = appendKey(nil, string(key))
	}
	b.putMessage(Retained, 0, key, m)
}

// DeleteRetained removes the retained message of a topic.
func (b *Batch) DeleteRetained(topic []byte) {
	if len(topic) >= longKey {
		topic = appendKey(nil, string(topic))
	}
	b.Delete(Retained, topic)
}

// PutEntry stores e.
func (b *Batch) PutEntry(e *Entry) {
	var k, s scratch
	v := append(s[:0], version, e.QoS|uint8(e.State)<<2|flag(e.Retain)<<5|e.Share<<6)
	v = binary.AppendUvarint(v, e.Message)
	v = binary.AppendUvarint(v, uint64(e.PacketID))
	v = binary.AppendUvarint(v, uint64(e.SubscriptionID))
	b.Put(Entries, num(num(k[:0], e.Session), e.Seq), v)
}

// DeleteEntry removes an outgoing message of a session.
func (b *Batch) DeleteEntry(session, seq uint64) {
	var k scratch
	b.Delete(Entries, num(num(k[:0], session), seq))
}

// ReadEntry reads a pair of Entries.
func ReadEntry(key, value []byte) (e Entry, err error) {
	r := newReader(value)
	e.Session, e.Seq = keyNum(key, 0, r), keyNum(key, 8, r)
	f := r.byte()
	e.QoS, e.State, e.Retain, e.Share = f&3, State(f>>2&7), f>>5&1 == 1, f>>6
	e.Message, e.PacketID, e.SubscriptionID = r.uvarint(), uint16(r.uvarint()), uint32(r.uvarint())
	if e.QoS > 2 || e.State > WaitComp {
		r.bad = true
	}
	return e, r.end(Entries)
}

// PutHandshake stores h.
func (b *Batch) PutHandshake(h *Handshake) {
	var k, v scratch
	key := binary.BigEndian.AppendUint16(num(k[:0], h.Session), h.PacketID)
	b.Put(Inbound, key, binary.AppendUvarint(append(v[:0], version), h.Message))
}

// DeleteHandshake frees an incoming packet id.
func (b *Batch) DeleteHandshake(session uint64, packetID uint16) {
	var k scratch
	b.Delete(Inbound, binary.BigEndian.AppendUint16(num(k[:0], session), packetID))
}

// ReadHandshake reads a pair of Inbound.
func ReadHandshake(key, value []byte) (h Handshake, err error) {
	r := newReader(value)
	h.Session = keyNum(key, 0, r)
	if len(key) != ownerSize+2 {
		r.bad = true
	} else {
		h.PacketID = binary.BigEndian.Uint16(key[ownerSize:])
	}
	h.Message = r.uvarint()
	return h, r.end(Inbound)
}

func transitKey(k []byte, t *Transit) []byte {
	return appendKey(append(num(k, t.Message), t.Loop), t.Filter)
}

// PutTransit notes that t's loop is still to take a message.
func (b *Batch) PutTransit(t *Transit) {
	var k, v scratch
	b.Put(Transits, transitKey(k[:0], t), appendLong(append(v[:0], version), t.Filter))
}

// DeleteTransit notes that it has.
func (b *Batch) DeleteTransit(t *Transit) {
	var k scratch
	b.Delete(Transits, transitKey(k[:0], t))
}

// ReadTransit reads a pair of Transits.
func ReadTransit(key, value []byte) (t Transit, err error) {
	r := newReader(value)
	t.Message = keyNum(key, 0, r)
	if len(key) <= ownerSize {
		r.bad = true
	}
	if !r.bad {
		t.Loop, t.Filter = key[ownerSize], keyText(key[ownerSize+1:], r)
	}
	return t, r.end(Transits)
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Flags of a message, above its QoS.
const (
	messageRetain = 1 << 2 // RETAIN
	messageSource = 1 << 3 // the publisher follows the properties
	messageNamed  = 1 << 4 // it has a username
	messageFlags  = 1<<5 - 1
)

// flagsOf are the flags of m with its QoS.
func flagsOf(m *message.Message) uint8 {
	f := m.QoS | flag(m.Retain)*messageRetain
	if s := m.Source; s != nil {
		f |= messageSource | flag(s.Named)*messageNamed
	}
	return f
}

// appendMessage appends flags, expiry, publisher, topic, properties, what is known of the publisher if
// somebody asks for it, and payload.
func appendMessage(b []byte, m *message.Message) []byte {
	b = append(b, flagsOf(m))
	b = binary.AppendVarint(b, m.Expiry)
	b = binary.AppendUvarint(b, m.Publisher)
	b = appendBytes(b, m.Topic)
	b = appendBytes(b, m.Properties)
	if s := m.Source; s != nil {
		b = appendText(appendText(appendText(b, s.ClientID), s.Username), s.Listener)
	}
	return append(b, m.Payload...)
}

// messageLen is the number of bytes that appendMessage appends.
func messageLen(m *message.Message) int {
	var s scratch
	n := 1 + len(binary.AppendVarint(s[:0], m.Expiry)) + uvarintLen(m.Publisher)
	n += uvarintLen(uint64(len(m.Topic))) + len(m.Topic)
	n += uvarintLen(uint64(len(m.Properties))) + len(m.Properties)
	if s := m.Source; s != nil {
		for _, text := range [...]string{s.ClientID, s.Username, s.Listener} {
			n += uvarintLen(uint64(len(text))) + len(text)
		}
	}
	return n + len(m.Payload)
}

func uvarintLen(n uint64) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// reader takes a value apart; after a mistake everything it returns is zero.
type reader struct {
	b   []byte
	bad bool
}

func newReader(value []byte) *reader {
	r := &reader{b: value}
	if r.byte() != version {
		r.bad = true
	}
	return r
}

func (r *reader) byte() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if r.bad || size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if r.bad || size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() []byte {
	f, rest, ok := field(r.b)
	if r.bad || !ok {
		r.bad = true
		return nil
	}
	r.b = rest
	return f
}

func (r *reader) message() (m message.Message) {
	f := r.byte()
	m.QoS, m.Retain = f&3, f&messageRetain != 0
	m.Expiry, m.Publisher = r.varint(), r.uvarint()
	m.Topic = r.text()
	if p := r.text(); len(p) > 0 {
		m.Properties = codec.Properties(p)
	}
	if f&messageSource != 0 {
		m.Source = &message.Source{
			ClientID: string(r.text()), Username: string(r.text()), Named: f&messageNamed != 0,
			Listener: string(r.text()),
		}
	}
	if m.QoS > 2 || f > messageFlags || len(m.Topic) == 0 {
		r.bad = true
	}
	if !r.bad {
		m.Payload, r.b = r.b, nil
	}
	return m
}

// end reports what was wrong, bytes left over included.
func (r *reader) end(t Table) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: record of %s", ErrCorrupt, t)
	}
	return nil
}

// keyNum is the number at a place of a key; r takes the blame if the key is too short.
func keyNum(key []byte, at int, r *reader) uint64 {
	if len(key) < at+8 {
		r.bad = true
		return 0
	}
	return binary.BigEndian.Uint64(key[at:])
}
