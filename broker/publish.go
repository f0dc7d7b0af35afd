package broker

import (
	"bytes"

	"noctule/broker/auth"
	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/broker/reason"
	"noctule/codec"
)

// handlePublish takes one PUBLISH: QoS 0 and 1 are passed on at once, QoS 2 at its PUBREL, as Mosquitto
// does.
func (c *client) handlePublish(h codec.Header, body []byte) error {
	s := c.shard
	p := &s.publish
	if err := p.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	s.count.PublishIn++
	s.count.PublishBytesIn += int64(len(p.Payload))
	if err := c.checkPublish(p); err != nil {
		return err
	}
	m := &s.pub
	*m = message.Message{
		Topic: p.Topic, Payload: p.Payload, Publisher: c.number, QoS: p.QoS, Retain: p.Retain,
	}
	if len(p.Properties) > 0 {
		if err := c.readProperties(p, m); err != nil {
			return err
		}
	}
	if err := c.nameTopic(m); err != nil {
		return err
	}
	if m.Retain && s.opts.CheckRetainSource {
		m.Source = c.sourceOf()
	}
	r, err := untold(c, p, c.admitted(m))
	if err != nil {
		return err
	}
	lost := c.cannotKeep(p.PacketID, m, r)
	if lost && r == codec.Success {
		r = codec.QuotaExceeded
	}
	if s.debug {
		s.debugf("%s PUBLISH from %s (d%d, q%d, r%d, m%d, '%s', ... (%d bytes))", verdict(r), c.id,
			line.Flag(p.Dup), p.QoS, line.Flag(p.Retain), p.PacketID, m.Topic, len(p.Payload))
	}
	if lost && p.QoS > 0 && c.version != codec.V5 {
		return errStore(h.Type)
	}
	switch p.QoS {
	case 0:
		if r == codec.Success {
			c.pass(m)
		}
		return nil
	case 1:
		if r == codec.Success {
			if r, err = untold(c, p, c.pass(m)); err != nil {
				return err
			}
		}
		c.SendAck(codec.PUBACK, p.PacketID, ackReason(c, r)) // after the fan-out
		return c.checkOutput()
	}
	return c.receive(p.PacketID, m, r)
}

// nameTopic gives m its full name; errAsked if somebody has to be asked whether the client may publish there.
func (c *client) nameTopic(m *message.Message) error {
	s := c.shard
	if len(m.Topic) == 0 {
		return protocolError(codec.PUBLISH, "no topic and no alias [MQTT-3.3.2-8]")
	}
	if mount := c.mount(); mount != "" {
		if err := c.mountTopic(mount, m); err != nil {
			return err
		}
	}
	if c.asks() && c.mustAsk(auth.Write, written(m)...) {
		s.count.PublishIn--
		s.count.PublishBytesIn -= int64(len(m.Payload))
		return errAsked
	}
	return nil
}

// written are the topics that m is to be written to: its own, and that of the answer to a request to the
// broker.
func written(m *message.Message) [][]byte {
	list := [][]byte{m.Topic}
	if bytes.HasPrefix(m.Topic, []byte("$CONTROL/")) {
		if to, ok := m.Properties.Bytes(codec.ResponseTopic); ok {
			list = append(list, to)
		}
	}
	return list
}

// untold turns ServerBusy of a Guard or ControlFunc, by which nobody hears otherwise that a message is
// refused, into what the publisher can be told. MQTT 3 has no code for it: the connection ends, so that the
// message is not acknowledged and the client sends it again.
func untold(cl *client, p *codec.Publish, r codec.Reason) (codec.Reason, error) {
	switch {
	case r != codec.ServerBusy:
		return r, nil
	case p.QoS > 0 && cl.version != codec.V5:
		return r, &codec.Error{Reason: codec.QuotaExceeded, Packet: codec.PUBLISH, Detail: "too much waits"}
	}
	return codec.QuotaExceeded, nil
}

// guarded asks who has the say over some topics, if anybody has.
func (c *client) guarded(m *message.Message) codec.Reason {
	if c.shard.opts.Guard == nil {
		return codec.Success
	}
	username := ""
	if c.rare != nil {
		username = c.rare.username
	}
	return c.shard.opts.Guard(username, m.Topic, m.Payload)
}

