package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// readTree turns a printed tree into filters with their subscribers.
func readTree(t *testing.T, text string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	var path []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		indent := (len(line) - len(strings.TrimLeft(line, " "))) / 2 // an empty level has one space more
		depth, name := indent-2, line[2*indent:]
		if depth < 0 || depth > len(path) {
			t.Fatalf("a line at depth %d below %q:\n%s", depth, path, text)
		}
		name, subs, ok := strings.Cut(name, " (")
		path = append(path[:depth], name)
		if !ok {
			continue
		}
		filter := strings.Join(path[1:], "/")
		if out[filter] != nil {
			t.Fatalf("%s is there twice:\n%s", filter, text)
		}
		for s := range strings.SplitSeq(strings.TrimSuffix(subs, ")"), ") (") {
			out[filter] = append(out[filter], s)
		}
		slices.Sort(out[filter])
	}
	return out
}

// TestTreeAgainstModel subscribes at random and compares what is printed.
func TestTreeAgainstModel(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		want := map[string]map[string]int{}
		levels := []string{"a", "b", "+", "", "ab", "$x"}
		for i := range 40 {
			id := fmt.Sprintf("client%d", i)
			c := x.connect(id, codec.V5, nil)
			for range 1 + r.IntN(20) {
				parts := []string{levels[r.IntN(len(levels))]}
				for r.IntN(3) > 0 && len(parts) < 5 {
					parts = append(parts, levels[r.IntN(len(levels)-1)])
				}
				if r.IntN(4) == 0 {
					parts = append(parts, "#")
				}
				f := strings.Join(parts, "/")
				if f == "" {
					f = "x"
				}
				if r.IntN(5) == 0 {
					f = "$share/g/" + f
				}
				qos := r.IntN(3)
				if code := c.Subscribe(f, uint8(qos)); code >= 0x80 {
					t.Fatalf("%s: %s", f, code)
				}
				if want[f] == nil {
					want[f] = map[string]int{}
				}
				want[f][id] = qos
			}
		}
		brokertest.Settle(t, x.b)
		var b bytes.Buffer
		if err := x.b.WriteTree(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		got := readTree(t, b.String())
		for f, subs := range want {
			var list []string
			for id, qos := range subs {
				list = append(list, fmt.Sprintf("%s, %d", id, qos))
			}
			slices.Sort(list)
			if !slices.Equal(got[f], list) {
				t.Errorf("%q has %v, want %v", f, got[f], list)
			}
			delete(got, f)
		}
		if len(got) > 0 {
			t.Errorf("too much: %v", slices.Sorted(maps.Keys(got)))
		}
	})
}

// TestTreeOfACrowd has more subscribers of a filter than one piece, in several loops.
func TestTreeOfACrowd(t *testing.T) {
	x := newFixture(t, nil)
	const clients = 50
	for i := range clients {
		x.connect(fmt.Sprint("c", i), codec.V311, nil).Subscribe("all", 1)
	}
	var b bytes.Buffer
	if err := x.b.WriteTree(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if got := readTree(t, b.String())["all"]; len(slices.Compact(got)) != clients {
		t.Errorf("%d subscribers: %v", len(got), got)
	}
}

// failing is a writer that fails.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestTreeErrors(t *testing.T) {
	x := newFixture(t, nil)
	x.connect("c", codec.V311, nil).Subscribe("x", 1)
	if err := x.b.WriteTree(t.Context(), failing{}); err == nil || err.Error() != "full" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.b.WriteTree(ctx, failing{}); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("%v", err)
	}
}
