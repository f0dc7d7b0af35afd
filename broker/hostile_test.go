package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// A breach is what a client must not send. five is the reason that an MQTT 5 client hears: in CONNACK before
// the connection is accepted, in DISCONNECT after; 0 means that it hears nothing.
type breach struct {
	name string
	raw  []byte
	five codec.Reason
}

// packet builds a raw packet with a right remaining length.
func packet(first byte, body ...any) []byte {
	b := joined(body...)
	out := []byte{first}
	n := len(b)
	for ; n >= 0x80; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(append(out, byte(n)), b...)
}

// joined concatenates: an int is a byte, a string has its length before it, bytes stand for themselves.
func joined(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, byte(len(p)>>8), byte(len(p)))
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic(p)
		}
	}
	return b
}

// block is a property block with its length.
func block(parts ...any) []byte {
	b := joined(parts...)
	return append([]byte{byte(len(b))}, b...)
}

// badStrings are no MQTT strings.
var badStrings = map[string]string{
	"stray continuation":      "a\x80",
	"cut off sequence":        "a\xc3",
	"overlong":                "a\xc0\xaf",
	"MQTT-1.5.4-1 surrogate":  "a\xed\xa0\x80",
	"above U+10FFFF":          "a\xf4\x90\x80\x80",
	"MQTT-1.5.4-2 U+0000":     "a\x00b",
	"control character U+001": "a\x01",
	"non-character U+FFFF":    "a\xef\xbf\xbf",
}

// What most breaches are answered with.
const (
	malformed = codec.MalformedPacket
	misused   = codec.ProtocolError
)

// first is an MQTT 5 CONNECT with what follows its properties.
func first(flags int, props []byte, rest ...any) []byte {
	return packet(0x10, append([]any{connectBody(flags, props)}, rest...)...)
}

// connectBody is the body of an MQTT 5 CONNECT up to and including its properties.
func connectBody(flags int, props []byte) []byte {
	return joined("MQTT", 5, flags, []byte{0, 60}, props)
}

