// Package session is the state machine of one MQTT session: what is in flight in both directions, and what
// waits.
//
// The machine is pure. A packet or a message goes in, effects come out through a Sink; it reads no clock,
// owns no socket, starts no goroutine. A Session belongs to one event loop and is not safe for concurrent
// use.
//
// Outgoing messages of QoS 1 and 2 pass through two rings: the flight holds what has been sent and is not
// acknowledged, the queue what must wait. Invariants, checked by the model test:
//
//	used <= window                      messages sent on this connection and unacknowledged
//	online && queue not empty  =>  used == window, or held, or bytes at their limit, or the first entry's
//	                               message is away (see kept)
//	totals == sums over all sessions
//	resent <= len(flight)               what lies behind is still to be sent again after a reconnect
package session

import (
	"noctule/broker/message"
	"noctule/codec"
	"noctule/internal/ring"
)

// Limits bound what one session may hold. Read-only while sessions use them.
type Limits struct {
	// Inflight is the number of outgoing QoS 1 and 2 messages in flight; 0 means 65535.
	Inflight uint16
	// InflightBytes bounds their payloads; one message may exceed it. 0 means no limit.
	InflightBytes int64
	// Queued is the number of messages waiting behind the window; 0 means no limit.
	Queued int
	// QueuedBytes bounds their payloads; one message may exceed it. 0 means no limit.
	QueuedBytes int64
	// QueueQoS0 also queues QoS 0 messages while the client is offline.
	QueueQoS0 bool
	// Memory bounds the payloads in the queues of durable sessions that are in memory; nil means no bound.
	// Changed must answer it: see Wanted.
	Memory *Memory
	// Unreleased and UnreleasedBytes bound incoming QoS 2 messages that wait for PUBREL, topics and
	// properties
	// included; 0 means no limit.
	Unreleased      int
	UnreleasedBytes int64

	// Totals, if not nil, is kept up to date by all sessions that have these limits. They share a loop.
	Totals *Totals
}

// Totals are the sums of Queued, QueuedBytes, AwayBytes and Inflight over sessions that are not forgotten.
type Totals struct{ Queued, QueuedBytes, AwayBytes, Inflight int64 }

// Sink receives the machine's effects in wire order.
type Sink interface {
	// SendPublish writes a PUBLISH; false means that the client does not accept one so large, and the
	// message counts as delivered [MQTT-3.1.2-24] [MQTT-3.1.2-25].
	SendPublish(m *message.Message, d message.Delivery) bool
	// SendAck writes PUBACK, PUBREC, PUBREL or PUBCOMP.
	SendAck(t codec.Type, id uint16, r codec.Reason)
	// Changed reports what a durable session must find again after a restart, and of every session what
	// expired and what was superseded.
	Changed(c Change)
}

// Change is one step of the state of a session. Each names the whole state of what it is about.
type Change struct {
	Kind    ChangeKind
	Seq     uint64           // of the outgoing message, ascending in the session; 0 if it has none
	Message *message.Message // nil when only the handshake is left
	Grant   Grant
	Away    *message.Stored // in place of Message, when that is not in memory
	State   State           // of Stored
	ID      uint16          // packet id; 0 while there is none
}

// ChangeKind says what has changed.
type ChangeKind uint8

// The kinds of changes.
const (
	Expired    ChangeKind = iota // its Message Expiry Interval passed before it was sent; Removed follows
	Stored                       // an outgoing message is new
	Moved                        // it has a packet id and a state now
	Yielded                      // PUBREC has come for Message: it is the receiver's, the handshake stays
	Removed                      // it is delivered, or given up
	Held                         // an incoming QoS 2 packet id is known; Message, if any, waits for PUBREL
	Released                     // it is free; Message is passed on
	Superseded                   // it is free; Message, if any, gives way to another one under that id
	Wanted                       // messages that Wants names are to be read and given to Supply, later
)

// Outcome says what Deliver did with a message.
type Outcome uint8

// The outcomes of Deliver.
const (
	Sent        Outcome = iota // it is on the wire and in flight
	Queued                     // it waits behind the window, or for the client to come back
	DroppedFull                // the queue has reached a limit; the new message goes, never an old one
	DroppedQoS0                // QoS 0 for an offline client that does not queue them
)

// Session is the delivery state of one session. Use New.
type Session struct {
	// Set by New, then read-only:
	limits *Limits

	// Owned by the loop:
	out    *outbound // nil until the first QoS 1 or 2 message
	in     *inbound  // nil while no QoS 2 message waits for its PUBREL
	window uint16    // min(Receive Maximum, own limit) of this connection
	online bool
	held   bool // the client's output is full: what is not sent yet waits

	durable   bool // Changed is told everything
	forgotten bool // it is not in the totals any more
}

