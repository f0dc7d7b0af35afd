package sys

import (
	"fmt"
	"slices"
	"testing"
)

// The tree is due at multiples of the interval, and when the system's clock was set back.
func TestSchedule(t *testing.T) {
	s := Schedule{Interval: 10}
	for i, x := range []struct {
		now int64
		due bool
	}{{1003, true}, {1009, false}, {1010, true}, {1011, false}, {1009, true}, {1009, false}, {999, true}, {1035, true}} {
		if due := s.Due(x.now); due != x.due {
			t.Fatalf("%d: due at %d: %v", i, x.now, due)
		}
		if x.due {
			s.Begin(x.now)
		}
	}
}

// Only what has changed is said; averages begin with 0, and follow.
func TestUpdate(t *testing.T) {
	tree := New("bytes/sent")
	values := func(uptime, most, retained int64) []Value {
		return []Value{
			{Prefix + "uptime", uptime},
			{Prefix + "clients/maximum", most},
			{Prefix + "retained messages/count", retained},
		}
	}
	load := func(one, five, fifteen string) (list []string) {
		for i, text := range []string{one, five, fifteen} {
			if text != "" {
				list = append(list, fmt.Sprintf("$SYS/broker/load/bytes/sent/%dmin %s", minutes()[i], text))
			}
		}
		return list
	}
	for i, x := range []struct {
		now    int64
		values []Value
		sent   int64
		want   []string
	}{
		{
			100_000, values(0, 1, 3), 0,
			append([]string{"$SYS/broker/uptime 0 seconds", "$SYS/broker/retained messages/count 3"},
				load("0.00", "0.00", "0.00")...),
		},
		{160_000, values(0, 1, 3), 0, nil},
		{220_000, values(60, 1, 3), 60, append([]string{"$SYS/broker/uptime 60 seconds"},
			load("37.93", "10.88", "3.87")...)},
		{220_000, values(60, 2, 3), 60, []string{"$SYS/broker/clients/maximum 2"}}, // no time has passed
		{280_000, values(60, 2, 3), 60, load("13.95", "8.90", "3.62")},
	} {
		var got []string
		for _, text := range tree.Update(x.now, x.values, []int64{x.sent}) {
			got = append(got, text.Topic+" "+text.Text)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%d: %q, want %q", i, got, x.want)
		}
	}
}
