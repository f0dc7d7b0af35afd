// Package logs prints log lines the way Mosquitto does: "<timestamp>: <message>".
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// Handler is a slog.Handler. It is safe for concurrent use.
type Handler struct {
	// Set by New, then read-only:
	queue *queue // nil: lines are written by who logs them

	// Atomic:
	now     atomic.Pointer[settings]
	publish atomic.Pointer[Publish] // nil until there is a broker

	mu struct {
		sync.Mutex // also held while writing, so that lines stay whole
		settings   *settings
		file       *os.File
	}
}

// settings are what a configuration says. Immutable.
type settings struct {
	levels map[slog.Level]bool
	cfg    conf.Log
	out    []stream
	system system // nil without log_dest syslog
	topic  bool   // log_dest topic
}

// stream is a standard stream.
type stream struct {
	io.Writer
	colours bool
}

// system is the system's log.
type system interface {
	// log writes one line with the priority of its level.
	log(level slog.Level, line string) error
	close() error
}

// Publish sends a line to subscribers of a topic. It must not block and must not log.
type Publish func(topic string, line []byte)

// Options are what the command line and the process say about logging.
type Options struct {
	Verbose, Quiet bool      // -v and -q; -q wins over -v, both over log_type
	Stdout, Stderr io.Writer // for log_dest stdout and stderr; may be the same
	// Colours reports whether lines of a standard stream are to have colours; nil means that none are. No
	// other destination has any.
	Colours func(io.Writer) bool
	// Queue is how many lines may wait for a slow destination; see queue. 0 writes each line before Handle
	// returns.
	Queue int
}

// New returns a handler for a configuration. What cannot be opened is an error that need not end the
// program: the handler works without it. If the log file was the only destination, errors go to stderr
// instead, and nothing else does.
func New(cfg conf.Log, o Options) (*Handler, error) {
	h := &Handler{}
	err := h.configure(cfg, o)
	if o.Queue > 0 {
		h.queue = newQueue(o.Queue, h.write, h.gap)
	}
	return h, err
}

// Configure replaces the settings, and opens the log file again, after what was logged before has been
// written. Of o the queue stays as it is. Errors are as with New.
func (h *Handler) Configure(cfg conf.Log, o Options) error {
	return h.between(func() error { return h.configure(cfg, o) })
}

func (h *Handler) configure(cfg conf.Log, o Options) error {
	s := &settings{cfg: cfg, levels: levels(cfg.Types, o.Verbose, o.Quiet)}
	dest := cfg.Dest
	if len(dest) == 0 && cfg.File == "" && !cfg.None {
		dest = []string{"stderr"}
	}
	var failed error
	for _, d := range dest {
		switch d {
		case "stdout":
			s.out = append(s.out, o.stream(cfg, o.Stdout))
		case "stderr":
			s.out = append(s.out, o.stream(cfg, o.Stderr))
		case "syslog":
			s.system, failed = openSyslog(cfg.Facility)
		case "topic":
			s.topic = true
		}
	}
	f, err := openFile(cfg.File)
	if err != nil && len(s.out) == 0 && s.system == nil && !s.topic { // errors must be told somewhere
		s.out = append(s.out, o.stream(cfg, o.Stderr))
		s.levels = levels(map[string]bool{"error": true}, false, o.Quiet)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.mu.settings; old != nil && old.system != nil {
		_ = old.system.close()
	}
	if h.mu.file != nil {
		_ = h.mu.file.Close()
	}
	h.mu.settings, h.mu.file = s, f
	h.now.Store(s)
	return errors.Join(failed, err)
}

func (o *Options) stream(cfg conf.Log, w io.Writer) stream {
	return stream{w, !cfg.JSON && o.Colours != nil && o.Colours(w)}
}

// types are the log types by name.
func types() map[string]slog.Level {
	return map[string]slog.Level{
		"debug": broker.LevelDebug, "error": broker.LevelError, "warning": broker.LevelWarning,
		"notice": broker.LevelNotice, "information": broker.LevelInfo, "subscribe": broker.LevelSubscribe,
		"unsubscribe": broker.LevelUnsubscribe, "websockets": broker.LevelWebSockets,
		"internal": broker.LevelInternal,
	}
}

// levels are the log types that are on.
func levels(on map[string]bool, verbose, quiet bool) map[slog.Level]bool {
	if quiet {
		return nil
	}
	if on == nil {
		on = map[string]bool{"error": true, "warning": true, "notice": true, "information": true}
	}
	out := map[slog.Level]bool{}
	for name, level := range types() {
		out[level] = verbose || on[name]
	}
	return out
}

// topicOf is where log_dest topic publishes a level; "" nowhere.
func topicOf(l slog.Level) string {
	const prefix = "$SYS/broker/log/"
	switch l {
	case broker.LevelError:
		return prefix + "E"
	case broker.LevelWarning:
		return prefix + "W"
	case broker.LevelNotice:
		return prefix + "N"
	case broker.LevelInfo:
		return prefix + "I"
	case broker.LevelSubscribe:
		return prefix + "M/subscribe"
	case broker.LevelUnsubscribe:
		return prefix + "M/unsubscribe"
	case broker.LevelWebSockets:
		return prefix + "WS"
	default: // debug and internal: publishing them would make more of them
		return ""
	}
}

// PublishTo sets what log_dest topic publishes with; lines before are not published.
func (h *Handler) PublishTo(p Publish) { h.publish.Store(&p) }

// Dropped is the number of lines that a slow destination has lost.
func (h *Handler) Dropped() int64 {
	if h.queue == nil {
		return 0
	}
	return h.queue.dropped.Load()
}

// Reopen closes and opens the log file, after it was rotated: lines logged before go to the old file. With a
// destination that does not take its lines it gives up after a while.
func (h *Handler) Reopen() error { return h.between(h.reopen) }

// between runs f after the lines logged so far and before those that follow.
func (h *Handler) between(f func() error) error {
	if h.queue == nil {
		return f()
	}
	result := make(chan error, 1)
	if err := h.queue.do(func() { result <- f() }); err != nil {
		return err
	}
	return <-result
}

// reopen keeps the file that it has when it cannot open it again.
func (h *Handler) reopen() error {
	f, err := openFile(h.now.Load().cfg.File)
	if err != nil || f == nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.file != nil {
		_ = h.mu.file.Close()
	}
	h.mu.file = f
	return nil
}

// openFile opens a log file; nil for no name.
func openFile(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("Unable to open log file %s for writing: %w", name, err)
	}
	return f, nil
}