type outbound struct {
	flight     flight
	queue      ring.Ring[entry]
	queueBytes int64
	bytes      int64 // payload bytes in flight on this connection
	kept       *kept // nil unless the session is durable
}

// entry is one outgoing message.
type entry struct {
	m     *message.Message // nil once only the handshake is left
	seq   uint64           // 0 unless the session is durable
	subID uint32
	id    uint16 // packet id; 0 while there is none
	state State
	flags flags
}

// flags are the QoS of an entry and what else is known of it.
type flags uint8

const (
	flagQoS    flags = 3
	flagRetain flags = 4
	shareShift       = 3 // of Grant.Share
)

func (g *Grant) flags() flags {
	f := flags(g.QoS | g.Share<<shareShift)
	if g.Retain {
		f |= flagRetain
	}
	return f
}

func (e *entry) qos() uint8 { return uint8(e.flags & flagQoS) }

func (e *entry) grant() Grant {
	return Grant{
		QoS: e.qos(), Retain: e.flags&flagRetain != 0, Share: e.share(), SubscriptionID: e.subID,
	}
}

// share is Grant.Share.
func (e *entry) share() uint8 { return uint8(e.flags >> shareShift) }

// State says how far the delivery of an outgoing message is.
type State uint8

// The states of a message; done is never told.
const (
	Waiting  State = iota // not sent
	WaitAck               // QoS 1 sent
	WaitRec               // QoS 2 sent
	WaitComp              // PUBREL sent
	done                  // acknowledged out of order: a gap in the flight
)

// New returns the state of a fresh session, offline.
func New(l *Limits) Session { return Session{limits: l} }

// Grant is what a subscription gives one message.
type Grant struct {
	QoS            uint8
	Retain         bool
	Share          uint8 // 1 to ShareMax: mark of the shared subscription by which it came; 0: by none
	SubscriptionID uint32
}

// ShareMax is the highest Grant.Share.
const ShareMax = 3

// Queued and Inflight are the numbers of messages that wait and that are unacknowledged; QueuedBytes is
// payload bytes.
func (s *Session) Queued() int {
	if s.out == nil {
		return 0
	}
	return s.out.queue.Len()
}

// Outgoing is the number of messages that wait or were sent and are not acknowledged, gaps included.
func (s *Session) Outgoing() int {
	if s.out == nil {
		return 0
	}
	return s.out.queue.Len() + s.out.flight.list.Len()
}

// QueuedBytes is the payload bytes waiting.
func (s *Session) QueuedBytes() int64 {
	if s.out == nil {
		return 0
	}
	return s.out.queueBytes
}

// Inflight is the number of messages sent on this connection that are unacknowledged.
func (s *Session) Inflight() int {
	if s.out == nil {
		return 0
	}
	return int(s.out.flight.used)
}

// tally adds to the totals: to the messages that wait, to their payload bytes, and to those in flight.
func (s *Session) tally(queued, bytes, inflight int64) {
	if t := s.limits.Totals; t != nil && !s.forgotten {
		t.Queued += queued
		t.QueuedBytes += bytes
		t.Inflight += inflight
	}
}

// Forget takes the session out of the totals, for good.
func (s *Session) Forget() {
	s.tally(-int64(s.Queued()), -s.QueuedBytes(), -int64(s.Inflight()))
	if t := s.limits.Totals; t != nil && !s.forgotten {
		t.AwayBytes -= s.AwayBytes()
	}
	s.forgotten = true
}

// tallyAway adds to the payload bytes that wait and are not in memory.
func (s *Session) tallyAway(k *kept, bytes int64) {
	k.bytes += bytes
	if t := s.limits.Totals; t != nil && !s.forgotten {
		t.AwayBytes += bytes
	}
}

// use counts messages that enter the flight, or leave it.
func (s *Session) use(o *outbound, n int) {
	o.flight.used += int32(n)
	s.tally(0, 0, int64(n))
}

// Busy reports whether a further QoS 1 or 2 message would have to wait.
func (s *Session) Busy() bool {
	if !s.online {
		return true
	}
	return s.out != nil && (s.out.queue.Len() > 0 || !s.hasRoom(s.out))
}

// QueueFull reports whether a message that has to wait would be dropped.
func (s *Session) QueueFull() bool {
	l, o := s.limits, s.out
	return o != nil && (l.Queued > 0 && o.queue.Len() >= l.Queued ||
		l.QueuedBytes > 0 && o.queueBytes >= l.QueuedBytes)
}