// beforeConnect are first packets that end the connection.
func beforeConnect() []breach {
	const clean, will, name, password = 2, 4, 0x80, 0x40
	none := block()
	list := []breach{
		{"MQTT-3.1.0-1 PUBLISH first", packet(0x30, "a"), 0},
		{"MQTT-3.1.0-1 PINGREQ first", packet(0xC0), 0},
		{"MQTT-3.1.0-1 AUTH first", packet(0xF0), 0},
		{"MQTT-2.1.3-1 CONNECT with flags", packet(0x11, connectBody(clean, none), "c"), malformed},
		{"CONNECT with QoS 3", packet(0x16, connectBody(clean, none), "c"), 0},
		{"type 0", packet(0), 0},
		{"1.5.5 remaining length of five bytes", []byte{0x10, 0x80, 0x80, 0x80, 0x80, 1}, 0},
		{"remaining length of 256 MB", []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, 0},
		{"empty CONNECT", packet(0x10), 0},
		{"MQTT-3.1.2-1 protocol name", packet(0x10, "MQTR", 5, clean, []byte{0, 60}, none, "c"), 0},
		{"MQTT-3.1.2-1 empty protocol name", packet(0x10, "", 5, clean, []byte{0, 60}, none, "c"), 0},
		{
			"MQTT-3.1.2-2 level 6", packet(0x10, "MQTT", 6, clean, []byte{0, 60}, none, "c"),
			codec.UnsupportedProtocolVersion,
		},
		{"MQTT-3.1.2-3 reserved flag", first(clean|1, none, "c"), malformed},
		{"MQTT-3.1.2-12 Will QoS 3", first(clean|will|0x18, none, "c", none, "w", "x"), malformed},
		{"MQTT-3.1.2-11 Will QoS without will", first(clean|8, none, "c"), malformed},
		{"MQTT-3.1.2-13 Will Retain without will", first(clean|0x20, none, "c"), malformed},
		{"user name missing", first(clean|name, none, "c"), malformed},
		{"password missing", first(clean|password, none, "c"), malformed},
		{"will missing", first(clean|will, none, "c"), malformed},
		{"client id missing", first(clean, none), malformed},
		{"bytes left over", first(clean, none, "c", 0), malformed},
		{"properties longer than the packet", first(clean, []byte{100}, "c"), malformed},
		{
			"1.5.5 property length of five bytes",
			first(clean, []byte{0x80, 0x80, 0x80, 0x80, 1}, "c"), malformed,
		},
		{
			"MQTT-1.5.5-1 property length longer than needed",
			first(clean, []byte{0x80, 0}, "c"), malformed,
		},
		{"unknown property", first(clean, block(0x7E, 0), "c"), malformed},
		{"property id of two bytes", first(clean, block([]byte{0x91, 1, 0, 0, 0, 1}), "c"), malformed},
		{"property cut off", first(clean, block(17, 0, 0), "c"), malformed},
		{
			"3.1.2.11.2 Session Expiry twice",
			first(clean, block(17, []byte{0, 0, 0, 1}, 17, []byte{0, 0, 0, 1}), "c"), misused,
		},
		{"3.1.2.11.3 Receive Maximum 0", first(clean, block(33, 0, 0), "c"), misused},
		{
			"3.1.2.11.4 Maximum Packet Size 0",
			first(clean, block(39, []byte{0, 0, 0, 0}), "c"), misused,
		},
		{"3.1.2.11.7 Request Problem Information 2", first(clean, block(23, 2), "c"), misused},
		{"2.2.2.2 property of another packet", first(clean, block(35, 0, 1), "c"), malformed},
		{"2.2.2.2 will property among the others", first(clean, block(24, []byte{0, 0, 0, 1}), "c"), malformed},
		{
			"2.2.2.2 property of CONNECT in the will",
			first(clean|will, none, "c", block(33, 0, 1), "w", "x"), malformed,
		},
		{"3.1.2.11.10 data without method", first(clean, block(22, "d"), "c"), misused},
		{"authentication method", first(clean, block(21, "m"), "c"), codec.BadAuthenticationMethod},
		{"MQTT-3.1.3-11 wildcard in a will topic", first(clean|will, none, "c", none, "w/#", "x"), malformed},
		{"MQTT-4.7.3-1 empty will topic", first(clean|will, none, "c", none, "", "x"), malformed},
	}
	for why, s := range badStrings {
		list = append(list,
			breach{"MQTT-3.1.3-4 client id: " + why, first(clean, none, s), malformed},
			breach{"MQTT-3.1.3-12 user name: " + why, first(clean|name, none, "c", s), malformed},
			breach{
				"MQTT-3.1.3-11 will topic: " + why,
				first(clean|will, none, "c", none, s, "x"), malformed,
			},
			breach{"user property: " + why, first(clean, block(38, "k", s), "c"), malformed},
			breach{"user property name: " + why, first(clean, block(38, s, "v"), "c"), malformed},
			breach{"authentication method: " + why, first(clean, block(21, s), "c"), malformed},
			breach{
				"will content type: " + why,
				first(clean|will, none, "c", block(3, s), "w", "x"), malformed,
			},
			breach{
				"will response topic: " + why,
				first(clean|will, none, "c", block(8, s), "w", "x"), malformed,
			},
		)
	}
	return list
}

func TestBreachBeforeConnect(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, tt := range beforeConnect() {
			t.Run(tt.name, func(t *testing.T) {
				c := brokertest.Dial(t, x.addr, codec.V5)
				c.Raw(tt.raw)
				if tt.five != 0 {
					var ack codec.Connack
					c.Want(codec.CONNACK, &ack)
					if ack.Reason != tt.five || ack.SessionPresent {
						t.Errorf("CONNACK %s, want %s", ack.Reason, tt.five)
					}
				}
				c.WantClosed()
			})
		}
		if m := brokertest.Settle(t, x.b); m.Sessions != 0 || m.Connections != 0 {
			t.Errorf("%d sessions, %d connections", m.Sessions, m.Connections)
		}
	})
}

