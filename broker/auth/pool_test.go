package auth

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"noctule/codec"
)

func testPool(t *testing.T, cfg PoolConfig) *Pool {
	t.Helper()
	cfg.Now = func() int64 { return time.Now().UnixMilli() }
	p := NewPool(cfg)
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// unheard is a Refuse of jobs for which nobody waits.
func unheard(codec.Reason) {}

func from(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestPoolAddressesTakeTurns has one address fill the queue: another one's job is the next but one.
func TestPoolAddressesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{Workers: 1, Queue: 100, PerAddress: 90})
		gate := make(chan struct{})
		var mu sync.Mutex
		var order []string
		job := func(addr string) Job {
			return Job{Address: from(addr), Work: func() bool {
				<-gate
				mu.Lock()
				defer mu.Unlock()
				order = append(order, addr)
				return false
			}, Refuse: unheard}
		}
		for range 50 {
			p.Submit(job("192.0.2.1"))
		}
		synctest.Wait() // one runs
		p.Submit(job("192.0.2.2"))
		p.Submit(job("192.0.2.3"))
		for range 4 {
			gate <- struct{}{}
			synctest.Wait()
		}
		mu.Lock()
		at2, at3 := -1, -1
		for i, a := range order {
			switch a {
			case "192.0.2.2":
				at2 = i
			case "192.0.2.3":
				at3 = i
			}
		}
		mu.Unlock()
		if at2 < 0 || at3 < 0 {
			t.Errorf("order %q", order)
		}
		close(gate)
		synctest.Wait()
		if s := p.Stats(); s.Checked != 52 || s.Waiting != 0 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
		if n := len(p.mu.peers); n != 0 {
			t.Errorf("%d addresses remembered", n)
		}
	})
}

// TestPoolIsBounded: a job weighs 100 bytes at least.
func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{Workers: 2, Queue: 10, QueueBytes: 1000, PerAddress: 4})
		gate := make(chan struct{})
		refused := map[string]int{}
		submit := func(addr string, n int) bool {
			j := Job{Bytes: n, Work: func() bool { <-gate; return false }, Refuse: func(r codec.Reason) {
				if r != codec.ServerBusy {
					t.Error(r)
				}
				refused[addr]++
			}}
			if j.Trusted = addr == ""; !j.Trusted {
				j.Address = from(addr)
			}
			return p.Submit(j)
		}
		for i := range 2 { // both workers are busy
			if !submit("192.0.2.1", 0) {
				t.Fatal(i)
			}
			synctest.Wait()
		}
		for i := range 5 {
			if got := submit("192.0.2.1", 0); got != (i < 4) {
				t.Errorf("job %d of an address: %v", i, got)
			}
		}
		if submit("2001:db8::1", 1001) {
			t.Error("more bytes than there may be")
		}
		if !submit("2001:db8::1", 300) || !submit("2001:db8::2", 100) || submit("2001:db8::ffff:1", 0) {
			t.Error("a /64 has more or less than its share")
		}
		if first, second := submit("", 0), submit("", 0); !first || !second || len(refused) != 0 {
			t.Errorf("refused %v", refused)
		}
		// It is full. Who has less than another gets in.
		if !submit("192.0.2.9", 0) || !submit("192.0.2.9", 150) {
			t.Errorf("a newcomer is refused: %v", refused)
		}
		// 100 bytes of 400 for the first; 100 of 400 and, of then 300 and 300, what came last for the second.
		if s := p.Stats(); refused["2001:db8::2"] != 1 || refused["192.0.2.1"] != 1 ||
			refused["2001:db8::1"] != 1 || s.RefusedPeer != 5 || s.RefusedFull != 1 || s.Running != 2 {
			t.Errorf("refused %v: %+v", refused, s)
		}
		if w := p.mu.waiting; w.Weight() > 1000 || w.Len() != p.Stats().Waiting {
			t.Errorf("%d bytes, %d places", w.Weight(), w.Len())
		}
		close(gate)
		synctest.Wait()
		if s := p.Stats(); s.Waiting != 0 || p.mu.waiting.Len() != 0 || len(p.mu.peers) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPoolSlowedKeepsFew: an address that guesses keeps few of the places that it had, and gets no more; a
// newcomer is not refused because of it.
func TestPoolSlowedKeepsFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{Workers: 1, Queue: 1000, PerAddress: 500, FailureBurst: 5})
		refused := 0
		gate := make(chan struct{})
		guess := func(a string) bool {
			return p.Submit(Job{
				Address: from(a), Work: func() bool { <-gate; return true },
				Refuse: func(codec.Reason) { refused++ },
			})
		}
		taken := 0
		for range 600 {
			if guess("127.0.0.1") { // claimed, so it is trusted no more than another
				taken++
			}
		}
		close(gate)
		synctest.Wait()
		if s := p.Stats(); s.Checked != 5 || s.Waiting != 8 || taken < 500 || refused != taken-13 {
			t.Errorf("%d taken, %d refused: %+v", taken, refused, s)
		}
		if guess("127.0.0.1") {
			t.Error("an address that is slowed down gets more places")
		}
		if !guess("192.0.2.1") {
			t.Error("another address is refused")
		}
		synctest.Wait()
		time.Sleep(time.Minute) // of the bubble
		if s := p.Stats(); s.Waiting != 0 || s.Checked != 14 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPoolSlowsGuessersDown sends failures from one address: after the burst the rate holds, and other
