package traffic

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// userAgent is Chromium's, on Debian 12.
const userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " +
	"Chrome/120.0.0.0 Safari/537.36"

// browserHeader is what Chromium adds to an XMLHttpRequest of a page from another port of the same host,
// after Host, Connection and Content-Length. It sends no preflight while the last one's permission lasts.
const browserHeader = "sec-ch-ua: \"Not_A Brand\";v=\"8\", \"Chromium\";v=\"120\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\n" +
	"User-Agent: " + userAgent + "\r\n" +
	"Content-Type: %s\r\n" +
	"Accept: */*\r\n" +
	"sec-ch-ua-platform: \"Linux\"\r\n" +
	"Origin: " + origin + "\r\n" +
	"Sec-Fetch-Site: same-site\r\n" +
	"Sec-Fetch-Mode: cors\r\n" +
	"Sec-Fetch-Dest: empty\r\n" +
	"Referer: " + origin + "/\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Accept-Language: en-US,en;q=0.9\r\n"

// browser is a browser's HTTP/1.1: persistent connections, the one used last is used next, a new one where
// all are busy. One goroutine uses it.
type browser struct {
	meter   *Meter
	address string
	kind    string // Content-Type
	idle    []*wire
	waiting int      // requests without an answer
	ready   []string // answers that came while something else was waited for
	answers chan answer
	ended   chan struct{}
}

// wire is one of its connections.
type wire struct {
	conn net.Conn
	busy bool
}

// answer is a response, or the end of a connection.
type answer struct {
	on   *wire
	body string
	err  error
}

func newBrowser(m *Meter, address, kind string) *browser {
	return &browser{
		meter: m, address: address, kind: kind,
		answers: make(chan answer), ended: make(chan struct{}),
	}
}

// post sends a request; its answer comes from next.
func (b *browser) post(ctx context.Context, path, body string) error {
	w, err := b.free(ctx)
	if err != nil {
		return err
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: " + b.address + "\r\nConnection: keep-alive\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" + fmt.Sprintf(browserHeader, b.kind) + "\r\n"
	if _, err := io.WriteString(w.conn, head+body); err != nil { // Chromium merges a short body with the head
		return fmt.Errorf("traffic: %w", err)
	}
	w.busy = true
	b.waiting++
	return nil
}

// free takes an idle connection or opens one.
func (b *browser) free(ctx context.Context) (*wire, error) {
	for { // forget those that the server closed meanwhile
		select {
		case a := <-b.answers:
			if err := b.settle(a); err != nil {
				return nil, err
			}
			continue
		default:
		}
		break
	}
	if n := len(b.idle); n > 0 {
		w := b.idle[n-1]
		b.idle = b.idle[:n-1]
		return w, nil
	}
	conn, err := b.meter.Dial(ctx, "tcp", b.address)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn}
	go b.listen(w)
	return w, nil
}

// listen reads a connection's responses until it ends.
func (b *browser) listen(w *wire) {
	defer w.conn.Close() //nolint:errcheck // nothing was written that could be lost
	in := bufio.NewReader(w.conn)
	for {
		a := answer{on: w}
		r, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
		if err == nil {
			var body []byte
			body, err = io.ReadAll(r.Body)
			a.body = string(body)
			if err == nil && r.StatusCode != http.StatusOK {
				err = fmt.Errorf("%w: %s: %s", errProtocol, r.Status, body)
			}
		}
		a.err = err
		select {
		case b.answers <- a:
		case <-b.ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// settle books an answer. The end of an idle connection is none of the caller's business.
func (b *browser) settle(a answer) error {
	if a.err != nil && !a.on.busy {
		b.idle = slices.DeleteFunc(b.idle, func(w *wire) bool { return w == a.on })
		return nil
	}
	a.on.busy = false
	b.waiting--
	if a.err == nil {
		b.idle = append(b.idle, a.on)
		b.ready = append(b.ready, a.body)
		return nil
	}
	return fmt.Errorf("traffic: %s: %w", b.address, a.err)
}

// next returns the next answer's body.
func (b *browser) next(ctx context.Context) (string, error) {
	for len(b.ready) == 0 {
		select {
		case a := <-b.answers:
			if err := b.settle(a); err != nil {
				return "", err
			}
		case <-ctx.Done():
			return "", fmt.Errorf("traffic: waiting for an answer of %s: %w", b.address, ctx.Err())
		}
	}
	body := b.ready[0]
	b.ready = b.ready[1:]
	return body, nil
}

// rest lets react take the answers that come within d.
func (b *browser) rest(ctx context.Context, d time.Duration, react func() error) error {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case a := <-b.answers:
			if err := b.settle(a); err != nil {
				return err
			}
			for len(b.ready) > 0 {
				if err := react(); err != nil {
					return err
				}
			}
		case <-t.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("traffic: %w", ctx.Err())
		}
	}
}

// close closes all connections.
func (b *browser) close() {
	close(b.ended)
	b.meter.hangUp()
}
