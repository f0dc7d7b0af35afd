// Package presub subscribes clients on their behalf: it takes requests through several doors, asks providers
// for the lists of clients that connect, and tells the broker, whose narrow door is behalf.Broker.
//
// All requests pass through Engine.Do, which decides whether they are allowed, names their origin, and writes
// the audit line, whatever door they came in by.
package presub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec/im"
)

// Door is where a request came in.
type Door string

// The doors.
const (
	MQTT    Door = "mqtt"    // $CONTROL/presub/v1
	HTTP    Door = "http"    // the admin listener
	Connect Door = "connect" // the topic that says who has logged in
	Go      Door = "go"      // the program itself

	AtConnect Door = "admission" // no request: a list that a provider has for who connects
	ByTime    Door = "expiry"    // no request either: what has ended by itself
)

// Caller is who asks.
type Caller struct {
	Door      Door
	Principal string
	// Allowed says that the door has found the right to ask: a token, an access rule. Nobody has it by
	// default.
	Allowed bool
	// Tenants, when not nil, are those whose clients alone the caller may ask for and see.
	Tenants []string
	// Quiet leaves the audit line of each entry out: the door writes lines for the whole, with Audit.
	Quiet bool
}

// Engine answers requests and CONNECTs. It may be used from any goroutine.
type Engine struct {
	// Set by New, then read-only:
	broker  behalf.Broker
	log     *slog.Logger
	sets    *interner
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	logins  *lane          // messages of the connect topic, by topic
	entries *lane          // messages of the control topic, by principal
	answers *lane          // what is only to be published
	workers sync.WaitGroup // of Go
	metrics *metrics
	unsent  *lookup.Digest // answers
	kept    *kept
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // by tests; nil: the network

	denials *lru.Cache[string, []denial] // by client id
	authors *lru.Cache[string, string]   // usernames, by topic and payload of logins that are on their way

	// Set by Attach, then read-only:
	b   *broker.Broker
	out publisher // of answers: b

	// Owned by the goroutine that calls Use, Listen and Close:
	tap    *broker.Tap
	walked chan struct{} // closed when the last walk of reselect has ended; nil: there was none

	// Atomic:
	tapped atomic.Pointer[string] // the connect topic that tap is for, "" for none

	// Atomic; changed with mu held:
	rules atomic.Pointer[rules]

	mu struct {
		sync.Mutex
		origins map[originKey]*behalf.Origin // of principals
		uses    map[*provider]int            // being in force counts as one; without uses it is closed
	}
}

// originKey is an origin of a principal.
type originKey struct {
	name  string
	bound bool // to tenants
}

// originsMax bounds the table of principals' origins.
const originsMax = 10000

// New makes an engine for a broker that has it among its features.
func New(cfg *Config, log *slog.Logger) (*Engine, error) {
	e := &Engine{
		log: log, sets: newInterner(), metrics: newMetrics(), kept: newKept(),
	}
	e.unsent = lookup.NewDigest(e.tell)
	e.denials, _ = lru.New[string, []denial](denialsMax) // it fails for sizes below 1 only
	e.authors, _ = lru.New[string, string](authorsMax)
	e.tapped.Store(new(string))
	e.mu.origins = make(map[originKey]*behalf.Origin)
	e.mu.uses = make(map[*provider]int)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for at, limits := range map[**lane]laneLimits{
		&e.logins:  {workers: 64, waiting: 131072, bytes: 64 << 20},
		&e.entries: {workers: 32, waiting: 8192, bytes: 64 << 20},
		&e.answers: {workers: 8, waiting: 262144, bytes: 128 << 20},
	} {
		*at = newLane(e.ctx, limits, e.metrics.overload)
	}
	e.rules.Store(&rules{cfg: &Config{}})
	next, err := e.Prepare(cfg)
	if err != nil {
		e.cancel()
		return nil, err
	}
	e.put(next)
	e.warn(next.next)
	return e, nil
}

// Close ends what is under way and waits for it.
func (e *Engine) Close() {
	e.silence()
	e.cancel()
	for _, l := range []*lane{e.logins, e.entries, e.answers} {
		l.close()
	}
	e.workers.Wait()
	e.unsent.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := range e.mu.uses { // those of lookups that nobody came to as well
		p.close()
	}
	clear(e.mu.uses)
}

