package codec

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// packet is what all types can do.
type packet interface {
	Parse(flags uint8, body []byte, v Version) error
	Append(b []byte, v Version) []byte
	Len(v Version) int
}

// fresh returns an empty packet of a type.
func fresh(t Type) packet {
	switch t {
	case CONNECT:
		return &Connect{}
	case CONNACK:
		return &Connack{}
	case PUBLISH:
		return &Publish{}
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return &Ack{Type: t}
	case SUBSCRIBE:
		return &Subscribe{}
	case SUBACK:
		return &Suback{}
	case UNSUBSCRIBE:
		return &Unsubscribe{}
	case UNSUBACK:
		return &Unsuback{}
	case DISCONNECT:
		return &Disconnect{}
	case AUTH:
		return &Auth{}
	default:
		return nil
	}
}

func user(p Properties) Properties { return AppendUserProperty(p, []byte("name"), []byte("value")) }

type sample struct {
	name string
	v    Version
	p    packet
	cut  bool // each proper prefix of the body is an error
}

func samples() []sample {
	will := Will{QoS: 1, Retain: true, Topic: []byte("w"), Payload: []byte("bye")}
	will5 := will
	will5.Properties = AppendUintProperty(nil, WillDelay, 5)
	publish := AppendUintProperty(AppendBytesProperty(nil, ContentType, []byte("text")), MessageExpiry, 60)
	filters := []Filter{{Name: []byte("a/+/#"), QoS: 2}, {Name: []byte("$share/g/x"), QoS: 1}}
	return []sample{
		{"connect 3.1", V31, &Connect{Version: V31, Level: 3, CleanStart: true, KeepAlive: 60, ClientID: []byte("c")}, true},
		{"connect 3.1.1", V311, &Connect{
			Version: V311, Level: 4, ClientID: []byte("c"), HasWill: true, Will: will,
			HasUsername: true, Username: []byte("u"), HasPassword: true, Password: []byte("p"),
		}, true},
		{"connect bridge", V311, &Connect{Version: V311, Level: 0x84, Bridge: true, ClientID: []byte("b")}, true},
		{"connect 5", V5, &Connect{
			Version: V5, Level: 5, ClientID: []byte("c"), HasWill: true, Will: will5,
			Properties: user(AppendUintProperty(nil, ReceiveMaximum, 5)),
		}, true},
		{"connack 5", V5, &Connack{SessionPresent: true, Properties: AppendUintProperty(nil, TopicAliasMaximum, 10)}, true},
		{"connack 3", V311, &Connack{SessionPresent: true}, true},
		{"publish 3 q0", V311, &Publish{Topic: []byte("a/b"), Payload: []byte("x")}, false},
		{"publish 3 q2", V311, &Publish{Dup: true, QoS: 2, Retain: true, PacketID: 7, Topic: []byte("a"), Payload: []byte("x")}, false},
		{"publish 5", V5, &Publish{QoS: 1, PacketID: 7, Topic: []byte("a"), Properties: publish, Payload: []byte("x")}, false},
		{"puback 3", V311, &Ack{Type: PUBACK, PacketID: 1}, true},
		{"pubrec 5", V5, &Ack{Type: PUBREC, PacketID: 1, Reason: QuotaExceeded, Properties: user(nil)}, false},
		{"pubrel 5", V5, &Ack{Type: PUBREL, PacketID: 1, Reason: PacketIdentifierNotFound}, false},
		{"pubcomp 5", V5, &Ack{Type: PUBCOMP, PacketID: 65535}, true},
		{"subscribe 3", V311, &Subscribe{PacketID: 2, Filters: filters}, false},
		{"subscribe 5", V5, &Subscribe{PacketID: 2, Filters: []Filter{{
			Name: []byte("a"), NoLocal: true, RetainAsPublished: true, RetainHandling: 2,
		}}, Properties: AppendUintProperty(nil, SubscriptionIdentifier, 300)}, true},
		{"suback 3", V311, &Suback{PacketID: 2, Codes: []Reason{0, 1, 0x80}}, false},
		{"suback 5", V5, &Suback{PacketID: 2, Codes: []Reason{NotAuthorized}, Properties: user(nil)}, true},
		{"unsubscribe", V5, &Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("abc")}}, true},
		{"unsuback 3", V311, &Unsuback{PacketID: 3}, true},
		{"unsuback 5", V5, &Unsuback{PacketID: 3, Codes: []Reason{NoSubscriptionExisted}}, true},
		{"disconnect 3", V311, &Disconnect{}, true},
		{"disconnect 5", V5, &Disconnect{Reason: ServerMoved, Properties: AppendBytesProperty(nil, ServerReference, []byte("x"))}, false},
		{"auth without anything", V5, &Auth{}, false},
		{"auth that goes on", V5, &Auth{
			Reason:     ContinueAuthentication,
			Properties: AppendBytesProperty(AppendBytesProperty(nil, AuthMethod, []byte("SCRAM-SHA-256")), AuthData, []byte{0, 1, 0xFF}),
		}, false},
		{"auth", V5, &Auth{Reason: ReAuthenticate, Properties: AppendBytesProperty(nil, AuthMethod, []byte("m"))}, false},
	}
}