// Deliver sends m, queues it, or drops it. QoS 0 comes here only for offline clients.
func (s *Session) Deliver(m *message.Message, g Grant, sink Sink) Outcome {
	if g.QoS == 0 && !s.limits.QueueQoS0 {
		return DroppedQoS0
	}
	if s.out == nil {
		s.out = &outbound{}
	}
	o := s.out
	e := entry{flags: g.flags(), subID: g.SubscriptionID}
	if s.online && o.queue.Len() == 0 && s.hasRoom(o) {
		e.m = m.Keep()
		s.send(o, e, sink)
		return Sent
	}
	if s.QueueFull() {
		return DroppedFull
	}
	e.m = m.Keep()
	if s.durable {
		e.seq = o.nextSeq()
		sink.Changed(e.change(Stored))
	}
	s.enqueue(o, e, nil)
	if s.online && o.kept != nil {
		s.ask(o, sink)
	}
	return Queued
}

// change tells of e.
func (e *entry) change(k ChangeKind) Change {
	return Change{Kind: k, Seq: e.seq, Message: e.m, State: e.state, ID: e.id, Grant: e.grant()}
}

// hasRoom reports whether one message more may be in flight [MQTT-3.3.4-9].
func (s *Session) hasRoom(o *outbound) bool {
	f := &o.flight
	return !s.held && f.used < int32(s.window) && int(f.resent) == f.list.Len() &&
		(s.limits.InflightBytes == 0 || f.used == 0 || o.bytes < s.limits.InflightBytes)
}

// send puts a new message in flight. QoS 0 out of an offline queue is only sent.
func (s *Session) send(o *outbound, e entry, sink Sink) {
	d := message.Delivery{QoS: e.qos(), Retain: e.flags&flagRetain != 0, SubscriptionID: e.subID}
	if d.QoS == 0 {
		sink.SendPublish(e.m, d)
		s.removed(&e, sink)
		return
	}
	d.PacketID = o.flight.nextID()
	if !sink.SendPublish(e.m, d) {
		s.removed(&e, sink)
		return
	}
	s.use(o, 1)
	o.bytes += e.m.Size()
	in := o.flight.push(e, d.PacketID, d.QoS)
	if s.durable {
		switch {
		case in.seq == 0:
			in.seq = o.nextSeq()
			sink.Changed(in.change(Stored))
		case d.QoS == 2: // the id of a QoS 1 message need not be known again
			sink.Changed(in.change(Moved))
		}
	}
}

// removed tells that a message, if it was told of, is no longer there.
func (s *Session) removed(e *entry, sink Sink) {
	if e.seq != 0 {
		sink.Changed(e.change(Removed))
	}
}

// Puback ends a QoS 1 delivery [MQTT-4.3.2-3] and sends what waited. An id that is not in flight is
// ignored.
func (s *Session) Puback(id uint16, now int64, sink Sink) error {
	o, i, ok := s.lookup(id)
	if !ok {
		return nil
	}
	if o.flight.list.At(i).qos() != 1 {
		return errWrongAck(codec.PUBACK)
	}
	s.finish(o, i, sink)
	s.drain(o, now, sink)
	return nil
}

// Pubrec answers with PUBREL, or ends the delivery when the reason is an error [MQTT-4.3.3-4].
func (s *Session) Pubrec(id uint16, r codec.Reason, now int64, sink Sink) error {
	o, i, ok := s.lookup(id)
	if !ok {
		if r < 0x80 {
			sink.SendAck(codec.PUBREL, id, codec.PacketIdentifierNotFound)
		}
		return nil
	}
	e := o.flight.list.At(i)
	if e.qos() != 2 {
		return errWrongAck(codec.PUBREC)
	}
	if r >= 0x80 {
		s.finish(o, i, sink)
		s.drain(o, now, sink)
		return nil
	}
	if e.state == WaitRec {
		s.yield(o, i, sink)
	}
	sink.SendAck(codec.PUBREL, id, codec.Success)
	if s.limits.InflightBytes > 0 { // the message counts no more
		s.drain(o, now, sink)
	}
	return nil
}

// yield gives a message up that is the receiver's now [MQTT-4.3.3-5]; the handshake stays.
func (s *Session) yield(o *outbound, i int, sink Sink) {
	e := o.flight.list.At(i)
	e.state = WaitComp
	if i < int(o.flight.resent) {
		o.bytes -= e.m.Size()
	}
	if s.durable {
		sink.Changed(e.change(Yielded))
	}
	e.m = nil
}