// tell writes a line of which there may be many.
func (e *Engine) tell(line string, more int) {
	if more > 0 {
		line += fmt.Sprintf(" (and %d more in %v)", more, lookup.DigestEvery)
	}
	e.log.Warn(line + ".")
}

// Go runs f on a goroutine that Close waits for; its context ends with Close.
func (e *Engine) Go(f func(context.Context)) { e.workers.Go(func() { f(e.ctx) }) }

// Errors of Do and Move.
var (
	ErrNotAllowed = errors.New("presub: no right to subscribe on behalf of others")
	ErrOrigin     = errors.New("presub: not a name that this principal may use as origin")
	ErrNotDone    = errors.New("presub: the broker has not done it, or not all of it") // of Move
)

// Do answers a batch, whose entries it checks as CheckEntries does. With an error nothing has been done.
// later, when not nil, hears of entries that were pending; it must not block.
func (e *Engine) Do(ctx context.Context, c Caller, list []Entry, later func(Answer)) ([]Answer, error) {
	if !c.Allowed {
		e.audit(c, "denied", "entries", len(list))
		e.metrics.requests.WithLabelValues(string(c.Door), "denied").Inc()
		return nil, ErrNotAllowed
	}
	if err := CheckEntries(list); err != nil {
		e.refuse(c, err)
		return nil, err
	}
	origins := make([]*behalf.Origin, len(list))
	for i := range list {
		var err error
		if origins[i], err = e.originOf(c, list[i].Origin); err != nil {
			e.audit(c, "refused", "entry", i+1, "reason", err.Error())
			e.metrics.requests.WithLabelValues(string(c.Door), "refused").Inc()
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	var out []Answer
	b := &asking{c: c, later: later, begin: e.begin()}
	for i := range list {
		b.at = i
		out = append(out, e.entry(ctx, b, &list[i], origins[i])...)
	}
	b.settle(ctx, out)
	return out, nil
}

// asking is a batch on its way.
type asking struct {
	c        Caller
	later    func(Answer)
	at       int   // the place of the entry that is worked on
	begin    int64 // what ends is counted from then
	promises behalf.Promises
}

// settle waits until what the batch has changed is stored; if that takes too long, nothing is promised.
func (b *asking) settle(ctx context.Context, list []Answer) {
	if b.promises.Wait(ctx) {
		return
	}
	for i := range list {
		if a := &list[i]; a.Code == 0 {
			busy := answerOf(&behalf.Answer{ClientID: a.ClientID, Code: behalf.Busy}, nil)
			busy.Username, busy.RequestID, busy.Entry = a.Username, a.RequestID, a.Entry
			*a = busy
		}
	}
}

// entry answers one entry.
func (e *Engine) entry(ctx context.Context, b *asking, x *Entry, o *behalf.Origin) []Answer {
	c, later, at := b.c, b.later, b.at
	action, _ := actionOf(x.Action)
	set, bad := setOf(e.timed(x.Topics, x.ExpiresIn, b.begin))
	username, code := e.within(ctx, &c, x)
	r := &behalf.Request{
		ClientID: x.ClientID, Username: username, Action: action, Origin: o, Topics: set,
		IfRevision: x.IfRevision, Promises: &b.promises,
	}
	r.Wait, r.Hold = x.wait(time.Duration(e.config().Pending.DefaultWait))
	order := orderOf(x.Topics)
	r.Later = func(a behalf.Answer) { // on an event loop
		done := e.answers.submit(c.Principal, 128+96*len(a.Results), func(context.Context) {
			out := answerOf(&a, nil)
			e.ended(c, o.Name, &out)
			if later == nil {
				return
			}
			order.sort(out.Results)
			out.RequestID, out.Entry = x.RequestID, at
			later(out)
		})
		if !done {
			e.lost(c, "the second answer about client "+a.ClientID)
		}
	}
	var answers []behalf.Answer
	switch {
	case code != behalf.Done:
		bad, answers = nil, []behalf.Answer{{ClientID: x.ClientID, Code: code}}
	case set.Len() == 0 && len(bad) > 0:
		answers = []behalf.Answer{{ClientID: x.ClientID}}
	default:
		answers = e.broker.Apply(ctx, r)
	}
	if len(answers) == 0 {
		answers = []behalf.Answer{{Code: behalf.NoSession}}
	}
	out := make([]Answer, 0, len(answers))
	for i := range answers {
		a := answerOf(&answers[i], bad)
		order.sort(a.Results)
		if a.ClientID == "" {
			a.Username = x.Username
		}
		a.RequestID, a.Entry = x.RequestID, at
		out = append(out, a)
	}
	e.record(c, x, o, out, max(0, set.FirstEnd()-b.begin))
	return out
}

// record counts and logs an entry that was answered. The first of its topics ends in so many seconds, 0 for
// none.
func (e *Engine) record(c Caller, x *Entry, o *behalf.Origin, list []Answer, ends int64) {
	var revision uint64
	for i := range list {
		if list[i].Code != 0 {
			e.metrics.requests.WithLabelValues(string(c.Door), "failed").Inc()
		} else {
			e.metrics.requests.WithLabelValues(string(c.Door), "done").Inc()
		}
		revision = max(revision, list[i].Revision)
		for _, r := range list[i].Results {
			e.metrics.results.WithLabelValues(r.State, fmt.Sprintf("0x%02x", r.Code)).Inc()
		}
	}
	if c.Quiet {
		return
	}
	var expires string
	if ends > 0 {
		expires = (time.Duration(ends) * time.Second).String()
	}
	e.audit(c, x.Action, "clientid", x.ClientID, "username", x.Username, "origin", o.Name,
		"topics", len(x.Topics), "expires_in", expires, "sessions", len(list), "revision", revision,
		"outcome", outcome(list))
}

// outcome sums answers up: "2 new, 1 existing".
func outcome(list []Answer) string {
	counts := map[string]int{}
	for i := range list {
		if list[i].Code != 0 {
			counts[list[i].Error]++
		}
		for _, r := range list[i].Results {
			if r.Code >= 0x80 {
				counts["refused"]++
			} else {
				counts[r.State]++
			}
		}
	}
	var parts []string
	for _, name := range []string{"new", "existing", "removed", "absent", "pending", "refused"} {
		if n := counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
		delete(counts, name)
	}
	for name, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, name))
	}
	return strings.Join(parts, ", ")
}

