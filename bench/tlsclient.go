//go:build linux

package bench

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// secure is the TLS layer of a client, over memory: the loop puts in what the socket gave and takes out
// what is to be written. The handshake, which crypto/tls cannot suspend, waits for its input in a goroutine
// of its own; after it reads report a temporary error when there is nothing.
type secure struct {
	conn    *tls.Conn
	changed func() // tells the loop to look; any goroutine

	mu struct {
		sync.Mutex
		in, out []byte
		done    bool // the handshake is over
		closed  bool
		err     error // of the handshake
	}
	more *sync.Cond
}

// emptyError is the temporary error after which crypto/tls reads on.
type emptyError struct{}

func (emptyError) Error() string   { return "bench: no input yet" }
func (emptyError) Timeout() bool   { return true }
func (emptyError) Temporary() bool { return true }

func newSecure(cfg *tls.Config, changed func()) *secure {
	s := &secure{changed: changed}
	s.more = sync.NewCond(&s.mu)
	s.conn = tls.Client(transport{s}, cfg)
	return s
}

// handshake runs in a goroutine that ends with the connection.
func (s *secure) handshake() {
	err := s.conn.Handshake()
	s.mu.Lock()
	s.mu.done, s.mu.err = true, err
	s.mu.Unlock()
	s.changed()
}

// give adds what the socket gave.
func (s *secure) give(b []byte) {
	s.mu.Lock()
	s.mu.in = append(s.mu.in, b...)
	s.mu.Unlock()
	s.more.Signal()
}

// take returns what is to be written.
func (s *secure) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.mu.out
	s.mu.out = nil
	return out
}

// state tells whether the handshake is over, and how it ended.
func (s *secure) state() (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.done, s.mu.err
}

func (s *secure) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.more.Signal()
}

// read decrypts into b; n 0 without an error means that there is nothing yet.
func (s *secure) read(b []byte) (int, error) {
	n, err := s.conn.Read(b)
	var empty emptyError
	if errors.As(err, &empty) {
		err = nil
	}
	return n, err
}

// transport is the net.Conn under the tls.Conn.
type transport struct{ s *secure }

// Read implements net.Conn.
func (t transport) Read(b []byte) (int, error) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.mu.in) == 0 {
		switch {
		case s.mu.closed:
			return 0, io.EOF
		case s.mu.done:
			return 0, emptyError{}
		}
		s.more.Wait()
	}
	n := copy(b, s.mu.in)
	s.mu.in = s.mu.in[n:]
	if len(s.mu.in) == 0 {
		s.mu.in = nil
	}
	return n, nil
}

// Write implements net.Conn.
func (t transport) Write(b []byte) (int, error) {
	t.s.mu.Lock()
	t.s.mu.out = append(t.s.mu.out, b...)
	done := t.s.mu.done
	t.s.mu.Unlock()
	if !done {
		t.s.changed()
	}
	return len(b), nil
}

// Close implements net.Conn.
func (t transport) Close() error { return nil }

// LocalAddr and the rest of net.Conn say nothing.
func (t transport) LocalAddr() net.Addr { return nil }

// RemoteAddr says nothing.
func (t transport) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing.
func (t transport) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (t transport) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (t transport) SetWriteDeadline(time.Time) error { return nil }
