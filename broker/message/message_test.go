package message

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"noctule/codec"
)

func TestKeepCopiesOnce(t *testing.T) {
	topic, payload := []byte("a/b"), []byte("payload")
	properties := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
	m := Message{
		Topic: topic, Payload: payload, Properties: properties, Expiry: 5, Interval: 7, Publisher: 6, QoS: 1, Retain: true,
	}
	if m.Kept() {
		t.Error("a loan counts as kept")
	}
	k := m.Keep()
	if !m.Kept() || !k.Kept() || m.Keep() != k || k.Keep() != k {
		t.Error("a second copy was made")
	}
	for _, b := range [][]byte{topic, payload, properties} {
		clear(b) // the loan ends
	}
	want := Message{
		Topic: []byte("a/b"), Payload: []byte("payload"),
		Properties: codec.AppendUserProperty(nil, []byte("k"), []byte("v")),
		Expiry:     5, Interval: 7, Publisher: 6, QoS: 1, Retain: true, kept: k,
	}
	if fmt.Sprint(*k) != fmt.Sprint(want) {
		t.Errorf("kept %v\nwant %v", *k, want)
	}
	if cap(k.Topic) != len(k.Topic) || cap(k.Properties) != len(k.Properties) {
		t.Error("appending to one field would write into the next")
	}
	if k.Size() != 7 || k.Held() < int64(len(k.Topic)+len(k.Properties)+len(k.Payload)) {
		t.Errorf("size %d, held %d", k.Size(), k.Held())
	}
}

func TestKeepWithoutProperties(t *testing.T) {
	m := Message{Topic: []byte("t")}
	if k := m.Keep(); k.Properties != nil || len(k.Payload) != 0 {
		t.Errorf("%+v", k)
	}
}

func TestNewIsKept(t *testing.T) {
	m := New([]byte("t"), []byte("p"), 2, true)
	if !m.Kept() || m.Keep() != m || m.QoS != 2 || !m.Retain || m.Publisher != 0 {
		t.Errorf("%+v", m)
	}
}

func TestExpired_MQTT_3_3_2_5(t *testing.T) {
	for _, tt := range []struct {
		expiry, now int64
		want        bool
	}{{0, 1 << 60, false}, {1000, 999, false}, {1000, 1000, true}, {1000, 1001, true}} {
		if m := (&Message{Expiry: tt.expiry}); m.Expired(tt.now) != tt.want {
			t.Errorf("expiry %d at %d: %v", tt.expiry, tt.now, !tt.want)
		}
	}
}

// wire is the packet as Heads makes it, in the three steps of its users.
func wire(h *Heads, v codec.Version, d *Delivery) []byte {
	head, pid := h.Head(v, d)
	out := append(bytes.Clone(head), h.Message().Payload...)
	Patch(out, pid, d)
	return out
}

// plain is the packet as codec makes it.
func plain(m *Message, now int64, v codec.Version, d *Delivery) []byte {
	p := codec.Publish{QoS: d.QoS, Retain: d.Retain, Topic: m.Topic, Payload: m.Payload}
	p.Dup = d.Dup && d.QoS > 0
	if d.QoS > 0 {
		p.PacketID = d.PacketID
	}
	p.Properties = append(p.Properties, m.Properties...)
	if m.Expiry != 0 {
		left := uint32(max((m.Expiry-now+999)/1000, 0))
		p.Properties = codec.AppendUintProperty(p.Properties, codec.MessageExpiry, left)
	}
	if d.Alias != 0 {
		p.Properties = codec.AppendUintProperty(p.Properties, codec.TopicAlias, uint32(d.Alias))
	}
	if d.AliasOnly && v == codec.V5 {
		p.Topic = nil
	}
	if d.SubscriptionID != 0 {
		p.Properties = codec.AppendUintProperty(p.Properties, codec.SubscriptionIdentifier, d.SubscriptionID)
	}
	return p.Append(nil, v)
}

// deliveries are receivers of every kind for one version.
func deliveries(v codec.Version) (list []Delivery) {
	for qos := range uint8(3) {
		for flags := range 4 {
			d := Delivery{QoS: qos, Dup: flags&1 != 0, Retain: flags&2 != 0, PacketID: uint16(0x0100 << qos)}
			list = append(list, d)
			if v != codec.V5 {
				continue
			}
			for _, id := range []uint32{0, 1, 127, 128, 16383, 16384, 268435455} {
				for _, a := range []Delivery{{}, {Alias: 1}, {Alias: 65535, AliasOnly: true}} {
					d.SubscriptionID, d.Alias, d.AliasOnly = id, a.Alias, a.AliasOnly
					list = append(list, d)
				}
			}
		}
	}
	return list
}

