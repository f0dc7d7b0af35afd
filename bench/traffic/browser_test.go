package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// web serves h and returns host and port.
func web(t *testing.T, h http.Handler) (string, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), s
}

func TestBrowser(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	clients := map[string]bool{}
	address, server := web(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		clients[r.RemoteAddr] = true
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/hold":
			<-release
		case "/bad":
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprintf(w, "%s %s %s %d", body, r.Header.Get("Content-Type"), r.Header.Get("User-Agent"), len(r.Header))
	}))
	connections := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(clients)
	}
	ctx := limited(t)
	b := newBrowser(NewMeter(0), address, "text/plain")
	defer b.close()
	say := func(path, want string) {
		t.Helper()
		if err := b.post(ctx, path, want); err != nil {
			t.Fatal(err)
		}
		got, err := b.next(ctx)
		if err != nil || got != want+" text/plain "+userAgent+" 15" { // net/http takes Host out
			t.Errorf("the answer is %q, %v", got, err)
		}
	}
	say("/", "a")
	say("/", "b")
	if n := connections(); n != 1 {
		t.Errorf("two requests in a row took %d connections", n)
	}
	if err := b.post(ctx, "/hold", "held"); err != nil {
		t.Fatal(err)
	}
	say("/", "c")
	say("/", "d")
	if n := connections(); n != 2 || b.waiting != 1 {
		t.Errorf("beside a held request: %d connections, %d waiting", n, b.waiting)
	}
	close(release)
	if got, err := b.next(ctx); err != nil || !strings.HasPrefix(got, "held ") {
		t.Errorf("the held request is answered with %q, %v", got, err)
	}
	server.CloseClientConnections() // a browser opens a new one
	for len(b.idle) > 0 {           // both ends are told of
		if err := b.settle(<-b.answers); err != nil {
			t.Fatal(err)
		}
	}
	say("/", "e")
	if err := b.post(ctx, "/bad", ""); err != nil {
		t.Fatal(err)
	}
	if got, err := b.next(ctx); err == nil {
		t.Errorf("status 418 gives %q", got)
	}
}

// boshServer is as much of XEP-0124 as the client needs, with one request held.
type boshServer struct {
	t       *testing.T
	timeout chan struct{} // a value ends the hold of a request

	mu   sync.Mutex
	rid  int
	held chan string // of the request that is held, or nil
	got  int         // messages
}

var (
	ridOf  = regexp.MustCompile(`rid="(\d+)"`)
	pingOf = regexp.MustCompile(`id="(ping\d+)"`)
)

const boshEmpty = `<body xmlns='http://jabber.org/protocol/httpbind'/>`

func (s *boshServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	body := string(raw)
	mine := make(chan string, 1)
	s.mu.Lock()
	rid, _ := strconv.Atoi(ridOf.FindStringSubmatch(body)[1])
	if s.rid != 0 && rid != s.rid+1 {
		s.t.Errorf("rid %d after %d", rid, s.rid)
	}
	s.rid = rid
	first := mine
	if s.held != nil {
		first = s.held
	}
	s.held = mine
	now := s.answer(body)
	if now != "" || first != mine {
		if now == "" {
			now = boshEmpty
		}
		first <- now
	}
	if first == mine && now != "" {
		s.held = nil
	}
	s.mu.Unlock()
	select {
	case text := <-mine:
		fmt.Fprint(w, text)
	case <-s.timeout:
		s.mu.Lock()
		s.held = nil
		s.mu.Unlock()
		fmt.Fprint(w, boshEmpty)
	case <-r.Context().Done():
	}
}

// answer is what a request makes the server say at once, if anything.
func (s *boshServer) answer(body string) string {
	switch {
	case strings.Contains(body, `wait="2"`):
		return `<body sid='abc'><mechanism>PLAIN</mechanism></body>`
	case !strings.Contains(body, `sid="abc"`):
		s.t.Errorf("no sid in %s", body)
		return `<body type='terminate'/>`
	case strings.Contains(body, "<auth"):
		return `<body><success/></body>`
	case strings.Contains(body, "restart="):
		return `<body><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></body>`
	case strings.Contains(body, `id="bind"`):
		return `<body><jid>u1@localhost/1</jid></body>`
	case strings.Contains(body, `id="sess"`):
		return `<body><iq id='sess'/></body>`
	case strings.Contains(body, "<message"):
		s.got++
	case pingOf.MatchString(body):
		return `<body><iq id='` + pingOf.FindStringSubmatch(body)[1] + `'/></body>`
	}
	return ""
}

func TestBOSH(t *testing.T) {
	s := &boshServer{t: t, timeout: make(chan struct{})}
	address, _ := web(t, s)
	ctx, m := limited(t), NewMeter(0)
	b, err := dialBOSH(ctx, settings{m, 2 * time.Second}, address, "/http-bind", sender)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for i := range 6 {
		if err := b.send(ctx, i%2 == 1); err != nil {
			t.Fatal(err)
		}
		if b.http.waiting != 1 {
			t.Errorf("%d requests wait", b.http.waiting)
		}
	}
	if err := b.ping(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		go func() { s.timeout <- struct{}{} }()
		if err := b.idle(ctx); err != nil {
			t.Fatal(err)
		}
	}
	resting, cancel := context.WithCancel(ctx)
	go func() {
		for range 3 { // each is taken by a request that is held, the last by one that rest has sent
			s.timeout <- struct{}{}
		}
		cancel()
	}()
	if err := b.rest(resting, patience); !errors.Is(err, context.Canceled) {
		t.Errorf("rest: %v", err)
	}
	if err := b.rest(ctx, time.Nanosecond); err != nil {
		t.Errorf("a short rest: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got != 6 {
		t.Errorf("%d of 6 messages came", s.got)
	}
	if n := len(m.ports()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestBOSHRefused(t *testing.T) {
	address, _ := web(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<body type='terminate' condition='host-unknown'/>`)
	}))
	if _, err := dialBOSH(limited(t), settings{NewMeter(0), time.Second}, address, "/", sender); err == nil {
		t.Error("no error")
	}
}

func TestLongPolls(t *testing.T) {
	s := &pollServer{}
	address, stop, err := s.serve()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx := limited(t)
	p, err := dialPoller(ctx, settings{NewMeter(0), time.Second}, address)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for i := range 2 {
		if err := p.send(ctx, i == 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.idle(ctx); err != nil || p.http.waiting == 0 {
		t.Errorf("idle: %v, %d requests wait", err, p.http.waiting)
	}
	if err := s.receive(ctx, 2); err != nil {
		t.Error(err)
	}
	none, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.receive(none, 1); err == nil {
		t.Error("a message that nobody sent came")
	}
}
