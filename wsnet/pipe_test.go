package wsnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

// inMemory is a listener without a socket.
func inMemory() ListenerConfig { return ListenerConfig{Network: PipeNetwork} }

// listen opens a listener of a rig.
func (r *rig) listen(t testing.TB, cfg ListenerConfig) *Listener {
	t.Helper()
	ln, err := r.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// relay joins pipes by twos: what one client sends the other one gets, with what makes a client wait. It is
// for one loop.
type relay struct {
	waiting *Conn
	other   map[*Conn]*Conn
}

func (p *relay) Opened(c *Conn) {
	if p.waiting == nil {
		p.waiting = c
		return
	}
	p.other[c], p.other[p.waiting] = p.waiting, c
	p.waiting = nil
}

func (p *relay) Data(c *Conn, b []byte) (used, need int) {
	to := p.other[c]
	if to == nil { // it is the first of two
		c.Hold()
		return 0, 0
	}
	to.Write(b)
	to.Flush()
	if to.Buffered() > 0 {
		c.Hold()
	}
	return len(b), 0
}

func (p *relay) Drained(c *Conn) {
	if from := p.other[c]; from != nil {
		if from.Held() {
			from.Release(from.Loop(), TaskFunc(func(*Loop) {}))
		}
	} else { // its partner has ended
		c.Close(io.EOF)
	}
}

func (p *relay) Closed(c *Conn, _ error) {
	if to := p.other[c]; to != nil {
		delete(p.other, to)
		if to.Flush(); to.Buffered() == 0 {
			to.Close(io.EOF)
		}
	}
	delete(p.other, c)
}

// TestPipeIsAConn holds the client's end against the contract of net.Conn.
func TestPipeIsAConn(t *testing.T) {
	for name, portable := range map[string]bool{"native": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				s, err := New(Config{
					Loops: 1, Portable: portable, Log: slog.New(slog.DiscardHandler),
					NewHandler: func(*Loop) Handler { return &relay{other: map[*Conn]*Conn{}} },
				})
				if err != nil {
					return nil, nil, nil, err
				}
				ln, err := s.Listen(inMemory())
				c1, c2 = ln.Pipe(), ln.Pipe()
				return c1, c2, func() {
					_, _ = c1.Close(), c2.Close()
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if err := s.Shutdown(ctx); err != nil {
						t.Error(err)
					}
				}, err
			})
		})
	}
}

// TestPipeIsLikeASocket: what the handler and the client see of it, whatever the listener's transport adds
// for others.
func TestPipeIsLikeASocket(t *testing.T) {
	server, _ := certificate(t)
	tcp, ws, secure, proxied := loopback(), loopback(), loopback(), loopback()
	ws.WebSocket, secure.TLS, proxied.ProxyProtocol = true, server, 2
	for name, cfg := range map[string]ListenerConfig{
		"no socket": inMemory(), "TCP": tcp, "WebSocket": ws, "TLS": secure, "PROXY header": proxied,
	} {
		t.Run(name, func(t *testing.T) {
			over(t, Config{}, script{}, func(t *testing.T, r *rig) {
				ln := r.listen(t, cfg)
				nc := ln.Pipe()
				mustWrite(t, nc, "hello")
				mustRead(t, nc, "hello")
				c := get(t, r.opened)
				if !c.Piped() || !c.Local() || c.RemoteAddr().IsValid() || c.TLS() != nil || c.WebSocket() ||
					c.Listener() != ln || c.Proxied() != nil {
					t.Errorf("the handler sees %v %v %v", c.Piped(), c.Local(), c.RemoteAddr())
				}
				if n := ln.Open(); n != 1 {
					t.Errorf("%d connections", n)
				}
				mustWrite(t, nc, "last")
				if err := nc.Close(); err != nil {
					t.Error(err)
				}
				if e := get(t, r.closed); e.c != c || !errors.Is(e.reason, io.EOF) {
					t.Errorf("ended with %v", e.reason)
				}
				r.until(t, "it has left", func() bool { return ln.Open() == 0 })
			})
		})
	}
}