// pass publishes an admitted message, or gives it to who has taken its topic over.
func (c *client) pass(m *message.Message) codec.Reason {
	s := c.shard
	if m.Topic[0] == '$' {
		if r, taken := c.control(m); taken {
			return r
		}
	}
	s.publisher = c.conn
	matched := s.publishMessage(m)
	s.publisher = nil
	if !matched {
		return codec.NoMatchingSubscribers
	}
	return codec.Success
}

// receive hands a QoS 2 message to the session. What is not admitted is refused in MQTT 5; MQTT 3 has no
// way to say so, the handshake runs and the message goes nowhere.
func (c *client) receive(id uint16, m *message.Message, r codec.Reason) error {
	var err error
	if r != codec.Success && c.version != codec.V5 {
		err = c.ReceiveDenied(id, m, c)
	} else {
		err = c.Receive(id, m, r, c)
	}
	if err != nil {
		return err
	}
	return c.checkOutput()
}

func ackReason(cl *client, r codec.Reason) codec.Reason {
	if cl.version != codec.V5 {
		return codec.Success
	}
	return r
}

// checkPublish enforces what CONNACK announced; a breach ends the connection.
func (c *client) checkPublish(p *codec.Publish) error {
	if p.QoS > c.listener().MaxQoS { // [MQTT-3.2.2-11]
		return &codec.Error{Reason: codec.QoSNotSupported, Packet: codec.PUBLISH, Detail: "above Maximum QoS"}
	}
	if p.Retain && !c.shard.opts.RetainAvailable { // [MQTT-3.2.2-14]
		return &codec.Error{
			Reason: codec.RetainNotSupported,
			Packet: codec.PUBLISH,
			Detail: "RETAIN is not available",
		}
	}
	return nil
}

// admitted decides whether a well-formed message may be passed on; the connection goes on in any case.
func (c *client) admitted(m *message.Message) codec.Reason {
	s := c.shard
	if limit := s.opts.MessageSizeLimit; limit > 0 && len(m.Payload) > int(limit) {
		return codec.PacketTooLarge
	}
	if m.Topic[0] == '$' && reservedTopic(m.Topic) || !c.may(auth.Write, m.Topic) {
		s.drop(DropDenied)
		return codec.NotAuthorized
	}
	if s.tooMuch(m) {
		return codec.QuotaExceeded
	}
	r := c.guarded(m)
	if r == codec.NotAuthorized {
		s.drop(DropDenied)
	}
	return r
}

// cannotKeep reports whether the acknowledgement of m, which admitted has answered with r, would promise what
// the store cannot keep at the moment: a handshake, a retained message, or one for a durable session. It asks
// before anybody gets m, so that a refused message goes to nobody. What subscribes between this and the
// fan-out is noted there, and the acknowledgement waits.
func (c *client) cannotKeep(id uint16, m *message.Message, r codec.Reason) bool {
	s := c.shard
	switch {
	case m.QoS == 0 && !m.Retain || !s.journal.Failing():
		return false
	case m.QoS == 2 && c.Durable() && !c.Repeats(id, m):
		return true
	case r != codec.Success:
		return false
	case m.Retain && s.retainLog(m.Topic) != nil:
		return true
	}
	return m.QoS > 0 && s.router.ForDurable(m.Topic)
}

// verdict is how the debug log names what became of a PUBLISH.
func verdict(r codec.Reason) string {
	switch r {
	case codec.Success:
		return "Received"
	case codec.PacketTooLarge:
		return "Dropped too large"
	default:
		return "Denied"
	}
}

// reservedTopic reports whether clients may not publish there: $SYS except the state of bridges, and
// $share, and what a client hears about itself.
func reservedTopic(topic []byte) bool {
	if bytes.HasPrefix(topic, []byte("$share/")) || bytes.HasPrefix(topic, []byte("$me/")) {
		return true
	}
	if !bytes.HasPrefix(topic, []byte("$SYS")) {
		return false
	}
	rest, ok := bytes.CutPrefix(topic, []byte("$SYS/broker/connection/"))
	if !ok {
		return true
	}
	_, state, ok := bytes.Cut(rest, []byte("/"))
	return !ok || string(state) != "state"
}

// propsKept is the largest room for properties, in bytes, that a loop keeps for the next PUBLISH.
const propsKept = 4096

