package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/auth/deny"
	"noctule/broker/crash"
	"noctule/broker/grants"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/offer"
	"noctule/broker/reason"
	"noctule/broker/session"
	"noctule/broker/view"
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
	proof  []byte           // Authentication Data of CONNACK; nil: none
}

// dress puts in who a source of logins says that the client is: what it names takes the place of a client id
// that was made.
func (g *greet) dress(as *auth.Identity) {
	if g.as = as; as.ClientID != nil {
		g.id = nil
	}
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
	if g.denied(s) {
		s.grants.Unpin(g.grants)
		s.refuse(g.conn, &s.connect, codec.Banned)
		return
	}
	now := listener.Of(g.conn).Options()
	if !now.Stands(g.opts, g.conn, &s.connect, g.as) {
		s.grants.Unpin(g.grants)
		s.refuse(g.conn, &s.connect, codec.NotAuthorized)
		return
	}
	g.opts = now
	s.welcome(g)
}

// denied reports whether the table denies the client that is let in: it may have come into the table since,
// and a source may have given other names.
func (g *greet) denied(s *shard) bool {
	if s.b.denials.Empty() {
		return false
	}
	p := &s.connect
	q := deny.Query{Client: string(p.ClientID), User: string(p.Username), Address: g.conn.RemoteAddr().Addr()}
	if g.id != nil {
		q.Client = string(g.id)
	}
	if g.as != nil && g.as.Stay != nil {
		q.Token = g.as.Stay.TokenID
	}
	_, denied := s.b.denials.Match(&q)
	return denied
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
	s.count.Connects++
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
	if s.b.denials.Denies(&login, "") {
		s.refuse(c, p, codec.Banned)
		return true
	}
	method := methodOf(p)
	slow := method == "" && l.Slow(&login)
	if method == "" && !slow && !l.Admits(&login) {
		s.refuse(c, p, codec.NotAuthorized)
		return true
	}
	c.Attachment.(*greeting).done = true
	g := &greet{conn: c, id: made, as: as, opts: l}
	if slow || method != "" || len(s.opts.Admitters) > 0 {
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
	if p.Version == codec.V5 || reason.HasCode(r) {
		of := s.offer(listener.Of(c).Options())
		s.answer(c, p.Version, of.Refusal(p.Version, r))
		if s.debug {
			s.debugf("Sending CONNACK to %s (0, %d)", p.ClientID, reason.ConnackCode(p.Version, r))
		}
	}
	err := fmt.Errorf("broker: connection refused: %s", r)
	s.turnDown(c, p.ClientID, reason.RefusalOf(p, r, s.opts.MaxKeepAlive), reason.RefusalText(r), err)
}

// turnDown ends a connection that is no client's, with a line about it.
func (s *shard) turnDown(c *wsnet.Conn, id []byte, why RefusalReason, text string, err error) {
	s.count.Refused[why]++
	if g, ok := c.Attachment.(*greeting); ok {
		g.done = true
	}
	s.logEnd(c, id, text)
	c.Close(err)
}

func (s *shard) answer(c *wsnet.Conn, v codec.Version, ack *codec.Connack) {
	n := ack.Len(v)
	ack.Append(c.Reserve(n)[:0], v)
	s.count.PacketsOut++
	s.count.BytesOut += int64(n)
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
		of := s.offer(l)
		if made, r = of.MakeID(p); r != codec.Success {
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
	if s.b.stopping.Load() {
		return codec.ServerShuttingDown
	}
	if _, ok := p.Properties.Bytes(codec.AuthMethod); ok && !knows(l, methodOf(p)) { // [MQTT-4.12.0-1]
		return codec.BadAuthenticationMethod
	}
	of := s.offer(l)
	return of.Check(p)
}

// offer is what holds for a listener's clients.
func (s *shard) offer(l *ListenerOptions) offer.Offer {
	o := s.opts
	return offer.Offer{
		MaxQoS: l.MaxQoS, Mount: l.MountPoint, NoID: l.AllowZeroLengthClientID, IDPrefix: l.AutoIDPrefix,
		MaxTopicAlias: l.MaxTopicAlias, MaxTopicAliasBroker: l.MaxTopicAliasBroker,
		RetainAvailable: o.RetainAvailable, MaxKeepAlive: o.MaxKeepAlive, MaxInflight: o.MaxInflight,
		MaxPacketSize: o.MaxPacketSize, MessageSizeLimit: o.MessageSizeLimit,
		MaxExpiry: o.PersistentClientExpiration,
	}
}

// makeDurable stores the session of a client that has connected, if there is a store.
func (c *client) makeDurable(present bool) {
	if c.shard.journal == nil {
		return
	}
	if !present && c.expiry > 0 {
		c.SetDurable()
		c.bear()
	}
	c.save()
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
	stored := !p.CleanStart && s.sessions[string(id)] != nil
	if fails && offer.Outlives(p) && !stored {
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
	cl.rename(string(p.Username))
	cl.entitle(g)
	cl.anyUser, cl.anyMount = false, false
	cl.lastSeen = uint32(s.seconds())
	cl.keepAlive = p.KeepAlive
	cl.listed = false
	of := s.offer(g.opts)
	wishes := of.Wishes(p)
	cl.adopt(&wishes)
	if p.HasWill {
		cl.extra().will = newWill(cl, &p.Will)
	}
	cl.makeDurable(present)
	waits := fails && present && cl.Durable() && cl.comesBack()
	s.count.Connections++
	listener.Of(c).Count(cl.version, 1)
	cl.logConnected(p)
	cl.tellEvent(event{Kind: view.EventConnected})
	s.grants.Admit(cl, g.grants)
	ack := of.Accept(p, made, present)
	cl.keepAlive = of.KeepAlive(p)
	if p.Version == codec.V5 {
		ack.Properties = appendProof(cl.grants().AppendProperties(ack.Properties), p, g.proof)
	}
	if err := cl.send(ack); err != nil {
		cl.fail(err)
		return
	}
	if waits {
		cl.wait()
	}
	if s.debug {
		s.debugf("Sending CONNACK to %s (%d, 0)", cl.id, line.Flag(present))
	}
	cl.Resume(wishes.ReceiveMaximum, s.loop.Now(), cl)
	cl.updateFull()
	cl.arm()
	if present {
		cl.resumeReplays()
	}
	cl.replayRetained()
	if !cl.grants().Empty() {
		cl.tell()
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
		cl.kick(codec.SessionTakenOver)
		cl, ok = s.sessions[id]
	}
	if ok && clean {
		cl.endSession() // [MQTT-3.1.2-4]
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
	s.count.Sessions++
	s.b.sessions.Add(1)
	return cl, false
}

// adopt takes over what the client asks for in CONNECT.
func (c *client) adopt(w *offer.Wishes) {
	c.expiry = w.Expiry
	if w.MaxPacket > 0 || w.AliasMax > 0 || w.NoProblem {
		f := c.features()
		f.maxPacket, f.aliasMax, f.noProblem = w.MaxPacket, w.AliasMax, w.NoProblem
	}
}

// memory_limit. Mosquitto counts what it allocates and lets an allocation above the limit fail. Go has no
// allocation that fails, so the broker measures (internal/memguard), and refuses beforehand: near the limit
// clients without a session are turned away, and messages that would have to be kept (QoS 1 and 2, retained
// ones, those for offline sessions) are refused or dropped, and so are subscriptions, until enough has gone.
// QoS 0 to connected clients goes on as long as they read, and who has a session may come and fetch what is
// queued for it: else nothing would ever go.

// greetingsShort is how many connections of one loop may be without a CONNECT while memory is short.
const greetingsShort = 256

// refuseSocket closes a new connection while memory is short and many others have not sent CONNECT.
func (s *shard) refuseSocket(c *wsnet.Conn) bool {
	if !s.b.memory.Short() || s.greeting.Len() < greetingsShort {
		return false
	}
	s.denyMemory(c)
	return true
}

// smallMax is the size, in bytes, of what is taken for a client that has a session while memory is short: a
// will, a topic that gets an alias.
const smallMax = 256

// tooLarge reports that a CONNECT for a session makes it larger: by a will.
func tooLarge(w *codec.Will, cl *client) bool {
	have := int64(smallMax)
	if old := cl.will(); old != nil {
		have += old.m.Held()
	}
	return int64(len(w.Topic)+len(w.Payload)+len(w.Properties)) > have
}

// refuseMemory turns a client away while memory is short: MQTT 5 clients hear why.
func (s *shard) refuseMemory(c *wsnet.Conn, p *codec.Connect) {
	if p.Version == codec.V5 {
		s.answer(c, p.Version, &codec.Connack{Reason: codec.QuotaExceeded})
	}
	s.denyMemory(c)
}

func (s *shard) denyMemory(c *wsnet.Conn) {
	s.count.RefusedMemory++
	s.count.Refused[RefusedMemory]++
	if s.opts.ConnectionMessages {
		s.logf(LevelNotice, "Client connection from %s denied: memory_limit exceeded.", line.Host(c))
	}
	c.Close(errMemory)
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

func (c *client) logConnected(p *codec.Connect) {
	s := c.shard
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
		kind, line.Peer(c.conn), c.id, p.Version, line.Flag(p.CleanStart), p.KeepAlive, user)
	if t := c.conn.TLS(); t != nil {
		version := strings.Replace(tls.VersionName(t.Version), " ", "v", 1)
		s.logf(LevelNotice, "Client %s negotiated %s cipher %s", c.id, version, line.Cipher(t.CipherSuite))
	}
	s.logWill(p)
}

// If a password must be hashed or an Admitter is to be asked, whether a client may connect is decided off the
// loops (broker/admit). Its connection is held meanwhile, and goes on to its session's home loop if it may.

// ask holds the connection of the CONNECT being handled until it is decided about; slow says that the policy
// has to check the password first.
func (s *shard) ask(g *greet, body []byte, login auth.Login, slow bool) {
	c, p := g.conn, &s.connect
	g.packet = bytes.Clone(body)
	if p.HasPassword {
		login.Password = append([]byte{}, p.Password...)
	}
	if p.HasWill {
		login.Will = slices.Concat([]byte(g.opts.MountPoint), p.Will.Topic)
	}
	x := &admit.Case{
		Admission: &Admission{
			ClientID: login.ClientID, Username: login.Username, Password: login.Password,
			HasUsername: login.HasUsername, CleanStart: p.CleanStart, Version: p.Version,
			Address: c.RemoteAddr(), Listener: listener.Of(c),
		},
		Login: login, As: g.as, Naming: g.opts.Naming(), Admitters: s.opts.Admitters, Size: len(body),
		Peer: line.Peer(c),
	}
	if slow {
		x.Policy = g.opts.Policy
	}
	if method := methodOf(p); method != "" {
		s.talks(g, x, method)
	}
	x.Prepare = func(ctx context.Context) (r codec.Reason) {
		if len(x.Grants) > 0 {
			g.grants, r = s.b.plantGrants(ctx, x.Admission)
		}
		return r
	}
	x.Answered = func(r codec.Reason) {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.answered(g, x, r) })) // bounded by MaxAdmissions
	}
	if !s.b.desk.Decide(x) {
		s.refuse(c, p, codec.ServerBusy)
		return
	}
	c.Attachment.(*greeting).waits = x
	c.Hold()
}

// answered goes on with a CONNECT on the loop that read it: it is refused, or moves to its home loop.
func (s *shard) answered(g *greet, x *admit.Case, r codec.Reason) {
	s.b.desk.Leave(x)
	c := g.conn
	s.handling = crash.Handling{Conn: c, Packet: g.packet, Connect: true}
	defer func() { s.handling = crash.Handling{} }()
	home := s.b.home([]byte(x.ClientID))
	at, ok := c.Attachment.(*greeting)
	if !ok { // it has ended meanwhile
		s.b.grants.Drop(home.index, g.grants)
		return
	}
	at.waits, at.asked = nil, false
	if r == codec.Success && s.b.stopping.Load() {
		r = codec.ServerShuttingDown
	}
	if r == codec.Success && x.Pass != nil && x.As.Stay.Left(s.b.clock.Source.Wall()) <= 0 {
		r = codec.NotAuthorized
	}
	if r != codec.Success {
		s.b.grants.Drop(home.index, g.grants)
		p := &s.connect
		if err := p.Parse(0, g.packet, codec.V311); err == nil { // it parsed before
			g.as.Dress(p)
			s.tellMethod(x)
			s.refuse(c, p, r)
		}
		return
	}
	if x.Pass != nil {
		g.dress(x.As)
	}
	if x.Talk != nil {
		g.proof = x.Talk.Final
	}
	c.Attachment = nil
	if !c.Release(home.loop, g) {
		s.b.grants.Drop(home.index, g.grants)
	}
}

// pinned is a set of a client that connects.
type pinned = grants.Pinned[*client]

// plantGrants makes the sets of a CONNECT ready on the loop of its session.
func (b *Broker) plantGrants(ctx context.Context, a *Admission) (list []pinned, why codec.Reason) {
	o := a.Listener.Options()
	can := &rights{Rights: auth.Rights{MountPoint: o.MountPoint}}
	if o.Policy != nil {
		can.Permissions = o.Policy.Permissions(a.ClientID, a.Username, a.HasUsername)
	}
	bounds := can.bounds()
	bounds.MaxQoS = o.MaxQoS
	list, ok := b.grants.Plant(ctx, b.home([]byte(a.ClientID)).index, a.Grants, bounds)
	if !ok {
		return list, codec.ServerUnavailable
	}
	return list, codec.Success
}
