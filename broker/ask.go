package broker

import (
	"bytes"
	"context"
	"errors"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/crash"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/codec"
	"noctule/wsnet"
)

// What somebody else decides, who takes time (broker/admit): whether a client may connect, if its password
// must be hashed or an Admitter is to be asked, and what it may do, if its rules have an auth.Asker.
// Meanwhile its connection is held (wsnet.Conn.Hold) and all others go on. A connection that may come in goes
// on to its session's home loop. A packet is left unread, and read again with the answers, which are there
// for it and for nothing else; without an answer the connection ends, so that nothing is acknowledged that
// was not passed on: the client can come again.

// openDesk makes where it is decided.
func (b *Broker) openDesk() {
	b.desk = admit.New(admit.Config{
		Max: b.opts.MaxAdmissions, Hashing: b.opts.Hashing, Go: b.asked.Go, Guard: b.crash.Guard,
		Now: func() int64 { return now().Sub(b.started).Milliseconds() },
	})
}

// ask holds the connection of the CONNECT being handled until it is decided about; slow says that the policy
// has to check the password first.
func (s *shard) ask(g *greet, body []byte, login auth.Login, slow bool) {
	c, p := g.conn, &s.connect
	g.packet = bytes.Clone(body)
	if p.HasPassword {
		login.Password = append([]byte{}, p.Password...)
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
	at.waits = nil
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
			s.refuse(c, p, r)
		}
		return
	}
	if x.Pass != nil {
		g.dress(x.As)
	}
	c.Attachment = nil
	if !c.Release(home.loop, g) {
		s.b.grants.Drop(home.index, g.grants)
	}
}

// CheckLogin asks a policy about a login that has not come with a CONNECT: see admit.Desk. Who is banned may
// not, either. Any goroutine but
// a loop's may call it.
func (b *Broker) CheckLogin(ctx context.Context, p *auth.Policy, login auth.Login) codec.Reason {
	if b.denies(&login, "") {
		return codec.NotAuthorized
	}
	return b.desk.CheckLogin(ctx, p, login)
}

// errAsked says that a packet waits for an answer, and comes again.
var errAsked = errors.New("broker: somebody has to be asked")

// heard is what was said about the client's packet that has come again; nil if nothing was.
func (c *client) heard() *admit.Answers {
	if c.rare == nil {
		return nil
	}
	return c.rare.answers
}

// asks reports whether the client's rules may have to ask somebody.
func (c *client) asks() bool {
	r := c.rights()
	return r != nil && r.Permissions.Asks()
}

// mustAsk, for a client that asks, reports whether something of a packet is for somebody else to say, which
// has not been asked yet. Then the connection is held, and the packet is to be left unread.
func (c *client) mustAsk(a auth.Access, topics ...[]byte) bool {
	q := c.heard().Ask(c.rights().Permissions, a, topics...)
	if q == nil {
		return false
	}
	conn := c.conn
	conn.Hold()
	q.ClientID, q.Peer, q.Address, q.Trusted = c.id, line.Peer(conn), conn.RemoteAddr().Addr(), conn.Local()
	c.shard.b.desk.Resolve(q, func(r codec.Reason) {
		c.shard.post(func() { c.goOn(conn, q, r) }) // one a connection
	})
	return true
}

// goOn lets a connection go on whose packet was asked about.
func (c *client) goOn(conn *wsnet.Conn, q *admit.Question, r codec.Reason) {
	s := c.shard
	if c.conn != conn { // it has ended meanwhile
		return
	}
	if r != codec.Success {
		c.fail(&codec.Error{Reason: r, Detail: "nobody says what the client may do"})
		return
	}
	conn.Release(s.loop, wsnet.TaskFunc(func(*wsnet.Loop) {
		c.lastSeen = uint32(s.seconds())
		x := c.extra()
		x.answers = q.Answers(x.answers)
		s.told = c
	}))
}

// forgetAnswers ends the packet that has come again.
func (s *shard) forgetAnswers() {
	cl := s.told
	s.told = nil
	if cl.rare != nil {
		cl.rare.answers = nil
		cl.settle()
	}
}

// filterNames are the filters of a SUBSCRIBE as the broker knows them.
func filterNames(cl *client, p *codec.Subscribe) [][]byte {
	list := make([][]byte, len(p.Filters))
	for i := range p.Filters {
		list[i] = cl.mounted(p.Filters[i].Name)
	}
	return list
}

// mountedNames are those of an UNSUBSCRIBE.
func mountedNames(cl *client, names [][]byte) [][]byte {
	list := make([][]byte, len(names))
	for i, name := range names {
		list[i] = cl.mounted(name)
	}
	return list
}