// TestPipeHalfClosed: what the client still sends is read before its end, and what it is answered arrives.
func TestPipeHalfClosed(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		nc := r.listen(t, inMemory()).Pipe()
		want := bytes.Repeat([]byte("0123456789"), 20000) // more than one read, less than the room
		mustWrite(t, nc, string(want))
		if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write behind the end: %v", err)
		}
		mustEnd(t, nc, string(want))
	})
}

// TestPipeClosedByServer: last words arrive, then the end; who writes on hears of it once the loop has given
// the connection up.
func TestPipeClosedByServer(t *testing.T) {
	bye := script{data: func(c *Conn, b []byte) (int, int) {
		c.Write([]byte("bye"))
		c.Close(errors.New("enough"))
		return len(b), 0
	}}
	over(t, Config{}, bye, func(t *testing.T, r *rig) {
		nc := r.listen(t, inMemory()).Pipe()
		mustWrite(t, nc, "x")
		mustEnd(t, nc, "bye")
		mustWrite(t, nc, "nobody takes this, as with a socket")
		r.later(t)
		if _, err := nc.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a write after the end: %v", err)
		}
	})
}

// TestPipeOutputWaits: the loop never waits for a client that does not read; the handler hears when it does.
func TestPipeOutputWaits(t *testing.T) {
	const size = 3 << 20
	drained := make(chan *Conn, 16)
	pour := script{
		data: func(c *Conn, b []byte) (int, int) {
			c.WriteShared(make([]byte, size/2))
			for range size / 2 / 1024 {
				c.Write(make([]byte, 1024))
			}
			c.Flush()
			return len(b), 0
		},
		drained: func(c *Conn) { drained <- c },
	}
	over(t, Config{Loops: 1}, pour, func(t *testing.T, r *rig) {
		ln := r.listen(t, inMemory())
		nc := ln.Pipe()
		mustWrite(t, nc, "x")
		c := get(t, r.opened)
		r.until(t, "it is blocked", func() bool {
			blocked := false
			r.on(t, r.loops[0], func(*Loop) { blocked = c.Blocked() && c.Buffered() == size-pipeRoom })
			return blocked
		})
		if n, err := io.ReadFull(nc, make([]byte, size)); err != nil {
			t.Errorf("%d bytes and %v", n, err)
		}
		if get(t, drained) != c {
			t.Error("another connection was drained")
		}
	})
}

// TestPipeInputWaits: a client waits while the loop does not read, and what it has written is not lost.
func TestPipeInputWaits(t *testing.T) {
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		nc := r.listen(t, inMemory()).Pipe()
		get(t, r.opened)
		r.on(t, r.loops[0], func(l *Loop) { l.PauseReads(true) })
		if err := nc.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := nc.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != pipeRoom {
			t.Errorf("%d bytes and %v", n, err)
		}
		r.on(t, r.loops[0], func(l *Loop) { l.PauseReads(false) })
		if k, err := io.ReadFull(nc, make([]byte, n)); err != nil {
			t.Errorf("%d bytes of %d came back: %v", k, n, err)
		}
	})
}

// TestPipesTakeTurns: a pipe that has sent much does not hold up one that has sent little.
func TestPipesTakeTurns(t *testing.T) {
	var order []string
	note := script{data: func(_ *Conn, b []byte) (int, int) {
		order = append(order, string(b[:1]))
		return len(b), 0
	}}
	over(t, Config{Loops: 1}, note, func(t *testing.T, r *rig) {
		order = nil
		ln := r.listen(t, inMemory())
		loud, quiet := ln.Pipe(), ln.Pipe()
		get(t, r.opened)
		get(t, r.opened)
		release := r.stall(t, r.loops[0])
		mustWrite(t, loud, string(bytes.Repeat([]byte("l"), pipeRoom)))
		mustWrite(t, quiet, "q")
		release()
		_, _ = loud.Close(), quiet.Close()
		get(t, r.closed)
		get(t, r.closed)
		if want := pipeRoom / (64 << 10); len(order) != want+1 || order[0] != "l" || order[1] != "q" {
			t.Errorf("read in this order: %v", order)
		}
	})
}

