package broker

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
)

// logf writes one line in Mosquitto's words; nothing is formatted when the level is off.
func logf(l *slog.Logger, level slog.Level, format string, args ...any) {
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

func portText(p uint16) string { return ":" + strconv.Itoa(int(p)) }

// logRefused is called by the accepting loop.
func (b *Broker) logRefused(addr netip.AddrPort) {
	logf(
		b.opts.Log,
		LevelNotice,
		"Client connection from %s denied: max_connections exceeded.",
		addr.Addr().Unmap(),
	)
}

// flag prints a bit the way the debug log does.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
