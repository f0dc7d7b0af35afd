package wsnet

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// onward is the loop after that of a connection.
func onward(c *Conn) *Loop {
	loops := c.Loop().Server().Loops()
	return loops[(c.Loop().Index()+1)%len(loops)]
}

func nothing(*Loop) {}

// hop echoes up to a '>' and moves there.
func hop(c *Conn, b []byte) (used, need int) {
	i := bytes.IndexByte(b, '>')
	if i < 0 {
		c.Write(b)
		return len(b), 0
	}
	if i > 0 {
		c.Write(b[:i])
	}
	c.Move(onward(c), TaskFunc(nothing))
	return i + 1, 0
}

// holdOn echoes up to a '>' and is held there, until another goroutine has posted its release.
func holdOn(c *Conn, b []byte) (used, need int) {
	i := bytes.IndexByte(b, '>')
	if i < 0 {
		c.Write(b)
		return len(b), 0
	}
	if i > 0 {
		c.Write(b[:i])
	}
	c.Hold()
	at, to := c.Loop(), onward(c)
	if len(b)%2 == 0 {
		to = at
	}
	go at.MustPost(TaskFunc(func(*Loop) { c.Release(to, TaskFunc(nothing)) })) // the loop takes it
	return i + 1, 0
}

// TestHeldConnectionEnds ends a connection that is held: Closed comes once and Release says that it came too late.
func TestHeldConnectionEnds(t *testing.T) {
	hold := func(c *Conn, _ []byte) (used, need int) {
		c.Hold()
		return 0, 0
	}
	over(t, Config{}, script{data: hold}, func(t *testing.T, r *rig) {
		nc := dial(t, listen(t, r.Server, loopback()))
		mustWrite(t, nc, "hello")
		c := get(t, r.opened)
		released := make(chan bool, 1)
		r.until(t, "a read", func() bool { return r.Stats().BytesIn > 0 })
		c.Loop().MustPost(TaskFunc(func(*Loop) { c.Close(io.ErrClosedPipe) }))
		if e := get(t, r.closed); !errors.Is(e.reason, io.ErrClosedPipe) {
			t.Errorf("closed with %v", e.reason)
		}
		c.Loop().MustPost(TaskFunc(func(l *Loop) { released <- c.Release(l, TaskFunc(nothing)) }))
		if get(t, released) {
			t.Error("a connection that has ended was released")
		}
	})
}

// TestMoveInFlight moves connections every few kilobytes, with input and output in every place it can be;
// TestHoldInFlight holds them.
func TestMoveInFlight(t *testing.T) { inFlight(t, hop) }

func TestHoldInFlight(t *testing.T) { inFlight(t, holdOn) }

func inFlight(t *testing.T, data func(c *Conn, b []byte) (used, need int)) {
	t.Helper()
	for _, size := range []int{700, 64 << 10} {
		dials := streams(t)
		over(t, Config{ReadBufferSize: size}, script{data: data}, func(t *testing.T, r *rig) {
			var all sync.WaitGroup
			for name, dialer := range dials {
				for range 3 {
					nc := dialer(t, r)
					all.Go(func() { hopStream(t, name, nc, 512<<10) })
				}
			}
			all.Wait()
		})
	}
}

// hopStream sends n random bytes with a move at every 4000th or so and expects all others back.
func hopStream(t *testing.T, name string, nc net.Conn, n int) {
	sent := bytes.Repeat([]byte("."), n)
	for i := range sent {
		if sent[i] = byte(rand.Uint32()); sent[i] == '>' {
			sent[i] = '.'
		}
	}
	for i := rand.IntN(4000); i < n; i += 1 + rand.IntN(8000) {
		sent[i] = '>'
	}
	want := bytes.ReplaceAll(sent, []byte(">"), nil)
	wrote := make(chan error, 1)
	go func() { // wrote
		var err error
		for b := sent; len(b) > 0 && err == nil; {
			k := min(len(b), 1+rand.IntN(30000))
			_, err = nc.Write(b[:k])
			b = b[k:]
		}
		wrote <- err
	}()
	got := make([]byte, len(want))
	if k, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: read %d of %d bytes: %v", name, k, len(want), err)
		_ = nc.Close()
	}
	if err := <-wrote; err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// streams are transports and WebSocket.
func streams(t *testing.T) map[string]func(t *testing.T, r *rig) net.Conn {
	dials := transports(t)
	dials["websocket"] = dialBinary
	return dials
}

func dialBinary(t *testing.T, r *rig) net.Conn { return &binaryConn{Conn: dialWebSocket(t, r)} }

// binaryConn is a WebSocket connection as a stream.
type binaryConn struct {
	net.Conn
	rest []byte
}

func (c *binaryConn) Write(b []byte) (int, error) {
	return len(b), wsutil.WriteClientBinary(c.Conn, b)
}