// afterConnect are packets that end an accepted connection. Those with V311 false exist in MQTT 5 only.
func afterConnect() []breach {
	id := []byte{0, 1}
	none := block()
	list := []breach{
		{"type 0", packet(0), misused},
		{"type 0 with flags", packet(5), misused},
		{"1.5.5 remaining length of five bytes", []byte{0xC0, 0x80, 0x80, 0x80, 0x80, 1}, malformed},
		{"PUBLISH of 256 MB", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, codec.PacketTooLarge},
		{"SUBSCRIBE of 256 MB", []byte{0x82, 0xFF, 0xFF, 0xFF, 0x7F}, codec.PacketTooLarge},
		{"PUBACK of 256 MB", []byte{0x40, 0xFF, 0xFF, 0xFF, 0x7F}, codec.PacketTooLarge},
		{"MQTT-3.1.0-2 second CONNECT", first(2, none, "c"), misused},
		{"CONNACK from a client", packet(0x20, 0, 0, 0), misused},
		{"SUBACK from a client", packet(0x90, id, none, 0), misused},
		{"UNSUBACK from a client", packet(0xB0, id, none, 0), misused},
		{"PINGRESP from a client", packet(0xD0), misused},
		{"MQTT-4.12.0-1 AUTH without method", packet(0xF0), misused},
		{"PINGREQ with a body", packet(0xC0, 0), malformed},

		{"MQTT-3.3.1-4 QoS 3", packet(0x36, "a", id, none), malformed},
		{"MQTT-2.2.1-3 PUBLISH with packet id 0", packet(0x32, "a", 0, 0, none), misused},
		{"MQTT-3.3.2-2 + in a topic name", packet(0x30, "a/+", none), malformed},
		{"MQTT-3.3.2-2 # in a topic name", packet(0x30, "#", none), malformed},
		{"PUBLISH without packet id", packet(0x32, "a"), malformed},
		{"empty PUBLISH", packet(0x30), malformed},
		{"topic longer than the packet", packet(0x30, 0xFF, 0xFF, 0x61), malformed},
		{"more than 200 levels", packet(0x30, string(bytes.Repeat([]byte("/"), 201)), none), malformed},

		{"MQTT-3.8.3-2 SUBSCRIBE without filters", packet(0x82, id, none), malformed},
		{"MQTT-2.2.1-3 SUBSCRIBE with packet id 0", packet(0x82, 0, 0, none, "a", 0), misused},
		{"MQTT-3.8.3-5 QoS 3 in SUBSCRIBE", packet(0x82, id, none, "a", 3), malformed},
		{"MQTT-3.8.3-5 reserved option", packet(0x82, id, none, "a", 0x40), malformed},
		{"SUBSCRIBE without options", packet(0x82, id, none, "a"), malformed},
		{"MQTT-4.7.3-1 empty filter", packet(0x82, id, none, "", 0), malformed},
		{"MQTT-4.7.1-1 # inside", packet(0x82, id, none, "a/#/b", 0), malformed},
		{"MQTT-4.7.1-2 + with text", packet(0x82, id, none, "a/b+", 0), malformed},
		{"MQTT-4.8.2-1 share without a name", packet(0x82, id, none, "$share//a", 0), malformed},
		{"MQTT-4.8.2-2 share with a wildcard", packet(0x82, id, none, "$share/+/a", 0), malformed},
		{"MQTT-3.10.3-2 UNSUBSCRIBE without filters", packet(0xA2, id, none), malformed},
		{"MQTT-2.2.1-3 UNSUBSCRIBE with packet id 0", packet(0xA2, 0, 0, none, "a"), misused},
		{"SUBSCRIBE cut off in its packet id", packet(0x82, 0), malformed},
		{"SUBSCRIBE cut off in a filter", packet(0x82, id, none, 0, 5, 0x61), malformed},
		{"SUBSCRIBE cut off in the second filter", packet(0x82, id, none, "a", 0, 0), malformed},
		{"UNSUBSCRIBE cut off in its packet id", packet(0xA2, 0), malformed},
		{"UNSUBSCRIBE cut off in the second filter", packet(0xA2, id, none, "a", 0), malformed},
		{"UNSUBSCRIBE cut off", packet(0xA2, id, none, 0, 5, 0x61), malformed},
	}
	for _, ack := range []byte{0x40, 0x50, 0x62, 0x70} {
		list = append(list,
			breach{fmt.Sprintf("MQTT-2.2.1-3 %x with packet id 0", ack), packet(ack, 0, 0), misused},
			breach{fmt.Sprintf("%x cut off", ack), packet(ack, 0), malformed})
	}
	for _, f := range []string{"$share", "$share/", "$share//", "$share/g", "$share/g/", "$share/+/", "$share/\xff"} {
		list = append(list,
			breach{fmt.Sprintf("MQTT-4.8.2-2 filter %q", f), packet(0x82, id, none, f, 0), misused},
			breach{fmt.Sprintf("MQTT-4.8.2-2 filter to unsubscribe %q", f), packet(0xA2, id, none, f), misused})
	}
	for why, s := range badStrings {
		list = append(list,
			breach{"MQTT-3.3.2-1 topic: " + why, packet(0x30, s, none), malformed},
			breach{"MQTT-3.8.3-1 filter: " + why, packet(0x82, id, none, s, 0), malformed},
			breach{"MQTT-4.8.2-1 share name: " + why, packet(0x82, id, none, "$share/"+s+"/a", 0), malformed},
			breach{"MQTT-3.10.3-1 filter to unsubscribe: " + why, packet(0xA2, id, none, s), malformed})
	}
	return list
}

