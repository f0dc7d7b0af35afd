package broker

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"

	"noctule/broker/auth"
	"noctule/broker/crash"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/reason"
	"noctule/broker/session"
	"noctule/codec"
	"noctule/wsnet"
)

// greet is a CONNECT on its way to the loop that owns its session.
type greet struct {
	conn   *wsnet.Conn
	packet []byte // CONNECT without its fixed header
	id     []byte // a client id made by the broker, if the client sent none
	as     *auth.Identity
	opts   *ListenerOptions // by which it was let in
	grants []pinned         // subscriptions that others have made for it
}

// Run implements wsnet.Task.
func (g *greet) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	s.handling = crash.Handling{Conn: g.conn, Packet: g.packet, Connect: true}
	g.run(s)
	s.handling = crash.Handling{}
}

// run is Run on shard s.
func (g *greet) run(s *shard) {
	if err := s.connect.Parse(0, g.packet, codec.V311); err != nil {
		s.grants.Unpin(g.grants)
		g.conn.Close(err) // it parsed before, so this cannot happen
		return
	}
	g.as.Dress(&s.connect)
	now := listener.Of(g.conn).Options()
	if !now.Stands(g.opts, g.conn, &s.connect, g.as) {
		s.grants.Unpin(g.grants)
		s.refuse(g.conn, &s.connect, codec.NotAuthorized)
		return
	}
	g.opts = now
	s.welcome(g)
}

// handleConnect handles the first packet of a connection; true means that the connection is no longer this
// loop's to read: refused, or on its way to its home loop.
func (s *shard) handleConnect(c *wsnet.Conn, h codec.Header, body []byte) bool {
	s.loop.MustBeHere()
	p := &s.connect
	if err := p.Parse(h.Flags, body, codec.V311); err != nil {
		s.refuseConnect(c, p, err)
		return true
	}
	s.count.connects++
	c.Arrived()
	l := listener.Of(c).Options()
	if !l.AcceptVersions.Has(p.Version) {
		s.refuseConnect(c, p, errVersion)
		return true
	}
	made, as, r := s.checkConnect(c, p)
	if r != codec.Success {
		s.refuse(c, p, r)
		return true
	}
	id := p.ClientID
	if made != nil {
		id = made
	}
	login := listener.LoginOf(c, p, id, as)
	slow := l.Slow(&login)
	if !slow && !l.Admits(&login) {
		s.refuse(c, p, codec.NotAuthorized)
		return true
	}
	c.Attachment.(*greeting).done = true
	g := &greet{conn: c, id: made, as: as, opts: l}
	if slow || len(s.opts.Admitters) > 0 {
		s.ask(g, body, login, slow)
		return true
	}
	home := s.b.home(id)
	if home != s {
		g.packet = bytes.Clone(body)
		c.Attachment = nil
		c.Move(home.loop, g)
		return true
	}
	s.welcome(g)
	return c.Attachment == nil
}

// errVersion is the error of accept_protocol_versions.
var errVersion = &codec.Error{
	Reason: codec.UnsupportedProtocolVersion, Packet: codec.CONNECT, Detail: "not accepted by this listener",
}

// refuseConnect answers a CONNECT that does not parse: an unknown protocol level is told, all else is only
// closed, except that MQTT 5 clients hear the reason [MQTT-3.1.4-1].
func (s *shard) refuseConnect(c *wsnet.Conn, p *codec.Connect, err error) {
	r := reason.Of(err)
	switch {
	case r == codec.UnsupportedProtocolVersion && (p.Level&0x7F == 3 || p.Level&0x7F == 4):
		s.answer(c, codec.V311, &codec.Connack{Reason: r})
	case r == codec.UnsupportedProtocolVersion, p.Version == codec.V5:
		s.answer(c, codec.V5, &codec.Connack{Reason: r})
	}
	s.turnDown(c, nil, reason.RefusalOf(p, r, s.opts.MaxKeepAlive), reason.RefusalText(r), err)
}

// refuse answers a CONNECT that is not acceptable and closes.
func (s *shard) refuse(c *wsnet.Conn, p *codec.Connect, r codec.Reason) {
	ack := codec.Connack{Reason: r}
	if q := listener.Of(c).Options().MaxQoS; q < 2 && p.Version == codec.V5 {
		ack.Properties = codec.AppendUintProperty(nil, codec.MaximumQoS, uint32(q))
	}
	if p.Version == codec.V5 || reason.HasCode(r) {
		s.answer(c, p.Version, &ack)
		if s.debug {
			s.debugf("Sending CONNACK to %s (0, %d)", p.ClientID, reason.ConnackCode(p.Version, r))
		}
	}
	err := fmt.Errorf("broker: connection refused: %s", r)
	s.turnDown(c, p.ClientID, reason.RefusalOf(p, r, s.opts.MaxKeepAlive), reason.RefusalText(r), err)
}

