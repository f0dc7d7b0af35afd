package wsnet

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// TLS on a loop. Until its client's first byte a connection waits there. The handshake cannot be suspended,
// so it runs on an ordinary connection in its own goroutine, of which there is a bounded number. Then the
// transport under the tls.Conn is switched to memory: reads take the bytes that the loop has read and report
// a temporary error when there are none, after which crypto/tls can go on; writes append to the output and
// never fail.

// tlsState is the TLS layer of one connection.
type tlsState struct {
	conn     *tls.Conn
	pipe     *pipe
	received uint32 // bytes, modulo 2^32
	told     uint32 // what it was when Progress was called, or when the handler took something
}

// pipe is the transport under a tls.Conn. Before the switch it is used by the handshake's goroutine, then
// by the loop.
type pipe struct {
	net.Conn          // the real connection before the switch
	shaking  *shaking // nil after the handshake
	switched bool     // reads and writes are in memory
	in       []byte   // read from the socket, not yet decrypted
	out      []byte   // encrypted, not yet written
}

// noInputError is the temporary error after which crypto/tls reads on.
type noInputError struct{}

func (noInputError) Error() string   { return "wsnet: no input yet" }
func (noInputError) Timeout() bool   { return true }
func (noInputError) Temporary() bool { return true }

// Read implements net.Conn.
func (p *pipe) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		if p.switched {
			return 0, noInputError{}
		}
		if s := p.shaking; s != nil { // others may compute meanwhile
			<-s.workers
			s.guest.waits()
			defer func() {
				s.guest.computes()
				s.workers <- struct{}{}
			}()
		}
		return p.Conn.Read(b)
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (p *pipe) Write(b []byte) (int, error) {
	if s := p.shaking; s != nil {
		if _, err := p.Conn.Write(s.spoken(b)); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	if !p.switched {
		return p.Conn.Write(b)
	}
	p.out = append(p.out, b...)
	return len(b), nil
}

// SetDeadline and its kin do nothing on a loop; handshakes have a deadline of their own.
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
	t.received += uint32(len(raw))
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
