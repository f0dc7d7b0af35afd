package broker

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/internal/places"
	"noctule/wsnet"
)

// A CONNECT that is acceptable by itself may still need an answer that takes time: a password to be hashed, a
// list of topics to be fetched. Then its connection is held (wsnet.Conn.Hold), the question is asked off the
// loops, and the connection goes on to its session's home loop with the answer. What waits is bounded in
// number and bytes, and fair between addresses; a broker that asks nobody takes the short way and pays
// nothing.

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
	as     *auth.Identity
	opts   *ListenerOptions
	ask    []Admitter
	hash   bool // the policy of opts must check the password first
	login  auth.Login
	cancel context.CancelCauseFunc
	place  places.Place[*Admission]
}

// AdmissionTimeout bounds the time in which an Admitter answers.
const AdmissionTimeout = 20 * time.Second

// admissionsMax is the default of Options.MaxAdmissions.
const admissionsMax = 4096

// admissionBytes is what a CONNECT that waits counts for at least: MaxAdmissions times as much may wait.
const admissionBytes = 16 << 10

// admissions are the places of CONNECTs that wait for an answer.
type admissions struct {
	mu     sync.Mutex
	table  *places.Table[*Admission]
	counts AdmissionStats
}

// AdmissionStats tell of CONNECTs that wait for an answer.
type AdmissionStats struct {
	Waiting int   // now
	Refused int64 // because their address, or all together, had too many waiting; since the start
	GaveWay int64 // to those of others; since the start
}

// errGaveWay is why an Admission ends whose place another one needs more.
var errGaveWay = errors.New("broker: the place went to another client")

func (x *admissions) open(limit int) {
	if limit <= 0 {
		limit = admissionsMax
	}
	x.table = places.New[*Admission](places.Shares(int64(limit)*admissionBytes, 8), places.Newest)
}

// enter takes a place for a; false if there is none. Who gives way for it is on its way out.
func (x *admissions) enter(a *Admission, local bool) bool {
	x.mu.Lock()
	a.place.Value = a
	from := places.Peer{Addr: a.Address.Addr(), Trusted: local}
	gone, verdict := x.table.Take(&a.place, from, max(admissionBytes, 2*int64(len(a.packet))))
	x.counts.GaveWay += int64(len(gone))
	if verdict != places.Taken {
		x.counts.Refused++
	}
	x.mu.Unlock()
	for _, o := range gone {
		o.Value.cancel(errGaveWay)
	}
	return verdict == places.Taken
}

// leave gives the place of a up.
func (x *admissions) leave(a *Admission) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.table.Leave(&a.place)
}

func (x *admissions) stats() AdmissionStats {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counts.Waiting = x.table.Len()
	return x.counts
}

// ask holds the connection of a CONNECT, which p is, and asks the policy of a, if it has one, and the
// Admitters.
func (s *shard) ask(c *wsnet.Conn, p *codec.Connect, body []byte, a *Admission, login auth.Login) {
	a.ClientID, a.Username, a.HasUsername = login.ClientID, login.Username, login.HasUsername
	a.CleanStart, a.Version, a.Address = p.CleanStart, p.Version, c.RemoteAddr()
	a.conn, a.packet = c, bytes.Clone(body)
	ctx, cancel := context.WithCancelCause(context.Background())
	a.cancel = cancel
	if !s.b.admissions.enter(a, login.Local) {
		cancel(nil)
		s.refuse(c, p, codec.ServerBusy)
		return
	}
	if p.HasPassword {
		a.Password = append([]byte{}, p.Password...)
	}
	login.Password = a.Password
	a.login = login
	c.Attachment.(*greeting).admission = a
	c.Hold()
	peer := peer(c)
	s.b.asked.Go(func() { // Shutdown waits
		defer s.b.guard(func() string { return askingText(a.ClientID, peer) })
		ctx, stop := context.WithTimeout(ctx, AdmissionTimeout)
		defer stop()
		r := s.b.admit(ctx, a)
		if r == codec.Success && len(a.Grants) > 0 {
			r = s.b.plantGrants(ctx, a)
		}
		if r != codec.Success && errors.Is(context.Cause(ctx), errGaveWay) {
			r = codec.ServerBusy
		}
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.answered(a, r) })) // bounded by MaxAdmissions
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
		Trusted: login.Local,
		Bytes:   size,
		Work: func() (failed bool) {
			defer b.guard(func() string { return askingText(login.ClientID, login.Address.String()) })
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
		Refuse: func(r codec.Reason) { verdict <- r },
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
	s.b.admissions.leave(a)
	a.cancel(nil)
	s.handling = handling{conn: a.conn, packet: a.packet, connect: true}
	defer s.handled()
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
			a.as.Dress(p)
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