// wrongFlags are packets whose flags MQTT 3.1.1 and 5 reserve; MQTT 3.1 has no use for them.
func wrongFlags() []breach {
	id := []byte{0, 1}
	list := []breach{{"MQTT-3.3.1-2 DUP with QoS 0", packet(0x38, "a", block()), malformed}}
	for typ := codec.CONNECT; typ <= codec.AUTH; typ++ {
		for flags := range 16 {
			right := typ == codec.PUBLISH ||
				flags == 2 && (typ == codec.PUBREL || typ == codec.SUBSCRIBE || typ == codec.UNSUBSCRIBE) ||
				flags == 0 && typ != codec.PUBREL && typ != codec.SUBSCRIBE && typ != codec.UNSUBSCRIBE
			if !right {
				list = append(list, breach{
					fmt.Sprintf("MQTT-2.1.3-1 %s with flags %d", typ, flags),
					packet(byte(typ)<<4|byte(flags), id), malformed,
				})
			}
		}
	}
	return list
}

// afterConnect5 are breaches that only MQTT 5 knows.
func afterConnect5() []breach {
	id := []byte{0, 1}
	none := block()
	list := []breach{
		{"3.8.3.1 Retain Handling 3", packet(0x82, id, none, "a", 0x30), misused},
		{"MQTT-3.8.3-4 No Local on a share", packet(0x82, id, none, "$share/g/a", 4), misused},
		{"MQTT-3.3.2-8 neither topic nor alias", packet(0x30, "", none), misused},
		{"unknown property", packet(0x30, "a", block(0x7F, 0)), malformed},
		{"property 0", packet(0x30, "a", block(0)), malformed},
		{"properties longer than the packet", packet(0x30, "a", 9), malformed},
		{"3.3.2.3.2 Payload Format twice", packet(0x30, "a", block(1, 0, 1, 0)), misused},
		{"3.3.2.3.2 Payload Format 2", packet(0x30, "a", block(1, 2)), misused},
		{
			"3.3.2.3.3 Message Expiry twice",
			packet(0x30, "a", block(2, []byte{0, 0, 0, 1}, 2, []byte{0, 0, 0, 1})), misused,
		},
		{"3.3.2.3.4 Topic Alias twice", packet(0x30, "a", block(35, 0, 1, 35, 0, 1)), misused},
		{"3.3.2.3.5 Response Topic twice", packet(0x30, "a", block(8, "r", 8, "r")), misused},
		{"MQTT-3.3.2-14 wildcard in a Response Topic", packet(0x30, "a", block(8, "r/+")), misused},
		{"3.3.2.3.6 Correlation Data twice", packet(0x30, "a", block(9, "r", 9, "r")), misused},
		{"3.3.2.3.9 Content Type twice", packet(0x30, "a", block(3, "r", 3, "r")), misused},
		{"MQTT-3.3.4-6 Subscription Identifier", packet(0x30, "a", block(11, 1)), misused},
		{"3.8.2.1.2 Subscription Identifier 0", packet(0x82, id, block(11, 0), "a", 0), malformed},
		{"3.8.2.1.2 Subscription Identifier twice", packet(0x82, id, block(11, 1, 11, 2), "a", 0), misused},
		{
			"1.5.5 Subscription Identifier of five bytes",
			packet(0x82, id, block(11, []byte{0x80, 0x80, 0x80, 0x80, 1}), "a", 0), malformed,
		},
		{"MQTT-3.14.2-2 Session Expiry from 0", packet(0xE0, 0, block(17, []byte{0, 0, 0, 5})), misused},
		{
			"3.14.2.2.2 Session Expiry twice",
			packet(0xE0, 0, block(17, []byte{0, 0, 0, 0}, 17, []byte{0, 0, 0, 0})), misused,
		},
		{"MQTT-3.14.2-1 reason of another packet", packet(0xE0, 0x03), misused},
		{"DISCONNECT with bytes left over", packet(0xE0, 0, none, 0), malformed},
	}
	// Each property in each packet that may not have it.
	values := map[codec.PropertyID][]byte{
		1: {0}, 2: {0, 0, 0, 1}, 3: {0, 1, 'a'}, 8: {0, 1, 'a'}, 9: {0, 1, 'a'}, 11: {1}, 17: {0, 0, 0, 1},
		18: {0, 1, 'a'}, 19: {0, 1}, 21: {0, 1, 'a'}, 22: {0, 1, 'a'}, 23: {1}, 24: {0, 0, 0, 1}, 25: {1},
		26: {0, 1, 'a'}, 28: {0, 1, 'a'}, 31: {0, 1, 'a'}, 33: {0, 1}, 34: {0, 1}, 35: {0, 1}, 36: {1}, 37: {1},
		39: {0, 0, 0, 1}, 40: {1}, 41: {1}, 42: {1},
	}
	legal := map[byte]string{
		0x30: "\x01\x02\x03\x08\x09\x0b\x23", 0x82: "\x0b", 0xA2: "",
		0x40: "\x1f", 0x50: "\x1f", 0x62: "\x1f", 0x70: "\x1f",
		0xE0: "\x11\x1f\x1c",
	}
	for head, ok := range legal {
		for p, v := range values {
			if bytes.IndexByte([]byte(ok), byte(p)) >= 0 {
				continue
			}
			b := block(int(p), v)
			var raw []byte
			switch head {
			case 0x30:
				raw = packet(head, "a", b)
			case 0x82:
				raw = packet(head, id, b, "a", 0)
			case 0xA2:
				raw = packet(head, id, b, "a")
			case 0xE0:
				raw = packet(head, 0, b)
			default:
				raw = packet(head, id, 0, b)
			}
			list = append(list, breach{fmt.Sprintf("2.2.2.2 property %d in packet %x", p, head), raw, malformed})
		}
	}
	for why, s := range badStrings {
		for _, p := range []int{3, 8} {
			raw := packet(0x30, "a", block(p, s))
			list = append(list, breach{fmt.Sprint("property ", p, ": ", why), raw, malformed})
		}
		for name, raw := range map[string][]byte{
			"PUBLISH":     packet(0x30, "a", block(38, "k", s)),
			"SUBSCRIBE":   packet(0x82, id, block(38, s, "v"), "a", 0),
			"UNSUBSCRIBE": packet(0xA2, id, block(38, "k", s), "a"),
			"PUBACK":      packet(0x40, id, 0, block(31, s)),
			"DISCONNECT":  packet(0xE0, 0, block(31, s)),
		} {
			list = append(list, breach{"string in " + name + ": " + why, raw, malformed})
		}
	}
	for _, ack := range []byte{0x40, 0x50, 0x62, 0x70} {
		list = append(list,
			breach{fmt.Sprintf("3.4.2.1 another packet's reason in %x", ack), packet(ack, id, 0x8B), misused},
			breach{fmt.Sprintf("bytes left over in %x", ack), packet(ack, id, 0, none, 0), malformed})
	}
	return list
}

