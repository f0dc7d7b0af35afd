package wsnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"noctule/internal/places"
)

// TestSlowReader writes far more than sockets hold, in every way and in many sizes, to clients that read
// only when the socket has blocked. Nothing is lost, and Drained comes at the end.
func TestSlowReader(t *testing.T) {
	dials := streams(t)
	var drained atomic.Pointer[Conn]
	sc := script{drained: func(c *Conn) { drained.Store(c) }}
	over(t, Config{}, sc, func(t *testing.T, r *rig) {
		for name, dialer := range dials {
			t.Run(name, func(t *testing.T) {
				seed := rand.Uint64()
				nc := dialer(t, r)
				mustWrite(t, nc, "a")
				mustRead(t, nc, "a")
				c := r.conn(t, nc)
				var want []byte
				r.on(t, c.Loop(), func(*Loop) { want = writeMuch(c, 16<<20, seed) })
				r.on(t, c.Loop(), func(*Loop) {
					if n := c.Buffered(); n < 1<<20 || !c.blocked {
						t.Errorf("%d bytes buffered, blocked is %v", n, c.blocked)
					}
					drained.Store(nil)
				})
				got := make([]byte, len(want))
				if n, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("seed %d: read %d of %d bytes: %v", seed, n, len(want), err)
				}
				r.until(t, "the call of Drained", func() bool { return drained.Load() == c })
				r.on(t, c.Loop(), func(*Loop) {
					if n := c.Buffered(); n != 0 || c.backlog() != nil || c.blocked {
						t.Errorf("%d bytes buffered, blocked is %v", n, c.blocked)
					}
				})
			})
		}
	})
}

// writeMuch writes n bytes and returns them.
func writeMuch(c *Conn, n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 0))
	all := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(all[i:], rnd.Uint64())
	}
	for b := all; len(b) > 0; {
		k := min(len(b), 1+rnd.IntN(1<<(1+rnd.IntN(19))))
		switch rnd.IntN(8) {
		case 0:
			c.Flush()
			fallthrough
		case 1, 2:
			c.WriteShared(b[:k])
		case 3:
			copy(c.Reserve(k), b)
		default:
			c.Write(b[:k])
		}
		b = b[k:]
	}
	return all
}

// TestDrainedWritesMore feeds a stream from Drained, after a move to another loop.
func TestDrainedWritesMore(t *testing.T) {
	const chunk, rounds = 16 << 20, 3 // more than sockets hold
	left := map[*Conn]int{}
	feed := func(c *Conn) {
		for ; left[c] > 0 && !c.blocked; left[c]-- {
			c.Write(make([]byte, chunk))
			c.Flush()
		}
		if !c.blocked {
			c.Close(errTest)
		}
	}
	sc := script{
		data: func(c *Conn, b []byte) (int, int) {
			left[c] = rounds - 1
			c.Write(make([]byte, chunk))
			c.Move(onward(c), TaskFunc(func(*Loop) { feed(c) }))
			return len(b), 0
		},
		drained: feed,
	}
	over(t, Config{}, sc, func(t *testing.T, r *rig) {
		nc := dialTCP(t, r)
		mustWrite(t, nc, "a")
		if n, err := io.Copy(io.Discard, nc); n != chunk*rounds || err != nil {
			t.Errorf("read %d of %d bytes: %v", n, chunk*rounds, err)
		}
		if e := r.ending(t, nc); !errors.Is(e.reason, errTest) {
			t.Errorf("closed with %v", e.reason)
		}
	})
}

// TestNeed: Data is not called again before there is as much input as it asked for.
func TestNeed(t *testing.T) {
	var calls strings.Builder
	sc := script{data: func(c *Conn, b []byte) (used, need int) {
		fmt.Fprintf(&calls, "%d ", len(b))
		if len(b) < 100 {
			return 0, 100
		}
		c.Write(b[:100])
		return 100, 100
	}}
	over(t, Config{Loops: 1}, sc, func(t *testing.T, r *rig) {
		calls.Reset()
		nc := dialTCP(t, r)
		message := strings.Repeat("0123456789", 10)
		for i := range message {
			in := r.Stats().BytesIn
			mustWrite(t, nc, message[i:i+1])
			r.until(t, "a read", func() bool { return r.Stats().BytesIn > in })
		}
		mustRead(t, nc, message)
		in := r.Stats().BytesIn
		mustWrite(t, nc, message[:60])
		r.until(t, "a read", func() bool { return r.Stats().BytesIn == in+60 })
		mustWrite(t, nc, message[60:]+message[:50])
		mustRead(t, nc, message)
		c := r.conn(t, nc)
		r.on(t, r.loops[0], func(*Loop) {
			if got := calls.String(); got != "1 100 60 150 " || len(pendingOf(c)) != 50 {
				t.Errorf("calls of %s bytes, %d are pending", got, len(pendingOf(c)))
			}
		})
	})
}

