package broker

import (
	"testing"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// TestWantedOfAll works out what a session is to have for all small lists that it has and that are asked for, all
// actions, caps and rooms. What it has and the request does not take away stays however full it is; of the rest the
// first in the order of filters come in, and exactly the others are refused.
func TestWantedOfAll(t *testing.T) {
	filters := []string{"a", "b", "c"}
	lists := func() (all []map[string]uint8) {
		for code := range 27 {
			m := map[string]uint8{}
			for _, f := range filters {
				if code%3 > 0 {
					m[f] = uint8(code % 3)
				}
				code /= 3
			}
			all = append(all, m)
		}
		return all
	}()
	topics := func(m map[string]uint8) (list []behalf.Topic) {
		for f, q := range m {
			list = append(list, behalf.Topic{Filter: f, QoS: q})
		}
		return list
	}
	n := 0
	for _, have := range lists {
		for _, asked := range lists {
			for _, action := range []behalf.Action{im.Subscribe, im.Unsubscribe, im.Replace} {
				for _, maxQoS := range []uint8{1, 2} {
					for room := -1; room <= 4; room++ {
						n++
						j := applying{
							r:   &behalf.Request{Action: action, Origin: &behalf.Origin{}, Topics: behalf.NewSet(topics(asked))},
							old: &set{shares: behalf.NewSet(topics(have)).Topics()}, room: room, maxQoS: maxQoS,
						}
						got, refused := j.wanted()
						want, no := wantedByHand(filters, have, asked, action, maxQoS, room)
						same := got.Len() == len(want) && len(refused) == len(no)
						for f, q := range want {
							x, ok := got.Find(f)
							same = same && ok && x.QoS == q
						}
						for f := range no {
							same = same && refused[f] == codec.QuotaExceeded
						}
						if !same {
							t.Fatalf("has %v, %v of %v, QoS %d, room %d: %v, refused %v; want %v, %v", have, action, asked, maxQoS, room,
								got.Topics(), refused, want, no)
						}
						j.old = &set{shares: got.Topics()}
						if again, _ := j.wanted(); again.Key() != got.Key() {
							t.Fatalf("has %v, %v of %v, QoS %d, room %d: once more it is %v, not %v", have, action, asked, maxQoS, room,
								again.Topics(), got.Topics())
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests", n)
}

// wantedByHand says the same with maps.
func wantedByHand(
	filters []string, have, asked map[string]uint8, action behalf.Action, maxQoS uint8, room int,
) (want map[string]uint8, refused map[string]bool) {
	want, refused = map[string]uint8{}, map[string]bool{}
	for _, f := range filters {
		h, had := have[f]
		a, is := asked[f]
		a = min(a, maxQoS)
		switch {
		case action == im.Unsubscribe && had && !is, action == im.Subscribe && had && !is:
			want[f] = h
		case action != im.Unsubscribe && is && had:
			want[f] = a
		}
	}
	for _, f := range filters { // new ones
		a, is := asked[f]
		if _, had := have[f]; !is || had || action == im.Unsubscribe {
			continue
		}
		if room >= 0 && len(want) >= room {
			refused[f] = true
			continue
		}
		want[f] = min(a, maxQoS)
	}
	return want, refused
}