func TestBreachAfterConnect(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, tt := range slices.Concat(afterConnect(), wrongFlags(), afterConnect5()) {
			t.Run(tt.name, func(t *testing.T) {
				c := x.in(t).connect("c", codec.V5, nil)
				c.Raw(tt.raw)
				wantDisconnect(t, c, tt.five)
			})
		}
		if m := brokertest.Settle(t, x.b); m.Sessions != 0 || m.Connections != 0 {
			t.Errorf("%d sessions, %d connections", m.Sessions, m.Connections)
		}
	})
}

// MQTT 3 clients are only closed. Packets of the table that carry an empty property block for MQTT 5 are
// wrong in MQTT 3 for the same reason or for the byte more.
func TestBreachAfterConnect3(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, tt := range afterConnect() {
			for _, v := range []codec.Version{codec.V31, codec.V311} {
				c := x.connect("c", v, nil)
				c.Raw(tt.raw)
				c.WantClosed()
			}
		}
		for _, tt := range wrongFlags() {
			c := x.connect("c", codec.V311, nil)
			c.Raw(tt.raw)
			c.WantClosed()
		}
		for name, raw := range map[string][]byte{
			"MQTT-3.3.2-1 empty topic":         packet(0x30, ""),
			"MQTT-3.8.3-4 options of MQTT 5":   packet(0x82, 0, 1, "a", 4),
			"MQTT-3.14.1-1 DISCONNECT, body":   packet(0xE0, 0),
			"PUBACK with a reason":             packet(0x40, 0, 1, 0),
			"AUTH":                             packet(0xF0),
			"MQTT-3.8.3-3 SUBSCRIBE, no names": packet(0x82, 0, 1),
		} {
			t.Run(name, func(t *testing.T) {
				c := x.in(t).connect("c", codec.V311, nil)
				c.Raw(raw)
				c.WantClosed()
			})
		}
	})
}

