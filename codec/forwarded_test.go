package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// example is a property with a legal value; n makes it longer, or another.
func example(id PropertyID, n int) Properties {
	switch info := &properties[id]; info.kind {
	case kindNone:
		return nil
	case kindPair:
		return AppendUserProperty(nil, bytes.Repeat([]byte("k"), n), []byte("v"))
	case kindString, kindBinary:
		return AppendBytesProperty(nil, id, bytes.Repeat([]byte("b"), 1+n))
	default:
		return AppendUintProperty(nil, id, max(info.low, 1))
	}
}

// Every property of a PUBLISH or a Will that the table has goes on as it came, where it came, whatever is
// left out around it; the server's own, and the Will's delay, do not [MQTT-3.3.2-4] [MQTT-3.3.2-6] [MQTT-3.3.2-7]
// [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.3.4-3].
func TestEachPropertyIsForwardedAsItCame_MQTT_3_3_2(t *testing.T) {
	own := map[PropertyID]bool{MessageExpiry: true, TopicAlias: true, SubscriptionIdentifier: true}
	var goes, stays []Properties
	for id := range propertyEnd {
		info := &properties[id]
		if want := info.in.has(PUBLISH) && !own[id]; id.Forwarded() != want {
			t.Errorf("property %d is forwarded: %v", id, !want)
		}
		switch {
		case id.Forwarded():
			goes = append(goes, example(id, 1), example(id, 2), example(id, 200))
		case info.in.has(PUBLISH) || info.in.has(willType):
			stays = append(stays, example(id, 1))
		}
	}
	if len(goes) < 5*3 || len(stays) != 4 {
		t.Fatalf("%d properties go on, %d do not", len(goes), len(stays))
	}
	if PropertyID(255).Forwarded() {
		t.Error("what is not in the table is forwarded")
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		var in, want Properties
		cut := false
		for range rnd.IntN(9) {
			x := goes[rnd.IntN(len(goes))]
			if cut = cut || rnd.IntN(3) == 0; cut && rnd.IntN(2) == 0 {
				in = append(in, stays[rnd.IntN(len(stays))]...)
			}
			in, want = append(in, x...), append(want, x...)
		}
		buf := append(make(Properties, 0, 4096), "before"...)
		got := in.Forwarded(buf)
		if len(in) == len(want) {
			if len(got) > 0 && &got[0] != &in[0] {
				t.Fatal("what nothing is left out of was copied")
			}
			continue
		}
		if want := append(Properties("before"), want...); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: of % x goes on\n% x, want\n% x", seed, []byte(in), []byte(got), []byte(want))
		}
	}
}

func TestForwardedDoesNotAllocate(t *testing.T) {
	p := append(user(example(MessageExpiry, 0)), user(nil)...)
	buf := make(Properties, 0, 100)
	if n := testing.AllocsPerRun(100, func() { buf = p.Forwarded(buf[:0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
