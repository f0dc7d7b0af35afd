// Package lookup asks others what the broker does not know itself: webservices and databases, about clients
// that connect, about logins and rights, about what an event is about. It knows nothing of any of these: what
// an answer is, is a type of the caller's, and what a question may say are names that the caller gives.
//
// A Lookup stands between many who want to know and one Source. In the order in which a question meets them:
//
//   - the cache, bounded in answers and bytes, keyed by what the request uses;
//   - the circuit: a source that fails ten times in a row is left alone for five seconds, then one question
//     finds out, and who comes meanwhile waits for what it says;
//   - the queue: so many requests at a time, others wait, addresses in turns, a bounded number. Questions
//     that are the same are asked once, for all who wait, and several in one request if the source takes
//     batches;
//   - the budget of the request, from when it is sent.
//
// Ask waits, so nothing that runs on an event loop may call it.
//
// How rooms use it. Each embeds Settings in its own section of YAML, so that presub.yaml, auth.yaml and
// agent.yaml have the same keys, and gives New its Names and how an answer is read. Pre-subscription asks
// with client id, username and tenant, and reads sets of topics. Logins ask with username, password (a
// Secret), client id, topic and access, one Lookup for users and one for rights, and read verdicts: an answer
// "no" is an answer and is cached, so their HTTP reader takes 401 and 403 for one instead of using OK. The
// agent's names are the fields of an event that the templates mention (Mentioned), and it reads maps, or rows
// by EachRow. A source that is neither webservice nor database (Redis, LDAP) implements Source and comes in
// by Over. Who has to say much in the log when a source is down says it through a Digest.
package lookup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"noctule/internal/places"
)

// Question is what somebody wants to know.
type Question struct {
	Values []string    // of Names, in their order
	From   places.Peer // whose turn it takes: that of the client's address
}

// Found is what a source says to one question.
type Found[A any] struct {
	Answer A
	Err    error
}

// Source answers questions. Its errors count as failures of who was asked, except those that are Final.
type Source[A any] interface {
	// Ask returns the answer. It ends when ctx does.
	Ask(ctx context.Context, q *Question) (A, error)
	// Uses is the places of the names that the answer may depend on.
	Uses() []int
	// Close gives up what the source holds.
	Close()
}

// Batcher is a source that may be asked several questions at once.
type Batcher[A any] interface {
	Source[A]
	// AskMany returns what is known of each, in their order, or an error that is everybody's.
	AskMany(ctx context.Context, list []*Question) ([]Found[A], error)
	// Most is how many may be asked at once.
	Most() int
}