// clean makes nil and empty slices equal: a fresh parse leaves empty ones.
func same(a, b packet, v Version) bool {
	return bytes.Equal(a.Append(nil, v), b.Append(nil, v)) && reflect.TypeOf(a) == reflect.TypeOf(b)
}

func TestRoundTripLengthAndPrefixes(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			raw := s.p.Append(nil, s.v)
			if n := s.p.Len(s.v); n != len(raw) {
				t.Errorf("Len %d, appended %d", n, len(raw))
			}
			h, err := ParseHeader(raw)
			if err != nil || h.Size+h.Len != len(raw) {
				t.Fatalf("header %+v %v", h, err)
			}
			got := fresh(h.Type)
			if err := got.Parse(h.Flags, raw[h.Size:], s.v); err != nil {
				t.Fatal(err)
			}
			if !same(got, s.p, s.v) {
				t.Errorf("got %+v\nwant %+v", got, s.p)
			}
			for i := range h.Size {
				if _, err := ParseHeader(raw[:i]); !errors.Is(err, ErrShort) {
					t.Errorf("header of %d bytes: %v", i, err)
				}
			}
			for i := h.Size; s.cut && i < len(raw); i++ {
				if err := fresh(h.Type).Parse(h.Flags, raw[h.Size:i], s.v); err == nil {
					t.Errorf("prefix of %d of %d bytes parses", i, len(raw))
				}
			}
		})
	}
}

