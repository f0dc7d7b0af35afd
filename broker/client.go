package broker

import (
	"time"

	"noctule/broker/admit"
	"noctule/broker/alias"
	"noctule/broker/auth"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/message"
	"noctule/broker/offer"
	"noctule/broker/retained"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/view"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// client is one session and, while online, its connection. It belongs to its home shard's loop.
type client struct {
	session.Session // what is in flight and what waits

	// Set by newClient, then read-only:
	id     string
	number uint64 // names the session among all that ever were, for No Local
	shard  *shard

	// Owned by the loop:
	conn      *wsnet.Conn // nil while offline
	subs      []subscription
	five      *fiveState // MQTT 5 only; nil when the client asked for nothing special
	rare      *rareState // nil while nothing of it is there
	alarm     *alarm     // its entry in the timer wheel
	lastSeen  uint32     // seconds
	wheelAt   uint32     // seconds; earliest entry in the timer wheel, 0 none
	offlineAt uint32     // seconds; when the session went offline
	answers   int32      // bytes of answers that may be unread; checkOutput brings it down
	expiry    uint32     // session expiry interval, seconds
	pickedAt  uint32     // place in the shard's picked list, if that place is its
	keepAlive uint16     // seconds; 0 none
	shared    uint16     // shared subscriptions among subs
	version   codec.Version
	listed    bool // debug: "being dropped" was logged
	ended     bool // removed from the shard
	anyUser   bool // it is not known whose session it is
	anyMount  bool // it is not known of which mount point it is
	bridge    bool // a broker's bridge to MQTT 3 brokers

	// Atomic:
	ready fanout.Readiness // for those who deal shared subscriptions
}

// rareState is what few clients have.
type rareState struct {
	username string
	will     *will
	subIndex map[topictree.FilterID]int // positions in subs, once there are many
	replays  *retained.Queue            // retained messages still to be sent, oldest first
	grants   grants.List[*client]       // subscriptions that others have made; one an origin
	answers  *admit.Answers             // of who was asked about the packet that comes again
	rights   *rights                    // nil: nothing is restricted
	estate   *route.Estate              // of a session that has ended
	promises durable.Promises           // what waits until something is durable
}

// extra returns the rare part, to put something into.
func (c *client) extra() *rareState {
	if c.rare == nil {
		c.rare = &rareState{}
	}
	return c.rare
}

// settle gives the rare part up once nothing is in it.
func (c *client) settle() {
	r := c.rare
	if r != nil && r.username == "" && r.will == nil && r.subIndex == nil && r.replays == nil &&
		r.promises.None() && r.grants.Empty() && r.rights == nil && r.estate == nil && r.answers == nil {
		c.rare = nil
	}
}

// username is the name of the user to whom the session belongs; "" for anonymous ones.
func (c *client) username() string {
	if c.rare == nil {
		return ""
	}
	return c.rare.username
}

// owner is whose session it is.
func (c *client) owner() admit.Owner {
	return admit.Owner{
		User: c.username(), Mount: c.rights().mountPoint(), AnyUser: c.anyUser, AnyMount: c.anyMount,
	}
}

// will is the client's will, nil if it has none.
func (c *client) will() *will {
	if c.rare == nil {
		return nil
	}
	return c.rare.will
}

// replays are the retained messages still to be sent, nil if there are none.
func (c *client) replays() *retained.Queue {
	if c.rare == nil {
		return nil
	}
	return c.rare.replays
}

// fiveState is what an MQTT 5 client asked for.
type fiveState struct {
	maxPacket uint32    // Maximum Packet Size of the client; 0 none
	aliasMax  uint16    // aliases the broker may use
	aliases   alias.Out // of what goes out
	incoming  alias.In
	noProblem bool // Request Problem Information 0
}

// never is the session expiry interval that does not pass [MQTT-3.1.2.11.2].
const never = offer.Never

// String is the client id, as logs show it.
func (c *client) String() string { return c.id }

// features returns the client's MQTT 5 state, made on first use.
func (c *client) features() *fiveState {
	if c.five == nil {
		c.five = &fiveState{}
	}
	return c.five
}

// listener is the settings of where the client, which is online, came in.
func (c *client) listener() *ListenerOptions { return listener.Of(c.conn).Options() }

// sent counts one packet of n bytes, other than PUBLISH.
func (c *client) sent(n int) {
	c.shard.count.PacketsOut++
	c.shard.count.BytesOut += int64(n)
	c.answers += int32(n)
}

// outputShort is the part of what a client may leave unread, one in so many, that it may while memory is
// short.
const outputShort = 16

// slow reports whether the client leaves more output unread than it may. What has come together in this
// turn is not the client's fault: it is written before the verdict, after what other loops must know, as at
// the end of a turn.
func (c *client) slow() bool {
	limit, n := c.shard.opts.MaxBufferedBytes, c.buffered()
	if n <= limit/outputShort {
		return false
	}
	if c.shard.b.memory.Short() {
		limit /= outputShort
	}
	if n <= limit {
		return false
	}
	if !c.conn.Blocked() {
		if c.shard.journal == nil { // else it would leave before what it depends on is in the journal
			c.shard.router.Post()
		}
		c.conn.Flush()
	}
	return c.buffered() > limit
}

// SendPublish implements session.Sink: it writes a PUBLISH, encoded once for all receivers of the same
// shape.
func (c *client) SendPublish(m *message.Message, d message.Delivery) bool {
	s := c.shard
	h := &s.router.Live
	if !h.Holds(m) {
		if !c.may(auth.Read, m.Topic) && !c.grants().Bypasses(m.Topic) {
			s.drop(DropDenied)
			return false // what has waited is asked about again
		}
		h = &s.stored
		if !h.Holds(m) {
			h.Reset(m, s.loop.Now())
		}
	}
	if d.QoS == 2 && !d.Dup && c.Durable() {
		c.wait() // for its packet id
	}
	ok := c.write(h, &d)
	if d.QoS > 0 && c.slow() {
		c.Hold() // until Drained
	}
	return ok
}

// write sends the message of h; false when it is larger than the client accepts.
func (c *client) write(h *message.Heads, d *message.Delivery) bool {
	if mount := c.mount(); mount != "" {
		var ok bool
		if h, ok = c.unmount(h, mount); !ok {
			return false
		}
	}
	m := h.Message()
	if c.five != nil && c.five.aliasMax > 0 {
		c.five.aliases.Pick(m.Topic, c.five.aliasMax, c.shard.b.memory.Short(), d)
	}
	head, pid := h.Head(c.version, d)
	n := len(head) + len(m.Payload)
	if c.five != nil && c.five.maxPacket > 0 && n > int(c.five.maxPacket) {
		c.shard.drop(DropTooLarge)
		c.five.aliases.Forget(m.Topic, d)
		return false
	}
	s := c.shard
	if len(m.Payload) >= message.ShareFrom && m.Kept() && c.gate() == nil {
		b := c.conn.Reserve(len(head))
		copy(b, head)
		message.Patch(b, pid, d)
		c.conn.WriteShared(m.Keep().Payload)
	} else {
		b := c.reserve(n)
		copy(b, head)
		copy(b[len(head):], m.Payload)
		message.Patch(b, pid, d)
	}
	s.count.PacketsOut++
	s.count.BytesOut += int64(n)
	s.count.PublishOut++
	s.count.PublishBytesOut += int64(len(m.Payload))
	if s.debug {
		s.debugf("Sending PUBLISH to %s (d%d, q%d, r%d, m%d, '%s', ... (%d bytes))", c.id,
			line.Flag(d.Dup), d.QoS, line.Flag(d.Retain), d.PacketID, m.Topic, len(m.Payload))
	}
	return true
}

// SendAck implements session.Sink.
func (c *client) SendAck(t codec.Type, id uint16, r codec.Reason) {
	a := codec.Ack{Type: t, PacketID: id, Reason: r}
	n := a.Len(c.version)
	c.promise()
	a.Append(c.reserve(n)[:0], c.version)
	c.sent(n)
	if c.shard.debug {
		switch t {
		case codec.PUBACK, codec.PUBREC:
			c.shard.debugf("Sending %s to %s (m%d, rc%d)", t, c.id, id, byte(r))
		default:
			c.shard.debugf("Sending %s to %s (m%d)", t, c.id, id)
		}
	}
}

// send writes one packet other than PUBLISH and the acknowledgements. One that is larger than the client
// accepts is an error, since the client waits for it [MQTT-3.1.2-24].
func (c *client) send(p packet) error {
	n := p.Len(c.version)
	if err := c.fits(n); err != nil {
		return err
	}
	c.promise()
	p.Append(c.reserve(n)[:0], c.version)
	c.sent(n)
	return nil
}

// fits is an error if an answer of n bytes is larger than the client accepts.
func (c *client) fits(n int) error {
	if c.five != nil && c.five.maxPacket > 0 && n > int(c.five.maxPacket) {
		return &codec.Error{
			Reason: codec.PacketTooLarge,
			Detail: "the answer exceeds the client's Maximum Packet Size",
		}
	}
	return nil
}

// packet is what every codec type can do.
type packet interface {
	Append(b []byte, v codec.Version) []byte
	Len(v codec.Version) int
}

func malformed(t codec.Type, detail string) error {
	return &codec.Error{Reason: codec.MalformedPacket, Packet: t, Detail: detail}
}

func protocolError(t codec.Type, detail string) error {
	return &codec.Error{Reason: codec.ProtocolError, Packet: t, Detail: detail}
}

// event is what those who watch are told of.
type event = view.Event[EndReason]

// view tells of the session. On the loop.
func (c *client) view() view.Client {
	s := c.shard
	x := view.Client{
		ID: c.id, Username: c.username(), Connected: c.conn != nil, Version: c.version, Bridge: c.bridge,
		KeepAlive: time.Duration(c.keepAlive) * time.Second, Will: c.will() != nil, Stored: c.Durable(),
		Subscriptions: len(c.subs), Granted: c.grants().Topics(), Queued: c.Queued(),
		QueuedBytes: c.QueuedBytes(), Inflight: c.Inflight(),
		Expiry: time.Duration(c.expiry) * time.Second,
	}
	if c.expiry == never {
		x.Expiry = view.SessionForever
	}
	n, size := s.opts.MaxQueuedMessages, s.opts.MaxQueuedBytes
	x.QueueFull = n > 0 && x.Queued >= n || size > 0 && x.QueuedBytes >= size
	if conn := c.conn; conn != nil {
		x.Address, x.Listener = conn.RemoteAddr(), listener.Of(conn).Name()
		x.WebSocket, x.TLS = conn.WebSocket(), listener.Of(conn).Options().Net.TLS != nil && !conn.Piped()
	} else {
		ago := time.Duration(max(s.seconds()-int64(c.offlineAt), 0)) * time.Second
		x.OfflineSince = time.UnixMilli(s.b.clock.Source.Wall()).Add(-ago).Truncate(time.Second)
	}
	return x
}

// tellEvent tells those who watch of an event of the client, which is connected.
func (c *client) tellEvent(e event) {
	s := c.shard
	if s.b.watching.Any() {
		e.At, e.Client = time.UnixMilli(s.b.clock.Source.Wall()), c.view()
		s.b.watching.Tell(e)
	}
}

// tellSubscribed tells of one subscription.
func (c *client) tellSubscribed(f *codec.Filter, granted codec.Reason) {
	if c.shard.b.watching.Any() {
		c.tellEvent(event{Kind: view.EventSubscribed, Filter: string(f.Name), QoS: uint8(granted)})
	}
}
