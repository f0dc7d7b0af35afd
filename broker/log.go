package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"noctule/codec"
	"noctule/wsnet"
)

// logf writes one line in Mosquitto's words; nothing is formatted when the level is off.
func logf(l *slog.Logger, level slog.Level, format string, args ...any) {
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

func portText(p uint16) string { return ":" + strconv.Itoa(int(p)) }

// announce logs a new connection. One through a proxy is not worth a line, unless it tells of TLS.
func (s *shard) announce(c *wsnet.Conn) {
	if c.Listener().Config().ProxyProtocol == 0 {
		s.logf(LevelNotice, "New connection from %s on port %d.", peer(c), portOf(c.Listener()))
		return
	}
	if h := c.Proxied(); h != nil && h.TLS != nil {
		t := h.TLS
		s.logf(LevelNotice, "Connection from %s negotiated %s cipher %s", peer(c), t.Version, t.Cipher)
	}
}

// logRefused is called by loops, and by goroutines that accept and shake hands.
func (b *Broker) logRefused(r wsnet.Refusal) {
	log := b.opts.Log
	at := addrText(r.Addr, r.Path)
	if !r.Addr.IsValid() && r.Path == "" {
		at = addrText(r.Addr, r.Listener.Config().Address)
	}
	host := strings.TrimSuffix(at, portText(r.Addr.Port()))
	switch r.Cause {
	case wsnet.CauseTooMany:
		logf(log, LevelNotice, "Client connection from %s denied: max_connections exceeded.", host)
	case wsnet.CauseProxyHeader:
		logf(log, LevelNotice, "Connection rejected, corrupt PROXY header.")
	case wsnet.CauseProxyPeer:
		logf(log, LevelNotice, "Connection from %s rejected, it may not send a PROXY header.", at)
	case wsnet.CauseProxyNoTLS:
		logf(log, LevelNotice, "Connection from %s rejected, client did not connect using TLS.", at)
	case wsnet.CauseProxyNoCertificate:
		logf(log, LevelNotice, "Connection from %s rejected, client did not provide a certificate.", at)
	case wsnet.CauseTLS, wsnet.CauseUpgrade:
		logf(log, LevelNotice, "Client connection from %s failed: %v.", host, r.Err)
		logf(log, LevelNotice, "Client %s [%s] disconnected: protocol error.", host, at)
	case wsnet.CauseGaveWay:
		logf(log, LevelNotice, "Client %s [%s] disconnected: %s.", host, at, closeText(codec.ServerBusy))
	case wsnet.CauseOrigin:
		logf(log, LevelNotice, "Client %s [%s] disconnected: non-matching http origin.", host, at)
	}
}

// flag prints a bit the way the debug log does.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// cipherText is OpenSSL's name of a cipher suite, which Mosquitto logs: TLS 1.3's are the same everywhere,
// the others begin without TLS, have no WITH, and call what is the default nothing.
func cipherText(id uint16) string {
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
