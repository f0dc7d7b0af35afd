package broker

import (
	"io"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/codec"
	"noctule/wsnet"
)

// Enhanced authentication of MQTT 5 [MQTT-4.12]: a method (auth.Method) works at the desk, off the loop, and
// what it has to say goes to the client as AUTH. At CONNECT the connection is held but for the client's
// answers (greeting.asked). A client that came so may authenticate again at any time [MQTT-4.12.1]; nothing
// is held then, and what it has and may do stays until that has succeeded.

// renewal is a client that authenticates again.
type renewal struct {
	x     *admit.Case
	asked bool // it has a challenge to answer
}

// methodOf is the Authentication Method of a CONNECT, "" without.
func methodOf(p *codec.Connect) string {
	name, _ := p.Properties.Bytes(codec.AuthMethod)
	return string(name)
}

// knows reports whether a listener's clients may use a method.
func knows(l *ListenerOptions, method string) bool {
	return l.Policy != nil && l.Policy.Methods[method] != nil
}

// authData are the Authentication Data of a packet, copied; nil if there are none.
func authData(p codec.Properties) []byte {
	data, ok := p.Bytes(codec.AuthData)
	if !ok {
		return nil
	}
	return append([]byte{}, data...)
}

// authPacket is what the broker sends: each has the method [MQTT-4.12.0-5].
func authPacket(r codec.Reason, method string, data []byte) *codec.Auth {
	return &codec.Auth{Reason: r, Properties: appendAuth(nil, method, data)}
}

// appendAuth appends method and data.
func appendAuth(p codec.Properties, method string, data []byte) codec.Properties {
	p = codec.AppendBytesProperty(p, codec.AuthMethod, []byte(method))
	if data != nil {
		p = codec.AppendBytesProperty(p, codec.AuthData, data)
	}
	return p
}

// appendProof appends what a method has to say with CONNACK, if the client has used one [MQTT-4.12.0-5].
func appendProof(to codec.Properties, p *codec.Connect, data []byte) codec.Properties {
	if method := methodOf(p); method != "" {
		return appendAuth(to, method, data)
	}
	return to
}

// talks has the CONNECT being handled decided about by a method.
func (s *shard) talks(g *greet, x *admit.Case, method string) {
	c := g.conn
	x.Policy = g.opts.Policy
	x.Talk = admit.NewTalk(method, authData(s.connect.Properties), func(data []byte) {
		s.post(func() { s.challenge(c, x, data) }) // one a connection
	})
}

// challenge sends what a method asks of a client that has no session yet, and reads its answer.
func (s *shard) challenge(c *wsnet.Conn, x *admit.Case, data []byte) {
	g, ok := c.Attachment.(*greeting)
	if !ok || g.waits != x { // it has ended meanwhile
		return
	}
	c.Release(s.loop, wsnet.TaskFunc(func(*wsnet.Loop) {
		if g.waits != x { // its time was over meanwhile
			return
		}
		g.asked = true
		p := authPacket(codec.ContinueAuthentication, x.Talk.Method, data)
		n := p.Len(codec.V5)
		p.Append(c.Reserve(n)[:0], codec.V5)
		s.count.PacketsOut++
		s.count.BytesOut += int64(n)
		s.debugf("Sending AUTH to %s (rc%d)", x.ClientID, byte(p.Reason))
	}))
}

// challenged reports whether a connection without a session has a challenge to answer.
func challenged(c *wsnet.Conn) bool {
	g, ok := c.Attachment.(*greeting)
	return ok && g.asked
}

// handleReply handles what comes in answer to a challenge: anything but AUTH, or DISCONNECT, is a protocol
// error [MQTT-3.1.2-30].
func (s *shard) handleReply(c *wsnet.Conn, h codec.Header, body []byte) {
	g := c.Attachment.(*greeting)
	t := g.waits.Talk
	g.asked = false
	if h.Type == codec.DISCONNECT {
		c.Close(io.EOF)
		return
	}
	c.Hold()
	var p codec.Auth
	if h.Type != codec.AUTH {
		t.Reply(nil, codec.ProtocolError)
		return
	}
	if err := p.Parse(h.Flags, body, codec.V5); err != nil {
		t.Reply(nil, codec.MalformedPacket)
		return
	}
	s.debugf("Received AUTH from %s", g.waits.ClientID)
	name, _ := p.Properties.Bytes(codec.AuthMethod)
	if p.Reason != codec.ContinueAuthentication || string(name) != t.Method { // [MQTT-4.12.0-3]
		t.Reply(nil, codec.ProtocolError)
		return
	}
	t.Reply(authData(p.Properties), codec.Success)
}

