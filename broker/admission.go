package broker

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/wsnet"
)

// A CONNECT that is acceptable by itself may still need an answer that takes time: a password to be hashed, a
// list of topics to be fetched. Then its connection is held (wsnet.Conn.Hold), the question is asked off the
// loops, and the connection goes on to its session's home loop with the answer. Their number is bounded; a
// broker that asks nobody takes the short way and pays nothing.

// Admitter answers for a CONNECT. Admit is called on a goroutine of its own and may block until ctx is done,
// which is when the client has gone or AdmissionTimeout has passed. Several calls run at once.
type Admitter interface {
	// Admit returns Success, or the reason for which the client is refused; it may set a's results.
	Admit(ctx context.Context, a *Admission) codec.Reason
}

// Admission is a CONNECT that waits for an answer.
type Admission struct {
	// Set by the broker, then read-only:
	ClientID    string
	Username    string
	Password    []byte // nil without a password; not to be kept
	HasUsername bool
	CleanStart  bool
	Version     codec.Version
	Address     netip.AddrPort // of the client; zero for unix sockets
	Listener    *Listener

	// Set by Admitters: subscriptions that the client is to have before CONNACK leaves. What the session has
	// of other origins that are PerConnect is revoked.
	Grants []behalf.Grant

	pinned []pinned // the grants' sets on the session's home loop
	conn   *wsnet.Conn
	packet []byte // CONNECT without its fixed header
	made   []byte // a client id made by the broker, if the client sent none
	as     *persona
	opts   *ListenerOptions
	ask    []Admitter
	hash   bool // the policy of opts must check the password first
	login  auth.Login
	cancel context.CancelFunc
}

// AdmissionTimeout bounds the time in which an Admitter answers.
const AdmissionTimeout = 20 * time.Second

// admissionsMax is how many answers may be awaited at once; clients above it hear that the server is busy.
const admissionsMax = 4096

// ask holds the connection of a CONNECT, which p is, and asks the policy of a, if it has one, and the
// Admitters.
func (s *shard) ask(c *wsnet.Conn, p *codec.Connect, body []byte, a *Admission, login auth.Login) {
	if s.b.admissions.Add(1) > admissionsMax {
		s.b.admissions.Add(-1)
		s.refuse(c, p, codec.ServerBusy)
		return
	}
	a.ClientID, a.Username, a.HasUsername = login.ClientID, login.Username, login.HasUsername
	a.CleanStart, a.Version, a.Address = p.CleanStart, p.Version, c.RemoteAddr()
	a.conn, a.packet = c, bytes.Clone(body)
	if p.HasPassword {
		a.Password = append([]byte{}, p.Password...)
	}
	login.Password = a.Password
	a.login = login
	ctx, cancel := context.WithTimeout(context.Background(), AdmissionTimeout)
	a.cancel = cancel
	c.Attachment.(*greeting).admission = a
	c.Hold()
	s.b.asked.Go(func() { // Shutdown waits
		r := s.b.admit(ctx, a)
		if r == codec.Success && len(a.Grants) > 0 {
			r = s.b.plantGrants(ctx, a)
		}
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.answered(a, r) })) // bounded by admissionsMax
	})
}

// admit asks the policy and each Admitter, until one refuses.
func (b *Broker) admit(ctx context.Context, a *Admission) codec.Reason {
	if a.hash {
		if r := b.checkPassword(ctx, a); r != codec.Success {
			return r
		}
	}
	for _, ad := range a.ask {
		if r := ad.Admit(ctx, a); r != codec.Success {
			return r
		}
	}
	return codec.Success
}

// checkPassword has the pool ask the policy, which hashes.
func (b *Broker) checkPassword(ctx context.Context, a *Admission) codec.Reason {
	return b.hash(ctx, a.opts.Policy, &a.login, 2*len(a.packet)+len(a.Password))
}

// CheckLogin asks a policy about a login that has not come with a CONNECT, such as one of the HTTP API. If
// that takes hashing, it waits its turn among the clients' logins, slowed down with them after failures of
// its address. Besides Success and NotAuthorized the answer is ServerBusy, if too many wait or ctx is done,
// or ServerShuttingDown. Any goroutine but a loop's may call it.
func (b *Broker) CheckLogin(ctx context.Context, p *auth.Policy, login auth.Login) codec.Reason {
	if !p.Slow(&login) {
		if p.Authenticate(&login) {
			return codec.Success
		}
		return codec.NotAuthorized
	}
	return b.hash(ctx, p, &login, len(login.Username)+len(login.Password))
}

// hash has the pool ask a policy, and waits. The login takes so many bytes meanwhile.
func (b *Broker) hash(ctx context.Context, p *auth.Policy, login *auth.Login, size int) codec.Reason {
	verdict := make(chan codec.Reason, 1)
	accepted := b.hashing.Submit(auth.Job{
		Address: login.Address,
		Bytes:   size,
		Work: func() (failed bool) {
			switch {
			case ctx.Err() != nil: // nobody waits any more
				return false
			case p.Authenticate(login):
				verdict <- codec.Success
				return false
			}
			verdict <- codec.NotAuthorized
			return true
		},
		Refuse: func() { verdict <- codec.ServerShuttingDown },
	})
	if !accepted {
		return codec.ServerBusy
	}
	select {
	case r := <-verdict:
		return r
	case <-ctx.Done():
		return codec.ServerBusy
	}
}

// answered goes on with a CONNECT on the loop that read it: it is refused, or moves to its home loop.
func (s *shard) answered(a *Admission, r codec.Reason) {
	s.b.admissions.Add(-1)
	a.cancel()
	home := s.b.home([]byte(a.ClientID))
	g, ok := a.conn.Attachment.(*greeting)
	if !ok { // it has ended meanwhile
		home.dropPins(a.pinned)
		return
	}
	g.admission = nil
	if r == codec.Success && s.b.stopping.Load() {
		r = codec.ServerShuttingDown
	}
	if r != codec.Success {
		home.dropPins(a.pinned)
		p := &s.connect
		if err := p.Parse(0, a.packet, codec.V311); err == nil { // it parsed before
			a.as.dress(p)
			s.refuse(a.conn, p, r)
		}
		return
	}
	a.conn.Attachment = nil
	moved := a.conn.Release(home.loop, &greet{
		conn: a.conn, packet: a.packet, id: a.made, as: a.as, opts: a.opts, grants: a.pinned,
	})
	if !moved {
		home.dropPins(a.pinned)
	}
}