// turnDown ends a connection that is no client's, with a line about it.
func (s *shard) turnDown(c *wsnet.Conn, id []byte, why RefusalReason, text string, err error) {
	s.count.refused[why]++
	if g, ok := c.Attachment.(*greeting); ok {
		g.done = true
	}
	s.logEnd(c, id, text)
	c.Close(err)
}

func (s *shard) answer(c *wsnet.Conn, v codec.Version, ack *codec.Connack) {
	n := ack.Len(v)
	ack.Append(c.Reserve(n)[:0], v)
	s.count.packetsOut++
	s.count.bytesOut += int64(n)
}

// checkConnect decides whether a valid CONNECT is welcome, passwords apart, makes a client id where the
// client sent none, and puts into p what takes the place of what it says.
func (s *shard) checkConnect(
	c *wsnet.Conn,
	p *codec.Connect,
) (made []byte, as *auth.Identity, r codec.Reason) {
	l := listener.Of(c).Options()
	if r := s.checkFeatures(l, p); r != codec.Success {
		return nil, nil, r
	}
	if l.Bars(c) {
		return nil, nil, codec.NotAuthorized
	}
	id := p.ClientID
	if len(id) == 0 {
		if made, r = makeID(l, p); r != codec.Success {
			return nil, nil, r
		}
		id = made
	}
	if !bytes.HasPrefix(id, []byte(s.opts.ClientIDPrefixes)) {
		return nil, nil, codec.NotAuthorized
	}
	as, r = l.Identify(c, p)
	if as != nil && as.ClientID != nil {
		made = nil
	}
	return made, as, r
}

// checkFeatures holds a CONNECT against what the broker and the listener offer.
func (s *shard) checkFeatures(l *ListenerOptions, p *codec.Connect) codec.Reason {
	o := s.opts
	if s.b.stopping.Load() {
		return codec.ServerShuttingDown
	}
	if _, ok := p.Properties.Bytes(codec.AuthMethod); ok {
		return codec.BadAuthenticationMethod
	}
	if reason.KeptAliveTooLong(p, o.MaxKeepAlive) {
		return codec.ClientIdentifierNotValid
	}
	if p.HasWill {
		switch {
		case p.Will.QoS > l.MaxQoS:
			return codec.QoSNotSupported
		case p.Will.Retain && !o.RetainAvailable:
			return codec.RetainNotSupported
		case bytes.HasPrefix(p.Will.Topic, []byte("$CONTROL/")):
			return codec.NotAuthorized
		case len(l.MountPoint)+len(p.Will.Topic) > topicMax:
			return codec.TopicNameInvalid
		case o.MessageSizeLimit > 0 && len(p.Will.Payload) > int(o.MessageSizeLimit):
			return codec.PacketTooLarge
		}
	}
	return codec.Success
}

// makeID makes a client id, if the client may be without one.
func makeID(l *ListenerOptions, p *codec.Connect) (made []byte, r codec.Reason) {
	switch {
	case p.Version == codec.V31, p.Version == codec.V311 && !p.CleanStart: // [MQTT-3.1.3-8]
		return nil, codec.ClientIdentifierNotValid
	case !l.AllowZeroLengthClientID && p.Version == codec.V5:
		return nil, codec.UnspecifiedError
	case !l.AllowZeroLengthClientID:
		return nil, codec.ClientIdentifierNotValid
	}
	return generateID(l.AutoIDPrefix), codec.Success
}