// In MQTT 3.1 (2.1) a packet that is sent again has DUP, PUBREL, SUBSCRIBE and UNSUBSCRIBE too, and other flags
// are unused, those of CONNECT as well.
func TestFlagsOfMQTT31(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for flags := range byte(16) {
			c := brokertest.Dial(t, x.addr, codec.V31)
			c.Raw(packet(0x10|flags, "MQIsdp", 3, 2, []byte{0, 60}, "c"))
			if flags&6 == 6 {
				c.WantClosed()
				continue
			}
			c.Want(codec.CONNACK, nil)
			for _, tt := range []struct {
				raw  []byte
				want codec.Type
			}{
				{packet(0x80|flags, 0, 1, "t", 0), codec.SUBACK},
				{packet(0x38, "t", 0x78), codec.PUBLISH},
				{packet(0xA0|flags, 0, 1, "t"), codec.UNSUBACK},
				{packet(0x34, "t", 0, 5, 0x78), codec.PUBREC},
				{packet(0x60|flags, 0, 5), codec.PUBCOMP},
				{packet(0x40|flags, 0, 9), 0},
				{packet(0x50|flags, 0, 9), codec.PUBREL},
				{packet(0x70|flags, 0, 9), 0},
				{packet(0xC0 | flags), codec.PINGRESP},
			} {
				if c.Raw(tt.raw); tt.want != 0 {
					c.Want(tt.want, nil)
				}
			}
			c.Raw(packet(0xE0 | flags))
			c.WantClosed()
		}
		// The version is known by the body only: 3.1.1 has no flags there, and says nothing.
		c := brokertest.Dial(t, x.addr, codec.V311)
		c.Raw(packet(0x14, "MQTT", 4, 2, []byte{0, 60}, "c"))
		c.WantClosed()
	})
}

