//go:build linux

package bench

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A stream agrees with a set of numbers, whatever is lost, repeated and swapped.
func TestStreamAgainstSet(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var s stream
		seen := map[uint32]bool{}
		highest := -1
		const sent = 300
		for range 600 {
			seq := uint32(rnd.IntN(sent))
			if rnd.IntN(3) > 0 && s.next < sent {
				seq = min(s.next+uint32(rnd.IntN(3)), sent-1)
			}
			want := inOrder
			switch {
			case seen[seq]:
				want = duplicate
			case int(seq) < highest:
				want = late
			}
			if got := s.take(seq); got != want {
				t.Fatalf("number %d: verdict %d, want %d; %+v", seq, got, want, s)
			}
			seen[seq] = true
			highest = max(highest, int(seq))
		}
		if got, want := s.lost(sent), int64(sent-len(seen)); got != want {
			t.Fatalf("%d lost, want %d; %+v", got, want, s)
		}
	}
}

func TestHeaderFixpoint(t *testing.T) {
	b := make([]byte, HeaderSize)
	want := header{publisher: maxPublishers - 2, seq: 1<<32 - 77, due: 1_900_000_000_000_000_123}
	want.put(b)
	for _, later := range []int64{0, 1, -1, 1e9, 3e16, -3e16} {
		if got, ok := readHeader(b, want.due+later); !ok || got != want {
			t.Errorf("read %d ns later: got %+v", later, got)
		}
	}
	for i := range HeaderSize {
		if _, ok := readHeader(b[:i], want.due); ok {
			t.Errorf("%d bytes are a header", i)
		}
	}
}
