//go:build linux

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"noctule/codec"
)

// stage is how far a client has come.
type stage uint8

const (
	idle        stage = iota // not begun
	dialing                  // connect is under way
	securing                 // TLS handshake
	upgrading                // WebSocket request is sent
	connecting               // CONNECT is sent
	subscribing              // SUBSCRIBE is sent
	ready
	closed
)

// client is one connection. It belongs to its loop.
type client struct {
	loop   *loop
	group  *group
	number int // in the plan
	index  int // in the group
	fd     int
	stage  stage
	again  bool   // in the loop's list of those to be read on
	dirty  bool   // in the loop's list of those to be written
	paused bool   // in the loop's list of those whose reads rest until there is allowance
	keep   uint16 // Keep Alive in seconds
	pinged bool   // PINGREQ is sent, PINGRESP is to come

	in    []byte // start of a packet whose rest is to come
	out   []byte // this turn's output, behind headroom if it is WebSocket
	tail  []byte // wire bytes that the socket did not take
	ws    *webSocket
	tls   *secure
	pub   *publisher // nil: does not publish
	hears []stream   // made with the first message
	read  int        // bytes in slice, where ReadMax is set
	slice int64      // number of the slice of time, where ReadMax is set

	collect *collection // of a group that collects
	grant   grant       // of a group that is granted topics

	keepTurn int32 // of its deadline that counts

	round int32 // how often it has been cut
	tries int32 // connections begun since
	began int64 // Unix ns when its connection was due
	gone  int64 // Unix ns when it was cut
	spoke int64 // Unix ns of its last packet
}

// group is a Group while it runs.
type group struct {
	Group
	first  int      // number of its first client
	shared []stream // of a group that hears jointly
}

// Errors a client ends with.
var (
	errProtocol = errors.New("the broker broke the protocol")
	errRefused  = errors.New("connection refused by the broker")
	errEnded    = errors.New("connection closed by the broker")
)

// hello appends CONNECT.
func (c *client) hello() {
	t := &c.loop.engine.target
	u := User{t.Username, t.Password}
	if len(t.Users) > 0 {
		u = t.Users[c.number%len(t.Users)]
	}
	p := codec.Connect{
		Version: t.Version, CleanStart: !t.Persistent, KeepAlive: t.KeepAlive,
		ClientID:    fmt.Appendf(nil, "%s-%d", t.Prefix, c.number),
		HasUsername: u.Name != "", Username: []byte(u.Name),
		HasPassword: u.Password != "", Password: []byte(u.Password),
	}
	if t.Version == codec.V5 {
		if t.Persistent {
			p.Properties = codec.AppendUintProperty(p.Properties, codec.SessionExpiry, 1<<32-1)
		}
		if t.ReceiveMax > 0 {
			p.Properties = codec.AppendUintProperty(p.Properties, codec.ReceiveMaximum, uint32(t.ReceiveMax))
		}
	}
	if w := t.Will; w != nil {
		p.HasWill = true
		p.Will = codec.Will{
			QoS: w.QoS, Retain: w.Retain, Topic: []byte(topicOf(w.Topic, c.number)), Payload: p.ClientID,
		}
	}
	c.stage = connecting
	c.touch()
	c.keep = t.KeepAlive
	c.loop.keepAlive(c)
	c.out = p.Append(c.out, t.Version)
}

// packet handles one packet.
func (c *client) packet(h codec.Header, body []byte) error {
	switch h.Type {
	case codec.PUBLISH:
		return c.message(h.Flags, body)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		return c.ack(h.Type, body)
	case codec.PINGRESP:
		c.pinged = false
		return nil
	case codec.CONNACK:
		return c.accepted(body)
	case codec.SUBACK:
		return c.subscribed(body)
	case codec.DISCONNECT:
		var d codec.Disconnect
		if err := d.Parse(h.Flags, body, c.loop.engine.target.Version); err != nil {
			return err
		}
		return fmt.Errorf("%w: %v", errEnded, d.Reason)
	default:
		return errProtocol
	}
}

func (c *client) accepted(body []byte) error {
	if c.stage != connecting {
		return errProtocol
	}
	var a codec.Connack
	if err := a.Parse(0, body, c.loop.engine.target.Version); err != nil {
		return err
	}
	if a.Reason != codec.Success {
		c.loop.count.noEntry++
		return fmt.Errorf("%w: %v", errRefused, a.Reason)
	}
	if c.pub != nil && c.group.QoS > 0 && c.loop.engine.target.Version == codec.V5 {
		n, ok := a.Properties.Uint(codec.ReceiveMaximum)
		if ok && (c.pub.window == 0 || int64(n) < c.pub.window) {
			c.pub.window = int64(n) // MQTT 5, 3.3.4: it limits us
		}
	}
	if n, ok := a.Properties.Uint(codec.ServerKeepAlive); ok { // MQTT 5, 3.2.2.3.14: it is to be used
		c.keep = uint16(n)
		c.loop.keepAlive(c)
	}
	if a.SessionPresent && c.round > 0 {
		c.loop.count.resumed++
	}
	if c.group.Granted > 0 {
		c.admitted(&a)
	}
	if c.group.Filters == nil || c.group.Collect > 0 {
		c.loop.isReady(c)
		return nil
	}
	c.stage = subscribing
	c.subscribe()
	return nil
}