func TestMaxPending(t *testing.T) {
	greedy := script{data: func(*Conn, []byte) (used, need int) { return 0, 1 << 30 }}
	over(t, Config{MaxPending: 1000}, greedy, func(t *testing.T, r *rig) {
		for _, webSocket := range []bool{false, true} {
			var nc net.Conn
			if webSocket {
				nc = dialBinary(t, r)
			} else {
				nc = dialTCP(t, r)
			}
			c := r.conn(t, nc)
			in := r.Stats().BytesIn
			mustWrite(t, nc, strings.Repeat("x", 1000))
			r.until(t, "a read", func() bool { return r.Stats().BytesIn >= in+1000 })
			r.on(t, c.Loop(), func(*Loop) {
				if len(pendingOf(c)) != 1000 {
					t.Errorf("%d bytes are pending", len(pendingOf(c)))
				}
			})
			mustWrite(t, nc, "x")
			if e := r.ending(t, nc); !errors.Is(e.reason, ErrPending) {
				t.Errorf("closed with %v", e.reason)
			}
			if b, ok := nc.(*binaryConn); ok {
				mustEnd(t, b.Conn, "\x88\x02\x03\xF1") // message too big
			}
			r.on(t, c.Loop(), func(*Loop) {
				if pendingOf(c) != nil {
					t.Error("input is held for a closed connection")
				}
			})
		}
	})
}

// TestWriteAfterClose: what is written in the turn of Close still goes, and later writes go nowhere.
func TestWriteAfterClose(t *testing.T) {
	sc := script{data: func(c *Conn, b []byte) (int, int) {
		c.Write([]byte("before "))
		c.Close(errTest)
		c.Close(io.EOF)
		c.Write([]byte("after"))
		return len(b), 0
	}}
	over(t, Config{Loops: 1}, sc, func(t *testing.T, r *rig) {
		for _, clientEnds := range []bool{false, true} {
			nc := dialTCP(t, r)
			mustWrite(t, nc, "a")
			e := r.ending(t, nc)
			if !errors.Is(e.reason, errTest) {
				t.Errorf("closed with %v", e.reason)
			}
			mustEnd(t, nc, "before after")
			if clientEnds {
				if err := nc.Close(); err != nil {
					t.Fatal(err)
				}
				r.until(t, "the end", func() bool { return r.Stats().Open == 0 })
			}
			for range 3 {
				r.on(t, r.loops[0], func(*Loop) {
					e.c.Write(make([]byte, 1000))
					e.c.WriteShared(make([]byte, 1000))
				})
			}
			r.on(t, r.loops[0], func(*Loop) {
				if n := e.c.Buffered(); n != 0 || e.c.out != nil || e.c.backlog() != nil {
					t.Errorf("%d bytes buffered for a closed connection", n)
				}
			})
			r.on(t, r.loops[0], func(l *Loop) { l.drop(e.c) })
		}
	})
}

// valve is a socket that takes a few bytes of each write and keeps none.
type valve struct {
	fdless
	open int
}

func (v *valve) write(b []byte) (int, error) {
	n := min(v.open, len(b))
	v.open -= n
	return n, nil
}

func (v *valve) writev(pieces [][]byte) (total int, err error) {
	for i := 0; i < len(pieces) && v.open > 0; i++ {
		n, _ := v.write(pieces[i])
		total += n
	}
	return total, nil
}

// fdless is a socket that nothing comes from.
type fdless struct{ registerErr error }

func (fdless) read([]byte) (int, error)      { return 0, errWouldBlock }
func (f fdless) register(*Loop, *Conn) error { return f.registerErr }
func (fdless) unregister(*Loop, *Conn)       {}
func (fdless) shutdown() bool                { return false }
func (fdless) close(*Loop)                   {}
func (fdless) write(b []byte) (int, error)   { return len(b), nil }
func (fdless) writev([][]byte) (int, error)  { panic("one piece at most") }

