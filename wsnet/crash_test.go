package wsnet

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"noctule/internal/testcrash"
)

// crashing has a server with a script crash in a process of its own, after a client has dialled, and returns
// what OnCrash has told.
func crashing(t *testing.T, portable bool, sc script, server *tls.Config, dial func(addr string)) string {
	t.Helper()
	if testcrash.Child() != "" {
		s := start(t, Config{OnCrash: func(c Crash) {
			loop, conn := "no loop", "no connection"
			if c.Loop != nil {
				loop = "a loop"
			}
			peer := c.Peer
			if c.Conn != nil {
				conn, peer = "a connection", c.Conn.RemoteAddr()
			}
			fmt.Fprintf(os.Stderr, "told: %s, %s, %s, %v, %t\n", loop, conn, peer.Addr(), c.Value,
				bytes.Contains(c.Stack, []byte("crash_test.go")))
		}}, sc, portable)
		cfg := loopback()
		cfg.TLS = server
		ln, err := s.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		dial(ln.Addr().String())
		t.Fatal("nothing has crashed")
	}
	stderr, _ := testcrash.Run(t)
	_, told, _ := strings.Cut(stderr, "told: ")
	told, _, _ = strings.Cut(told, "\n")
	return told
}

// A panic names the connection that its loop was serving, in every callback; then it ends the process.
func TestCrashNamesConnection(t *testing.T) {
	const want = "a loop, a connection, 127.0.0.1, a fault, true"
	fault := func(*Conn) { panic("a fault") }
	say := func(addr string) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte("x")) // it may be gone
		_, _ = nc.Read(make([]byte, 1))
		_ = nc.Close()
		select {} // the process ends meanwhile
	}
	for name, sc := range map[string]script{
		"opened": {opened: fault},
		"data":   {data: func(*Conn, []byte) (used, need int) { panic("a fault") }},
		"closed": {
			data:   func(c *Conn, b []byte) (used, need int) { c.Close(nil); return len(b), 0 },
			closed: fault,
		},
		"moved": {data: func(c *Conn, b []byte) (used, need int) {
			c.Move(c.Loop().Server().Loops()[(c.Loop().Index()+1)%3], TaskFunc(func(*Loop) { panic("a fault") }))
			return len(b), 0
		}},
	} {
		for _, portable := range []bool{false, true} {
			t.Run(fmt.Sprint(name, portable), func(t *testing.T) {
				t.Parallel()
				if got := crashing(t, portable, sc, nil, say); got != want {
					t.Errorf("told %q, want %q", got, want)
				}
			})
		}
	}
}

// A TLS handshake runs off the loops; its panic names the address.
func TestCrashInHandshake(t *testing.T) {
	server, client := certificate(t)
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("a fault") }
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprint("portable ", portable), func(t *testing.T) {
			t.Parallel()
			got := crashing(t, portable, script{}, server, func(addr string) {
				_, _ = tls.Dial("tcp", addr, client) // it comes to nothing
				select {}
			})
			if want := "no loop, no connection, 127.0.0.1, a fault, true"; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		})
	}
}