// Options say what a Lookup asks and how it reads the answer. Those that are not needed may be left out.
type Options[A any] struct {
	Name  string // of the source, for its circuit
	Names Names
	Files Files // filled with the files that settings name; needed if they name any
	// HTTP reads an answer of a webservice; see OK. SQL reads the rows of a query; see EachRow.
	HTTP func(status int, body []byte) (A, error)
	SQL  func(rows *sql.Rows) (A, error)
	// Asked and Answers are the keys of a batch: {ASKED:[{...}]} is answered with {ANSWERS:[{...}]}.
	Asked, Answers string
	// Cost is the bytes of an answer, and, if several share them, what they share: a pointer.
	Cost func(A) (bytes int, of any)
	// Lives is how long an answer is kept at most, within Cache.TTL; nil and 0 say nothing about it.
	Lives func(A) time.Duration
	// Last keeps answers for Last.
	Last   bool
	Saver  Saver[A] // of those; nil: they end with the process
	Events Events
	// Dial connects to a webservice in another way than by the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Saver keeps answers for Last beyond the process: who has one gives them back with Restore. It is called
// with a lock held, one call at a time, and must not block. Answers to questions with secrets are not kept.
type Saver[A any] interface {
	// Save is told of an answer that is cached, and until when it may be used.
	Save(k Key, a A, until time.Time)
	// Drop is told that an answer is cached no longer.
	Drop(k Key)
}

// Events are called when something has happened, for metrics; those that are nil are not. They must not
// block.
type Events struct {
	Ended   func(outcome string) // of a lookup that was not in the cache: see Outcomes
	Cached  func(outcome string) // hit, miss, then joined if another asked the same; stale: used by Last
	Took    func(time.Duration)  // a request
	Evicted func()               // an answer that was still good left the cache to make room
	Circuit func(now, was string)
}

// Outcomes are the ends that a lookup can have.
func Outcomes() []string {
	return []string{"ok", "timeout", "circuit_open", "busy", "canceled", "error"}
}

// ErrBusy is why a lookup ends that has had no turn: nobody was asked.
var ErrBusy = errors.New("too many lookups wait")

// A source that fails so often in a row is left alone for a while. What was under way when it failed counts
// as one failure with that.
const (
	Trips   = 10
	OpenFor = 5 * time.Second
)

// Lookup asks one source. It may be used from any goroutine.
type Lookup[A any] struct {
	// Set by Over, then read-only:
	source  Source[A]
	many    Batcher[A] // source, if it takes several questions
	budget  time.Duration
	uses    []int
	salt    []byte // of keys: of another request, or one with secrets, they are others
	events  Events
	queue   *queue[A]
	cache   *cache[A]
	breaker *gobreaker.CircuitBreaker[[]Found[A]]

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // groups

	// Atomic:
	failed atomic.Int64 // Unix ns of the last failure that counted
}

// New makes the lookup of checked settings, which have one of HTTP and SQL.
func New[A any](s *Settings, o Options[A]) (*Lookup[A], error) {
	if o.Files == nil {
		o.Files = make(Files)
	}
	if s.SQL != nil {
		src, err := newDatabase(s.SQL, &o)
		if err != nil {
			return nil, err
		}
		return Over(s, src, s.SQL.MaxConns, o), nil
	}
	src, err := newWebservice(s.HTTP, &o)
	if err != nil {
		return nil, err
	}
	if s.HTTP.Batch > 0 {
		return Over(s, Source[A](batches[A]{src, o.Asked, o.Answers}), s.HTTP.MaxConns, o), nil
	}
	return Over(s, Source[A](src), s.HTTP.MaxConns, o), nil
}

// Over makes the lookup of any source, which is asked so many things at a time.
func Over[A any](s *Settings, src Source[A], turns int, o Options[A]) *Lookup[A] {
	l := &Lookup[A]{
		source: src, budget: time.Duration(s.Budget), uses: src.Uses(), events: o.Events,
		queue: newQueue[A](turns, s.MaxWaiting),
	}
	l.many, _ = src.(Batcher[A])
	if len(s.Key) > 0 {
		l.uses = nil
		for _, name := range s.Key {
			l.uses = append(l.uses, o.Names.find(name))
		}
	}
	slices.Sort(l.uses)
	l.uses = slices.Compact(l.uses)
	l.cache = newCache(&s.Cache, o.Last, o.Cost, l.evicted)
	l.salt = s.shape()
	if !slices.ContainsFunc(l.uses, func(i int) bool { return o.Names[i].Secret }) {
		if l.cache != nil && o.Last {
			l.cache.saver = o.Saver
		}
	} else { // a hash of a password alone could be guessed at
		l.salt = make([]byte, sha256.Size)
		_, _ = rand.Read(l.salt) // never fails
	}
	if l.cache != nil {
		l.cache.lives = o.Lives
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.breaker = gobreaker.NewCircuitBreaker[[]Found[A]](gobreaker.Settings{
		Name: o.Name, Timeout: OpenFor,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= Trips },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if l.events.Circuit != nil {
				l.events.Circuit(to.String(), from.String())
			}
		},
		// Else questions that it does not know would shut the others out.
		IsSuccessful: func(err error) bool { return err == nil || isFinal(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, ErrBusy) || isSame(err) },
	})
	return l
}