var versions = []codec.Version{codec.V31, codec.V311, codec.V5}

// Every shape is, byte for byte, what codec would have encoded for that receiver alone.
func TestHeadsEqualCodec(t *testing.T) {
	const now = 1_000_000
	user := codec.AppendBytesProperty(nil, codec.ContentType, []byte("text"))
	user = codec.AppendUserProperty(user, []byte("k"), []byte("v"))
	long := codec.AppendUserProperty(nil, nil, make([]byte, 200))
	var h Heads
	for _, m := range []Message{
		{Topic: []byte("a")},
		{Topic: []byte("a/b"), Payload: []byte("x")},
		{Topic: bytes.Repeat([]byte("t"), 65535), Payload: []byte("x")},
		{Topic: []byte("a"), Properties: user, Payload: []byte("x")},
		{Topic: []byte("a"), Properties: long, Payload: []byte("x"), Expiry: now + 1},
		{Topic: []byte("a"), Properties: user, Payload: []byte("x"), Expiry: now + 60000},
		{Topic: []byte("a"), Payload: []byte("x"), Expiry: now - 60000},
		{Topic: []byte("a"), Payload: make([]byte, 16384)},
		{Topic: []byte("a"), Payload: make([]byte, 1<<21)},
	} {
		h.Reset(&m, now)
		for _, v := range versions {
			for _, d := range deliveries(v) {
				if got, want := wire(&h, v, &d), plain(&m, now, v, &d); !bytes.Equal(got, want) {
					t.Fatalf("topic of %d, payload of %d bytes, version %d, %+v:\ngot  % x\nwant % x",
						len(m.Topic), len(m.Payload), v, d, got[:min(len(got), 64)], want[:min(64, len(want))])
				}
			}
		}
		h.Release()
	}
}

// The remaining length changes its own length at each of these.
func TestHeadsAroundTheSizesOfTheRemainingLength(t *testing.T) {
	var h Heads
	for _, edge := range []int{0, 127, 128, 16383, 16384, 2097151, 2097152} {
		for n := max(edge-8, 0); n <= edge+2; n++ {
			m := Message{Topic: []byte("a"), Payload: make([]byte, n)}
			h.Reset(&m, 0)
			for _, v := range versions {
				for _, d := range []Delivery{{}, {QoS: 1, PacketID: 0xABCD}} {
					head, pid := h.Head(v, &d)
					got := bytes.Clone(head)
					Patch(got, pid, &d)
					want := plain(&m, 0, v, &d)
					if len(got)+n != len(want) || !bytes.Equal(got, want[:len(got)]) {
						t.Fatalf("payload of %d bytes, version %d, QoS %d: head % x", n, v, d.QoS, head)
					}
				}
			}
		}
	}
}

// Random messages and receivers in random order: what one receiver needs does not show in another's packet.
func TestModelHeadsEqualCodec(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var h Heads
	for step := range 3000 {
		now := int64(1_000_000)
		m := Message{Topic: make([]byte, 1+rnd.IntN(300)), Payload: make([]byte, rnd.IntN(300))}
		for i := range m.Topic {
			m.Topic[i] = 'a' + byte(rnd.IntN(26))
		}
		for range rnd.IntN(4) {
			m.Properties = codec.AppendUserProperty(m.Properties, make([]byte, rnd.IntN(100)), nil)
		}
		if rnd.IntN(3) == 0 {
			m.Expiry = now + rnd.Int64N(100000) - 10000
		}
		h.Reset(&m, now)
		for range rnd.IntN(12) {
			v := versions[rnd.IntN(3)]
			list := deliveries(v)
			d := list[rnd.IntN(len(list))]
			d.PacketID = uint16(1 + rnd.IntN(65535))
			if got, want := wire(&h, v, &d), plain(&m, now, v, &d); !bytes.Equal(got, want) {
				t.Fatalf("seed %d step %d: version %d, %+v:\ngot  % x\nwant % x", seed, step, v, d, got, want)
			}
		}
		h.Release()
	}
}

