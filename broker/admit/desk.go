// Package admit has what takes time decided off the event loops: about a CONNECT whose password must be
// hashed or about which others are asked (Admitter), about logins that come another way, and about packets
// for which an auth.Asker has to be asked.
//
// What waits is bounded in number and bytes, and fair between addresses. Who waits is not its matter: it is
// handed a case and calls back once with the answer. A broker that asks nobody takes the short way and pays
// nothing.
package admit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/listener"
	"noctule/codec"
	"noctule/internal/places"
)

// Admitter answers for a CONNECT. Admit is called on a goroutine of its own and may block until ctx is done,
// which is when the client has gone or Timeout has passed. Several calls run at once.
type Admitter interface {
	// Admit returns Success, or the reason for which the client is refused; it may set a's results.
	Admit(ctx context.Context, a *Admission) codec.Reason
}

// Admission is a CONNECT that waits for an answer.
type Admission struct {
	// Set by the broker and by the check of the login, then read-only:
	ClientID    string
	Username    string
	Password    []byte // nil without a password; not to be kept
	HasUsername bool
	CleanStart  bool
	Version     codec.Version
	Address     netip.AddrPort // of the client; zero for unix sockets
	Listener    *listener.Listener
	// Pass is what a source of logins has found out, whose names are those above; nil: none has.
	Pass *auth.Pass

	// Set by Admitters: subscriptions that the client is to have before CONNACK leaves. What the session has
	// of other origins that are PerConnect is revoked.
	Grants []behalf.Grant
}

// Timeout bounds the time in which Admitters answer about one CONNECT.
const Timeout = 20 * time.Second

// Bounds of what waits.
const (
	casesMax  = 16384    // the default of Config.Max; one that waits for a webservice takes 11 KB
	caseBytes = 16 << 10 // what one counts for at least: Max times as much may wait
)

// Config is what a Desk works by.
type Config struct {
	Max     int             // CONNECTs that may wait; 0 or less means 16 384
	Hashing auth.PoolConfig // of the pool that checks passwords
	Now     func() int64    // milliseconds; for the pools

	// Go runs a function on a goroutine that somebody waits for at the end.
	Go func(func())
	// Guard is deferred by whatever works for one client: it tells of a panic, with the words that it is
	// given, and goes on with it.
	Guard func(what func() string)
}

// Desk decides. Its methods may be called from any goroutine.
type Desk struct {
	// Set by New, then read-only:
	cfg     Config
	hashing *auth.Pool // checks passwords
	asking  *auth.Pool // asks Askers

	mu struct {
		sync.Mutex
		waiting *places.Table[*Case]
		counts  Stats
	}
}

// Stats tell of CONNECTs that wait for an answer.
type Stats struct {
	Waiting int   // now
	Refused int64 // because their address, or all together, had too many waiting; since the start
	GaveWay int64 // to those of others; since the start
}

// New makes a desk. It has no goroutine while nothing waits.
func New(cfg Config) *Desk {
	if cfg.Max <= 0 {
		cfg.Max = casesMax
	}
	cfg.Hashing.Now = cfg.Now
	d := &Desk{
		cfg: cfg, hashing: auth.NewPool(cfg.Hashing),
		asking: auth.NewPool(auth.PoolConfig{Workers: askWorkers, FailureBurst: -1, Now: cfg.Now}),
	}
	d.mu.waiting = places.New[*Case](places.Shares(int64(cfg.Max)*caseBytes, 8), places.Newest)
	return d
}

// Case is a CONNECT that is to be decided, and how.
type Case struct {
	*Admission

	Login  auth.Login   // what it presents; its password lasts as long as the case
	Policy *auth.Policy // checks the login, which takes time; nil if that is not needed
	Naming auth.Naming  // how the client gets its names
	// As is who the client is where not CONNECT alone says it; what a Pass says is put into another one.
	As *auth.Identity
	// Talk is enhanced authentication, in place of a password; nil: the client does not use it.
	Talk      *Talk
	Admitters []Admitter // are asked behind it, in order, until one refuses
	Size      int        // bytes of the CONNECT, which is kept meanwhile
	Peer      string     // the client's address, for the report of a panic

	// Prepare, when all have said yes, makes ready what they have given; its reason is the answer.
	Prepare func(ctx context.Context) codec.Reason
	// Answered takes the answer, once, on another goroutine. The case keeps its place until Leave.
	Answered func(codec.Reason)

	cancel context.CancelCauseFunc
	place  places.Place[*Case]
}

// errGaveWay is why a case ends whose place another one needs more.
var errGaveWay = errors.New("admit: the place went to another client")

// Decide begins to decide a case. False means that too many wait: nothing of it will be called.
func (d *Desk) Decide(c *Case) bool {
	ctx, cancel := context.WithCancelCause(context.Background())
	c.cancel = cancel
	if !d.enter(c) {
		cancel(nil)
		return false
	}
	d.cfg.Go(func() {
		defer d.cfg.Guard(func() string { return deciding(c.ClientID, c.Peer) })
		ctx, stop := context.WithTimeout(ctx, Timeout)
		defer stop()
		r := d.ask(ctx, c)
		if r == codec.Success && c.Prepare != nil {
			r = c.Prepare(ctx)
		}
		if r != codec.Success && errors.Is(context.Cause(ctx), errGaveWay) {
			r = codec.ServerBusy
		}
		c.Answered(r)
	})
	return true
}

