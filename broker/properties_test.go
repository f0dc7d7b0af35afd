package broker_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// forwardedProperties is one of each property that a server passes on as it came, by codec's table.
func forwardedProperties(t *testing.T) (list []codec.Properties) {
	t.Helper()
	values := [][]byte{ // of each kind: byte, two, four, variable length, text or bytes, pair
		{1}, {0, 1}, {0, 0, 0, 1}, {0x81, 1}, {0, 2, 't', '1'}, {0, 1, 'k', 0, 1, 'v'},
	}
	for id := range codec.PropertyID(128) {
		if !id.Forwarded() {
			continue
		}
		fits := slices.IndexFunc(values, func(value []byte) bool {
			p := codec.Publish{Topic: []byte("t"), Properties: append(codec.Properties{byte(id)}, value...)}
			raw, n := p.Append(nil, codec.V5), 0
			h, err := codec.ParseHeader(raw)
			if err != nil || new(codec.Publish).Parse(h.Flags, raw[h.Size:], codec.V5) != nil {
				return false
			}
			for range p.Properties.All() {
				n++
			}
			return n == 1
		})
		if fits < 0 {
			t.Fatalf("no value for property %d", id)
		}
		list = append(list, append(codec.Properties{byte(id)}, values[fits]...))
	}
	return list
}

// Each property of a PUBLISH that codec knows reaches receivers as it came, in its place among the user
// properties, which keep their order: of a client's message, a will and the program's own, with an expiry
// interval and an alias to be taken out and without [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-17]
// [MQTT-3.3.2-18] [MQTT-3.3.2-20].
func TestEachPropertyIsForwardedAsItCame_MQTT_3_3_2(t *testing.T) {
	b, addr := brokertest.Start(t, nil)
	sub := brokertest.Connect(t, addr, "sub", codec.V5, nil)
	sub.Subscribe("t", 0)
	pub := brokertest.Connect(t, addr, "pub", codec.V5, nil)
	first := codec.AppendUserProperty(nil, []byte("k"), []byte("1"))
	last := codec.AppendUserProperty(nil, []byte("k"), []byte("2"))
	expiry := codec.AppendUintProperty(nil, codec.MessageExpiry, 100)
	alias := codec.AppendUintProperty(nil, codec.TopicAlias, 1)
	delay := codec.AppendUintProperty(nil, codec.WillDelay, 0)
	for _, x := range forwardedProperties(t) {
		plain := slices.Concat(first, x, last)
		want := func(what string, want codec.Properties) {
			t.Helper()
			if got := sub.WantPublish("t", what).Properties; !bytes.Equal(got, want) {
				t.Errorf("property %d of %s: got % x, want % x", x[0], what, []byte(got), []byte(want))
			}
		}
		send := func(what string, in codec.Properties) {
			pub.Send(&codec.Publish{Topic: []byte("t"), Properties: in, Payload: []byte(what)})
		}
		send("plain", plain)
		want("plain", plain)
		send("alias", slices.Concat(first, alias, x, last))
		want("alias", plain)
		send("expiry", slices.Concat(expiry, first, x, last))
		want("expiry", slices.Concat(plain, expiry))
		send("both", slices.Concat(first, x, expiry, last, alias))
		want("both", slices.Concat(plain, expiry))
		brokertest.Connect(t, addr, "will", codec.V5, func(p *codec.Connect) {
			p.HasWill = true
			p.Will = codec.Will{Topic: []byte("t"), Payload: []byte("will")}
			p.Will.Properties = slices.Concat(first, delay, x, last, expiry)
		}).Conn.Close()
		want("will", slices.Concat(plain, expiry))
		_, err := b.Publish(context.Background(), broker.Publication{
			Topic: "t", Payload: []byte("program"), Properties: plain,
		})
		if err != nil {
			t.Errorf("property %d of the program: %v", x[0], err)
		}
		want("program", plain)
	}
}