// Answers to ids that nobody knows are no breach.
func TestUnknownPacketIDs_MQTT_4_3_3(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			c := x.connect("c", v, nil)
			var a codec.Ack
			c.Ack(codec.PUBREL, 500)
			c.Want(codec.PUBCOMP, &a)
			if a.PacketID != 500 || v == codec.V5 && a.Reason != codec.PacketIdentifierNotFound {
				t.Errorf("PUBCOMP %+v", a)
			}
			c.Ack(codec.PUBREC, 501)
			c.Want(codec.PUBREL, &a)
			if a.PacketID != 501 || v == codec.V5 && a.Reason != codec.PacketIdentifierNotFound {
				t.Errorf("PUBREL %+v", a)
			}
			c.Ack(codec.PUBACK, 502)
			c.Ack(codec.PUBCOMP, 503)
			c.WantNothing()
		}
	})
}

// An acknowledgement that does not fit the QoS of its message ends the connection.
func TestWrongAcknowledgement(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		for _, tt := range []struct {
			qos uint8
			ack codec.Type
		}{{1, codec.PUBREC}, {1, codec.PUBCOMP}, {2, codec.PUBACK}, {2, codec.PUBCOMP}} {
			c := x.connect("c", codec.V5, nil)
			c.Subscribe("t", tt.qos)
			exchange(t, pub, "t", "x", tt.qos)
			p := c.WantPublish("t", "x")
			c.Ack(tt.ack, p.PacketID)
			wantDisconnect(t, c, misused)
		}
	})
}

// What is good before a breach counts, what comes behind it does not.
func TestPacketsAroundABreach(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V311, nil)
		sub.Subscribe("t", 0)
		c := x.connect("c", codec.V5, nil)
		good, bad := packet(0x30, "t", block(), []byte("good")), packet(0x30, "t", block(), []byte("bad"))
		c.Raw(joined(good, packet(0x36, "t", 0, 1), bad))
		wantDisconnect(t, c, malformed)
		sub.WantPublish("t", "good")
		sub.WantNothing()
	})
}

// half opens one connection the way a port scanner, a broken client or an attacker would; it never waits.
func half(t *testing.T, x *fixture, rnd *rand.Rand, breaches []breach) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", x.socket())
	if err != nil {
		t.Fatal(err)
	}
	p := codec.Connect{
		Version:  []codec.Version{codec.V31, codec.V311, codec.V5}[rnd.IntN(3)],
		ClientID: fmt.Append(nil, "client", rnd.IntN(50)), CleanStart: rnd.IntN(2) == 0,
		HasWill: rnd.IntN(4) == 0,
	}
	p.Will = codec.Will{Topic: []byte("w"), Payload: make([]byte, rnd.IntN(100)), QoS: uint8(rnd.IntN(3))}
	if !p.HasWill {
		p.Will = codec.Will{}
	}
	raw := p.Append(nil, p.Version)
	switch rnd.IntN(6) {
	case 0: // nothing at all
		raw = nil
	case 1: // half a CONNECT
		raw = raw[:rnd.IntN(len(raw))]
	case 2: // a CONNECT with a wrong byte
		raw[rnd.IntN(len(raw))] = byte(rnd.Uint32())
	case 3: // garbage at once
		raw = garbage(rnd, nil)
	case 4: // a breach after CONNECT, or half of one
		b := breaches[rnd.IntN(len(breaches))].raw
		raw = append(raw, b[:1+rnd.IntN(len(b))]...)
	default: // garbage after CONNECT
		raw = garbage(rnd, raw)
	}
	_, _ = nc.Write(raw) // the broker may have closed
	return nc
}

