package topictree

import (
	"sort"
	"strings"
	"testing"
)

// FuzzRetained sets, removes and walks as the input says: each line is a topic to set, or, after a minus, to
// remove. The walk goes in pieces of every size and finds what MatchFilter finds.
func FuzzRetained(f *testing.F) {
	f.Add("a\na/b\n-a\n/\n//\n$SYS/x", "#", uint8(1))
	f.Add("a/b/c\na/b\na\nb", "a/#", uint8(2))
	f.Add("a/b/c\na//c\n/b/c", "+/+/c", uint8(3))
	f.Add("$a/b\na/b\n-$a/b", "+/b", uint8(0))
	f.Fuzz(func(t *testing.T, lines, filter string, step uint8) {
		if len(lines)+len(filter) > 1<<12 || filter == "" || !valid(filter) {
			return
		}
		r := NewRetained[int](Options{})
		want := map[string]int{}
		for i, line := range strings.Split(lines, "\n") {
			topic, remove := strings.CutPrefix(line, "-")
			if topic == "" || strings.ContainsAny(topic, "+#") {
				continue
			}
			if remove {
				r.Delete([]byte(topic))
				delete(want, topic)
				continue
			}
			if _, existed, err := r.Set([]byte(topic), i); err != nil {
				continue // too deep
			} else if _, ok := want[topic]; ok != existed {
				t.Fatalf("set %q: existed %v", topic, existed)
			}
			want[topic] = i
		}
		if r.Len() != len(want) {
			t.Fatalf("%d topics, want %d", r.Len(), len(want))
		}
		var got, match []string
		for c := r.Cursor([]byte(filter)); ; {
			done := c.Next(1+int(step), func(topic string, v int) {
				if want[topic] != v {
					t.Fatalf("%q has %d, want %d", topic, v, want[topic])
				}
				got = append(got, topic)
			})
			if done {
				break
			}
		}
		for topic, v := range want {
			if MatchFilter([]byte(filter), []byte(topic)) {
				match = append(match, topic)
			}
			if have, ok := r.Get([]byte(topic)); !ok || have != v {
				t.Fatalf("get %q: %d %v", topic, have, ok)
			}
		}
		sort.Strings(got)
		sort.Strings(match)
		if strings.Join(got, "\n") != strings.Join(match, "\n") {
			t.Fatalf("filter %q: got %q, want %q", filter, got, match)
		}
		for topic := range want {
			r.Delete([]byte(topic))
		}
		if r.Len() != 0 {
			t.Fatalf("%d topics are left", r.Len())
		}
	})
}