// addresses go on at once.
func TestPoolSlowsGuessersDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{
			Workers: 2, Queue: 1000, PerAddress: 500, Slowed: 100, FailureBurst: 5, FailureRate: 2,
		})
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		for range 25 {
			p.Submit(Job{Address: from("192.0.2.1"), Refuse: unheard, Work: func() bool {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(start))
				return true
			}})
		}
		synctest.Wait()
		if n := p.Stats().Checked; n != 5 {
			t.Errorf("%d at once, want the burst of 5", n)
		}
		done := false
		p.Submit(Job{Address: from("192.0.2.2"), Refuse: unheard, Work: func() bool { done = true; return false }})
		synctest.Wait()
		if !done {
			t.Error("another address waits")
		}
		for i := range 3 { // proxies stand for many clients
			for range 20 {
				a := []netip.Addr{{}, from("127.0.0.1"), from("::1")}[i]
				p.Submit(Job{Address: a, Trusted: true, Refuse: unheard, Work: func() bool { return true }})
			}
		}
		synctest.Wait()
		if n := p.Stats().Checked; n != 66 {
			t.Errorf("%d, want 66: a proxy is slowed down", n)
		}
		time.Sleep(10 * time.Second) // of the bubble
		synctest.Wait()
		mu.Lock()
		if len(at) != 25 || at[24] < 9500*time.Millisecond || at[24] > 10100*time.Millisecond {
			t.Errorf("%d, the last after %v; want 20 at 2 a second", len(at), at[len(at)-1])
		}
		mu.Unlock()
		if s := p.Stats(); s.Throttled == 0 || s.Failed != 85 || s.Remembered != 1 {
			t.Errorf("%+v", s)
		}
		// Good logins of that address must wait as well, but not for ever.
		time.Sleep(time.Minute)
		done = false
		p.Submit(Job{Address: from("192.0.2.1"), Refuse: unheard, Work: func() bool { done = true; return false }})
		synctest.Wait()
		if n := len(p.mu.peers); !done || n != 0 {
			t.Errorf("done %v, %d addresses remembered", done, n)
		}
	})
}

// TestPoolGuesserHoldsOneWorker: above the burst an address runs one job at a time.
func TestPoolGuesserHoldsOneWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{Workers: 3, Slowed: 10, FailureBurst: 2, FailureRate: 1000})
		gate := make(chan struct{})
		for range 10 {
			p.Submit(Job{Address: from("192.0.2.1"), Refuse: unheard, Work: func() bool { <-gate; return true }})
		}
		synctest.Wait()
		if n := p.Stats().Running; n != 2 { // nobody knows yet how they end
			t.Errorf("%d run", n)
		}
		gate <- struct{}{}
		gate <- struct{}{}
		time.Sleep(time.Second)
		synctest.Wait()
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		if s := p.Stats(); s.Checked != 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPoolForgetsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(t, PoolConfig{Workers: 1, Remembered: 10})
		for i := range 100 {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			p.Submit(Job{Address: a, Refuse: unheard, Work: func() bool { return true }})
			synctest.Wait()
		}
		if n, s := len(p.mu.peers), p.Stats(); n != 10 || s.Remembered != 10 {
			t.Errorf("%d addresses, %+v", n, s)
		}
		time.Sleep(time.Minute)
		p.Submit(Job{Address: from("192.0.2.250"), Refuse: unheard, Work: func() bool { return true }})
		synctest.Wait()
		if n := len(p.mu.peers); n != 1 {
			t.Errorf("%d addresses after a minute", n)
		}
	})
}

func TestPoolClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(PoolConfig{Workers: 1, Now: func() int64 { return time.Now().UnixMilli() }})
		gate := make(chan struct{})
		worked, refused := 0, 0
		for range 5 {
			p.Submit(Job{Trusted: true, Work: func() bool { <-gate; worked++; return false }, Refuse: func(codec.Reason) { refused++ }})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if p.Submit(Job{}) {
			t.Error("a closed pool takes jobs")
		}
		close(gate)
		if err := p.Close(context.Background()); err != nil || worked != 1 || refused != 4 {
			t.Errorf("%v, %d worked, %d refused", err, worked, refused)
		}
		idle := NewPool(PoolConfig{Now: func() int64 { return 0 }})
		if err := idle.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestPoolModel throws random jobs at it: each accepted one ends once, and in the end nothing is left.
func TestPoolModel(t *testing.T) {
	seed := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := testPool(t, PoolConfig{
			Workers: 3, Queue: 40, QueueBytes: 4000, PerAddress: 15, FailureBurst: 3, FailureRate: 5, Remembered: 4,
		})
		var mu sync.Mutex
		ended := map[int]int{}
		accepted := 0
		for i := range 3000 {
			fails, takes := r.IntN(2) == 0, time.Duration(r.IntN(50))*time.Millisecond
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(12))})
			if p.Submit(Job{Address: a, Bytes: r.IntN(300), Trusted: r.IntN(5) == 0, Refuse: func(codec.Reason) { mu.Lock(); defer mu.Unlock(); ended[i]++ }, Work: func() bool {
				time.Sleep(takes)
				mu.Lock()
				defer mu.Unlock()
				ended[i]++
				return fails
			}}) {
				accepted++
			}
			if r.IntN(4) == 0 {
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
			s := p.Stats()
			if s.Waiting > 40 || s.Running > 3 || s.Remembered > 4 {
				t.Fatalf("seed %d: %+v", seed, s)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		s := p.Stats()
		if len(ended) != accepted || s.Waiting != 0 || s.Running != 0 || p.mu.waiting.Len() != 0 || p.mu.workers != 0 {
			t.Errorf("seed %d: %d ended of %d, %+v", seed, len(ended), accepted, s)
		}
		for i, n := range ended {
			if n != 1 {
				t.Errorf("seed %d: job %d ended %d times", seed, i, n)
			}
		}
	})
}