// TestPipeMoves: nothing of it is lost or doubled while it is held and goes from loop to loop.
func TestPipeMoves(t *testing.T) {
	var r *rig
	hop := script{data: func(c *Conn, b []byte) (used, need int) {
		for used = range b {
			c.Write(b[used : used+1])
			switch to := r.loops[(c.Loop().Index()+1)%len(r.loops)]; b[used] % 3 {
			case 0:
				c.Move(to, TaskFunc(func(*Loop) {}))
				return used + 1, 0
			case 1:
				c.Hold()
				l := c.Loop()
				l.Again(TaskFunc(func(*Loop) { c.Release(to, TaskFunc(func(*Loop) {})) }))
				return used + 1, 0
			}
		}
		return len(b), 0
	}}
	over(t, Config{}, hop, func(t *testing.T, it *rig) {
		r = it
		nc := r.listen(t, inMemory()).Pipe()
		want := make([]byte, 3000)
		for i := range want {
			want[i] = byte(i * 7)
		}
		go func() { _, _ = nc.Write(want) }() // Read waits
		got := make([]byte, len(want))
		if n, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes and %v, or others than were sent", n, err)
		}
	})
}

// TestPipeRefused: a listener that takes no connections gives one that has ended.
func TestPipeRefused(t *testing.T) {
	ended := func(t *testing.T, nc net.Conn) {
		t.Helper()
		mustEnd(t, nc, "")
		if _, err := nc.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a write: %v", err)
		}
		if err := nc.Close(); err != nil {
			t.Error(err)
		}
	}
	over(t, Config{MaxConnections: 1}, script{}, func(t *testing.T, r *rig) {
		var heard []RefusalCause
		cfg := inMemory()
		cfg.MaxConnections = 2
		cfg.OnRefuse = func(f Refusal) { heard = append(heard, f.Cause) }
		ln := r.listen(t, cfg)
		for range 2 { // the server's limit is for sockets
			if err := ask(ln.Pipe()); err != nil {
				t.Error(err)
			}
		}
		ended(t, ln.Pipe())
		if len(heard) != 1 || heard[0] != CauseTooMany {
			t.Errorf("refused for %v", heard)
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		ended(t, ln.Pipe())
		other := r.listen(t, inMemory())
		held := other.Pipe()
		r.stopped(t)
		ended(t, held)
		ended(t, other.Pipe())
	})
}

// TestPipeTakesNoGoroutine: idle pipes are memory only, little of it.
func TestPipeTakesNoGoroutine(t *testing.T) {
	const many = 2000
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		ln := r.listen(t, inMemory())
		list := make([]net.Conn, many)
		goroutines, heap := runtime.NumGoroutine(), heapInUse()
		for i := range list {
			list[i] = ln.Pipe()
			if err := ask(list[i]); err != nil {
				t.Fatal(err)
			}
		}
		if n := runtime.NumGoroutine() - goroutines; n > 10 {
			t.Errorf("%d goroutines more", n)
		}
		if each := (heapInUse() - heap) / many; each > 900 {
			t.Errorf("an idle pipe takes %d bytes", each)
		} else {
			t.Logf("an idle pipe takes %d bytes", each)
		}
		runtime.KeepAlive(list)
	})
}

// TestPipeInBubble: the portable poller has nothing but pipes to wait for, so its time may be
// testing/synctest's, and deadlines are exact.
func TestPipeInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{}, script{}, true)
		nc := r.listen(t, inMemory()).Pipe()
		begin := time.Now()
		if err := nc.SetReadDeadline(begin.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, err := nc.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := nc.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := ask(nc); err != nil {
			t.Error(err)
		}
		r.stopped(t)
	})
}
