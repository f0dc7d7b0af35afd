package logs

import (
	"log/slog"

	"noctule/broker"
)

// Control sequences of terminals (ECMA-48, 8.3.117).
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	plain  = "\x1b[m"
)

// Paint gives a text the colour of a level: what wants to be seen, and what is there in masses.
func Paint(l slog.Level, text string) string {
	switch l {
	case broker.LevelError:
		return red + text + plain
	case broker.LevelWarning:
		return yellow + text + plain
	case broker.LevelInfo, broker.LevelNotice:
		return text
	default: // the types that are off if nothing is said
		return faint + text + plain
	}
}

// painted are lines with their colours.
func painted(lines []line) (out []byte) {
	for _, l := range lines {
		out = append(append(out, Paint(l.level, l.text)...), '\n')
	}
	return out
}