// Flush returns when the lines logged so far are written, or have not been within d.
func (h *Handler) Flush(d time.Duration) {
	if h.queue != nil {
		_ = h.queue.doWithin(d, func() {}) // there is nobody to tell
	}
}

// Close writes what waits, as far as the destinations take it in time, and closes the file. Later lines are
// lost.
func (h *Handler) Close() {
	if h.queue != nil && !h.queue.close() {
		return // the writer is stuck with the file
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.file != nil {
		_ = h.mu.file.Close()
		h.mu.file = nil
	}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return h.now.Load().levels[l] }

// lineMax is where Mosquitto cuts lines, in bytes.
const lineMax = 1000

// Handle implements slog.Handler. A line is cut at 1000 bytes.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	l := line{level: r.Level, text: format(&h.now.Load().cfg, r)}
	if h.queue != nil {
		h.queue.add(l)
		return nil
	}
	h.write([]line{l})
	return nil
}

// format makes the line of a record.
func format(cfg *conf.Log, r slog.Record) string {
	if cfg.JSON {
		return formatJSON(cfg, r)
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	if cfg.Timestamp {
		text = timestamp(cfg.TimestampFormat, r.Time) + ": " + text
	}
	if len(text) > lineMax {
		text = text[:lineMax]
	}
	return text
}

// formatJSON is a record as JSON with Mosquitto's sentence as msg.
func formatJSON(cfg *conf.Log, r slog.Record) string {
	out := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	if len(out.Message) > lineMax {
		out.Message = strings.ToValidUTF8(out.Message[:lineMax], "")
	}
	if !cfg.Timestamp {
		out.Time = time.Time{}
	}
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(a)
		return true
	})
	var b strings.Builder
	j := slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.Level(math.MinInt), ReplaceAttr: levelName})
	_ = j.Handle(context.Background(), out) // a Builder takes everything
	return strings.TrimSuffix(b.String(), "\n")
}

// gap is the line about lines that were dropped.
func (h *Handler) gap(n int64) line {
	text := fmt.Sprintf("Warning: %d log lines were dropped: a log destination is too slow.", n)
	r := slog.NewRecord(time.Now(), broker.LevelWarning, text, 0)
	return line{level: r.Level, text: format(&h.now.Load().cfg, r)}
}

// levelName writes levels as log_type names them.
func levelName(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey {
		for name, l := range types() {
			if l == level {
				return slog.String(slog.LevelKey, name)
			}
		}
	}
	return a
}

// write puts lines into all destinations: one write each for those that take bytes.
func (h *Handler) write(lines []line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.mu.settings
	var raw []byte
	if len(s.out) > 0 || h.mu.file != nil {
		for _, l := range lines {
			raw = append(append(raw, l.text...), '\n')
		}
	}
	for _, w := range s.out {
		if w.colours {
			_, _ = w.Write(painted(lines))
		} else {
			_, _ = w.Write(raw)
		}
	}
	if h.mu.file != nil {
		_, _ = h.mu.file.Write(raw)
	}
	publish := h.publish.Load()
	for _, l := range lines {
		if s.system != nil {
			_ = s.system.log(l.level, l.text)
		}
		if topic := topicOf(l.level); s.topic && publish != nil && topic != "" {
			(*publish)(topic, []byte(l.text))
		}
	}
}

// WithAttrs implements slog.Handler; Mosquitto's lines have no attributes.
func (h *Handler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(string) slog.Handler { return h }

func timestamp(format string, t time.Time) string {
	if format == "" {
		return strconv.FormatInt(t.Unix(), 10)
	}
	return strftime(format, t)
}