// Pubcomp ends a QoS 2 delivery and sends what waited.
func (s *Session) Pubcomp(id uint16, now int64, sink Sink) error {
	o, i, ok := s.lookup(id)
	if !ok {
		return nil
	}
	if o.flight.list.At(i).state != WaitComp {
		return errWrongAck(codec.PUBCOMP)
	}
	s.finish(o, i, sink)
	s.drain(o, now, sink)
	return nil
}

func (s *Session) lookup(id uint16) (o *outbound, i int, ok bool) {
	if s.out == nil {
		return nil, 0, false
	}
	i, ok = s.out.flight.find(id)
	return s.out, i, ok
}

func errWrongAck(t codec.Type) error {
	return &codec.Error{
		Reason: codec.ProtocolError, Packet: t,
		Detail: "does not fit the QoS or the state of this packet id",
	}
}

// finish takes one entry, which is acknowledged, out of the flight.
func (s *Session) finish(o *outbound, i int, sink Sink) {
	e := o.flight.list.At(i)
	if i < int(o.flight.resent) {
		s.use(o, -1)
		if e.m != nil {
			o.bytes -= e.m.Size()
		}
	}
	s.removed(e, sink)
	o.flight.remove(i)
}

// drain sends again what an earlier connection left unacknowledged, then what waits, while the window has
// room.
func (s *Session) drain(o *outbound, now int64, sink Sink) {
	if !s.online {
		return
	}
	f := &o.flight
	for int(f.resent) < f.list.Len() && f.used < int32(s.window) && !s.held {
		s.resend(o, sink)
	}
	for o.queue.Len() > 0 && (s.hasRoom(o) || o.queue.At(0).qos() == 0 && !s.held) {
		if o.loaded() == 0 {
			if !s.dropAway(o, now, sink) {
				break
			}
			continue
		}
		e := s.dequeue(o)
		if e.m.Expired(now) {
			sink.Changed(e.change(Expired))
			s.removed(&e, sink)
			continue
		}
		s.send(o, e, sink)
	}
	if o.kept != nil {
		s.ask(o, sink)
	}
}

// resend repeats the oldest handshake that this connection has not seen yet, with its packet id
// [MQTT-4.4.0-1].
func (s *Session) resend(o *outbound, sink Sink) {
	i := int(o.flight.resent)
	e := o.flight.list.At(i)
	o.flight.resent++
	switch e.state {
	case Waiting, WaitAck, WaitRec:
	case done:
		return
	case WaitComp:
		s.use(o, 1)
		sink.SendAck(codec.PUBREL, e.id, codec.Success)
		return
	}
	s.use(o, 1)
	o.bytes += e.m.Size()
	g := e.grant()
	d := message.Delivery{
		PacketID: e.id, QoS: g.QoS, Dup: true, Retain: g.Retain, SubscriptionID: g.SubscriptionID,
	}
	switch id := e.id; {
	case sink.SendPublish(e.m, d):
	case g.QoS == 2: // the receiver may have it, and must know that its packet id is free
		s.yield(o, i, sink)
		sink.SendAck(codec.PUBREL, id, codec.Success)
	default:
		s.finish(o, i, sink)
	}
}

// Resume takes the session online with the client's Receive Maximum (0: none given) and sends, in their
// first order, unacknowledged handshakes and then queued messages up to the window.
func (s *Session) Resume(receiveMaximum uint16, now int64, sink Sink) {
	s.window = receiveMaximum
	if s.window == 0 {
		s.window = 65535
	}
	if s.limits.Inflight != 0 {
		s.window = min(s.window, s.limits.Inflight)
	}
	s.online, s.held = true, false
	if s.out == nil {
		return
	}
	s.use(s.out, -s.Inflight())
	s.out.bytes, s.out.flight.resent = 0, 0
	s.drain(s.out, now, sink)
}

// Hold makes messages wait until Continue, because the client's output is full. A Sink may call it.
func (s *Session) Hold() { s.held = true }

// Continue ends a Hold and sends what has waited.
func (s *Session) Continue(now int64, sink Sink) {
	if !s.held {
		return
	}
	s.held = false
	if s.out != nil {
		s.drain(s.out, now, sink)
	}
}

// Suspend takes the session offline: the connection is gone, the state stays. Messages that were brought for
// the client are given up again if they are too many.
func (s *Session) Suspend() {
	s.online = false
	if l := s.limits; s.durable && l.Memory != nil && s.out != nil && l.Memory.Used() > l.Memory.Bound {
		s.giveUp(s.out)
	}
}

// Window is the number of messages that may be in flight on this connection.
func (s *Session) Window() int { return int(s.window) }
