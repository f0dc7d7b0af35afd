package behalf

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"noctule/codec"
)

func set(filters ...string) *Set {
	var list []Topic
	for _, f := range filters {
		list = append(list, Topic{Filter: f, QoS: 1})
	}
	return NewSet(list)
}

func TestSetIsItsContents(t *testing.T) {
	a, b := set("b", "a", "c", "a"), set("c", "b", "a")
	if a.Key() != b.Key() || a.Len() != 3 || a.Bytes() != 3 {
		t.Errorf("%d topics, %d bytes, keys %x %x", a.Len(), a.Bytes(), a.Key(), b.Key())
	}
	seen := map[Key]string{}
	for name, x := range map[string]*Set{
		"qos": NewSet([]Topic{{Filter: "a", QoS: 1}}), "nl": NewSet([]Topic{{Filter: "a", NoLocal: true}}),
		"rap": NewSet([]Topic{{Filter: "a", RetainAsPublished: true}}), "plain": NewSet([]Topic{{Filter: "a"}}),
		"rh": NewSet([]Topic{{Filter: "a", RetainHandling: 1}}), "id": NewSet([]Topic{{Filter: "a", ID: 1}}),
		"two": set("a", "b"), "one": set("ab"), "none": set(),
	} {
		if other, ok := seen[x.Key()]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[x.Key()] = name
	}
	last := NewSet([]Topic{{Filter: "a", QoS: 2}, {Filter: "b"}, {Filter: "a", QoS: 0}})
	if x, ok := last.Find("a"); !ok || x.QoS != 0 {
		t.Errorf("of duplicates %+v counts", x)
	}
	var none *Set
	if none.Len() != 0 || none.Bytes() != 0 || none.Key() != (Key{}) || none.Capped(0) != nil {
		t.Error("the nil set is not empty")
	}
}

// TestSetAgainstMap makes random sets and holds each operation against a map.
func TestSetAgainstMap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := func() (*Set, map[string]uint8) {
		m := map[string]uint8{}
		var list []Topic
		for range rnd.IntN(12) {
			x := Topic{Filter: fmt.Sprint(rnd.IntN(15)), QoS: uint8(rnd.IntN(3))}
			m[x.Filter] = x.QoS
			list = append(list, x)
		}
		return NewSet(list), m
	}
	same := func(what string, x *Set, m map[string]uint8) {
		t.Helper()
		got := map[string]uint8{}
		for _, topic := range x.Topics() {
			got[topic.Filter] = topic.QoS
		}
		if !maps.Equal(got, m) || len(got) != x.Len() || !slices.IsSortedFunc(x.Topics(), byFilter) {
			t.Fatalf("seed %d: %s is %v, want %v", seed, what, x.Topics(), m)
		}
	}
	for range 2000 {
		a, am := random()
		b, bm := random()
		same("set", a, am)
		union := maps.Clone(am)
		maps.Copy(union, bm)
		same("union", a.With(b), union)
		less := maps.Clone(am)
		maps.DeleteFunc(less, func(f string, _ uint8) bool { _, ok := bm[f]; return ok })
		same("difference", a.Without(b), less)
		capped := map[string]uint8{}
		for f, q := range am {
			capped[f] = min(q, 1)
		}
		same("capped", a.Capped(1), capped)
	}
}

func TestCheckTopic(t *testing.T) {
	for _, tt := range []struct {
		topic Topic
		want  codec.Reason
	}{
		{Topic{Filter: "a/+/#", QoS: 2, RetainHandling: 2}, codec.Success},
		{Topic{Filter: "$share/g/a"}, codec.Success},
		{Topic{Filter: ""}, codec.TopicFilterInvalid},
		{Topic{Filter: "a/#/b"}, codec.TopicFilterInvalid},
		{Topic{Filter: "$share/g"}, codec.TopicFilterInvalid},
		{Topic{Filter: "a", QoS: 3}, codec.ProtocolError},
		{Topic{Filter: "a", RetainHandling: 3}, codec.ProtocolError},
		{Topic{Filter: "a", ID: 1 << 28}, codec.ProtocolError},
		{Topic{Filter: "$share/g/a", NoLocal: true}, codec.ProtocolError},
	} {
		if got := tt.topic.Check(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.topic, got, tt.want)
		}
	}
}
