package latency

import (
	"maps"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	h := New(time.Millisecond, time.Second)
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Second, 2 * time.Second} {
		h.Observe(d)
	}
	c := h.Counts()
	want := map[float64]uint64{.001: 2, 1: 4}
	if got := c.Cumulative(); !maps.Equal(got, want) || c.Total() != 5 {
		t.Errorf("%v, %d in all", got, c.Total())
	}
	if c.Sum != (3*time.Second + 2*time.Millisecond + 1).Seconds() {
		t.Errorf("sum %v", c.Sum)
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Minute) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	none := New().Counts()
	if len(none.Cumulative()) != 0 || none.Total() != 0 {
		t.Errorf("%+v", none)
	}
}
