package behalf

import (
	"slices"
	"time"
)

// Subscriptions may end by themselves. When is a time of the broker's clock (docs/adr/0011), in whole
// seconds, so that what is asked for at about the same time is the same set; 0 is never.

// NewEndingSet makes a set of topics that end: ends has a time for each of them, or is nil. It takes
// ownership of the topics. Of several with the same filter the last one counts.
func NewEndingSet(topics []Topic, ends []int64) *Set {
	if !slices.ContainsFunc(ends, func(at int64) bool { return at != 0 }) {
		return NewSet(topics)
	}
	type pair struct {
		t   Topic
		end int64
	}
	pairs := make([]pair, 0, len(topics))
	for i, t := range topics {
		pairs = append(pairs, pair{t, ends[i]})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return byFilter(a.t, b.t) })
	topics, ends = topics[:0], make([]int64, 0, len(pairs))
	for i, p := range pairs {
		if i+1 == len(pairs) || pairs[i+1].t.Filter != p.t.Filter {
			topics, ends = append(topics, p.t), append(ends, p.end)
		}
	}
	clear(topics[len(topics):cap(topics)])
	return made(topics, ends)
}

// End is when the topic at a place ends; 0: never.
func (x *Set) End(i int) int64 {
	if x == nil || x.ends == nil {
		return 0
	}
	return (*x.ends)[i]
}

// Ends is when each of the topics ends, read-only; nil: none does.
func (x *Set) Ends() []int64 {
	if x == nil || x.ends == nil {
		return nil
	}
	return *x.ends
}

// EndOf is when the topic of a filter ends; 0: never, or it is not there.
func (x *Set) EndOf(filter string) int64 {
	if x.Ends() == nil {
		return 0
	}
	i, ok := slices.BinarySearchFunc(x.topics, Topic{Filter: filter}, byFilter)
	if !ok {
		return 0
	}
	return x.End(i)
}

// FirstEnd is when the first topic ends; 0: none does.
func (x *Set) FirstEnd() (first int64) {
	for _, at := range x.Ends() {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}

// LastEnd is when the last topic has ended; 0: one stays, or there are none.
func (x *Set) LastEnd() (last int64) {
	for _, at := range x.Ends() {
		if at == 0 {
			return 0
		}
		last = max(last, at)
	}
	return last
}

// After is what is left at a time; x itself if nothing has ended.
func (x *Set) After(now int64) *Set {
	if x.Ends() == nil {
		return x
	}
	return x.pick(func(i int) bool { return x.End(i) == 0 || x.End(i) > now })
}

// Where is the topics for whose filters keep is true; x itself if that is all.
func (x *Set) Where(keep func(filter string) bool) *Set {
	return x.where(func(t *Topic) bool { return keep(t.Filter) })
}

// Seconds rounds milliseconds to the nearest second, so that times go there and back between two clocks.
func Seconds(ms int64) int64 { return (ms + 500) / 1000 }

// ByWall has a listing, which tells times of the broker's clock, tell those of the system's: wall is that of
// a time in Unix milliseconds.
func ByWall(wall func(at int64) int64, held []Holding, waits []Pending) {
	for i := range held {
		held[i].Ends = endsByWall(wall, held[i].Ends)
	}
	for i := range waits {
		waits[i].Ends = endsByWall(wall, waits[i].Ends)
		waits[i].Until = time.UnixMilli(wall(waits[i].Until.UnixMilli()))
	}
}

// endsByWall is the same of when topics end; the list itself is a set's.
func endsByWall(wall func(at int64) int64, ends []int64) []int64 {
	out := slices.Clone(ends)
	for i, at := range out {
		if at != 0 {
			out[i] = Seconds(wall(at * 1000))
		}
	}
	return out
}
