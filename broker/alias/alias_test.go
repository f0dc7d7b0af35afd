package alias

import (
	"errors"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
)

// The first topics get an alias, with the topic once and alone then; one that was not sent is free again.
func TestOut_MQTT_3_1_2_26(t *testing.T) {
	var o Out
	for i, x := range []struct {
		topic string
		full  bool
		want  message.Delivery
	}{
		{"a", false, message.Delivery{Alias: 1}},
		{"a", false, message.Delivery{Alias: 1, AliasOnly: true}},
		{"b", true, message.Delivery{}},
		{"b", false, message.Delivery{Alias: 2}},
		{"c", false, message.Delivery{}},
		{"b", true, message.Delivery{Alias: 2, AliasOnly: true}},
	} {
		var d message.Delivery
		if o.Pick([]byte(x.topic), 2, x.full, &d); d != x.want {
			t.Errorf("%d: %+v, want %+v", i, d, x.want)
		}
	}
	o.Forget([]byte("a"), &message.Delivery{Alias: 1, AliasOnly: true})
	o.Forget([]byte("a"), &message.Delivery{})
	if len(o) != 2 {
		t.Error("an alias is forgotten that was sent")
	}
	o.Forget([]byte("b"), &message.Delivery{Alias: 2})
	var d message.Delivery
	if o.Pick([]byte("c"), 2, false, &d); d.Alias != 2 || d.AliasOnly {
		t.Errorf("%+v", d)
	}
}

// An alias names the last topic it came with; one above the maximum, and one that names nothing, are errors.
func TestIn_MQTT_3_3_2_9(t *testing.T) {
	var x In
	for i, c := range []struct {
		alias       int
		topic, want string
		reason      codec.Reason
	}{
		{2, "", "", codec.ProtocolError},
		{2, "a/b", "a/b", 0},
		{2, "", "a/b", 0},
		{1, "", "", codec.ProtocolError},
		{2, "c", "c", 0},
		{2, "", "c", 0},
		{3, "", "", codec.ProtocolError},
		{4, "d", "", codec.TopicAliasInvalid},
	} {
		topic, err := x.Resolve(c.alias, 3, []byte(c.topic))
		var e *codec.Error
		if errors.As(err, &e) != (c.reason != 0) || e != nil && e.Reason != c.reason || string(topic) != c.want {
			t.Errorf("%d: %s, %v", i, topic, err)
		}
	}
	if x.Room(2) < 3 || x.Room(1) != 0 || x.Room(3) != 0 {
		t.Error(x.Room(1), x.Room(2), x.Room(3))
	}
}