// readProperties resolves the Topic Alias and takes over what is forwarded.
func (c *client) readProperties(p *codec.Publish, m *message.Message) error {
	s := c.shard
	if _, ok := p.Properties.Uint(codec.SubscriptionIdentifier); ok {
		return protocolError(codec.PUBLISH, "Subscription Identifier from a client [MQTT-3.3.4-6]")
	}
	if a, ok := p.Properties.Uint(codec.TopicAlias); ok {
		topic, err := c.resolveAlias(int(a), p.Topic)
		if err != nil {
			return err
		}
		m.Topic = topic
	}
	m.Properties = p.Properties.Forwarded(s.props[:0])
	if len(m.Properties) == len(p.Properties) {
		return nil
	}
	if cap(m.Properties) <= propsKept {
		s.props = m.Properties
	}
	if expiry, _ := p.Properties.Uint(codec.MessageExpiry); expiry > 0 {
		m.Expire(s.loop.Now(), expiry)
	}
	return nil
}

// resolveAlias is the topic of a PUBLISH with an alias. While memory is short a long topic gets none.
func (c *client) resolveAlias(a int, topic []byte) ([]byte, error) {
	most, in := int(c.listener().MaxTopicAlias), &c.features().incoming
	if a <= most && len(topic) > max(smallMax, in.Room(a)) && c.shard.b.memory.Short() {
		return nil, reason.Because(&codec.Error{
			Reason: codec.QuotaExceeded, Packet: codec.PUBLISH,
			Detail: "memory_limit: a long topic for an alias",
		}, EndMemory)
	}
	return in.Resolve(a, most, topic)
}

// release passes on the message that has waited for a PUBREL.
func (c *client) release(id uint16) codec.Reason {
	s := c.shard
	m, r := c.Release(id, c)
	switch {
	case m == nil:
	case m.Expired(s.loop.Now()): // between PUBLISH and PUBREL [MQTT-3.3.2-5]
		s.drop(DropExpired)
	default:
		c.pass(m)
	}
	if m != nil && c.Durable() {
		s.journal.Unref(m.Keep().Stored)
	}
	return r
}

// handleAck takes PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *client) handleAck(h codec.Header, body []byte) error {
	s := c.shard
	a := codec.Ack{Type: h.Type}
	if err := a.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	if s.debug {
		switch h.Type {
		case codec.PUBACK, codec.PUBCOMP:
			s.debugf("Received %s from %s (Mid: %d, RC:%d)", h.Type, c.id, a.PacketID, byte(a.Reason))
		default:
			s.debugf("Received %s from %s (Mid: %d)", h.Type, c.id, a.PacketID)
		}
	}
	now := s.loop.Now()
	var err error
	switch h.Type {
	case codec.PUBACK:
		err = c.Puback(a.PacketID, now, c)
	case codec.PUBREC:
		err = c.Pubrec(a.PacketID, a.Reason, now, c)
	case codec.PUBCOMP:
		err = c.Pubcomp(a.PacketID, now, c)
	default:
		r := c.release(a.PacketID)
		c.SendAck(codec.PUBCOMP, a.PacketID, ackReason(c, r))
		return c.checkOutput()
	}
	c.updateFull()
	if c.replays() != nil {
		c.replayRetained()
	}
	if err != nil {
		return err
	}
	return c.checkOutput()
}

// control gives a PUBLISH to who has taken its topic over; false when nobody has.
func (c *client) control(m *message.Message) (codec.Reason, bool) {
	f := c.shard.opts.Controls[string(m.Topic)]
	if f == nil {
		return codec.Success, false
	}
	x := &Control{ClientID: c.id, Topic: string(m.Topic), Payload: bytes.Clone(m.Payload)}
	if c.rare != nil {
		x.Username = c.rare.username
	}
	if r := c.rights(); r != nil && r.Permissions != nil {
		x.Allowed = c.may(auth.Write, m.Topic)
	}
	for id, v := range m.Properties.All() {
		switch id {
		case codec.ResponseTopic:
			x.ResponseTopic = string(v.Bytes)
			x.MayAnswer = !reservedTopic(v.Bytes) && c.may(auth.Write, v.Bytes) &&
				c.guarded(&message.Message{Topic: v.Bytes}) == codec.Success
		case codec.CorrelationData:
			x.Correlation = bytes.Clone(v.Bytes)
		}
	}
	return f(x), true
}
