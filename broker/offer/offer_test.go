package offer

import (
	"bytes"
	"math"
	"regexp"
	"testing"
	"time"

	"noctule/codec"
)

func all() Offer { return Offer{MaxQoS: 2, RetainAvailable: true, NoID: true} }

// What a will may not ask for is refused by the code that says why.
func TestCheck(t *testing.T) {
	will := func(w codec.Will) *codec.Connect { return &codec.Connect{Version: codec.V5, HasWill: true, Will: w} }
	for i, tt := range []struct {
		change func(*Offer)
		p      *codec.Connect
		want   codec.Reason
	}{
		{func(*Offer) {}, will(codec.Will{QoS: 2, Retain: true, Topic: []byte("t")}), codec.Success},
		{func(o *Offer) { o.MaxQoS = 1 }, will(codec.Will{QoS: 2}), codec.QoSNotSupported},
		{func(o *Offer) { o.RetainAvailable = false }, will(codec.Will{Retain: true}), codec.RetainNotSupported},
		{func(*Offer) {}, will(codec.Will{Topic: []byte("$CONTROL/x")}), codec.NotAuthorized},
		{func(o *Offer) { o.Mount = "m" }, will(codec.Will{Topic: make([]byte, 65535)}), codec.TopicNameInvalid},
		{func(*Offer) {}, will(codec.Will{Topic: make([]byte, 65535)}), codec.Success},
		{func(o *Offer) { o.MessageSizeLimit = 1 }, will(codec.Will{Payload: []byte("ab")}), codec.PacketTooLarge},
		{func(o *Offer) { o.MaxKeepAlive = 9 }, &codec.Connect{Version: codec.V311, KeepAlive: 10}, codec.ClientIdentifierNotValid},
		{func(o *Offer) { o.MaxKeepAlive = 9 }, &codec.Connect{Version: codec.V311}, codec.ClientIdentifierNotValid},
		{func(o *Offer) { o.MaxKeepAlive = 9 }, &codec.Connect{Version: codec.V5}, codec.Success},
	} {
		o := all()
		tt.change(&o)
		if got := o.Check(tt.p); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
}

// Who may be without a client id gets one of its own [MQTT-3.1.3-6], [MQTT-3.1.3-8].
func TestMakeID(t *testing.T) {
	o := all()
	o.IDPrefix = "auto-"
	form := regexp.MustCompile(`^auto-[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`)
	first, r := o.MakeID(&codec.Connect{Version: codec.V5})
	second, _ := o.MakeID(&codec.Connect{Version: codec.V311, CleanStart: true})
	if r != codec.Success || !form.Match(first) || !form.Match(second) || bytes.Equal(first, second) {
		t.Errorf("%s %s %s", first, second, r)
	}
	for _, tt := range []struct {
		v     codec.Version
		clean bool
		noID  bool
		want  codec.Reason
	}{
		{codec.V31, true, true, codec.ClientIdentifierNotValid},
		{codec.V311, false, true, codec.ClientIdentifierNotValid},
		{codec.V311, true, false, codec.ClientIdentifierNotValid},
		{codec.V5, true, false, codec.UnspecifiedError},
	} {
		o.NoID = tt.noID
		if id, r := o.MakeID(&codec.Connect{Version: tt.v, CleanStart: tt.clean}); r != tt.want || id != nil {
			t.Errorf("%+v: %q, %s", tt, id, r)
		}
	}
}

// CONNACK says what is not the default, in Mosquitto's order; MQTT 3 clients hear nothing of it.
func TestAnswers(t *testing.T) {
	o := Offer{
		MaxQoS: 1, MaxKeepAlive: 60, MaxInflight: 20, MaxTopicAlias: 10, MaxPacketSize: 1000,
	}
	p := &codec.Connect{Version: codec.V5}
	var got []codec.PropertyID
	for id := range o.Accept(p, []byte("made"), false).Properties.All() {
		got = append(got, id)
	}
	want := []codec.PropertyID{
		codec.ServerKeepAlive, codec.TopicAliasMaximum, codec.AssignedClientID, codec.RetainAvailable,
		codec.MaximumPacketSize, codec.ReceiveMaximum, codec.MaximumQoS,
	}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if o.KeepAlive(p) != 60 || o.KeepAlive(&codec.Connect{Version: codec.V5, KeepAlive: 5}) != 5 ||
		o.KeepAlive(&codec.Connect{Version: codec.V311, KeepAlive: 500}) != 500 {
		t.Error("keep alive")
	}
	if full := all(); len(full.Accept(p, nil, true).Properties) != 0 {
		t.Error("defaults are told")
	}
	for v, present := range map[codec.Version]bool{codec.V31: false, codec.V311: true} {
		if ack := o.Accept(&codec.Connect{Version: v}, nil, true); ack.SessionPresent != present || len(ack.Properties) > 0 {
			t.Errorf("version %d: %+v", v, ack)
		}
		if ack := o.Refusal(v, codec.Banned); ack.Reason != codec.Banned || len(ack.Properties) > 0 {
			t.Errorf("version %d: %+v", v, ack)
		}
	}
	if q, _ := o.Refusal(codec.V5, codec.Banned).Properties.Uint(codec.MaximumQoS); q != 1 {
		t.Errorf("Maximum QoS %d", q)
	}
}

// What a client asks for is held against the limits.
func TestWishes(t *testing.T) {
	o := Offer{MaxTopicAliasBroker: 10, MaxExpiry: 1500 * time.Millisecond}
	var props codec.Properties
	for id, n := range map[codec.PropertyID]uint32{
		codec.SessionExpiry: 100, codec.ReceiveMaximum: 7, codec.MaximumPacketSize: 50, codec.TopicAliasMaximum: 99,
		codec.RequestProblemInfo: 0,
	} {
		props = codec.AppendUintProperty(props, id, n)
	}
	p := &codec.Connect{Version: codec.V5, Properties: props}
	want := Wishes{Expiry: 2, MaxPacket: 50, ReceiveMaximum: 7, AliasMax: 10, NoProblem: true}
	if got := o.Wishes(p); got != want || !Outlives(p) {
		t.Errorf("%+v", got)
	}
	p = &codec.Connect{Version: codec.V5}
	if got := o.Wishes(p); got != (Wishes{}) || Outlives(p) {
		t.Errorf("nothing: %+v", got)
	}
	for clean, expiry := range map[bool]uint32{true: 0, false: 2} {
		p := &codec.Connect{Version: codec.V311, CleanStart: clean}
		if got := o.Wishes(p); got != (Wishes{Expiry: expiry}) || Outlives(p) == clean {
			t.Errorf("clean %v: %+v", clean, got)
		}
	}
	for limit, want := range map[time.Duration]uint32{0: Never, time.Nanosecond: 1, 1<<63 - 1: Never, -1: Never} {
		if got := CapExpiry(Never, limit); got != want {
			t.Errorf("%v: %d", limit, got)
		}
	}
	if CapExpiry(5, math.MaxInt64) != 5 {
		t.Error("a limit lengthens it")
	}
}