func (c *binaryConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		p, err := wsutil.ReadServerBinary(c.Conn)
		if err != nil {
			return 0, err
		}
		c.rest = p
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

var errTest = errors.New("a reason")

// TestMoveThenEnd: whatever ends a connection behind Move, its task runs, then what came before the end is
// handled, and Closed is called once, all on the new loop.
func TestMoveThenEnd(t *testing.T) {
	server, client := certificate(t)
	secure := loopback()
	secure.TLS = server
	tests := []struct {
		name  string
		dial  func(t *testing.T, r *rig) net.Conn
		send  string
		shut  bool
		input string // handled on the new loop
		want  error
	}{
		{"close", dialTCP, ">!abc", false, "", errTest},
		{"close first", dialTCP, ">?abc", false, "", errTest},
		{"end", dialTCP, ">abc", true, "abc", io.EOF},
		{"tls end", func(t *testing.T, r *rig) net.Conn {
			nc := tls.Client(dial(t, listen(t, r.Server, secure)), client)
			if err := nc.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			return nc
		}, ">abc", true, "abc", io.EOF},
		{"websocket close", dialWebSocket, frame(ws.OpBinary, ">abc") + frame(ws.OpBinary, "def") +
			frame(ws.OpClose, "\x03\xE8"), false, "abcdef", io.EOF},
		{"websocket breach", dialWebSocket, frame(ws.OpBinary, ">") + frame(ws.OpBinary, "abc") +
			"\x82\x01x", false, "abc", ErrProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var heard strings.Builder
			var closedOn *Loop
			sc := script{
				data: func(c *Conn, b []byte) (int, int) {
					if b[0] != '>' {
						heard.Write(b)
						return len(b), 0
					}
					if strings.HasPrefix(string(b), ">?") {
						c.Close(errTest)
					}
					c.Write([]byte("w"))
					c.Move(onward(c), TaskFunc(func(*Loop) { heard.WriteString("task:") }))
					if strings.HasPrefix(string(b), ">!") {
						c.Close(errTest)
					}
					return 1, 0
				},
				closed: func(c *Conn) { closedOn = c.Loop() },
			}
			over(t, Config{Loops: 2}, sc, func(t *testing.T, r *rig) {
				heard.Reset()
				nc := tt.dial(t, r)
				first := r.conn(t, nc).Loop()
				release := r.stall(t, first) // so that all comes at once
				mustWrite(t, nc, tt.send)
				if tt.shut {
					if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				release()
				e := r.ending(t, nc)
				if !errors.Is(e.reason, tt.want) {
					t.Errorf("closed with %v, want %v", e.reason, tt.want)
				}
				if got := heard.String(); got != "task:"+tt.input {
					t.Errorf("heard %q, want %q", got, tt.input)
				}
				if closedOn == first {
					t.Error("closed on the old loop")
				}
				if got, err := io.ReadAll(nc); err != nil || !bytes.Contains(got, []byte("w")) {
					t.Errorf("read %q and %v", got, err)
				}
			})
		})
	}
}

func dialTCP(t *testing.T, r *rig) net.Conn { return dial(t, listen(t, r.Server, loopback())) }

// TestUpgradeThenTimeout: a connection that was upgraded in time and moved on is no business of the loop
// that greeted it.
func TestUpgradeThenTimeout(t *testing.T) {
	over(t, Config{Loops: 2}, script{data: hop}, func(t *testing.T, r *rig) {
		nc := dialBinary(t, r)
		for range 10 {
			mustWrite(t, nc, ">a")
			r.later(t)
			mustRead(t, nc, "a")
		}
		if n := r.Stats().HandshakesTimedOut; n != 0 {
			t.Errorf("%d handshakes timed out", n)
		}
	})
}

// TestPauseReads: a paused loop reads nothing, but runs tasks, writes and closes.
func TestPauseReads(t *testing.T) {
	var reads atomic.Int64
	sc := script{data: func(c *Conn, b []byte) (int, int) {
		reads.Add(1)
		c.Write(b)
		return len(b), 0
	}}
	over(t, Config{Loops: 1}, sc, func(t *testing.T, r *rig) {
		l := r.loops[0]
		a := listen(t, r.Server, loopback())
		var ncs []net.Conn
		var cs []*Conn
		for range 4 {
			nc := dial(t, a)
			mustWrite(t, nc, "a")
			mustRead(t, nc, "a")
			ncs, cs = append(ncs, nc), append(cs, r.conn(t, nc))
		}
		r.on(t, l, func(l *Loop) { l.PauseReads(true) })
		before := reads.Load()
		for _, nc := range ncs {
			mustWrite(t, nc, "b")
		}
		late := dial(t, a)
		mustWrite(t, late, "c")
		r.conn(t, late)
		if err := ncs[3].(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.on(t, l, func(*Loop) {
			cs[0].Write([]byte("w"))
			cs[1].Close(errTest)
		})
		mustRead(t, ncs[0], "w")
		if e := r.ending(t, ncs[1]); e.c != cs[1] || !errors.Is(e.reason, errTest) {
			t.Errorf("closed with %v", e.reason)
		}
		for range 10 {
			r.on(t, l, nothing)
		}
		if n := reads.Load(); n != before {
			t.Errorf("read %d times in the pause", n-before)
		}
		r.on(t, l, func(l *Loop) { l.PauseReads(false) })
		mustRead(t, ncs[0], "b")
		mustRead(t, ncs[2], "b")
		mustEnd(t, ncs[3], "b")
		mustRead(t, late, "c")
	})
}