// audit writes the audit line, in the same form for all doors.
func (e *Engine) audit(c Caller, action string, pairs ...any) {
	var b strings.Builder
	fmt.Fprintf(&b, "Pre-subscription: %s by %q at %s", action, c.Principal, c.Door)
	for i := 0; i+1 < len(pairs); i += 2 {
		if s, ok := pairs[i+1].(string); ok {
			if s != "" {
				fmt.Fprintf(&b, ", %s %q", pairs[i], s)
			}
			continue
		}
		fmt.Fprintf(&b, ", %s %v", pairs[i], pairs[i+1])
	}
	e.log.Log(context.Background(), levelNotice, b.String())
}

// Audit writes an audit line of a door's own, in the form of all others. Strings that are empty are left out.
func (e *Engine) Audit(c Caller, action string, pairs ...any) { e.audit(c, action, pairs...) }

// Refused counts a request that its door has refused: without the right to ask, or since it is no request.
func (e *Engine) Refused(c Caller) {
	outcome := "refused"
	if !c.Allowed {
		outcome = "denied"
	}
	e.metrics.requests.WithLabelValues(string(c.Door), outcome).Inc()
}

// levelNotice is the broker's level of that name.
const levelNotice = slog.LevelInfo + 2

// originOf is the origin of what a principal asks for: its own, or one with a name below it.
func (e *Engine) originOf(c Caller, name string) (*behalf.Origin, error) {
	full := "api:" + c.Principal
	if name != "" && name != full {
		name = strings.TrimPrefix(name, full+"/")
		if name == "" || len(name) > 64 || strings.Trim(name, originBytes) != "" {
			return nil, ErrOrigin
		}
		full += "/" + name
	}
	key := originKey{full, c.Tenants != nil}
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.mu.origins[key]
	if o == nil {
		cfg := e.config()
		o = &behalf.Origin{
			Name: full, Owner: "api:" + c.Principal, Unsubscribe: policyOf(cfg.ClientUnsubscribe),
			Bypass: cfg.ACL == "bypass" && !key.bound,
		}
		if len(e.mu.origins) < originsMax {
			e.mu.origins[key] = o
		}
	}
	return o, nil
}