// Withdraw says that the client has gone. The case is answered all the same.
func (c *Case) Withdraw() { c.cancel(nil) }

// Leave gives the place of a case up that has been answered.
func (d *Desk) Leave(c *Case) {
	d.mu.Lock()
	d.mu.waiting.Leave(&c.place)
	d.mu.Unlock()
	c.cancel(nil)
}

// enter takes a place; false if there is none. Who gives way for it is on its way out.
func (d *Desk) enter(c *Case) bool {
	d.mu.Lock()
	c.place.Value = c
	from := places.Peer{Addr: c.Address.Addr(), Trusted: c.Login.Local}
	gone, verdict := d.mu.waiting.Take(&c.place, from, max(caseBytes, 2*int64(c.Size)))
	d.mu.counts.GaveWay += int64(len(gone))
	if verdict != places.Taken {
		d.mu.counts.Refused++
	}
	d.mu.Unlock()
	for _, o := range gone {
		o.Value.cancel(errGaveWay)
	}
	return verdict == places.Taken
}

// Stats are the counts.
func (d *Desk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.counts.Waiting = d.mu.waiting.Len()
	return d.mu.counts
}

// Hashing is what checking passwords took.
func (d *Desk) Hashing() auth.PoolStats { return d.hashing.Stats() }

// ask asks the policy and each Admitter, until one refuses.
func (d *Desk) ask(ctx context.Context, c *Case) codec.Reason {
	if r := d.login(ctx, c); r != codec.Success {
		return r
	}
	for _, ad := range c.Admitters {
		if r := ad.Admit(ctx, c.Admission); r != codec.Success {
			return r
		}
	}
	return codec.Success
}

// login has the client's method, or its policy, say who it is.
func (d *Desk) login(ctx context.Context, c *Case) (r codec.Reason) {
	var pass *auth.Pass
	method := ""
	switch {
	case c.Talk != nil:
		method = c.Talk.Method
		pass, r = d.talk(ctx, c)
	case c.Policy != nil:
		pass, r = d.admit(ctx, c.Policy, &c.Login, 2*c.Size+len(c.Password))
	}
	if r != codec.Success {
		return r
	}
	return c.take(pass, method)
}

// take puts into a case what a source of logins, or a method, has found out; pass may be nil.
func (c *Case) take(pass *auth.Pass, method string) codec.Reason {
	as, r := c.Naming.Admitted(c.As, pass, method)
	if r != codec.Success || pass == nil {
		return r
	}
	c.As, c.Pass = as, pass
	if as.ClientID != nil {
		c.ClientID = string(as.ClientID)
	}
	if as.Username != nil {
		c.Username, c.HasUsername = string(as.Username), true
	}
	return codec.Success
}

// admit asks a policy about a login. What hashes does so in the pool: all of the policy, or, where others
// are asked as well, each source that does.
func (d *Desk) admit(
	ctx context.Context, p *auth.Policy, login *auth.Login, size int,
) (*auth.Pass, codec.Reason) {
	if !p.Admits() {
		return nil, d.hash(ctx, login, size, func() bool { return p.Authenticate(login) })
	}
	return p.Admit(auth.WithComputer(ctx, d.compute), login)
}

// compute is how auth.Compute gets its work done: by the pool, among the logins of all.
func (d *Desk) compute(ctx context.Context, login *auth.Login, work func() (failed bool)) codec.Reason {
	r := d.hash(ctx, login, len(login.Username)+len(login.Password), func() bool { return !work() })
	if r == codec.NotAuthorized { // it has been done
		return codec.Success
	}
	return r
}

// CheckLogin asks a policy about a login that has not come with a CONNECT, such as one of the HTTP API. If
// that takes hashing, it waits its turn among the clients' logins, slowed down with them after failures of
// its address. Besides Success and NotAuthorized the answer is ServerBusy, if too many wait or ctx is done,
// or ServerShuttingDown. Any goroutine but a loop's may call it.
func (d *Desk) CheckLogin(ctx context.Context, p *auth.Policy, login auth.Login) codec.Reason {
	if !p.Slow(&login) {
		if p.Authenticate(&login) {
			return codec.Success
		}
		return codec.NotAuthorized
	}
	_, r := d.admit(ctx, p, &login, len(login.Username)+len(login.Password))
	return r
}

// hash has the pool ask whether a login is good, and waits. The login takes so many bytes meanwhile.
func (d *Desk) hash(ctx context.Context, login *auth.Login, size int, good func() bool) codec.Reason {
	verdict := make(chan codec.Reason, 1)
	accepted := d.hashing.Submit(auth.Job{
		Address: login.Address,
		Trusted: login.Local,
		Bytes:   size,
		Work: func() (failed bool) {
			defer d.cfg.Guard(func() string { return deciding(login.ClientID, login.Address.String()) })
			switch {
			case ctx.Err() != nil: // nobody waits any more
				return false
			case good():
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

// Close refuses all that waits for the pools, and all that comes, and returns when they have no goroutine any
// more, or with the error of ctx.
func (d *Desk) Close(ctx context.Context) error {
	return errors.Join(d.hashing.Close(ctx), d.asking.Close(ctx))
}

// deciding says what is being done, for the report of a panic.
func deciding(clientID, address string) string {
	return fmt.Sprintf("while deciding about CONNECT of client %q [%s]", clientID, address)
}
