package topictree

import (
	"sort"
	"strings"
	"testing"
)

// FuzzRetained sets, removes and walks as the input says: each line is a topic to set, or, after a minus,
// to remove. The walk goes in pieces of every size and finds what MatchFilter finds.
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

// FuzzIndex adds and removes filters as the input says: each line is one to add, or, after a minus, to
// remove.
func FuzzIndex(f *testing.F) {
	f.Add("a/b/c/+\na/b/+\n-a/b/c/+\na/#", "a/b/c/d")
	f.Add("+/+/+/+\n+/+/#\n-+/+/+/+", "a/b/c/d")
	f.Add("$S/+\n+/+\n#", "$S/x")
	f.Add("/+\n//+\n///+\n-//+", "///")
	f.Add("a/+/b\na/+/bb\na/+/b/#", "a//b")
	f.Fuzz(func(t *testing.T, lines, topic string) {
		if len(lines)+len(topic) > 1<<12 || topic == "" || strings.ContainsAny(topic, "+#\n") {
			return
		}
		x := New(Options{})
		want := map[string]bool{}
		for line := range strings.SplitSeq(lines, "\n") {
			filter, remove := strings.CutPrefix(line, "-")
			if !valid(filter) {
				continue
			}
			id, there := x.Lookup([]byte(filter))
			if there != want[filter] {
				t.Fatalf("lookup %q: %v", filter, there)
			}
			if remove {
				if there {
					x.Remove(id, 0)
				}
				delete(want, filter)
			} else if _, err := x.Add([]byte(filter), 0); err == nil {
				want[filter] = true
			}
		}
		checkTrie(t, x.hash, &x.trie.root)
		var ms Matches
		x.Match([]byte(topic), &ms)
		got := map[string]bool{}
		for _, h := range ms.Hits {
			if name := x.Filter(h.ID); got[name] || !MatchFilter([]byte(name), []byte(topic)) {
				t.Fatalf("%q matched %q, again: %v", name, topic, got[name])
			}
			got[x.Filter(h.ID)] = true
		}
		for filter := range want {
			if MatchFilter([]byte(filter), []byte(topic)) != got[filter] {
				t.Fatalf("filter %q, topic %q: %v", filter, topic, got[filter])
			}
			id, _ := x.Lookup([]byte(filter))
			x.Remove(id, 0)
		}
		if n, _ := x.Len(); n != 0 || x.trie.root.kids.len() != 0 || x.trie.root.plus.Load() != nil {
			t.Fatalf("%d filters are left, and %d nodes", n, x.trie.root.kids.len())
		}
	})
}
