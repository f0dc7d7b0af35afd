// Package knock writes the lines about connections that came to nothing: not more than a log can bear, and
// fair between addresses.
package knock

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker/line"
	"noctule/wsnet"
)

// Bounds of the lines about connections that come to nothing: a port scan, or a client that has been given
// the wrong port and tries for ever, must not fill the disk.
const (
	window     = 10 * time.Second
	linesMax   = 50 // in a window
	addressMax = 10 // of them about one address, or IPv6 /64
)

// Log writes them. Any goroutine may use it.
type Log struct {
	// Set by New, then read-only:
	out *slog.Logger
	now func() time.Time

	silent atomic.Bool // Atomic: there are to be none

	mu struct {
		sync.Mutex
		began time.Time            // of the window
		lines int                  // in it
		of    map[netip.Prefix]int // those lines, by address
		left  int                  // connections without a line
	}
}

// New makes one that writes to a log.
func New(out *slog.Logger, now func() time.Time) *Log { return &Log{out: out, now: now} }

// Silence says whether there are to be no lines.
func (k *Log) Silence(on bool) { k.silent.Store(on) }

// line reports whether there is to be a line about an address.
func (k *Log) line(from netip.Addr, now time.Time) bool {
	bits := 64
	if from = from.Unmap(); from.Is4() {
		bits = 32
	}
	net, _ := from.Prefix(bits) // none for unix sockets, which count as one address
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &k.mu
	if m.lines == 0 {
		m.began = now
	}
	if m.lines >= linesMax || m.of[net] >= addressMax {
		m.left++
		return false
	}
	if m.of == nil {
		m.of = make(map[netip.Prefix]int)
	}
	m.lines++
	m.of[net]++
	return true
}

// rest begins a new window when the last is over, and returns how many connections had no line in it.
func (k *Log) rest(now time.Time) (left int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &k.mu
	if m.lines == 0 || now.Sub(m.began) < window {
		return 0
	}
	left = m.left
	m.lines, m.left = 0, 0
	clear(m.of)
	return left
}

// Say writes one line about a connection of an address that came to nothing, if it is to have one.
func (k *Log) Say(from netip.Addr, format string, args ...any) {
	if !k.silent.Load() && k.line(from, k.now()) {
		line.Write(k.out, line.Notice, format, args...)
	}
}

// Rest says how many had no line. It is called about once a second.
func (k *Log) Rest() {
	if n := k.rest(k.now()); n > 0 {
		line.Write(k.out, line.Notice, "%d more connections came to nothing in the last %d seconds.",
			n, int(window.Seconds()))
	}
}

// Refused writes the line of a connection that has come to nothing before its listener's loop had it: it is a
// listener's OnRefuse.
func (k *Log) Refused(r wsnet.Refusal) {
	at, on := line.Addr(r.Addr, r.Path), r.Listener.Config().Address
	if !r.Addr.IsValid() && r.Path == "" {
		at = line.Addr(r.Addr, on)
	}
	if p := line.PortOf(r.Listener); p != 0 {
		on = fmt.Sprintf("port %d", p)
	}
	host := strings.TrimSuffix(at, line.Port(r.Addr.Port()))
	say := func(format string, args ...any) { k.Say(r.Addr.Addr(), format, args...) }
	switch r.Cause {
	case wsnet.CauseTooMany:
		say("Client connection from %s denied: max_connections exceeded.", host)
	case wsnet.CauseProxyHeader:
		say("Connection rejected, corrupt PROXY header.")
	case wsnet.CauseProxyPeer:
		say("Connection from %s rejected, it may not send a PROXY header.", at)
	case wsnet.CauseProxyNoTLS:
		say("Connection from %s rejected, client did not connect using TLS.", at)
	case wsnet.CauseProxyNoCertificate:
		say("Connection from %s rejected, client did not provide a certificate.", at)
	case wsnet.CauseTLS, wsnet.CauseUpgrade:
		text := strings.TrimPrefix(r.Err.Error(), "wsproto: ")
		say("Client connection from %s failed: %s (%s on %s).", host, clip(text), at, on)
	case wsnet.CauseTimeout:
		say("Client connection from %s failed: exceeded timeout, %v (%s on %s).", host, r.Err, at, on)
	case wsnet.CauseClosed:
		say("Client connection from %s failed: connection closed by client, %v (%s on %s).",
			host, r.Err, at, on)
	case wsnet.CauseGaveWay:
		say("Client %s [%s] disconnected: server busy.", host, at)
	case wsnet.CauseOrigin:
		origin := "None was sent"
		if r.Origin != "" {
			origin = "It is \"" + clip(r.Origin) + "\""
		}
		say("Client %s [%s] disconnected: non-matching http origin. %s, on %s.", host, at, origin, on)
	case wsnet.CauseExhausted, wsnet.RefusalCauses: // of which it does not hear
	}
}

// clipMax is how many bytes of what a client has sent a line may have.
const clipMax = 200

// clip makes what a client has sent fit for a line: on one line, in ASCII, not too long, and without a way to
// end the quotes that may be around it.
func clip(s string) string {
	rest := ""
	if len(s) > clipMax {
		s, rest = s[:clipMax], "..."
	}
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `'`) + rest
}
