package wsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// TLS on a loop. The handshake cannot be suspended, so it runs on an ordinary connection in its own
// goroutine, of which there is a bounded number. Then the transport under the tls.Conn is switched to
// memory: reads take the bytes that the loop has read and report a temporary error when there are none,
// after which crypto/tls can go on; writes append to the output and never fail.

// tlsState is the TLS layer of one connection.
type tlsState struct {
	conn *tls.Conn
	pipe *pipe
}

// pipe is the transport under a tls.Conn. Before the switch it is used by the handshake's goroutine, then
// by the loop.
type pipe struct {
	net.Conn        // the real connection before the switch
	switched bool   // reads and writes are in memory
	in       []byte // read from the socket, not yet decrypted
	out      []byte // encrypted, not yet written
}

// noInputError is the temporary error after which crypto/tls reads on.
type noInputError struct{}

func (noInputError) Error() string   { return "wsnet: no input yet" }
func (noInputError) Timeout() bool   { return true }
func (noInputError) Temporary() bool { return true }

// Read implements net.Conn.
func (p *pipe) Read(b []byte) (int, error) {
	if !p.switched {
		return p.Conn.Read(b)
	}
	if len(p.in) == 0 {
		return 0, noInputError{}
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (p *pipe) Write(b []byte) (int, error) {
	if !p.switched {
		return p.Conn.Write(b)
	}
	p.out = append(p.out, b...)
	return len(b), nil
}

// SetDeadline and its kin do nothing on a loop; handshakes have a context.
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

func (t *tlsState) write(b []byte) {
	if len(b) > 0 {
		_, _ = t.conn.Write(b) // into memory
	}
}

// take returns what is encrypted and gives up the buffer.
func (t *tlsState) take() []byte {
	out := t.pipe.out
	t.pipe.out = nil
	return out
}

func (t *tlsState) closeWrite() { _ = t.conn.CloseWrite() }

// inputTLS decrypts what the socket gave and hands it on.
func (l *Loop) inputTLS(c *Conn, raw []byte) {
	t := c.tls
	t.pipe.in = append(t.pipe.in, raw...)
	if l.plainBuf == nil {
		l.plainBuf = make([]byte, 16<<10+512)
	}
	for !c.ended && !c.stopped() {
		n, err := t.conn.Read(l.plainBuf)
		if n > 0 {
			l.inputClear(c, l.plainBuf[:n])
		}
		var again noInputError
		switch {
		case err == nil:
			continue
		case errors.As(err, &again):
		case errors.Is(err, io.EOF):
			c.end(io.EOF)
		default:
			c.end(err)
		}
		break
	}
	if len(t.pipe.in) == 0 {
		t.pipe.in = nil // an idle connection owns no buffer
	}
	if len(t.pipe.out) > 0 { // alerts, key updates
		c.touch()
	}
}

// handshakes are the TLS handshakes of one listener that are under way.
type handshakes struct {
	slots  chan struct{}
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup
}

func newHandshakes(n int) *handshakes {
	h := &handshakes{slots: make(chan struct{}, n)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// serve accepts connections from nl, shakes hands and gives them to ln. It returns when nl is closed and
// every handshake has ended.
func (h *handshakes) serve(nl net.Listener, ln *Listener) {
	defer h.wg.Wait()
	for {
		h.slots <- struct{}{}
		nc, err := nl.Accept()
		if err != nil {
			<-h.slots
			if !ln.restAfter(err) {
				return
			}
			continue
		}
		if !ln.admitNet(nc) {
			<-h.slots
			_ = nc.Close()
			continue
		}
		h.wg.Go(func() { // serve waits
			defer func() { <-h.slots }()
			t, err := h.shake(nc, &ln.cfg, ln.server.cfg.HandshakeTimeout)
			if errors.Is(err, context.DeadlineExceeded) {
				ln.server.loops[0].stats.timedOut.Add(1)
			}
			if err != nil {
				_ = nc.Close()
				nc = nil
			}
			ln.startTLS(nc, t)
		})
	}
}

// shake does the handshake of one connection.
func (h *handshakes) shake(nc net.Conn, cfg *ListenerConfig, timeout time.Duration) (*tlsState, error) {
	p := &pipe{Conn: nc}
	conn := tls.Server(p, cfg.TLS)
	ctx, cancel := context.WithTimeout(h.ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	err := conn.HandshakeContext(ctx)
	if !stop() {
		err = ctx.Err()
	}
	return &tlsState{conn: conn, pipe: p}, err
}