// handleAuth handles AUTH of a client that is connected: it begins to authenticate again, or goes on with it.
func (c *client) handleAuth(h codec.Header, body []byte) error {
	var p codec.Auth
	if err := p.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	c.shard.debugf("Received AUTH from %s", c)
	st := c.stay()
	if st == nil || st.Method == "" {
		return protocolError(h.Type, "the client did not use a method with CONNECT [MQTT-4.12.1-1]")
	}
	name, _ := p.Properties.Bytes(codec.AuthMethod)
	if string(name) != st.Method { // [MQTT-4.12.1-1]
		return &codec.Error{
			Reason: codec.BadAuthenticationMethod, Packet: h.Type, Detail: "another method than with CONNECT",
		}
	}
	r := c.shard.renewals[c]
	switch {
	case p.Reason == codec.ReAuthenticate && r == nil:
		return c.beginRenewal(st.Method, authData(p.Properties), len(body))
	case p.Reason == codec.ContinueAuthentication && r != nil && r.asked:
		r.asked = false
		r.x.Talk.Reply(authData(p.Properties), codec.Success)
		return nil
	}
	return protocolError(h.Type, "out of turn")
}

// beginRenewal has a method decide whether the client is who it was.
func (c *client) beginRenewal(method string, data []byte, size int) error {
	s, conn := c.shard, c.conn
	login := auth.Login{
		ClientID: c.id, Username: c.username(), HasUsername: c.rights().Named,
		Identified: c.rights().Identified, Address: conn.RemoteAddr().Addr(), Local: conn.Local(),
	}
	x := &admit.Case{
		Admission: &Admission{
			ClientID: login.ClientID, Username: login.Username, HasUsername: login.HasUsername,
			Version: c.version, Address: conn.RemoteAddr(), Listener: listener.Of(conn),
		},
		Login: login, Policy: c.listener().Policy, Size: size, Peer: line.Peer(conn),
	}
	x.Talk = admit.NewTalk(method, data, func(data []byte) {
		s.post(func() { c.challenge(x, data) }) // one a client
	})
	x.Answered = func(r codec.Reason) { s.post(func() { c.renewedBy(x, r) }) } // one a client
	if !s.b.desk.Decide(x) {
		return &codec.Error{Reason: codec.ServerBusy, Packet: codec.AUTH, Detail: "too many wait"}
	}
	if s.renewals == nil {
		s.renewals = make(map[*client]*renewal)
	}
	s.renewals[c] = &renewal{x: x}
	return nil
}

// endRenewal gives up what the client has begun, since its connection ends.
func (c *client) endRenewal() {
	if r := c.shard.renewals[c]; r != nil {
		delete(c.shard.renewals, c)
		r.x.Withdraw()
	}
}

// challenge sends what a method asks of a client that authenticates again.
func (c *client) challenge(x *admit.Case, data []byte) {
	r := c.shard.renewals[c]
	if r == nil || r.x != x { // it has ended meanwhile
		return
	}
	r.asked = true
	c.sendAuth(codec.ContinueAuthentication, x.Talk.Method, data)
}

func (c *client) sendAuth(r codec.Reason, method string, data []byte) {
	c.shard.journal.Begin()
	if err := c.send(authPacket(r, method, data)); err != nil {
		c.fail(err)
		return
	}
	c.shard.debugf("Sending AUTH to %s (rc%d)", c, byte(r))
}

// renewedBy ends an exchange: what the client may do, and for how long, is what its new pass says, or its
// connection ends.
func (c *client) renewedBy(x *admit.Case, r codec.Reason) {
	s := c.shard
	s.b.desk.Leave(x)
	if now := s.renewals[c]; now == nil || now.x != x { // it has ended meanwhile
		return
	}
	delete(s.renewals, c)
	rights := *c.rights()
	switch {
	case r != codec.Success:
	case !x.Pass.Renews(c.id, c.username(), rights.Named):
		r, x.Talk.Why = codec.NotAuthorized, "it is another user's"
	case x.As.Stay.Left(s.b.clock.Source.Wall()) <= 0:
		r, x.Talk.Why = codec.NotAuthorized, "it has expired"
	case s.b.denials.Denies(&x.Login, x.Pass.TokenID):
		c.end(codec.AdministrativeAction, EndBanned)
		return
	}
	if r != codec.Success {
		s.tellMethod(x)
		if !r.Legal(codec.DISCONNECT) || r == codec.NormalDisconnection {
			r = codec.NotAuthorized
		}
		c.fail(&codec.Error{Reason: r, Packet: codec.AUTH, Detail: "the client could not authenticate again"})
		return
	}
	rights.Stay = x.As.Stay
	rights.Rights = rights.Entitled(c.listener().Policy, c.id, c.username())
	c.extra().rights = &rights
	c.coverAll()
	c.arm()
	c.sendAuth(codec.Success, x.Talk.Method, x.Talk.Final)
}

// tellMethod logs why a method has not let a client in. What the client sent is not in it.
func (s *shard) tellMethod(x *admit.Case) {
	if x.Talk != nil && x.Talk.Why != "" && s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client %s [%s] is refused by method %s: %s.",
			x.ClientID, x.Peer, x.Talk.Method, x.Talk.Why)
	}
}
