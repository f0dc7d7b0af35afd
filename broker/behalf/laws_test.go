package behalf

import (
	"slices"
	"strings"
	"testing"
)

// everySet is all sets of three filters, each there with QoS 0, with QoS 2 or not: 27.
func everySet() (list []*Set) {
	filters := []string{"$share/g/a", "a", "b/+"}
	for code := range 27 {
		var topics []Topic
		for _, f := range filters {
			if code%3 > 0 {
				topics = append(topics, Topic{Filter: f, QoS: uint8(code % 3 * 2 % 4)})
			}
			code /= 3
		}
		list = append(list, NewSet(topics))
	}
	return append(list, nil)
}

func equal(a, b *Set) bool { return slices.Equal(a.Topics(), b.Topics()) }

// sound holds what every result is: in order, each filter once, with the key and the length of its contents; and
// that making it changed nothing of what it was made of.
func sound(t *testing.T, what string, x *Set) {
	t.Helper()
	if x == nil {
		return
	}
	y := NewSet(slices.Clone(x.Topics()))
	bytes := 0
	for i, topic := range x.Topics() {
		bytes += len(topic.Filter)
		if i > 0 && strings.Compare(x.Topics()[i-1].Filter, topic.Filter) >= 0 {
			t.Fatalf("%s: %v is not in order", what, x.Topics())
		}
		if got, ok := x.Find(topic.Filter); !ok || got != topic {
			t.Fatalf("%s: %v is not found", what, topic)
		}
	}
	if x.Key() != y.Key() || x.Bytes() != bytes || x.Bytes() != y.Bytes() || x.Len() != len(x.Topics()) {
		t.Fatalf("%s: key, length or bytes of %v are not its own", what, x.Topics())
	}
}

// TestLaws holds the laws of the algebra for all pairs and triples of small sets.
func TestLaws(t *testing.T) {
	all := everySet()
	law := func(name string, holds bool, sets ...*Set) {
		t.Helper()
		if !holds {
			for _, x := range sets {
				t.Logf("%v", x.Topics())
			}
			t.Fatalf("%s does not hold", name)
		}
	}
	for _, x := range all {
		before := slices.Clone(x.Topics())
		law("x with x is x", equal(x.With(x), x), x)
		law("x without x is empty", x.Without(x).Len() == 0, x)
		law("nothing is neutral", equal(x.With(nil), x) && equal((*Set)(nil).With(x), x) && equal(x.Without(nil), x), x)
		for q := range uint8(3) {
			low := x.Capped(q)
			sound(t, "capped", low)
			law("capping twice is capping once", equal(low.Capped(q), low) && equal(low.Capped(2), low), x)
			law("the lower cap counts", equal(x.Capped(2).Capped(q), low) && equal(x.Capped(0), low.Capped(0)), x)
		}
		m := x.Mounted("m/")
		sound(t, "mounted", m)
		law("a mount point comes off again", m.Len() == x.Len() && !slices.ContainsFunc(x.Topics(), func(p Topic) bool {
			y, ok := m.Find(Mounted(p.Filter, "m/"))
			return !ok || Unmounted(y.Filter, "m/") != p.Filter || y.QoS != p.QoS
		}), x)
		law("x is as it was", slices.Equal(before, x.Topics()), x)
		for _, y := range all {
			both, less := x.With(y), x.Without(y)
			sound(t, "with", both)
			sound(t, "without", less)
			law("y's options count", equal(both.Without(less), y), x, y)
			law("with is without, then with", equal(less.With(y), both), x, y)
			law("what is gone is gone", equal(less.Without(y), less) && equal(both.Without(y), less), x, y)
			law("keys are contents", (x.Len()+y.Len() == 0) || (x.Key() == y.Key()) == equal(x, y), x, y)
			law("caps go through", equal(both.Capped(1), x.Capped(1).With(y.Capped(1))), x, y)
			law("mount points go through", equal(both.Mounted("m/"), m.With(y.Mounted("m/"))), x, y)
			law("x is as it was", slices.Equal(before, x.Topics()), x, y)
			for _, z := range all {
				law("with goes together", equal(both.With(z), x.With(y.With(z))), x, y, z)
				law("without goes together", equal(less.Without(z), x.Without(y.With(z))), x, y, z)
				law("without goes through with", equal(both.Without(z), x.Without(z).With(y.Without(z))), x, y, z)
			}
		}
	}
}