// originBytes may be in the name of an origin.
const originBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// Subscribe is the door for programs that embed the broker: it makes these the topics of one client, of the
// origin "api:PRINCIPAL".
func (e *Engine) Subscribe(
	ctx context.Context,
	principal, clientID string,
	topics []Topic,
) ([]Answer, error) {
	c := Caller{Door: Go, Principal: principal, Allowed: true}
	list := []Entry{{ClientID: clientID, Action: im.Replace.String(), Topics: topics}}
	if topics == nil {
		list[0].Topics = []Topic{}
	}
	return e.Do(ctx, c, list, nil)
}

// Move edits a list that many have: every session whose list of an origin has just the topics from gets those
// of to. The origin is a provider's, "presub:NAME", whose cache follows, or one of the principal's own.
func (e *Engine) Move(ctx context.Context, c Caller, origin string, from, to []Topic) (int, error) {
	if !c.Allowed || c.Tenants != nil { // a list may be that of others too
		return 0, ErrNotAllowed
	}
	if !lasting(from, 0) || !lasting(to, 0) {
		return 0, errors.New("presub: topics of a list that is moved do not end by themselves")
	}
	a, bad := setOf(from)
	b, worse := setOf(to)
	if len(bad)+len(worse) > 0 || len(from)+len(to) > topicsMax {
		return 0, errors.New("presub: topics that nobody may subscribe to, or too many")
	}
	a, b = e.sets.intern(a), e.sets.intern(b)
	name, isProvider := strings.CutPrefix(origin, "presub:")
	r := e.acquire()
	defer e.release(r.providers...)
	var o *behalf.Origin
	p := r.provider(name)
	var err error
	switch {
	case !isProvider:
		o, err = e.originOf(c, origin)
	case p == nil:
		err = ErrOrigin
	default:
		o = p.origin
		p.replaceCached(a, b)
	}
	if err != nil {
		e.audit(c, "refused", "move", origin, "reason", err.Error())
		e.Refused(c)
		return 0, err
	}
	n, err := e.broker.Move(ctx, o, a, b)
	e.audit(c, "move", "origin", o.Name, "from", a.Len(), "to", b.Len(), "sessions", n)
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrNotDone, err)
	}
	return n, nil
}

// replaceCached puts a list in the place of another in the provider's cache.
func (p *provider) replaceCached(from, to *behalf.Set) {
	if p.ask != nil {
		p.ask.Edit(func(x *behalf.Set) (*behalf.Set, bool) { return to, x.Key() == from.Key() })
	}
}

// Pending is what waits for clients that a caller has asked for, by client and origin.
func (e *Engine) Pending(ctx context.Context, c Caller) ([]behalf.Pending, error) {
	if !c.Allowed {
		return nil, ErrNotAllowed
	}
	own := "api:" + c.Principal
	list, err := e.b.Pending(ctx, func(origin string) bool {
		return origin == own || strings.HasPrefix(origin, own+"/")
	})
	slices.SortFunc(list, func(a, b behalf.Pending) int {
		return cmp.Or(strings.Compare(a.ClientID, b.ClientID), strings.Compare(a.Username, b.Username),
			strings.Compare(a.Origin, b.Origin))
	})
	return list, err
}

// OriginName is the full name of an origin that a caller names in an entry.
func (e *Engine) OriginName(c Caller, name string) (string, error) {
	o, err := e.originOf(c, name)
	if err != nil {
		return "", err
	}
	return o.Name, nil
}

// Wait is how long an entry may wait for its client.
func (e *Engine) Wait(x *Entry) time.Duration {
	d, _ := x.wait(time.Duration(e.config().Pending.DefaultWait))
	return d
}

// List is what a session has, and what waits for its client; the errors are those of behalf.Broker.
func (e *Engine) List(ctx context.Context, clientID string) (behalf.Listing, error) {
	return e.broker.List(ctx, clientID)
}
