package wsnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAckSweep: '.' is a tick, 'a' whole input without an answer, 'p' input that is not whole; the result
// has a '!' behind each tick that let ACKs be delayed.
func TestAckSweep(t *testing.T) {
	tests := []struct{ name, play, want string }{
		{"nothing", "...", "..."},
		{"one message, then silence", "a....", "a..!.."},
		{"after a silence again", "..a...a..", "..a..!.a..!"},
		{"one each second", "a.a.a.a..", "a.a.a.a..!"},
		{"one every other second", "a..a..", "a..!a..!"},
		{"two at once", "aa...", "aa..."},
		{"two at once across a tick", "a.a...", "a.a..!."},
		{"a packet in two pieces", "pp...", "pp..."},
		{"a packet in two pieces across a tick", "p.p...", "p.p..."},
		{"a packet in two pieces, then a whole one", "pp.a...", "pp.a..!."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			told := false
			a := newAckSweep(func(fd int) { told = told || fd == 7 })
			var got []rune
			for _, op := range tt.play {
				got = append(got, op)
				switch op {
				case 'a', 'p':
					a.unanswered(7, op == 'a')
				default:
					if a.sweep(); told {
						got = append(got, '!')
					}
					told = false
				}
			}
			if string(got) != tt.want {
				t.Errorf("%s, want %s", string(got), tt.want)
			}
		})
	}
}

// TestAckSweepModel plays many descriptors against a log of what each did in which second.
func TestAckSweepModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var told []int
	a := newAckSweep(func(fd int) { told = append(told, fd) })
	last, this := map[int]int{}, map[int]int{} // pieces of input; 2 for one that is not whole
	for second := range 200 {
		for range rnd.IntN(60) {
			fd, whole := rnd.IntN(1+40*(1+second)), rnd.IntN(4) > 0
			this[fd]++
			if !whole {
				this[fd]++
			}
			a.unanswered(fd, whole)
		}
		var want []int
		for fd, n := range last {
			if n == 1 && this[fd] == 0 {
				want = append(want, fd)
			}
		}
		a.sweep()
		slices.Sort(want)
		slices.Sort(told)
		if !slices.Equal(told, want) {
			t.Fatalf("second %d: told %v, want %v", second, told, want)
		}
		told, last, this = nil, this, map[int]int{}
	}
}

// TestAckSweepIsBounded: what is too much for a second is left out, and nothing is left behind.
func TestAckSweepIsBounded(t *testing.T) {
	told := 0
	a := newAckSweep(func(int) { told++ })
	for round := range 3 {
		for fd := range 3 * maxRecent {
			a.unanswered(fd, true)
		}
		if len(a.recent) != maxRecent {
			t.Errorf("%d connections to look at", len(a.recent))
		}
		told = 0
		a.sweep()
		a.sweep()
		if told != maxDelays {
			t.Errorf("round %d: %d system calls in a tick", round, told)
		}
	}
	a.sweep()
	if slices.ContainsFunc(a.marks, func(m uint8) bool { return m != 0 }) {
		t.Error("a mark is left")
	}
}

func TestAckSweepDoesNotAllocate(t *testing.T) {
	a := newAckSweep(func(int) {})
	play := func() {
		for fd := range 1000 {
			a.unanswered(fd, true)
		}
		a.sweep()
	}
	for range 3 {
		play()
	}
	if n := testing.AllocsPerRun(100, play); n > 0 {
		t.Errorf("%v allocations a second", n)
	}
}

func BenchmarkAckSweep(b *testing.B) {
	for _, rate := range []int{1, 5, 100} { // input a second and connection
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			const n = 1000
			a := newAckSweep(func(int) {})
			for i := 0; b.Loop(); i++ {
				if a.unanswered(i%n, true); i%(n*rate) == 0 {
					a.sweep()
				}
			}
		})
	}
}
