// Package line has what Mosquitto's log lines are made of: levels, addresses, bits, ciphers.
package line

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"noctule/wsnet"
)

// Log levels, one per log_type of Mosquitto, in slog's order.
const (
	Internal    = slog.LevelDebug - 1 // log_type internal: what Mosquitto has no line for
	Debug       = slog.LevelDebug     // log_type debug
	Unsubscribe = slog.LevelDebug + 1 // log_type unsubscribe
	Subscribe   = slog.LevelDebug + 2 // log_type subscribe
	WebSockets  = slog.LevelDebug + 3 // log_type websockets
	Info        = slog.LevelInfo      // log_type information
	Notice      = slog.LevelInfo + 2  // log_type notice
	Warning     = slog.LevelWarn      // log_type warning
	Error       = slog.LevelError     // log_type error
)

// Write writes one line in Mosquitto's words; nothing is formatted when the level is off.
func Write(l *slog.Logger, level slog.Level, format string, args ...any) {
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

// Port is a port behind an address.
func Port(p uint16) string { return ":" + strconv.Itoa(int(p)) }

// PortOf is the port of a listener, 0 for unix sockets.
func PortOf(l *wsnet.Listener) int {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Peer is the remote address as Mosquitto's log prints it: address:port, IPv6 without brackets.
func Peer(c *wsnet.Conn) string {
	if h := c.Proxied(); h != nil && h.Unix {
		return Addr(netip.AddrPort{}, h.Path)
	}
	if c.Piped() {
		return Addr(netip.AddrPort{}, wsnet.PipeNetwork)
	}
	return Addr(c.RemoteAddr(), c.Listener().Config().Address)
}

// Host is the remote address without its port.
func Host(c *wsnet.Conn) string {
	return strings.TrimSuffix(Peer(c), Port(c.RemoteAddr().Port()))
}

// Addr is an address as the log prints it; path is that of a unix socket, which has none.
func Addr(a netip.AddrPort, path string) string {
	if !a.IsValid() {
		return path + ":0"
	}
	return a.Addr().Unmap().WithZone("").String() + Port(a.Port())
}

// Flag prints a bit the way the debug log does.
func Flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Cipher is OpenSSL's name of a cipher suite, which Mosquitto logs: TLS 1.3's are the same everywhere,
// the others begin without TLS, have no WITH, and call what is the default nothing.
func Cipher(id uint16) string {
	name := tls.CipherSuiteName(id)
	key, cipher, old := strings.Cut(strings.TrimPrefix(name, "TLS_"), "_WITH_")
	if !old {
		return name
	}
	key = strings.ReplaceAll(key, "_", "-") + "-"
	if key == "RSA-" {
		key = ""
	}
	return key + strings.NewReplacer(
		"AES_", "AES", "_CBC_SHA", "-SHA", "3DES_EDE_CBC_SHA", "DES-CBC3-SHA",
		"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "_", "-",
	).Replace(cipher)
}
