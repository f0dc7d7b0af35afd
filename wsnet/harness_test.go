package wsnet

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"noctule/internal/testcert"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// script is a handler made of functions; without data it echoes.
type script struct {
	opened  func(c *Conn)
	data    func(c *Conn, b []byte) (used, need int)
	drained func(c *Conn)
	closed  func(c *Conn)
}

// ending is one call of Closed.
type ending struct {
	c      *Conn
	reason error
}

// rig is a server under test, and what its handlers heard.
type rig struct {
	*Server
	script   script
	opened   chan *Conn
	closed   chan ending
	openings atomic.Int64
	endings  atomic.Int64
}

// player plays a rig's script on one loop.
type player struct{ r *rig }

func (p player) Opened(c *Conn) {
	p.r.openings.Add(1)
	if p.r.script.opened != nil {
		p.r.script.opened(c)
	}
	select {
	case p.r.opened <- c:
	default:
	}
}

func (p player) Data(c *Conn, b []byte) (used, need int) {
	if p.r.script.data != nil {
		return p.r.script.data(c, b)
	}
	c.Arrived()
	c.Write(b)
	return len(b), 0
}

func (p player) Drained(c *Conn) {
	if p.r.script.drained != nil {
		p.r.script.drained(c)
	}
}

func (p player) Closed(c *Conn, reason error) {
	p.r.endings.Add(1)
	if p.r.script.closed != nil {
		p.r.script.closed(c)
	}
	select {
	case p.r.closed <- ending{c, reason}:
	default:
	}
}

// over runs f over both pollers. The server is shut down afterwards, and every connection that was opened
// must have been closed by then, and be off the books.
func over(t *testing.T, cfg Config, sc script, f func(t *testing.T, r *rig)) {
	t.Helper()
	for _, portable := range []bool{false, true} {
		name := "native"
		if portable {
			name = "portable"
		}
		t.Run(name, func(t *testing.T) {
			r := start(t, cfg, sc, portable)
			f(t, r)
			r.stopped(t)
		})
	}
}

// start makes a rig.
func start(t testing.TB, cfg Config, sc script, portable bool) *rig {
	t.Helper()
	r := &rig{script: sc, opened: make(chan *Conn, 1<<12), closed: make(chan ending, 1<<12)}
	cfg.Portable = portable
	if cfg.Loops == 0 {
		cfg.Loops = 3
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.NewHandler = func(*Loop) Handler { return player{r} }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	return r
}

// stopped shuts the server down and checks the books.
func (r *rig) stopped(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Error(err)
		return
	}
	if o, c := r.openings.Load(), r.endings.Load(); o != c {
		t.Errorf("%d opened, %d closed", o, c)
	}
	if n := r.Stats().Open; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	for _, l := range r.loops {
		l.each(func(c *Conn) { t.Errorf("loop %d has connection %d left", l.index, c.id) })
	}
}

// conn is the server's end of nc. Other processes of the machine may dial a port that was theirs before;
// their connections are passed over.
func (r *rig) conn(t testing.TB, nc net.Conn) *Conn {
	t.Helper()
	for {
		if c := get(t, r.opened); isEnd(c, nc) {
			return c
		}
	}
}

// ending is the end of nc.
func (r *rig) ending(t testing.TB, nc net.Conn) ending {
	t.Helper()
	for {
		if e := get(t, r.closed); isEnd(e.c, nc) {
			return e
		}
	}
}

// isEnd reports whether c is the server's end of nc.
func isEnd(c *Conn, nc net.Conn) bool {
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		at := a.AddrPort()
		return c.RemoteAddr() == netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return !c.RemoteAddr().IsValid()
}

// on runs f on a loop and waits for it.
func (r *rig) on(t testing.TB, l *Loop, f func(l *Loop)) {
	t.Helper()
	done := make(chan struct{})
	l.MustPost(TaskFunc(func(l *Loop) {
		defer close(done)
		f(l)
	}))
	get(t, done)
}

// until waits for a condition, a turn of every loop at a time.
func (r *rig) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
		for _, l := range r.loops {
			r.on(t, l, func(*Loop) {})
		}
	}
}

// stall holds a loop until release is called. It returns once the loop stands still.
func (r *rig) stall(t testing.TB, l *Loop) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	l.MustPost(TaskFunc(func(*Loop) {
		close(held)
		<-free
	}))
	get(t, held)
	return func() { close(free) }
}

// later makes every loop believe that a minute has passed.
func (r *rig) later(t testing.TB) {
	t.Helper()
	for _, l := range r.loops {
		r.on(t, l, func(l *Loop) {
			l.now += time.Minute.Milliseconds()
			l.tick()
		})
	}
}

// get receives from ch, but not for ever. A closed channel counts.
func get[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case v := <-ch:
		return v
	case <-limit.C:
		t.Fatalf("nothing came in %v", patience)
		panic("unreachable")
	}
}

func mustWrite(t testing.TB, w io.Writer, b string) {
	t.Helper()
	if _, err := io.WriteString(w, b); err != nil {
		t.Fatal(err)
	}
}

// mustRead expects exactly want next.
func mustRead(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q and %v, want %q", got[:n], err, want)
	}
}

// ask sends a byte and reads the answer.
func ask(nc net.Conn) error {
	_, err := nc.Write([]byte("y"))
	if err == nil {
		_, err = io.ReadFull(nc, make([]byte, 1))
	}
	return err
}

// mustEnd expects want and the end of the stream.
func mustEnd(t testing.TB, r io.Reader, want string) {
	t.Helper()
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		t.Fatalf("read %q and %v, want %q and the end", got, err, want)
	}
}

// loopback is a listener on the loopback address.
func loopback() ListenerConfig { return ListenerConfig{Network: "tcp4", Address: "127.0.0.1:0"} }

// certificate makes a self-signed certificate for a server, and a client's settings that trust it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	pair := testcert.Localhost(t)
	return &tls.Config{Certificates: []tls.Certificate{pair}},
		&tls.Config{RootCAs: testcert.Trust(pair.Leaf), ServerName: "127.0.0.1"}
}

// heapInUse is the size of what the garbage collector leaves.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