// garbage appends random bytes, some of which look like packets.
func garbage(rnd *rand.Rand, b []byte) []byte {
	for range 1 + rnd.IntN(5) {
		body := make([]byte, rnd.IntN(60))
		for i := range body {
			body[i] = byte(rnd.Uint32())
			if rnd.IntN(2) == 0 {
				body[i] &= 3
			}
		}
		if rnd.IntN(4) > 0 {
			heads := []byte{0x30, 0x32, 0x34, 0x82, 0xA2, 0x40, 0x50, 0x62, 0x70, 0xC0, 0xE0}
			b = append(b, heads[rnd.IntN(len(heads))], byte(len(body)))
		}
		b = append(b, body...)
	}
	return b
}

// seed is random, or NOCTULE_SEED to repeat a run.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := rand.Uint64()
	if text := os.Getenv("NOCTULE_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("NOCTULE_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// Ten thousand connections of that kind leave nothing behind, and a client that behaves notices nothing.
func TestHostileConnectionsLeaveNothing(t *testing.T) {
	expire := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.PersistentClientExpiration = 10 * time.Second
	}
	oneByOne(t, onSockets(expire), func(t *testing.T, x *fixture) {
		rnd := seed(t)
		breaches := append(afterConnect(), afterConnect5()...)
		good := x.connect("good", codec.V5, nil)
		good.Subscribe("good", 1)
		round := func(n int) {
			for range n / 100 {
				var list []net.Conn
				for range 100 {
					list = append(list, half(t, x, rnd, breaches))
				}
				exchange(t, good, "good", "still here", 0)
				good.WantPublish("good", "still here")
				for _, nc := range list {
					switch rnd.IntN(3) {
					case 0:
						_ = nc.(*net.TCPConn).SetLinger(0) // a reset
					case 1:
						_ = nc.(*net.TCPConn).CloseWrite()
						_ = nc.SetReadDeadline(time.Now().Add(brokertest.Timeout))
						var b [512]byte
						for {
							if _, err := nc.Read(b[:]); err != nil {
								if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
									t.Error("the broker does not close")
								}
								break
							}
						}
					}
					_ = nc.Close()
				}
				x.advance(1)
			}
			brokertest.Until(t, x.b, "the end of all connections", func(m *broker.Metrics) bool {
				return m.Net.Open == 1
			})
			x.advance(30) // sessions expire
		}
		round(2000)
		before := heap()
		m := brokertest.Settle(t, x.b)
		round(10000)
		after := brokertest.Settle(t, x.b)
		if after.Sessions != 1 || after.Subscriptions != 1 || after.SharedSubscriptions != 0 {
			t.Errorf("%d sessions, %d and %d subscriptions",
				after.Sessions, after.Subscriptions, after.SharedSubscriptions)
		}
		if grown := heap() - before; grown > 512<<10+400*(after.Retained-m.Retained) {
			t.Errorf("the heap has grown by %d KB", grown>>10)
		}
	})
}

// The same bytes have the same effect however they are cut.
func TestPacketsInPieces(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		rnd := seed(t)
		payload := bytes.Repeat([]byte("p"), 3000)
		long := codec.Publish{Topic: []byte("t"), Payload: payload, QoS: 1, PacketID: 9}
		sub := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("t")}}}
		connect := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("c"), KeepAlive: 5}
		raw := connect.Append(nil, codec.V5)
		raw = sub.Append(raw, codec.V5)
		raw = codec.AppendPingreq(long.Append(raw, codec.V5))
		for piece := 1; piece < 2*len(raw); piece = piece*3/2 + 1 {
			c := brokertest.Dial(t, x.addr, codec.V5)
			for rest := raw; len(rest) > 0; {
				n := min(1+rnd.IntN(2*piece), len(rest))
				c.Raw(rest[:n])
				rest = rest[n:]
			}
			c.Want(codec.CONNACK, nil)
			c.Want(codec.SUBACK, nil)
			c.WantPublish("t", string(payload))
			c.Want(codec.PUBACK, nil)
			c.Want(codec.PINGRESP, nil)
		}
	})
}