// Ask returns the answer to a question, which may come from the cache. It takes as long as it waits for its
// turn, which ctx bounds, and then the budget at most; the error is ErrBusy if it had no turn. A panic of the
// source is the caller's, as a Thrown.
func (l *Lookup[A]) Ask(ctx context.Context, q *Question) (A, error) {
	key := keyOf(q.Values, l.uses, l.salt)
	if a, fresh, _ := l.cache.get(key); fresh {
		l.cached("hit")
		return a, nil
	}
	l.cached("miss")
	a, err := l.fetch(ctx, q, key)
	if l.events.Ended != nil {
		l.events.Ended(Outcome(err))
	}
	return a, err
}

// Last is the last answer to a question if it may be used instead of one that cannot be had. Options.Last has
// it kept.
func (l *Lookup[A]) Last(q *Question) (A, bool) {
	a, _, ok := l.cache.get(keyOf(q.Values, l.uses, l.salt))
	if ok {
		l.cached("stale")
	}
	return a, ok
}

// Kept is what is cached, what was not asked for longest first.
func (l *Lookup[A]) Kept() []Kept[A] { return l.cache.kept() }

// Restore caches answers of before, for Last: those that a Saver has kept, or that were Kept by a Lookup
// whose request is the same. Who comes last leaves last.
func (l *Lookup[A]) Restore(list []Kept[A]) { l.cache.restore(list) }

// Edit changes cached answers: f returns another one, or false to leave it.
func (l *Lookup[A]) Edit(f func(A) (A, bool)) { l.cache.edit(f) }

// Waiting is the number of lookups that wait for their turn.
func (l *Lookup[A]) Waiting() int { return l.queue.len() }

// Circuit is the state of the circuit: closed, half-open, or open while the source is left alone.
func (l *Lookup[A]) Circuit() string { return l.breaker.State().String() }

// Cached is how many answers are cached, and the bytes that they take.
func (l *Lookup[A]) Cached() (n int, bytes int64) { return l.cache.size() }

// SameRequest reports whether another one asks the same, so that its answers are of use to this one.
func (l *Lookup[A]) SameRequest(other *Lookup[A]) bool { return bytes.Equal(l.salt, other.salt) }

// shape stands for what is asked: of settings with another one, answers of before are not to be used.
func (s *Settings) shape() []byte {
	var x struct {
		Key                                         []string
		URL, Method, Body, Type, Driver, DSN, Query string
		Headers                                     map[string]string
	}
	x.Key = s.Key
	if h := s.HTTP; h != nil {
		x.URL, x.Method, x.Body, x.Type, x.Headers = h.URL, h.Method, h.Body, h.ContentType, h.Headers
	}
	if q := s.SQL; q != nil {
		x.Driver, x.DSN, x.Query = q.Driver, q.DSN+"\x00"+q.DSNFile, q.Query
	}
	b, _ := json.Marshal(&x) // of texts, which has no errors
	sum := sha256.Sum256(b)
	return sum[:]
}

// Slots is how many questions can be asked at a time, by a source with so many turns.
func (s *Settings) Slots() int {
	switch {
	case s.HTTP != nil:
		return s.HTTP.MaxConns * max(1, s.HTTP.Batch)
	case s.SQL != nil:
		return s.SQL.MaxConns
	}
	return 0
}

// Close ends what is under way, and waits for it.
func (l *Lookup[A]) Close() {
	l.queue.mu.Lock() // nothing starts after it
	l.cancel()
	l.queue.mu.Unlock()
	l.running.Wait()
	l.source.Close()
}

// Outcome is how a lookup has ended, by its error: one of Outcomes.
func Outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case IsCircuit(err):
		return "circuit_open"
	case errors.Is(err, context.Canceled):
		return "canceled"
	default:
		return "error"
	}
}

// IsCircuit reports whether nobody was asked since the source is left alone.
func IsCircuit(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}

func (l *Lookup[A]) cached(outcome string) {
	if l.events.Cached != nil {
		l.events.Cached(outcome)
	}
}

func (l *Lookup[A]) took(d time.Duration) {
	if l.events.Took != nil {
		l.events.Took(d)
	}
}

func (l *Lookup[A]) evicted() {
	if l.events.Evicted != nil {
		l.events.Evicted()
	}
}
