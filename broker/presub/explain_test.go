package presub

import (
	"context"
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestExplainNotes tells what is pending, offline with QoS 0, No Local and shared, and of nothing else.
func TestExplainNotes(t *testing.T) {
	x := newSystem(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	give := func(id string, list ...Topic) {
		t.Helper()
		if _, err := x.e.Subscribe(ctx, "shop", id, list); err != nil {
			t.Fatal(err)
		}
	}
	give("late", Topic{Topic: "a/#"})
	c := brokertest.Connect(t, x.addr, "away", codec.V5, func(p *codec.Connect) {
		p.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 600)
	})
	give("away", Topic{Topic: "a/0"}, Topic{Topic: "a/+", QoS: 1})
	c.Disconnect()
	brokertest.Settle(t, x.b)
	x.connect("here", "")
	give("here", Topic{Topic: "a/0", NL: true}, Topic{Topic: "$share/g/a/#"}, Topic{Topic: "b"})
	for _, tt := range []struct{ id, topic, want string }{
		{"late", "a/0", "a/# of api:shop waits for its next CONNECT until "},
		{"late", "b", ""},
		{"away", "a/0", "a/0 of api:shop is QoS 0 and the client is offline"},
		{"away", "a/1", ""},
		{"here", "a/0", "a/0 of api:shop is No Local"},
		{"here", "a/1", "$share/g/a/# of api:shop is shared"},
		{"here", "b", ""},
		{"nobody", "b", ""},
	} {
		ex, err := x.e.Explain(ctx, tt.id, tt.topic)
		got := strings.Join(ex.Notes, "; ")
		if err != nil || !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s %s: %q, %v, want %q", tt.id, tt.topic, got, err, tt.want)
		}
	}
}
