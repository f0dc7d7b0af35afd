package lookup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/internal/places"
)

// threeNames are names as a room would have them.
func threeNames() Names {
	return Names{{Name: "clientid", Letter: 'c'}, {Name: "username", Letter: 'u'}, {Name: "tenant", Letter: 'e'}}
}

// from is the peer of an IPv4 address.
func from(last byte) places.Peer { return places.Peer{Addr: netip.AddrFrom4([4]byte{192, 0, 2, last})} }

// ask is a question about a client id.
func ask(id string, peer byte) *Question {
	return &Question{Values: []string{id, "u", "e"}, From: from(peer)}
}

// fake is a source that a test answers for. By default the answer is the client id, at once.
type fake struct {
	calls  atomic.Int64
	uses   []int
	answer func(ctx context.Context, q *Question) (string, error)
	closed atomic.Bool
}

func (f *fake) Ask(ctx context.Context, q *Question) (string, error) {
	f.calls.Add(1)
	if f.answer != nil {
		return f.answer(ctx, q)
	}
	return q.Values[0], nil
}

func (f *fake) Uses() []int {
	if f.uses == nil {
		return []int{0, 1, 2}
	}
	return f.uses
}

func (f *fake) Close() { f.closed.Store(true) }

// takes has it answer after a time of the bubble, or end with ctx.
func (f *fake) takes(d time.Duration) {
	f.answer = func(ctx context.Context, q *Question) (string, error) {
		select {
		case <-time.After(d):
			return q.Values[0], nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// settings are the defaults, changed.
func settings(change func(*Settings)) *Settings {
	s := &Settings{}
	s.Defaults(Given{})
	if change != nil {
		change(s)
	}
	return s
}

// outcomes counts what Events say.
type outcomes struct {
	mu sync.Mutex
	n  map[string]int
}

func (o *outcomes) events() Events {
	o.n = map[string]int{}
	add := func(prefix string) func(string) {
		return func(s string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.n[prefix+s]++
		}
	}
	return Events{
		Ended: add(""), Cached: add(""), Evicted: func() { add("evicted")("") },
		Circuit: func(now, _ string) { add("circuit ")(now) }, Took: func(time.Duration) { add("took")("") },
	}
}

func (o *outcomes) of(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[name]
}

// over makes a lookup that ends with the test.
func over(t *testing.T, f *fake, turns int, s *Settings, o *Options[string]) *Lookup[string] {
	t.Helper()
	if o == nil {
		o = &Options[string]{}
	}
	o.Names = threeNames()
	l := Over(s, Source[string](f), turns, *o)
	t.Cleanup(func() {
		l.Close()
		if !f.closed.Load() {
			t.Error("the source is not closed")
		}
		if m := &l.queue.mu; m.free != turns || len(m.under) != 0 || len(m.lines) != 0 || len(m.same) != 0 ||
			m.order.Len() != 0 || m.waiting.Len() != 0 || m.probe != nil {
			t.Errorf("left behind: %d of %d turns, %d under way, %d lines", m.free, turns, len(m.under), len(m.lines))
		}
	})
	return l
}

// TestAddressesTakeTurns has one address with many lookups before another with one: the second is next.
func TestAddressesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.takes(100 * time.Millisecond)
		l := over(t, f, 1, settings(nil), nil)
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for i, who := range []byte{9, 1, 1, 1, 2, 1, 3, 2} {
			wg.Go(func() {
				if _, err := l.Ask(t.Context(), ask(fmt.Sprint(i), who)); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, fmt.Sprint(who))
			})
			synctest.Wait()
			if l.Waiting() != i {
				t.Fatalf("%d wait", l.Waiting())
			}
		}
		wg.Wait()
		if got := strings.Join(order, ""); got != "91231211" {
			t.Errorf("turns %s", got)
		}
	})
}

// TestQueueIsBounded: above the limit the newest of who has most gives way to another address, and who gives up
// leaves nothing behind. None of them is a failure of the source.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.takes(time.Second)
		o := &outcomes{}
		l := over(t, f, 1, settings(func(s *Settings) { s.MaxWaiting, s.Budget = 3, Duration(time.Minute) }),
			&Options[string]{Events: o.events()})
		ctx, cancel := context.WithCancel(t.Context())
		errs := make([]error, 6)
		for i, who := range []byte{9, 1, 1, 1, 1, 2} {
			go func() { _, errs[i] = l.Ask(ctx, ask(fmt.Sprint(i), who)) }()
			synctest.Wait()
		}
		for i, err := range errs {
			if (err != nil) != (i == 3 || i == 4) || l.Waiting() != 3 {
				t.Errorf("%d: %v, %d wait", i, err, l.Waiting())
			}
		}
		cancel()
		synctest.Wait()
		for i, err := range errs {
			if Outcome(err) != "busy" {
				t.Errorf("%d: %v", i, err)
			}
		}
		if n := l.breaker.Counts(); n.TotalFailures != 0 || f.calls.Load() != 1 || o.of("busy") != 6 {
			t.Errorf("%+v, %d calls, %v", n, f.calls.Load(), o.n)
		}
	})
}