// subscribe appends SUBSCRIBE.
func (c *client) subscribe() {
	p := codec.Subscribe{PacketID: 1}
	for _, f := range c.group.Filters(c.index) {
		p.Filters = append(p.Filters, codec.Filter{Name: []byte(f), QoS: c.group.SubQoS})
	}
	c.touch()
	c.out = p.Append(c.out, c.loop.engine.target.Version)
}

func (c *client) subscribed(body []byte) error {
	if c.stage != subscribing && c.collect == nil {
		return errProtocol
	}
	var a codec.Suback
	if err := a.Parse(0, body, c.loop.engine.target.Version); err != nil {
		return err
	}
	for _, r := range a.Codes {
		if r >= 0x80 {
			return fmt.Errorf("subscription %w: %v", errRefused, r)
		}
	}
	if c.stage == subscribing {
		c.loop.isReady(c)
	}
	return nil
}

// message takes a PUBLISH. It reads the packet by hand: a generator that is slower than the broker measures
// itself.
func (c *client) message(flags uint8, body []byte) error {
	if len(body) < 2 {
		return errProtocol
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	qos := flags >> 1 & 3
	if qos > 0 {
		at += 2
	}
	if at > len(body) {
		return errProtocol
	}
	id := uint16(0)
	if qos > 0 {
		id = binary.BigEndian.Uint16(body[at-2:])
	}
	if c.loop.engine.target.Version == codec.V5 {
		n, used := binary.Uvarint(body[at:])
		if used <= 0 || at+used+int(n) > len(body) {
			return errProtocol
		}
		at += used + int(n)
	}
	if c.group.heard != nil {
		c.group.heard(body[2:2+int(binary.BigEndian.Uint16(body))], body[at:])
	}
	if c.group.Granted > 0 {
		c.given(body[2:2+int(binary.BigEndian.Uint16(body))], body[at:])
	} else if err := c.judge(body[at:]); err != nil {
		return err
	}
	switch qos {
	case 1:
		c.reply(codec.PUBACK, 0, id)
	case 2:
		c.reply(codec.PUBREC, 0, id)
	}
	return nil
}

// judge counts a payload.
func (c *client) judge(payload []byte) error {
	l := c.loop
	latency := &l.latency
	if c.group.Aside {
		latency = &l.aside
		l.count.aside++
		l.count.bytesAside += int64(len(payload))
	} else {
		l.count.received++
		l.count.bytesReceived += int64(len(payload))
	}
	h, ok := readHeader(payload, l.now)
	if !ok {
		return nil
	}
	if c.collect != nil {
		c.collected(h)
		return nil
	}
	latency.record(l.now-h.due, h.due)
	e := l.engine
	if int(h.publisher) >= len(e.publishers) || c.group.Hears == nil {
		l.count.foreign++
		return nil
	}
	span := c.group.Hears(c.index)
	i := int(h.publisher) - span.First
	if i < 0 || i >= span.Count {
		l.count.foreign++
		return nil
	}
	streams := c.group.shared
	if !c.group.Jointly {
		if c.hears == nil {
			c.hears = make([]stream, span.Count)
		}
		streams = c.hears
	}
	switch streams[i].take(h.seq) {
	case late:
		if !c.group.Jointly {
			l.count.reordered++
		}
	case duplicate:
		l.count.duplicated++
		return nil
	case inOrder:
	}
	if !c.group.Aside {
		e.publishers[h.publisher].delivered(l)
	}
	return nil
}

// ack takes an acknowledgement, of ours or for ours.
func (c *client) ack(t codec.Type, body []byte) error {
	if len(body) < 2 {
		return errProtocol
	}
	id := binary.BigEndian.Uint16(body)
	failed := len(body) > 2 && body[2] >= 0x80
	if t == codec.PUBREL {
		c.reply(codec.PUBCOMP, 0, id)
		return nil
	}
	if t == codec.PUBREC && !failed {
		c.reply(codec.PUBREL, 2, id)
		return nil
	}
	if failed {
		c.loop.count.refused++
	}
	if c.pub == nil {
		return errProtocol
	}
	c.pub.acknowledged(c.loop)
	return nil
}

// reply appends an acknowledgement.
func (c *client) reply(t codec.Type, flags uint8, id uint16) {
	c.touch()
	c.out = append(c.out, byte(t)<<4|flags, 2, byte(id>>8), byte(id))
}

// touch puts the client on the list of those to be written.
func (c *client) touch() {
	c.spoke = c.loop.now
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
	if c.out == nil {
		c.out = c.loop.buffer()
		if c.ws != nil {
			c.out = c.out[:headroom]
		}
	}
}

// topicOf is a name with the index in place of %i.
func topicOf(pattern string, i int) string {
	return strings.ReplaceAll(pattern, "%i", fmt.Sprint(i))
}
