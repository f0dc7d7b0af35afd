// Package logs prints log lines the way Mosquitto does: "<timestamp>: <message>".
package logs

import (
	"context"
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

	mu struct {
		sync.Mutex
		out    []io.Writer
		file   *os.File
		system io.Writer
	}
}

// New returns a handler for a configuration; verbose and quiet are the flags -v and -q. An unopenable log
// file is an error that need not end the program: the handler works without it.
func New(cfg conf.Log, verbose, quiet bool) (*Handler, error) {
	h := &Handler{cfg: cfg, levels: levels(cfg.Types, verbose, quiet)}
	if len(cfg.Dest) == 0 && cfg.File == "" && !cfg.None {
		cfg.Dest = []string{"stderr"}
	}
	for _, d := range cfg.Dest {
		switch d {
		case "stdout":
			h.mu.out = append(h.mu.out, os.Stdout)
		case "stderr":
			h.mu.out = append(h.mu.out, os.Stderr)
		case "syslog":
			w, err := openSyslog(cfg.Facility)
			if err != nil {
				return h, err
			}
			h.mu.system = w
		}
	}
	return h, h.Reopen()
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
	for _, w := range h.mu.out {
		_, _ = w.Write(raw)
	}
	if h.mu.file != nil {
		_, _ = h.mu.file.Write(raw)
	}
	if h.mu.system != nil {
		_, _ = h.mu.system.Write([]byte(line))
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

// strftime formats a time with the conversions of C that have a fixed form.
func strftime(format string, t time.Time) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
		'p': "PM", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'z': "-0700", 'Z': "MST",
		'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'j': "002",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; {
		case layouts[c] != "":
			b.WriteString(t.Format(layouts[c]))
		case c == 's':
			fmt.Fprint(&b, t.Unix())
		case c == '%':
			b.WriteByte('%')
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}