// TestSameQuestionIsAskedOnce: lookups with one key are one request, whenever they come while it is not answered,
// and whoever leaves does not end it for the others.
func TestSameQuestionIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{uses: []int{1}}
		f.takes(100 * time.Millisecond)
		o := &outcomes{}
		l := over(t, f, 1, settings(nil), &Options[string]{Events: o.events()})
		first, leave := context.WithCancel(t.Context())
		var gone error
		go func() { _, gone = l.Ask(first, ask("first", 1)) }()
		synctest.Wait()
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if a, err := l.Ask(t.Context(), ask(fmt.Sprint(i), byte(i))); err != nil || a != "first" {
					t.Errorf("%d: %q, %v", i, a, err)
				}
			})
			time.Sleep(time.Millisecond) // of the bubble
		}
		leave()
		synctest.Wait()
		if Outcome(gone) != "busy" {
			t.Errorf("who left: %v", gone)
		}
		wg.Wait()
		if f.calls.Load() != 1 || o.of("joined") != 50 || o.of("ok") != 50 {
			t.Errorf("%d calls, %v", f.calls.Load(), o.n)
		}
	})
}

// TestSameQuestionTakesTheFirstTurn: a lookup waits in no line but its own for who asks the same.
func TestSameQuestionTakesTheFirstTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.takes(10 * time.Millisecond)
		l := over(t, f, 1, settings(nil), nil)
		begun := time.Now()
		var wg sync.WaitGroup
		slow := make(chan time.Duration, 1)
		for i := range 100 { // all of one address; the last one asks what another address will
			wg.Go(func() {
				if _, err := l.Ask(t.Context(), ask(fmt.Sprint(i), 1)); err != nil {
					t.Error(err)
				}
				if i == 99 {
					slow <- time.Since(begun)
				}
			})
			synctest.Wait()
		}
		if _, err := l.Ask(t.Context(), ask("99", 2)); err != nil || time.Since(begun) > 30*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if d := <-slow; d > 30*time.Millisecond {
			t.Errorf("who asked the same waits on: %v", d)
		}
		wg.Wait()
		if f.calls.Load() != 100 {
			t.Errorf("%d calls", f.calls.Load())
		}
	})
}

// TestNobodyWaits: a request that nobody waits for is cancelled, says nothing about the source, and nobody joins it.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		release := make(chan struct{})
		cancelled := make(chan struct{}, 1)
		f.answer = func(ctx context.Context, _ *Question) (string, error) {
			if f.calls.Load() > 1 {
				return "second", nil
			}
			<-ctx.Done()
			cancelled <- struct{}{}
			<-release // a driver that is slow to end
			return "", ctx.Err()
		}
		l := over(t, f, 2, settings(func(s *Settings) { s.Budget = Duration(time.Hour) }), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Ask(ctx, ask("c", 1)); Outcome(err) != "busy" {
			t.Error(err)
		}
		<-cancelled
		if a, err := l.Ask(t.Context(), ask("c", 1)); a != "second" || err != nil {
			t.Errorf("%q, %v", a, err)
		}
		close(release)
		synctest.Wait()
		if n := l.breaker.Counts(); n.TotalFailures != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// tripped is a lookup whose source has failed until it is left alone.
func tripped(t *testing.T, f *fake, turns int, budget time.Duration) *Lookup[string] {
	t.Helper()
	l := over(t, f, turns, settings(func(s *Settings) { s.Budget = Duration(budget) }), nil)
	f.answer = func(context.Context, *Question) (string, error) { return "", errors.New("down") }
	for i := range 2 * Trips {
		if _, err := l.Ask(t.Context(), ask(fmt.Sprint(i), 1)); err == nil || IsCircuit(err) != (i >= Trips) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := f.calls.Load(); n != Trips {
		t.Errorf("asked %d times, want %d", n, Trips)
	}
	time.Sleep(OpenFor + time.Millisecond) // of the bubble
	f.calls.Store(0)
	return l
}

// TestOneFindsOut: when a source has been left alone for a while, one question finds out whether it answers, and
// those that come meanwhile wait for what it says.
func TestOneFindsOut(t *testing.T) {
	for _, turns := range []int{1, 4, 64} {
		for _, back := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				l := tripped(t, f, turns, time.Second)
				var most, n atomic.Int64
				var up atomic.Bool
				f.answer = func(_ context.Context, q *Question) (string, error) {
					most.Store(max(most.Load(), n.Add(1)))
					defer n.Add(-1)
					time.Sleep(100 * time.Millisecond) // of the bubble
					if !back {
						return "", errors.New("still down")
					}
					if !up.Swap(true) && most.Load() > 1 {
						t.Error("others were asked before it was known")
					}
					return q.Values[0], nil
				}
				var wg sync.WaitGroup
				var ok, open, failed atomic.Int64
				begun := time.Now()
				for i := range 200 {
					wg.Go(func() {
						switch _, err := l.Ask(t.Context(), ask(fmt.Sprint(i), byte(i))); {
						case err == nil:
							ok.Add(1)
						case IsCircuit(err):
							open.Add(1)
						default:
							failed.Add(1)
						}
					})
				}
				wg.Wait()
				if back && ok.Load() != 200 {
					t.Errorf("%d turns: %d answered, %d refused", turns, ok.Load(), open.Load())
				}
				if !back && (failed.Load() != 1 || open.Load() != 199 || f.calls.Load() != 1 || time.Since(begun) != 100*time.Millisecond) {
					t.Errorf("%d turns: %d failed, %d refused, %d calls in %v", turns, failed.Load(), open.Load(),
						f.calls.Load(), time.Since(begun))
				}
			})
		}
	}
}

