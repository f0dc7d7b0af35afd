package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// poller is a client of long polling with JSON: one request waits for messages, others carry them.
type poller struct {
	http *browser
	hold time.Duration
}

// pollServer is the least such server, for want of a packaged one: net/http in this process.
type pollServer struct {
	received atomic.Int64
	news     chan struct{} // a message came
	ended    chan struct{}
}

// ServeHTTP holds a poll until its time is over (nobody writes to the client that is counted) and answers a
// message at once.
func (p *pollServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", origin)
	switch r.URL.Path {
	case "/poll":
		var ask struct{ Since, Wait int }
		if json.NewDecoder(r.Body).Decode(&ask) != nil {
			http.Error(w, "bad poll", http.StatusBadRequest)
			return
		}
		t := time.NewTimer(time.Duration(ask.Wait) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ended:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, `{"messages":[]}`)
	case "/send":
		var m struct{ To, Text string }
		if json.NewDecoder(r.Body).Decode(&m) != nil || m.To != peer {
			http.Error(w, "bad message", http.StatusBadRequest)
			return
		}
		select {
		case p.news <- struct{}{}:
		case <-p.ended:
			return
		}
		fmt.Fprintf(w, `{"id":%d}`, 1000+p.received.Add(1))
	case "/hello":
		fmt.Fprint(w, `{}`)
	default:
		http.NotFound(w, r)
	}
}

// serve starts the server; stop ends it.
func (p *pollServer) serve() (address string, stop func(), err error) {
	p.news, p.ended = make(chan struct{}, 4*messages), make(chan struct{})
	silent := net.ListenConfig{KeepAlive: -1} // by default Go's servers probe every 15 s
	l, err := silent.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("traffic: %w", err)
	}
	s := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go s.Serve(l) //nolint:errcheck // Close ends it
	return l.Addr().String(), func() {
		close(p.ended)
		_ = s.Close()
	}, nil
}

func (p *pollServer) receive(ctx context.Context, n int) error {
	for range n {
		select {
		case <-p.news:
		case <-ctx.Done():
			return fmt.Errorf("traffic: %d messages came: %w", p.received.Load(), ctx.Err())
		}
	}
	return nil
}

func (p *pollServer) close() {}

// dialPoller starts polling.
func dialPoller(ctx context.Context, s settings, address string) (*poller, error) {
	p := &poller{http: newBrowser(s.meter, address, "application/json"), hold: s.period}
	if err := p.poll(ctx); err != nil {
		return nil, err
	}
	if err := p.http.post(ctx, "/hello", `{}`); err != nil { // opens the second connection
		return nil, err
	}
	return p, p.answer(ctx)
}

func (p *poller) poll(ctx context.Context) error {
	return p.http.post(ctx, "/poll", fmt.Sprintf(`{"since":1000,"wait":%d}`, p.hold/time.Second))
}

func (p *poller) send(ctx context.Context, full bool) error {
	m := `{"to":"u2","text":"hello"}`
	if full {
		m = `{"to":"u2","text":"hello","id":"b5c4f8b2-6b62-4f3a-9d0e-0e6f0f3c7a11",` +
			`"from":"u1","ts":1700000000}`
	}
	if err := p.http.post(ctx, "/send", m); err != nil {
		return err
	}
	return p.answer(ctx)
}

// answer waits for an answer and sees to it that a poll waits.
func (p *poller) answer(ctx context.Context) error {
	if _, err := p.http.next(ctx); err != nil {
		return err
	}
	if p.http.waiting > 0 {
		return nil
	}
	return p.poll(ctx)
}

// ping does nothing: a poll is one.
func (p *poller) ping(context.Context) error { return nil }

func (p *poller) idle(ctx context.Context) error { return p.answer(ctx) }

func (p *poller) rest(ctx context.Context, d time.Duration) error {
	return p.http.rest(ctx, d, func() error { return p.answer(ctx) })
}

func (p *poller) close() { p.http.close() }

// pollStack is the server as a row.
func pollStack(p *pollServer) stack {
	return stack{name: "net/http", ways: []way{{
		name: viaLongPolls, held: true,
		dial: func(ctx context.Context, s settings, at places) (session, error) {
			return dialPoller(ctx, s, at.web)
		},
		peer: func(context.Context, settings, places) (receiver, error) { return p, nil },
	}}}
}