// TestBacklogGivesBuffersBack: a connection that never catches up holds what it has yet to write, and not
// what it ever wrote.
func TestBacklogGivesBuffersBack(t *testing.T) {
	over(t, Config{Loops: 1}, script{}, func(t *testing.T, r *rig) {
		ln, err := r.Listen(loopback())
		if err != nil {
			t.Fatal(err)
		}
		for _, webSocket := range []bool{false, true} {
			r.on(t, r.loops[0], func(l *Loop) {
				v := &valve{}
				c := ln.newConn(v)
				ln.admit(netip.AddrPort{})
				if l.greet(c, nil, ln.server.entrance.enter(places.Peer{Trusted: true})); webSocket {
					c.ws = &wsState{upgraded: true}
				}
				shared := make([]byte, 2000)
				for i := range 2000 {
					c.Write(make([]byte, 10000))
					if i%3 == 0 {
						c.WriteShared(shared)
					}
					if v.open = 10000; i < 3 {
						v.open = 0
					}
					c.Flush()
				}
				held := 0
				for _, b := range c.backlog().own {
					held += cap(b)
				}
				if n := c.Buffered(); held > 2*n || cap(c.backlog().wire) > 4000 {
					t.Errorf("%d bytes buffered, %d held, room for %d pieces", n, held, cap(c.backlog().wire))
				}
				for c.backlog() != nil {
					v.open = 1000
					c.Flush()
				}
				c.Close(errTest)
			})
		}
	})
}

// closings is a socket that cannot be registered, and counts its closings.
type closings struct {
	fdless
	n int
}

func (s *closings) register(*Loop, *Conn) error { return errTest }
func (s *closings) close(*Loop)                 { s.n++ }

// TestRegisterFails: a socket that the poller does not take is closed, and its connection never opens; one
// that was open and moved is closed with the error.
func TestRegisterFails(t *testing.T) {
	over(t, Config{Loops: 2}, script{}, func(t *testing.T, r *rig) {
		ln, err := r.Listen(loopback())
		if err != nil {
			t.Fatal(err)
		}
		s := &closings{}
		r.on(t, r.loops[0], func(l *Loop) {
			ln.admit(netip.AddrPort{})
			l.greet(ln.newConn(s), nil, ln.server.entrance.enter(places.Peer{Trusted: true}))
		})
		r.on(t, r.loops[0], func(*Loop) {
			if s.n != 1 || r.openings.Load() != 0 || ln.Open() != 0 {
				t.Errorf("closed %d times, %d opened, %d open", s.n, r.openings.Load(), ln.Open())
			}
		})
		s = &closings{}
		r.on(t, r.loops[0], func(l *Loop) {
			ln.admit(netip.AddrPort{})
			c := ln.newConn(&s.fdless)
			l.greet(c, nil, ln.server.entrance.enter(places.Peer{Trusted: true}))
			c.io = s
			c.Move(r.loops[1], TaskFunc(nothing))
			l.sendOff(c)
		})
		if e := get(t, r.closed); !errors.Is(e.reason, errTest) {
			t.Errorf("closed with %v", e.reason)
		}
		r.on(t, r.loops[1], func(*Loop) {
			if s.n != 1 || ln.Open() != 0 {
				t.Errorf("closed %d times, %d open", s.n, ln.Open())
			}
		})
	})
}

// TestClosedConnectionsAreGarbage: nothing keeps a connection, and so its attachment, when it has ended.
func TestClosedConnectionsAreGarbage(t *testing.T) {
	const n = 30
	var collected atomic.Int64
	sc := script{data: hop, opened: func(c *Conn) {
		a := new([1000]byte)
		runtime.AddCleanup(a, func(int) { collected.Add(1) }, 0)
		c.Attachment = a
	}}
	over(t, Config{}, sc, func(t *testing.T, r *rig) {
		collected.Store(0)
		dials := []func(*testing.T, *rig) net.Conn{dialTCP, dialBinary}
		for i := range n {
			nc := dials[i%2](t, r)
			mustWrite(t, nc, "a>b>c")
			mustRead(t, nc, "abc")
			_ = nc.Close()
			r.conn(t, nc)
			r.ending(t, nc)
		}
		r.until(t, "the end of all", func() bool { return r.Stats().Open == 0 })
		r.until(t, "their collection", func() bool {
			runtime.GC()
			return collected.Load() == n
		})
	})
}

func pendingOf(c *Conn) []byte {
	if c.extra == nil {
		return nil
	}
	return c.extra.pending
}

func rawOf(c *Conn) []byte {
	if c.extra == nil {
		return nil
	}
	return c.extra.raw
}
