package im

import "encoding/binary"

// Action is what an entry asks for.
type Action uint8

// The actions.
const (
	Subscribe   Action = 1
	Unsubscribe Action = 2
	Replace     Action = 3 // these topics and no other of the same origin
)

// String is the action's name.
func (a Action) String() string {
	if a < Subscribe || a > Replace {
		return "unknown"
	}
	return [...]string{"subscribe", "unsubscribe", "replace"}[a-1]
}

// Version is the first byte of the binary form of a batch and of its answer.
const Version = 1

// Bits of the action byte beside the action.
const (
	actionMask  = 0x0F
	hasWait     = 0x20
	hasOrigin   = 0x40
	forUsername = 0x80
)

// Bits of the options byte: those of an MQTT 5 subscription (3.8.3.1), and one of ours in its reserved part.
const (
	qosMask           = 0x03
	noLocal           = 0x04
	retainAsPublished = 0x08
	retainShift       = 4
	hasIdentifier     = 0x40
	reservedOption    = 0x80
)

// Subscription is one topic of an entry.
type Subscription struct {
	Filter            []byte // may be a shared subscription
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8  // 0 to 2
	ID                uint32 // Subscription Identifier; 0 none
}

// Entry is a request to subscribe or unsubscribe a client on its behalf:
// <ClientID><action><topicCount><topic1><topic1Qos>...<topicN><topicNQos>.
type Entry struct {
	Target     []byte // client id, or username
	IsUsername bool   // Target names a user: all sessions of it
	Action     Action
	Origin     []byte // whose subscriptions; empty: those of who asks; at most 255 bytes
	HasWait    bool
	Wait       uint32 // seconds that the entry may wait for the client to connect
	Topics     []Subscription
}

// Batch is a list of entries, in their binary form. A reused struct allocates for new topics only.
type Batch struct{ Entries []Entry }

// Parse reads a batch.
func (p *Batch) Parse(b []byte) error {
	r := reader{format: "entry", b: b}
	p.Entries = p.Entries[:0]
	if v := r.byte("version"); r.err == nil && v != Version {
		r.fail(0, "unknown version")
	}
	n := int(r.uint16("number of entries"))
	if r.err == nil && n == 0 {
		r.fail(1, "no entry")
	}
	for i := 0; i < n && r.err == nil; i++ {
		if i < cap(p.Entries) {
			p.Entries = p.Entries[:i+1]
		} else {
			p.Entries = append(p.Entries, Entry{})
		}
		p.Entries[i].parse(&r)
	}
	return r.end()
}

func (e *Entry) parse(r *reader) {
	at := r.at
	*e = Entry{Target: r.bytes("target"), Topics: e.Topics[:0]}
	if r.err == nil && len(e.Target) == 0 {
		r.fail(at, "target is empty")
	}
	at = r.at
	head := r.byte("action")
	e.Action = Action(head & actionMask)
	if e.Action < Subscribe || e.Action > Replace || head&0x10 != 0 {
		r.fail(at, "unknown action")
	}
	e.IsUsername = head&forUsername != 0
	if head&hasOrigin != 0 {
		at = r.at
		e.Origin = r.take(int(r.byte("length of origin")), "origin")
		if r.err == nil && len(e.Origin) == 0 {
			r.fail(at, "origin is empty")
		}
	}
	if head&hasWait != 0 {
		e.HasWait, e.Wait = true, r.uint32("wait")
	}
	at = r.at
	n := int(r.uint16("number of topics"))
	if r.err == nil && n == 0 && e.Action != Replace {
		r.fail(at, "no topic")
	}
	for i := 0; i < n && r.err == nil; i++ {
		e.Topics = append(e.Topics, Subscription{})
		e.Topics[i].parse(r)
	}
}

func (s *Subscription) parse(r *reader) {
	at := r.at
	s.Filter = r.bytes("topic")
	if r.err == nil && len(s.Filter) == 0 {
		r.fail(at, "topic is empty")
	}
	at = r.at
	o := r.byte("options")
	s.QoS, s.RetainHandling = o&qosMask, o>>retainShift&3
	s.NoLocal, s.RetainAsPublished = o&noLocal != 0, o&retainAsPublished != 0
	switch {
	case r.err != nil:
		return
	case o&reservedOption != 0:
		r.fail(at, "reserved bit of the options is set")
	case s.QoS == 3:
		r.fail(at, "QoS 3")
	case s.RetainHandling == 3:
		r.fail(at, "Retain Handling 3")
	}
	if o&hasIdentifier == 0 {
		return
	}
	at = r.at
	s.ID = r.uint32("subscription identifier")
	if r.err == nil && (s.ID == 0 || s.ID > 268435455) {
		r.fail(at, "subscription identifier is out of range")
	}
}

// Len is what Append appends.
func (p *Batch) Len() int {
	n := 3
	for i := range p.Entries {
		e := &p.Entries[i]
		n += 2 + len(e.Target) + 1 + 2
		if len(e.Origin) > 0 {
			n += 1 + len(e.Origin)
		}
		if e.HasWait {
			n += 4
		}
		for j := range e.Topics {
			n += 3 + len(e.Topics[j].Filter)
			if e.Topics[j].ID != 0 {
				n += 4
			}
		}
	}
	return n
}

// Append appends the batch. Counts and lengths above 65535 have no encoding.
func (p *Batch) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, Version), uint16(len(p.Entries)))
	for i := range p.Entries {
		b = p.Entries[i].append(b)
	}
	return b
}

func (e *Entry) append(b []byte) []byte {
	b = appendBytes(b, e.Target)
	head := byte(e.Action)
	if e.IsUsername {
		head |= forUsername
	}
	if len(e.Origin) > 0 {
		head |= hasOrigin
	}
	if e.HasWait {
		head |= hasWait
	}
	b = append(b, head)
	if len(e.Origin) > 0 {
		b = append(append(b, byte(len(e.Origin))), e.Origin...)
	}
	if e.HasWait {
		b = binary.BigEndian.AppendUint32(b, e.Wait)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Topics)))
	for i := range e.Topics {
		s := &e.Topics[i]
		b = append(appendBytes(b, s.Filter), s.options())
		if s.ID != 0 {
			b = binary.BigEndian.AppendUint32(b, s.ID)
		}
	}
	return b
}

func (s *Subscription) options() byte {
	o := s.QoS | s.RetainHandling<<retainShift
	if s.NoLocal {
		o |= noLocal
	}
	if s.RetainAsPublished {
		o |= retainAsPublished
	}
	if s.ID != 0 {
		o |= hasIdentifier
	}
	return o
}

func appendBytes(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}
