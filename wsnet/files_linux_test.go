package wsnet

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// files are this process's open files.
func files(t testing.TB) int {
	t.Helper()
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestFailedListenKeepsToItsFiles: a listener that fails closes its own socket and nothing else.
func TestFailedListenKeepsToItsFiles(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	over(t, Config{}, script{}, func(t *testing.T, r *rig) {
		before := files(t)
		for range 10 {
			cfg := ListenerConfig{Network: "tcp4", Address: taken.Addr().String()}
			if _, err := r.Listen(cfg); err == nil {
				t.Fatal("listens on a port that is taken")
			}
		}
		if after := files(t); after != before {
			t.Errorf("%d files before, %d after", before, after)
		}
		if _, err := os.Stdin.Stat(); err != nil {
			t.Errorf("file 0: %v", err)
		}
	})
}

// childEnv tells a child process of this test binary what to be.
const childEnv = "WSNET_TEST_CHILD"

// TestFilesRunOut serves from a child process that may open few files more. Clients beyond these wait, and
// are served when others have gone. A TLS client may be sent away once, since its handshake needs a further
// file.
func TestFilesRunOut(t *testing.T) {
	if kind := os.Getenv(childEnv); kind != "" {
		serveWithFewFiles(t, kind)
		return
	}
	_, client := certificate(t)
	client.InsecureSkipVerify = true // the child's certificate is its own
	for _, kind := range []string{"native", "portable", "native tls", "portable tls"} {
		t.Run(kind, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFilesRunOut$")
			child.Env = append(os.Environ(), childEnv+"="+kind)
			child.Stderr = os.Stderr
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			says := bufio.NewScanner(out)
			address, ok := next(says, "listens ")
			if !ok {
				t.Fatal("the child does not listen")
			}
			crowd(t, says, func() net.Conn {
				nc := dial(t, tcpAddr(t, address))
				if strings.HasSuffix(kind, "tls") {
					nc = tls.Client(nc, client)
				}
				return nc
			})
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if rest, ok := next(says, "ends "); !ok || rest != "well" {
				t.Errorf("the child ends %q", rest)
			}
			_ = child.Wait()
		})
	}
}

// crowd dials more clients than the child has files for.
func crowd(t *testing.T, says *bufio.Scanner, dial func() net.Conn) {
	t.Helper()
	const few, many = 4, 24
	var first []net.Conn
	for range few {
		nc := dial()
		mustWrite(t, nc, "x")
		mustRead(t, nc, "x")
		first = append(first, nc)
	}
	answered, full := make(chan error, many), make(chan struct{})
	for range many {
		nc := dial()
		go func() { // answered
			err := ask(nc)
			<-full
			_ = nc.Close() // makes room
			answered <- err
		}()
	}
	if _, ok := next(says, "error wsnet: accept"); !ok {
		t.Fatal("the child accepts them all")
	}
	close(full)
	for _, nc := range first {
		mustWrite(t, nc, "z")
		mustRead(t, nc, "z")
		_ = nc.Close()
	}
	sentAway := 0
	for range many {
		if err := get(t, answered); err != nil {
			t.Log(err)
			sentAway++
		}
	}
	if _, secure := first[0].(*tls.Conn); !secure && sentAway > 0 {
		t.Errorf("%d clients were sent away", sentAway)
	}
	for range sentAway {
		nc := dial()
		if err := ask(nc); err != nil {
			t.Error(err)
		}
		_ = nc.Close()
	}
}

// next is the rest of the next line that begins with prefix.
func next(s *bufio.Scanner, prefix string) (string, bool) {
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), prefix); ok {
			return rest, true
		}
	}
	return "", false
}

func tcpAddr(t *testing.T, address string) net.Addr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serveWithFewFiles is the child: an echo server that ends with its standard input.
func serveWithFewFiles(t *testing.T, kind string) {
	server, _ := certificate(t)
	poller, secure, _ := strings.Cut(kind, " ")
	cfg := loopback()
	if secure != "" {
		cfg.TLS = server
	}
	log := slog.New(errorLines{slog.DiscardHandler})
	r := start(t, Config{Loops: 1, Log: log}, script{}, poller == "portable")
	ln, err := r.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const spare = 16
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = uint64(files(t) + spare)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("listens %s\n", ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if r.Stats().Refused == 0 {
		t.Error("nothing was counted as refused")
	}
	r.stopped(t)
	if !t.Failed() {
		fmt.Println("ends well")
	}
}

// errorLines prints errors for the parent.
type errorLines struct{ slog.Handler }

func (errorLines) Enabled(context.Context, slog.Level) bool { return true }

func (errorLines) Handle(_ context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelError {
		fmt.Println("error " + rec.Message)
	}
	return nil
}
