package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

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