// Each of the four shapes is encoded once; packet id, DUP and RETAIN do not make another one.
func TestEachShapeIsEncodedOnce(t *testing.T) {
	m := Message{Topic: []byte("a/b"), Properties: codec.AppendUserProperty(nil, []byte("k"), []byte("v"))}
	var h Heads
	h.Reset(&m, 0)
	first := map[*byte]bool{}
	for _, v := range versions {
		for qos := range uint8(3) {
			for id := range uint16(10) {
				d := Delivery{QoS: qos, PacketID: id + 1, Dup: id%2 == 0, Retain: id%3 == 0}
				head, pid := h.Head(v, &d)
				first[&head[0]] = true
				if (pid > 0) != (qos > 0) {
					t.Errorf("version %d, QoS %d: packet id at %d", v, qos, pid)
				}
				if cap(head) != len(head) {
					t.Error("appending to one head would write into the next")
				}
			}
		}
	}
	size := len(h.buf)
	if h.Head(codec.V5, &Delivery{QoS: 1}); len(h.buf) != size {
		t.Error("a shape was encoded again")
	}
	// Growing buf may have moved later shapes elsewhere: at most 4 encodings and their copies.
	if len(first) > 8 {
		t.Errorf("%d places", len(first))
	}
}

func TestHeadsDoNotAllocateOnceWarm(t *testing.T) {
	m := Message{Topic: []byte("a/b"), Payload: []byte("x"), Expiry: 5000}
	var h Heads
	if n := testing.AllocsPerRun(100, func() {
		h.Reset(&m, 0)
		for _, v := range versions {
			for qos := range uint8(3) {
				h.Head(v, &Delivery{QoS: qos, PacketID: 1})
				h.Head(v, &Delivery{QoS: qos, PacketID: 1, SubscriptionID: 7, Alias: 3})
			}
		}
		h.Release()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Release ends the loan: heads of a message that lay in the same memory are not taken for it.
func TestReleaseEndsTheLoan(t *testing.T) {
	var h Heads
	loan := Message{Topic: []byte("first")}
	if h.Holds(&loan) {
		t.Error("an unused Heads holds something")
	}
	h.Reset(&loan, 0)
	k := loan.Keep()
	if !h.Holds(&loan) || !h.Holds(k) || h.Message() != &loan {
		t.Error("a loan and what was kept of it are one message")
	}
	if other := (&Message{Topic: []byte("other")}); h.Holds(other) || h.Holds(other.Keep()) {
		t.Error("held for another message")
	}
	h.Release()
	if h.Holds(&loan) || h.Holds(k) || h.Message() != nil {
		t.Error("held after Release")
	}
	loan = Message{Topic: []byte("second")} // the same memory, as for the next PUBLISH
	h.Reset(&loan, 0)
	d := Delivery{}
	if got, want := wire(&h, codec.V311, &d), plain(&loan, 0, codec.V311, &d); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if h.Holds(k) {
		t.Error("what was kept of the first message is taken for the second")
	}
}

func TestPatchLeavesTheRestAlone(t *testing.T) {
	m := Message{Topic: []byte("t"), Payload: []byte{0xFF, 0xFF, 0xFF}}
	var h Heads
	h.Reset(&m, 0)
	a := wire(&h, codec.V5, &Delivery{QoS: 2, PacketID: 0x1234, Dup: true, Retain: true})
	b := wire(&h, codec.V5, &Delivery{QoS: 1, PacketID: 0xFFFF})
	if a[0] != 0x3D || b[0] != 0x32 || len(a) != len(b) {
		t.Errorf("% x, % x", a, b)
	}
	for i := 1; i < len(a); i++ {
		if at := i == 5 || i == 6; (a[i] != b[i]) != at {
			t.Errorf("byte %d: %x and %x", i, a[i], b[i])
		}
	}
	if d := (&Delivery{Dup: true}); wire(&h, codec.V5, d)[0] != 0x30 { // [MQTT-3.3.1-2]
		t.Error("DUP with QoS 0")
	}
}

func TestLeft_MQTT_3_3_2_6(t *testing.T) {
	const now = 1_800_000_000_000
	for _, tt := range []struct {
		interval uint32
		waited   int64 // ms, by the receiver's clock
		want     uint32
	}{
		{20, 0, 20},
		{20, 1, 20},
		{20, 999, 20},
		{20, 1000, 19},
		{20, 19_999, 1},
		{20, 20_000, 0},
		{20, 50_000, 0},
		{20, -1, 20}, // its turn began before the publisher's
		{20, -5000, 20},
		{0xFFFFFFFF, -1, 0xFFFFFFFF},
	} {
		m := &Message{}
		m.Expire(now, tt.interval)
		if got := m.Left(now + tt.waited); got != tt.want {
			t.Errorf("%d s after %d ms: %d, want %d", tt.interval, tt.waited, got, tt.want)
		}
		if m.Expired(now+tt.waited) != (tt.want == 0) {
			t.Errorf("%d s after %d ms: expired is %t", tt.interval, tt.waited, tt.want != 0)
		}
	}
	old := &Message{Expiry: now + 20_000} // of a store
	if got := old.Left(now); got != 20 {
		t.Errorf("without an interval: %d", got)
	}
}
