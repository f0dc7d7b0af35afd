package broker

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"noctule/wsnet"
)

// Bounds of the lines about connections that come to nothing: a port scan, or a client that has been given
// the wrong port and tries for ever, must not fill the disk.
const (
	knockWindow  = 10 * time.Second
	knockLines   = 50 // in a window
	knockAddress = 10 // of them about one address, or IPv6 /64
)

// knocks says which connections that came to nothing have a line in the log. Any goroutine may use it.
type knocks struct {
	silent atomic.Bool // connection_messages false

	mu struct {
		sync.Mutex
		began time.Time            // of the window
		lines int                  // in it
		of    map[netip.Prefix]int // those lines, by address
		left  int                  // connections without a line
	}
}

// line reports whether there is to be a line about an address.
func (k *knocks) line(from netip.Addr, now time.Time) bool {
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
	if m.lines >= knockLines || m.of[net] >= knockAddress {
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
func (k *knocks) rest(now time.Time) (left int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &k.mu
	if m.lines == 0 || now.Sub(m.began) < knockWindow {
		return 0
	}
	left = m.left
	m.lines, m.left = 0, 0
	clear(m.of)
	return left
}

// logKnock writes one line about a connection that came to nothing, if it is to have one.
func (b *Broker) logKnock(from netip.Addr, format string, args ...any) {
	if !b.knocks.silent.Load() && b.knocks.line(from, now()) {
		logf(b.opts.Log, LevelNotice, format, args...)
	}
}

// tellKnocks says how many had no line. The first shard calls it once a second.
func (b *Broker) tellKnocks() {
	if n := b.knocks.rest(now()); n > 0 {
		logf(b.opts.Log, LevelNotice, "%d more connections came to nothing in the last %d seconds.",
			n, int(knockWindow.Seconds()))
	}
}

// logRefused is called by loops, and by goroutines that accept and shake hands.
func (b *Broker) logRefused(r wsnet.Refusal) {
	at, on := addrText(r.Addr, r.Path), r.Listener.Config().Address
	if !r.Addr.IsValid() && r.Path == "" {
		at = addrText(r.Addr, on)
	}
	if p := portOf(r.Listener); p != 0 {
		on = fmt.Sprintf("port %d", p)
	}
	host := strings.TrimSuffix(at, portText(r.Addr.Port()))
	say := func(format string, args ...any) { b.logKnock(r.Addr.Addr(), format, args...) }
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
