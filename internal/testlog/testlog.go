// Package testlog keeps what is logged for tests to read.
package testlog

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// Lines keeps what is written. It may be used on any goroutine.
type Lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all that has been written.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Messages is a log of all levels that keeps the messages. It is for one goroutine at a time.
type Messages struct {
	slog.Handler

	Text []string
}

// Enabled implements slog.Handler.
func (*Messages) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (m *Messages) Handle(_ context.Context, r slog.Record) error {
	m.Text = append(m.Text, r.Message)
	return nil
}