func TestHeaderRules(t *testing.T) {
	for name, raw := range map[string][]byte{
		"MQTT-2.1.3-1 SUBSCRIBE flags":       {0x80, 0},
		"MQTT-2.1.3-1 PINGREQ flags":         {0xC1, 0},
		"MQTT-3.3.1-4 QoS 3":                 {0x36, 0},
		"MQTT-3.3.1-2 DUP with QoS 0":        {0x38, 0},
		"MQTT-1.5.5 five byte remaining":     {0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1},
		"remaining length never ends early?": {0x30, 0x80, 0x80, 0x80, 0x80},
	} {
		var e *Error
		if _, err := ParseHeader(raw); !errors.As(err, &e) || e.Reason != MalformedPacket {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, parse := range []func([]byte) (Header, error){ParseHeader, ParseHeader31} {
		var e *Error
		if _, err := parse([]byte{0, 0}); !errors.As(err, &e) || e.Reason != ProtocolError {
			t.Errorf("type 0: %v", err)
		}
	}
}

// MQTT 3.1 (2.1) has flags in PUBLISH only; elsewhere they are not looked at.
func TestHeaderRules31(t *testing.T) {
	for first := range 256 {
		b := byte(first)
		typ, flags := Type(b>>4), b&15
		bad := typ == 0 || flags&6 == 6 && (typ == PUBLISH || typ == CONNECT)
		h, err := ParseHeader31([]byte{b, 2})
		if (err != nil) != bad || err == nil && h != (Header{Type: typ, Flags: flags, Size: 2, Len: 2}) {
			t.Errorf("%02x: %+v, %v", b, h, err)
		}
		if _, err := ParseHeader([]byte{b, 2}); bad && err == nil {
			t.Errorf("%02x is legal in MQTT 3.1.1, not in 3.1", b)
		}
	}
	if _, err := ParseHeader31(nil); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
}

func TestPropertyRules_MQTT_2_2_2(t *testing.T) {
	two := AppendUintProperty(AppendUintProperty(nil, ReceiveMaximum, 1), ReceiveMaximum, 2)
	for name, tt := range map[string]struct {
		p    Properties
		in   Type
		want Reason
	}{
		"twice":              {two, CONNECT, ProtocolError},
		"wrong packet":       {AppendUintProperty(nil, ReceiveMaximum, 1), PUBLISH, MalformedPacket},
		"zero":               {AppendUintProperty(nil, ReceiveMaximum, 0), CONNECT, ProtocolError},
		"subscription id 0":  {AppendUintProperty(nil, SubscriptionIdentifier, 0), SUBSCRIBE, MalformedPacket},
		"not a boolean":      {AppendUintProperty(nil, RequestProblemInfo, 2), CONNECT, ProtocolError},
		"unknown":            {Properties{99, 0}, PUBLISH, MalformedPacket},
		"cut off":            {Properties{byte(UserProperty), 0, 5, 'a'}, PUBLISH, MalformedPacket},
		"alias 0":            {AppendUintProperty(nil, TopicAlias, 0), PUBLISH, TopicAliasInvalid},
		"response topic":     {AppendBytesProperty(nil, ResponseTopic, []byte("a/#")), PUBLISH, ProtocolError},
		"string is no UTF-8": {AppendBytesProperty(nil, ContentType, []byte{0xFF}), PUBLISH, MalformedPacket},
	} {
		r := reader{b: tt.p.AppendTo(nil)}
		var e *Error
		if _, err := r.properties(tt.in); !errors.As(err, &e) || e.Reason != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTopicRules_MQTT_4_7(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": true, "/": true, "a b/ü": true, "": false, "a/+": false, "#": false, "a\x00": false, "\xc3": false, "a\x7f": false,
		"\u0085": false, "\uFFFE": false, "\uFDD0": false, strings.Repeat("/", 200): true, strings.Repeat("/", 201): false,
		"aaaaaaaaaaaaaaaaa\n": false, "aaaaaaaaaaaaaaaaaä": true, "\uFEFFa": true,
	} {
		if got := CheckTopicName([]byte(topic)) == nil; got != want {
			t.Errorf("name %q: %v", topic, got)
		}
	}
	for filter, want := range map[string]bool{
		"a": true, "+": true, "#": true, "a/+/b": true, "a/#": true, "+/#": true, "/": true, "": false, "a+": false, "a#": false,
		"#/a": false, "a/#/b": false, "+a": false, "$share/g/a": true, "$share/g/#": true, "$share/g": false, "$share/g/": false,
		"$share//a": false, "$share/+/a": false, "$share/g/a#": false, "$shared/g": true,
	} {
		if got := CheckTopicFilter([]byte(filter)) == nil; got != want {
			t.Errorf("filter %q: %v", filter, got)
		}
	}
}

func TestUserPropertiesAreParsedInOnePass(t *testing.T) {
	var p Properties
	for range 5000 {
		p = user(p)
	}
	in := Publish{Topic: []byte("t"), Properties: p}
	raw := in.Append(nil, V5)
	h, _ := ParseHeader(raw)
	var out Publish
	if n := testing.AllocsPerRun(10, func() {
		if err := out.Parse(h.Flags, raw[h.Size:], V5); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	n := 0
	for range out.Properties.All() {
		n++
	}
	if n != 5000 {
		t.Errorf("%d properties", n)
	}
}

func TestPublishDoesNotAllocate(t *testing.T) {
	in := Publish{Topic: []byte("a/topic/of/twenty/b"), Payload: make([]byte, 64)}
	raw := in.Append(nil, V311)
	var out Publish
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		h, _ := ParseHeader(raw)
		_ = out.Parse(h.Flags, raw[h.Size:], V311)
		buf = out.Append(buf[:0], V311)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.p.Append(nil, s.v), uint8(s.v))
	}
	f.Fuzz(func(t *testing.T, raw []byte, version uint8) {
		v := Version(3 + version%3)
		h, err := ParseHeader(raw)
		if err != nil || h.Size+h.Len > len(raw) {
			return
		}
		p := fresh(h.Type)
		if p == nil || p.Parse(h.Flags, raw[h.Size:h.Size+h.Len], v) != nil {
			return
		}
		if c, ok := p.(*Connack); ok && v != V5 && c.Reason != 0 {
			return // return codes of MQTT 3 are not reasons
		}
		out := p.Append(nil, v)
		if p.Len(v) != len(out) {
			t.Fatalf("Len %d, appended %d", p.Len(v), len(out))
		}
		h2, err := ParseHeader(out)
		if err != nil {
			t.Fatal(err)
		}
		q := fresh(h.Type)
		if err := q.Parse(h2.Flags, out[h2.Size:], v); err != nil {
			t.Fatalf("% x parses, % x does not: %v", raw, out, err)
		}
		if !bytes.Equal(q.Append(nil, v), out) {
			t.Fatal("no fixpoint")
		}
	})
}

func BenchmarkPublishParse(b *testing.B) {
	in := Publish{Topic: []byte("a/topic/of/twenty/b"), Payload: make([]byte, 64)}
	raw := in.Append(nil, V311)
	var out Publish
	b.ReportAllocs()
	for b.Loop() {
		h, _ := ParseHeader(raw)
		if err := out.Parse(h.Flags, raw[h.Size:], V311); err != nil {
			b.Fatal(err)
		}
	}
}

// TestReservedConnectFlag_MQTT_3_1_2_3: MQTT 3.1 does not use the flag, later versions forbid it.
func TestReservedConnectFlag_MQTT_3_1_2_3(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		c := Connect{Version: v, CleanStart: true, ClientID: []byte("c")}
		b := c.Append(nil, v)
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		body := b[h.Size:]
		body[2+len(c.name())+1] |= 1
		if err := new(Connect).Parse(h.Flags, body, v); (err == nil) != (v == V31) {
			t.Errorf("version %d: %v", v, err)
		}
	}
}
