package wsnet

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// clients are bare sockets, which cost this process no heap.
type clients []int

// join connects one more to a listener, sends a request and waits until the answer ends as it must.
func (cs *clients) join(t *testing.T, a net.Addr, request, answerEnds string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	*cs = append(*cs, fd)
	to := netip.MustParseAddrPort(a.String())
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte(request)); err != nil {
		t.Fatal(err)
	}
	var answer [1000]byte
	for n := 0; !strings.HasSuffix(string(answer[:n]), answerEnds); {
		k, err := unix.Read(fd, answer[n:])
		if k <= 0 {
			t.Fatalf("answer %q, %v", answer[:n], err)
		}
		n += k
	}
}

func (cs *clients) leave() {
	for _, fd := range *cs {
		_ = unix.Close(fd)
	}
	*cs = nil
}

// TestIdleConnectionHeap is the budget of heap for a connection that has echoed a message and is idle. The
// portable poller has a read buffer for each; its stacks are not counted here. How full the tables of each
// loop are makes a difference of 50 bytes.
func TestIdleConnectionHeap(t *testing.T) {
	const n = 3000
	plain, webSocket := loopback(), webSocketListener()
	tests := []struct {
		name                string
		cfg                 ListenerConfig
		request, answerEnds string
		native, portable    int64 // bytes
	}{
		{"tcp", plain, "a", "a", 450, 19000},
		{"websocket", webSocket, upgradeRequest + frame(ws.OpBinary, "a"), "\x82\x01a", 550, 19000},
	}
	for _, tt := range tests {
		over(t, Config{}, script{}, func(t *testing.T, r *rig) {
			budget := tt.portable
			if _, native := r.loops[0].poll.(interface{ native() }); native {
				budget = tt.native
			}
			a := listen(t, r.Server, tt.cfg)
			cs := make(clients, 0, n+1)
			defer cs.leave()
			cs.join(t, a, tt.request, tt.answerEnds) // what exists once
			before := heapInUse()
			for range n {
				cs.join(t, a, tt.request, tt.answerEnds)
			}
			r.later(t) // handshakes are forgotten
			each := (heapInUse() - before) / n
			t.Logf("%s: %d bytes of heap for each idle connection", tt.name, each)
			if each > budget {
				t.Errorf("%s: %d bytes of heap for each idle connection, at most %d", tt.name, each, budget)
			}
		})
	}
}

// joinTLS connects one more with TLS. Of the client only its socket stays.
func (cs *clients) joinTLS(t *testing.T, a net.Addr, cfg *tls.Config) {
	t.Helper()
	nc, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(tls.Client(nc, cfg)); err != nil {
		t.Fatal(err)
	}
	fd, err := socketOf(nc)
	if err != nil {
		t.Fatal(err)
	}
	*cs = append(*cs, fd)
}

// TestIdleTLSConnectionHeap is the budget of heap for a TLS connection that has echoed a message and is idle:
// nearly all of it is crypto/tls's.
func TestIdleTLSConnectionHeap(t *testing.T) {
	const n = 500
	server, client := certificate(t)
	old := client.Clone()
	old.MaxVersion = tls.VersionTLS12
	checked := server.Clone()
	checked.ClientAuth = tls.RequireAnyClientCert
	checked.VerifyConnection = func(tls.ConnectionState) error { return nil }
	for _, tt := range []struct {
		name             string
		server, client   *tls.Config
		native, portable int64 // bytes
	}{
		{"TLS 1.3", server, client, 10000, 40000},
		{"TLS 1.2", server, old, 10000, 40000},
		{"client certificate that is checked", checked, clientCertificate(server, client), 12000, 42000},
	} {
		over(t, Config{}, script{}, func(t *testing.T, r *rig) {
			budget := tt.portable
			if _, native := r.loops[0].poll.(interface{ native() }); native {
				budget = tt.native
			}
			cfg := loopback()
			cfg.TLS = tt.server
			a := listen(t, r.Server, cfg)
			cs := make(clients, 0, n+1)
			defer cs.leave()
			cs.joinTLS(t, a, tt.client) // what exists once
			before := heapInUse()
			for range n {
				cs.joinTLS(t, a, tt.client)
			}
			each := (heapInUse() - before) / n
			t.Logf("%s: %d bytes of heap for each idle connection", tt.name, each)
			if each > budget {
				t.Errorf("%s: %d bytes of heap for each idle connection, at most %d", tt.name, each, budget)
			}
		})
	}
}

// TestEchoDoesNotAllocate counts the whole process over turns of an echo server.
func TestEchoDoesNotAllocate(t *testing.T) {
	tests := []struct {
		name            string
		dial            func(t *testing.T, r *rig) net.Conn
		request, answer string
	}{
		{"tcp", dialTCP, "ping", "ping"},
		{"websocket", dialWebSocket, frame(ws.OpBinary, "ping"), "\x82\x04ping"},
		{"large tcp", dialTCP, strings.Repeat("p", 5000), strings.Repeat("p", 5000)},
		{
			"large websocket", dialWebSocket,
			frame(ws.OpBinary, strings.Repeat("p", 5000)), "\x82\x7E\x13\x88" + strings.Repeat("p", 5000),
		},
	}
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		for _, tt := range tests {
			nc := tt.dial(t, r)
			request, answer := []byte(tt.request), make([]byte, len(tt.answer))
			turn := func() {
				_, err := nc.Write(request)
				if err == nil {
					_, err = io.ReadFull(nc, answer)
				}
				if err != nil || string(answer) != tt.answer {
					t.Fatalf("%s: answer %.20q, %v", tt.name, answer, err)
				}
			}
			for range 100 {
				turn()
			}
			if n := testing.AllocsPerRun(2000, turn); n > 0 {
				t.Errorf("%s: %v allocations a turn", tt.name, n)
			}
		}
	})
}
