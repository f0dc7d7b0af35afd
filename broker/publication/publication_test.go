package publication

import (
	"strings"
	"testing"

	"noctule/codec"
)

// Each reason that no loop needs to be asked about, and what is none.
func TestCheck(t *testing.T) {
	alias := codec.AppendUintProperty(nil, codec.TopicAlias, 1)
	user := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
	for i, x := range []struct {
		p    Publication
		want Error
	}{
		{Publication{Topic: "a", QoS: 2, Properties: user}, 0},
		{Publication{Topic: strings.Repeat("x", 65535)}, 0},
		{Publication{Topic: "a", Payload: make([]byte, codec.MaxRemaining-headMax-1)}, 0},
		{Publication{}, ErrTopic},
		{Publication{Topic: "a/+"}, ErrTopic},
		{Publication{Topic: strings.Repeat("x", 65536)}, ErrTopic},
		{Publication{Topic: "a", QoS: 3}, ErrQoS},
		{Publication{Topic: "a", Properties: alias}, ErrProperties},
		{Publication{Topic: "a", Properties: codec.Properties{38, 0}}, ErrProperties},
		{Publication{Topic: "a", Payload: make([]byte, codec.MaxRemaining-headMax)}, ErrSize},
	} {
		if got := x.p.Check(); got != x.want {
			t.Errorf("%d: %s, want %s", i, got, x.want)
		}
	}
}

// The message is the publication's, and its reasons have words.
func TestMessage(t *testing.T) {
	user := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
	p := Publication{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true, Properties: user}
	m := p.Message()
	if string(m.Topic) != "a" || string(m.Payload) != "x" || m.QoS != 1 || !m.Retain ||
		string(m.Properties) != string(user) {
		t.Errorf("%+v", m)
	}
	for r := ErrTopic; r <= ErrEnd; r++ {
		if r.String() == "" || r.String() == "unknown" {
			t.Errorf("%d has no words", r)
		}
	}
}