// generateID makes a client id in Mosquitto's form: prefix and a random UUID in upper case [MQTT-3.1.3-6].
func generateID(prefix string) []byte {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0F|0x40, u[8]&0x3F|0x80
	return fmt.Appendf(nil, "%s%X-%X-%X-%X-%X", prefix, u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// makeDurable stores the session of a client that has connected, if there is a store.
func (s *shard) makeDurable(cl *client, present bool) {
	if s.journal == nil {
		return
	}
	if !present && cl.expiry > 0 {
		cl.SetDurable()
		cl.bear()
	}
	s.saveSession(cl)
}

// tellForeign logs that a session goes because another user has come.
func (s *shard) tellForeign(id []byte, foreign bool) {
	if foreign {
		s.logf(LevelNotice, "Session of client %s ends: another user has connected with its client id.", id)
	}
}

// welcome attaches a connection to its session, on the session's home loop: takeover, clean start or
// resume, what others have subscribed it to, CONNACK, then what the session holds for the client.
func (s *shard) welcome(g *greet) {
	s.loop.MustBeHere()
	c, made, p := g.conn, g.id, &s.connect
	s.journal.Begin()
	id := p.ClientID
	if made != nil {
		id = made
	}
	fails := s.journal.Failing()
	if fails && s.wantsKept(p) && (p.CleanStart || s.sessions[string(id)] == nil) { // which is stored already
		s.grants.Unpin(g.grants)
		s.refuse(c, p, codec.ServerUnavailable)
		return
	}
	old := s.sessionOf(id)
	foreign := old != nil && old.owner().Foreign(p.Username, g.opts.MountPoint, s.opts.OtherUsers)
	if s.turnsAway(g, old, foreign) {
		return
	}
	s.tellForeign(id, foreign)
	cl, present := s.session(string(id), p.CleanStart || foreign)
	cl.conn, c.Attachment = c, cl
	cl.version, cl.bridge = p.Version, p.Bridge
	s.rename(cl, string(p.Username))
	s.entitle(cl, g)
	cl.anyUser, cl.anyMount = false, false
	cl.lastSeen = uint32(s.seconds())
	cl.keepAlive = p.KeepAlive
	cl.listed = false
	window := s.adopt(cl, p)
	if p.HasWill {
		cl.extra().will = newWill(cl, &p.Will)
	}
	s.makeDurable(cl, present)
	waits := fails && present && cl.Durable() && s.comesBack(cl)
	s.count.connections++
	listener.Of(c).Count(cl.version, 1)
	s.logConnected(cl, p)
	s.tellEvent(cl, Event{Kind: EventConnected})
	s.grants.Admit(cl, g.grants)
	if err := cl.send(s.connack(cl, p, made, present)); err != nil {
		s.fail(cl, err)
		return
	}
	if waits {
		cl.wait()
	}
	if s.debug {
		s.debugf("Sending CONNACK to %s (%d, 0)", cl.id, line.Flag(present))
	}
	cl.Resume(window, s.loop.Now(), cl)
	cl.updateFull()
	s.arm(cl)
	if present {
		s.resumeReplays(cl)
	}
	s.replayRetained(cl)
	if !cl.grants().Empty() {
		s.tell(cl)
	}
}

// turnsAway refuses a client that is let in but must not have a session: there is no place or no memory
// for one, or the one of its client id is another user's. old is that session, nil without.
func (s *shard) turnsAway(g *greet, old *client, foreign bool) bool {
	c, p := g.conn, &s.connect
	switch {
	case foreign && s.opts.OtherUsers == RefuseSession:
		s.leaveOut(g)
		s.logf(LevelNotice, "Client %s [%s] is refused: another user's session has this client id.",
			old.id, line.Peer(c))
		s.refuse(c, p, codec.ClientIdentifierNotValid)
	case old == nil && s.full():
		s.leaveOut(g)
		s.turnAway(c, p)
	case s.b.memory.Short() && (old == nil || p.HasWill && tooLarge(&p.Will, old)):
		s.leaveOut(g)
		s.refuseMemory(c, p)
	default:
		return false
	}
	return true
}

// leaveOut gives up what has been prepared for a client.
func (s *shard) leaveOut(g *greet) {
	s.grants.Unpin(g.grants)
	g.conn.Attachment = nil
}

// full reports that one more session would be too many.
func (s *shard) full() bool {
	limit := int64(s.opts.GlobalMaxClients)
	return limit > 0 && s.b.sessions.Load() >= limit
}

// turnAway closes a connection for which there is no place: an MQTT 5 client is told.
func (s *shard) turnAway(c *wsnet.Conn, p *codec.Connect) {
	if p.Version == codec.V5 {
		s.refuse(c, p, codec.ServerBusy)
		return
	}
	s.turnDown(c, p.ClientID, RefusedBusy, reason.RefusalText(codec.ServerBusy), errFull)
}

var errFull = errors.New("broker: as many clients as there may be")

// session finds or makes the session of a client id and takes it from the connection that has it now
// [MQTT-3.1.4-3].
func (s *shard) session(id string, clean bool) (cl *client, present bool) {
	cl, ok := s.sessions[id]
	if ok && cl.conn != nil {
		// A delayed will is not sent when the session goes on [MQTT-3.1.3-9].
		s.kick(cl, codec.SessionTakenOver)
		cl, ok = s.sessions[id]
	}
	if ok && clean {
		s.endSession(cl) // [MQTT-3.1.2-4]
		ok = false
	}
	if ok {
		if cl.rare != nil {
			cl.rare.will = nil
		}
		return cl, true
	}
	cl = &client{Session: session.New(&s.limits), id: id, number: s.b.lastNumber.Add(1), shard: s}
	s.sessions[id] = cl
	s.count.sessions++
	s.b.sessions.Add(1)
	return cl, false
}

// wantsKept reports whether the session of a CONNECT outlives its connection.
func (s *shard) wantsKept(p *codec.Connect) bool {
	if p.Version != codec.V5 {
		return !p.CleanStart
	}
	n, _ := p.Properties.Uint(codec.SessionExpiry)
	return n > 0
}

// adopt reads what the client asks for in CONNECT; it returns the Receive Maximum (0: none).
func (s *shard) adopt(cl *client, p *codec.Connect) (window uint16) {
	if p.Version != codec.V5 {
		cl.expiry = 0
		if !p.CleanStart {
			cl.expiry = s.capExpiry(never)
		}
		return 0
	}
	cl.expiry = 0
	for id, v := range p.Properties.All() {
		switch id {
		case codec.SessionExpiry:
			cl.expiry = s.capExpiry(v.Num)
		case codec.ReceiveMaximum:
			window = uint16(v.Num)
		case codec.MaximumPacketSize:
			cl.features().maxPacket = v.Num
		case codec.TopicAliasMaximum:
			if n := min(uint16(v.Num), cl.listener().MaxTopicAliasBroker); n > 0 {
				cl.features().aliasMax = n
			}
		case codec.RequestProblemInfo:
			if v.Num == 0 {
				cl.features().noProblem = true
			}
		}
	}
	return window
}

// capExpiry holds a session expiry interval against persistent_client_expiration.
func (s *shard) capExpiry(e uint32) uint32 {
	limit := s.opts.PersistentClientExpiration
	if limit <= 0 {
		return e
	}
	return uint32(min(int64(e), wholeSeconds(limit), math.MaxUint32))
}

// connack builds the positive answer; MQTT 5 properties are in Mosquitto's order, byte for byte.
func (s *shard) connack(cl *client, p *codec.Connect, made []byte, present bool) *codec.Connack {
	ack := &codec.Connack{SessionPresent: present && p.Version != codec.V31}
	if p.Version != codec.V5 {
		return ack
	}
	o, l := s.opts, cl.listener()
	var props codec.Properties
	if o.MaxKeepAlive > 0 && (p.KeepAlive == 0 || p.KeepAlive > o.MaxKeepAlive) {
		cl.keepAlive = o.MaxKeepAlive
		props = codec.AppendUintProperty(props, codec.ServerKeepAlive, uint32(o.MaxKeepAlive))
	}
	if l.MaxTopicAlias > 0 {
		props = codec.AppendUintProperty(props, codec.TopicAliasMaximum, uint32(l.MaxTopicAlias))
	}
	if made != nil {
		props = codec.AppendBytesProperty(props, codec.AssignedClientID, made)
	}
	if !o.RetainAvailable {
		props = codec.AppendUintProperty(props, codec.RetainAvailable, 0)
	}
	if o.MaxPacketSize > 0 {
		props = codec.AppendUintProperty(props, codec.MaximumPacketSize, o.MaxPacketSize)
	}
	if o.MaxInflight > 0 && o.MaxInflight < 65535 {
		props = codec.AppendUintProperty(props, codec.ReceiveMaximum, uint32(o.MaxInflight))
	}
	if l.MaxQoS < 2 {
		props = codec.AppendUintProperty(props, codec.MaximumQoS, uint32(l.MaxQoS))
	}
	ack.Properties = cl.grants().AppendProperties(props)
	return ack
}

// logWill tells of the will, or of none.
func (s *shard) logWill(p *codec.Connect) {
	switch {
	case !s.debug:
	case p.HasWill:
		s.debugf("Will message specified (%d bytes) (r%d, q%d).",
			len(p.Will.Payload), line.Flag(p.Will.Retain), p.Will.QoS)
		s.debugf("\t%s", p.Will.Topic)
	default:
		s.debugf("No will message specified.")
	}
}

func (s *shard) logConnected(cl *client, p *codec.Connect) {
	if !s.opts.ConnectionMessages {
		return
	}
	user := ""
	if p.HasUsername {
		user = fmt.Sprintf(", u'%s'", p.Username)
	}
	kind := "client"
	if p.Bridge {
		kind = "bridge"
	}
	s.logf(LevelNotice, "New %s connected from %s as %s (p%d, c%d, k%d%s).",
		kind, line.Peer(cl.conn), cl.id, p.Version, line.Flag(p.CleanStart), p.KeepAlive, user)
	if t := cl.conn.TLS(); t != nil {
		version := strings.Replace(tls.VersionName(t.Version), " ", "v", 1)
		s.logf(LevelNotice, "Client %s negotiated %s cipher %s", cl.id, version, line.Cipher(t.CipherSuite))
	}
	s.logWill(p)
}
