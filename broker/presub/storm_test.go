package presub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/codec"
)

// pipes is a listener of connections without sockets, so that time stands still while nobody can go on.
type pipes struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.accept <- there:
		return here, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	}
}

// timed is a webservice within a synctest bubble that takes so long for an answer.
type timed struct {
	calls, now, most atomic.Int64
	down             atomic.Bool
	takes            time.Duration
	stalls           int64 // this call and those that come with it take longer
	cuts             int64 // this call and the 63 after it fail
	can              int64 // at a time, the others are answered 503; 0: any number
}

func (s *timed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := s.calls.Add(1)
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most; most = s.most.Load() {
		if s.most.CompareAndSwap(most, n) {
			break
		}
	}
	if s.down.Load() || s.can > 0 && n > s.can {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	time.Sleep(s.takes) // of the bubble
	if s.cuts > 0 && call >= s.cuts && call < s.cuts+64 {
		panic(http.ErrAbortHandler)
	}
	if n := s.calls.Load(); s.stalls > 0 && n >= s.stalls && n < s.stalls+64 {
		time.Sleep(3 * s.takes)
	}
	_, _ = io.WriteString(w, `{"topics":[{"topic":"a","qos":1}]}`)
}

// serve has a handler answer for the provider of an engine; what it returns ends it.
func serve(e *Engine, h http.Handler) (end func()) {
	p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { // end waits
		defer close(done)
		_ = server.Serve(p)
	}()
	e.dial = p.dial
	return func() {
		e.Close()
		_ = server.Close()
		<-done
		time.Sleep(time.Minute) // of the bubble: handlers end
	}
}

// storm has n clients connect at once and counts those with their list, without one, and refused.
func storm(e *Engine, n int) (full, empty, refused int, reasons map[codec.Reason]int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	reasons = map[codec.Reason]int{}
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			list, code := e.Grants(ctx, Client{
				ID: fmt.Sprint("c", i), Username: "u", Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 50)}),
			})
			mu.Lock()
			defer mu.Unlock()
			reasons[code]++
			switch {
			case code != codec.Success:
				refused++
			case list[0].Topics.Len() > 0:
				full++
			default:
				empty++
			}
		})
	}
	wg.Wait()
	return full, empty, refused, reasons
}

// TestConnectStorm has many clients connect at once with an empty cache, as after a restart: each gets its list,
// however many must wait for their turn with the webservice.
func TestConnectStorm(t *testing.T) {
	for _, tt := range []struct {
		takes   time.Duration
		clients int
		within  time.Duration // rate = connections / latency
	}{
		{100 * time.Millisecond, 200, 400 * time.Millisecond},
		{20 * time.Millisecond, 3000, time.Second},
		{20 * time.Millisecond, 10000, 4 * time.Second},
		{100 * time.Millisecond, 10000, 16 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.clients, " at ", tt.takes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := engine(t, "providers: [{name: ws, http: {url: 'http://lists'}}]")
				s := &timed{takes: tt.takes}
				defer serve(e, s)()
				begun := time.Now()
				full, empty, refused, _ := storm(e, tt.clients)
				if full != tt.clients {
					t.Errorf("%d with their list, %d empty, %d refused", full, empty, refused)
				}
				if d := time.Since(begun); d > tt.within {
					t.Errorf("it took %v, at most %v are needed", d, tt.within)
				}
				if n := s.most.Load(); n > 64 {
					t.Errorf("%d requests at a time", n)
				}
			})
		})
	}
}

// TestStormBesideStall has all 64 requests that are under way take four times as long as usual, as while a processor
// is wanted elsewhere: with what is the default nobody is let in without its list.
func TestStormBesideStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, "providers: [{name: ws, http: {url: 'http://lists'}}]")
		s := &timed{takes: 100 * time.Millisecond, stalls: 640}
		defer serve(e, s)()
		if full, empty, refused, _ := storm(e, 3000); full != 3000 {
			t.Errorf("%d with their list, %d empty, %d refused", full, empty, refused)
		}
	})
}

// TestStormBesideCut has a webservice cut the connections of all requests that are under way, once: only their clients
// are let in without their lists, and the others are still asked for.
func TestStormBesideCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, "providers: [{name: ws, http: {url: 'http://lists'}}]")
		s := &timed{takes: 20 * time.Millisecond, cuts: 641}
		defer serve(e, s)()
		if full, empty, refused, _ := storm(e, 3000); full < 3000-64 || empty+refused > 64 {
			t.Errorf("%d with their list, %d empty, %d refused", full, empty, refused)
		}
	})
}
