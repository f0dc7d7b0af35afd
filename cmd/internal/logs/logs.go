// Package logs prints log lines the way Mosquitto does: "<timestamp>: <message>".
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// Handler is a slog.Handler. It is safe for concurrent use.
type Handler struct {
	// Set by New, then read-only:
	levels map[slog.Level]bool
	cfg    conf.Log
	out    []io.Writer
	system system // nil without log_dest syslog

	mu struct {
		sync.Mutex // also held while writing, so that lines stay whole
		file       *os.File
	}
}

// system is the system's log.
type system interface {
	// log writes one line with the priority of its level.
	log(level slog.Level, line string) error
}

// Options are what the command line and the process say about logging.
type Options struct {
	Verbose, Quiet bool      // -v and -q; -q wins over -v, both over log_type
	Stdout, Stderr io.Writer // for log_dest stdout and stderr; may be the same
}

// New returns a handler for a configuration. What cannot be opened is an error that need not end the
// program: the handler works without it.
func New(cfg conf.Log, o Options) (*Handler, error) {
	h := &Handler{cfg: cfg, levels: levels(cfg.Types, o.Verbose, o.Quiet)}
	dest := cfg.Dest
	if len(dest) == 0 && cfg.File == "" && !cfg.None {
		dest = []string{"stderr"}
	}
	var failed error
	for _, d := range dest {
		switch d {
		case "stdout":
			h.out = append(h.out, o.Stdout)
		case "stderr":
			h.out = append(h.out, o.Stderr)
		case "syslog":
			h.system, failed = openSyslog(cfg.Facility)
		}
	}
	return h, errors.Join(failed, h.Reopen())
}

// levels are the log types that are on.
func levels(types map[string]bool, verbose, quiet bool) map[slog.Level]bool {
	if quiet {
		return nil
	}
	if types == nil {
		types = map[string]bool{"error": true, "warning": true, "notice": true, "information": true}
	}
	names := map[string]slog.Level{
		"debug": broker.LevelDebug, "error": broker.LevelError, "warning": broker.LevelWarning,
		"notice": broker.LevelNotice, "information": broker.LevelInfo, "subscribe": broker.LevelSubscribe,
		"unsubscribe": broker.LevelUnsubscribe,
	}
	out := map[slog.Level]bool{}
	for name, level := range names {
		out[level] = verbose || types[name]
	}
	return out
}

// Reopen closes and opens the log file, after it was rotated.
func (h *Handler) Reopen() error {
	if h.cfg.File == "" {
		return nil
	}
	f, err := os.OpenFile(h.cfg.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("Unable to open log file %s for writing: %w", h.cfg.File, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.file != nil {
		_ = h.mu.file.Close()
	}
	h.mu.file = f
	return nil
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return h.levels[l] }

// Handle implements slog.Handler. A line is cut at 1000 bytes.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	if h.cfg.Timestamp {
		line = h.timestamp(r.Time) + ": " + line
	}
	if len(line) > 1000 {
		line = line[:1000]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	raw := []byte(line + "\n")
	for _, w := range h.out {
		_, _ = w.Write(raw)
	}
	if h.mu.file != nil {
		_, _ = h.mu.file.Write(raw)
	}
	if h.system != nil {
		_ = h.system.log(r.Level, line)
	}
	return nil
}

// WithAttrs implements slog.Handler; Mosquitto's lines have no attributes.
func (h *Handler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(string) slog.Handler { return h }

func (h *Handler) timestamp(t time.Time) string {
	if h.cfg.TimestampFormat == "" {
		return fmt.Sprint(t.Unix())
	}
	return strftime(h.cfg.TimestampFormat, t)
}

// layouts are the conversions of strftime, in the C locale, that Go has a layout for.
func layouts(c byte) string {
	const (
		letters = "YymdeHIMSpaAbBhzZFTDRcjxXr"
		forms   = "2006|06|01|02|_2|15|03|04|05|PM|Mon|Monday|Jan|January|Jan|-0700|MST|2006-01-02|" +
			"15:04:05|01/02/06|15:04|Mon Jan _2 15:04:05 2006|002|01/02/06|15:04:05|03:04:05 PM"
	)
	i := strings.IndexByte(letters, c)
	if i < 0 {
		return ""
	}
	return strings.Split(forms, "|")[i]
}

// strftime formats a time with the conversions of C; those it does not know stay as they are.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		c := format[i]
		if l := layouts(c); l != "" {
			b.WriteString(t.Format(l))
			continue
		}
		year, week := t.ISOWeek()
		weekday := int(t.Weekday())
		switch c {
		case 's':
			fmt.Fprint(&b, t.Unix())
		case 'C':
			fmt.Fprintf(&b, "%02d", t.Year()/100)
		case 'G':
			fmt.Fprint(&b, year)
		case 'g':
			fmt.Fprintf(&b, "%02d", year%100)
		case 'V':
			fmt.Fprintf(&b, "%02d", week)
		case 'U': // weeks that start on Sunday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-weekday)/7)
		case 'W': // weeks that start on Monday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-(weekday+6)%7)/7)
		case 'u':
			fmt.Fprint(&b, (weekday+6)%7+1)
		case 'w':
			fmt.Fprint(&b, weekday)
		case 'k':
			fmt.Fprintf(&b, "%2d", t.Hour())
		case 'l':
			fmt.Fprintf(&b, "%2d", (t.Hour()+11)%12+1)
		case 'P':
			b.WriteString(t.Format("pm"))
		case 'n', 't', '%':
			b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '%': '%'}[c])
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}
