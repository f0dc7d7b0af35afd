package wsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// spin waits for a condition that no loop can be asked about.
func spin(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// TestShutdownEndsAll has a connection in every state there is. All of them end, those that were open with
// ErrServerClosed, and with what was written before.
func TestShutdownEndsAll(t *testing.T) {
	dials := transports(t)
	server, _ := certificate(t)
	big := make([]byte, 32<<20)
	sc := script{data: func(c *Conn, b []byte) (int, int) {
		switch b[0] {
		case '!':
			c.Close(io.EOF)
		case 'b':
			c.WriteShared(big)
		default:
			c.Write(b)
		}
		return len(b), 0
	}}
	over(t, Config{HandshakeTimeout: time.Hour}, sc, func(t *testing.T, r *rig) {
		open := map[string]net.Conn{}
		for name, dialer := range dials {
			nc := dialer(t, r)
			mustWrite(t, nc, "a")
			mustRead(t, nc, "a")
			open[name] = nc
		}
		wsc := dialWebSocket(t, r)
		mustWrite(t, wsc, frame(ws.OpBinary, "a"))
		mustRead(t, wsc, "\x82\x01a")

		cfg := webSocketListener()
		half := dial(t, listen(t, r.Server, cfg))
		mustWrite(t, half, upgradeRequest[:40])
		cfg.TLS = server
		mute := dial(t, listen(t, r.Server, cfg))
		lingering := dialTCP(t, r)
		mustWrite(t, lingering, "!")
		mustEnd(t, lingering, "")
		slow := dialTCP(t, r)
		mustWrite(t, slow, "b")
		mustRead(t, slow, "\x00")
		r.until(t, "all connections", func() bool { return r.Stats().Accepted == int64(len(open)+5) })

		r.stopped(t)
		for name, nc := range open {
			if b, err := io.ReadAll(nc); err != nil || len(b) > 0 {
				t.Errorf("%s: read %q and %v", name, b, err)
			}
		}
		mustEnd(t, wsc, "\x88\x02\x03\xE9") // going away
		for _, nc := range []net.Conn{half, mute} {
			if _, err := nc.Read(make([]byte, 1)); err == nil {
				t.Error("an answer to half a handshake")
			}
		}
		closedByServer := 0
		for range r.endings.Load() {
			if e := get(t, r.closed); errors.Is(e.reason, ErrServerClosed) {
				closedByServer++
			}
		}
		if want := len(open) + 2; closedByServer != want {
			t.Errorf("%d closed with ErrServerClosed, want %d", closedByServer, want)
		}
	})
}

// TestShutdownDuringMove: the loop that a connection moves to has stopped before the one it comes from.
func TestShutdownDuringMove(t *testing.T) {
	over(t, Config{Loops: 2}, script{data: hop}, func(t *testing.T, r *rig) {
		nc := dialTCP(t, r)
		c := r.conn(t, nc)
		if err := c.Listener().Close(); err != nil { // else Shutdown waits with that for the loop that stalls
			t.Fatal(err)
		}
		from := c.Loop()
		release := r.stall(t, from)
		mustWrite(t, nc, ">a")
		spin(t, "an event", func() bool {
			from.mail.mu.Lock()
			defer from.mail.mu.Unlock()
			_, native := from.poll.(interface{ native() })
			return native || len(from.mail.mu.tasks) > 0
		})
		ended := make(chan struct{})
		go func() { // ended
			defer close(ended)
			r.stopped(t)
		}()
		spin(t, "one loop to stop", func() bool { return r.running.Load() < 2 })
		release()
		get(t, ended)
		if e := r.ending(t, nc); !errors.Is(e.reason, ErrServerClosed) {
			t.Errorf("closed with %v", e.reason)
		}
	})
}

// TestShutdownInTheStorm shuts down while clients come, write, move and go.
func TestShutdownInTheStorm(t *testing.T) {
	server, client := certificate(t)
	secure := loopback()
	secure.TLS = server
	unix := ListenerConfig{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}
	for range 10 {
		over(t, Config{}, script{data: hop}, func(t *testing.T, r *rig) {
			var clients sync.WaitGroup
			for _, cfg := range []ListenerConfig{loopback(), unix, secure} {
				a := listen(t, r.Server, cfg)
				for range 4 {
					clients.Go(func() {
						for {
							nc, err := net.Dial(a.Network(), a.String())
							if err != nil {
								return // the listener is closed
							}
							if cfg.TLS != nil {
								nc = tls.Client(nc, client)
							}
							_, _ = nc.Write([]byte("a>b>c>d"))
							_, _ = io.ReadFull(nc, make([]byte, 4))
							_ = nc.Close()
						}
					})
				}
			}
			for range 20 {
				get(t, r.opened)
			}
			r.stopped(t)
			clients.Wait()
		})
	}
}

// TestCloseTwice: no Close of a listener returns before it is closed. Shutdown would stop the loops that the
// other one waits for.
func TestCloseTwice(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		ln, err := r.Listen(loopback())
		if err != nil {
			t.Fatal(err)
		}
		closer, closing, free := ln.closer, make(chan struct{}), make(chan struct{})
		ln.closer = func() {
			close(closing)
			<-free
			closer()
		}
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- ln.Close() }()
		}
		get(t, closing)
		for range 1000 {
			runtime.Gosched()
		}
		if len(ended) > 0 {
			t.Error("Close returned early")
		}
		close(free)
		if err := errors.Join(get(t, ended), get(t, ended)); err != nil {
			t.Error(err)
		}
	})
}

// TestShutdownGivesUp: a handler that never returns does not hold Shutdown beyond its context.
func TestShutdownGivesUp(t *testing.T) {
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		release := r.stall(t, r.loops[1])
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		release()
		r.wg.Wait()
	})
}
