package traffic

import (
	"context"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"noctule/codec"
)

// patience is the longest that anything may take.
const patience = 30 * time.Second

// limited is a context for a test.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestSizes derives the paper's integers from the packets themselves.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct {
		topic   string
		payload []byte
		twelve  int64
	}{"bare": {bareTopic, []byte("hello"), 1776}, "table 2": {fullTopic, payload(), 2184}} {
		p := codec.Publish{Topic: []byte(c.topic), Payload: c.payload}
		frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewBinaryFrame(p.Append(nil, codec.V311))))
		if err != nil {
			t.Fatal(err)
		}
		got := Count{}
		for range messages {
			got = got.Add(Count{2, 2*(headerBytes+timestampBytes) + int64(len(frame))})
		}
		if got != (Count{24, c.twelve}) {
			t.Errorf("12 messages, %s, are %v, want 24 / %d", name, got, c.twelve)
		}
	}
}