// TestOneFindsOutForABudget: who waits for what another finds out waits for its own budget and no longer, and who
// leaves while it finds out leaves that to the next.
func TestOneFindsOutForABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		l := tripped(t, f, 4, time.Second)
		f.answer = func(ctx context.Context, q *Question) (string, error) {
			if q.Values[0] == "hangs" {
				<-ctx.Done()
				time.Sleep(10 * time.Second) // of the bubble: a driver that is slow to end
				return "", ctx.Err()
			}
			return q.Values[0], nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = l.Ask(ctx, ask("hangs", 1)) }()
		synctest.Wait()
		begun := time.Now()
		if _, err := l.Ask(t.Context(), ask("c", 2)); !IsCircuit(err) || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		cancel()
		time.Sleep(20 * time.Second) // of the bubble
		l2 := tripped(t, &fake{}, 4, time.Minute)
		f2 := l2.source.(*fake)
		f2.answer = f.answer
		ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		go func() { _, _ = l2.Ask(ctx, ask("hangs", 1)) }()
		synctest.Wait()
		if a, err := l2.Ask(t.Context(), ask("c", 2)); a != "c" || err != nil {
			t.Errorf("%q, %v: one that gave up found nothing out", a, err)
		}
	})
}

// TestPanicIsTheCallers: a panic of the source reaches those who asked, with the stack of where it came.
func TestPanicIsTheCallers(t *testing.T) {
	f := &fake{answer: func(context.Context, *Question) (string, error) { panic("a source's fault") }}
	l := over(t, f, 1, settings(nil), nil)
	defer func() {
		err, ok := recover().(error)
		if !ok || !strings.Contains(err.Error(), "a source's fault") || !strings.Contains(err.Error(), "lookup_test.go") {
			t.Errorf("panic %v", err)
		}
	}()
	_, err := l.Ask(t.Context(), ask("c", 1))
	t.Errorf("it goes on with %v", err)
}

// TestClose ends what is under way, and nothing starts after it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.takes(time.Hour)
		l := over(t, f, 1, settings(func(s *Settings) { s.Budget = Duration(2 * time.Hour) }), nil)
		errs := make(chan error, 2)
		for i := range 2 {
			go func() {
				_, err := l.Ask(t.Context(), ask(fmt.Sprint(i), 1))
				errs <- err
			}()
			synctest.Wait()
		}
		l.Close()
		for range 2 {
			if err := <-errs; err == nil {
				t.Error("answered")
			}
		}
		if _, err := l.Ask(t.Context(), ask("c", 1)); err == nil {
			t.Error("asked after Close")
		}
	})
}

// TestManyAtOnce mixes all of it; the race detector watches, and nothing is left behind.
func TestManyAtOnce(t *testing.T) {
	f := &fake{}
	f.answer = func(ctx context.Context, q *Question) (string, error) {
		if f.calls.Load()%17 == 0 {
			return "", errors.New("down")
		}
		return q.Values[0], ctx.Err()
	}
	l := over(t, f, 4, settings(func(s *Settings) { s.MaxWaiting, s.Cache.Max = 50, 10 }), &Options[string]{Last: true})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+j)%5 == 0 {
					go cancel()
				}
				id := fmt.Sprint((i * j) % 30)
				if a, err := l.Ask(ctx, ask(id, byte(i%3))); err == nil && a != id {
					t.Errorf("%q for %q", a, id)
				}
				l.Last(ask(id, 1))
				cancel()
			}
		})
	}
	wg.Wait()
}
