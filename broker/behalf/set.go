package behalf

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"noctule/codec"
)

// Topic is one subscription.
type Topic struct {
	Filter            string // may be a shared subscription
	ID                uint32 // Subscription Identifier; 0 none
	QoS               uint8
	RetainHandling    uint8
	NoLocal           bool
	RetainAsPublished bool
}

// Check tells whether t may be subscribed to.
func (t *Topic) Check() codec.Reason {
	name := []byte(t.Filter)
	if codec.CheckTopicFilter(name) != nil {
		return codec.TopicFilterInvalid
	}
	if t.QoS > 2 || t.RetainHandling > 2 || t.ID > 268435455 {
		return codec.ProtocolError
	}
	if _, _, shared := codec.SplitShare(name); shared && t.NoLocal { // [MQTT-3.8.3-4]
		return codec.ProtocolError
	}
	return codec.Success
}

// IsShared reports whether it is a shared subscription.
func (t *Topic) IsShared() bool { return strings.HasPrefix(t.Filter, "$share/") }

// Key identifies the contents of a Set: it is a cryptographic hash.
type Key [16]byte

// Set is an immutable set of subscriptions, each filter once, of which some may end by themselves. Sets with
// the same contents, and the same ends, have the same key.
type Set struct {
	topics []Topic  // by filter
	ends   *[]int64 // of each of topics, see NewEndingSet; nil: all stay
	key    Key
}

// NewSet makes a set of topics that Check allows. Of several with the same filter the last one counts, as in
// a SUBSCRIBE. It takes ownership of the list.
func NewSet(topics []Topic) *Set {
	slices.SortStableFunc(topics, byFilter)
	out := topics[:0]
	for i := range topics {
		if i+1 < len(topics) && topics[i].Filter == topics[i+1].Filter {
			continue
		}
		out = append(out, topics[i])
	}
	clear(topics[len(out):])
	return made(out, nil)
}

func byFilter(a, b Topic) int { return strings.Compare(a.Filter, b.Filter) }

// made is the set of a list in order, without duplicates; ends is nil, or as long.
func made(topics []Topic, ends []int64) *Set {
	x := &Set{topics: topics}
	if slices.ContainsFunc(ends, func(at int64) bool { return at != 0 }) {
		kept := ends // else the parameter is allocated for all
		x.ends = &kept
	}
	h := sha256.New()
	var head [10]byte
	for i := range topics {
		t := &topics[i]
		binary.BigEndian.PutUint32(head[:], uint32(len(t.Filter)))
		binary.BigEndian.PutUint32(head[4:], t.ID)
		head[8] = t.QoS | t.RetainHandling<<4
		head[9] = 0
		if t.NoLocal {
			head[9] |= 1
		}
		if t.RetainAsPublished {
			head[9] |= 2
		}
		at := x.End(i)
		if at != 0 {
			head[9] |= 4
		}
		h.Write(head[:])
		if at != 0 {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(at)))
		}
		h.Write([]byte(t.Filter))
	}
	copy(x.key[:], h.Sum(nil))
	return x
}

// Len is the number of topics. A nil set is empty, for all methods.
func (x *Set) Len() int {
	if x == nil {
		return 0
	}
	return len(x.topics)
}

// Bytes is the length of all filters together. It goes through all of them.
func (x *Set) Bytes() (n int) {
	for i := range x.Topics() {
		n += len(x.topics[i].Filter)
	}
	return n
}

// Topics are the topics by filter, read-only.
func (x *Set) Topics() []Topic {
	if x == nil {
		return nil
	}
	return x.topics
}

// Key identifies the contents.
func (x *Set) Key() Key {
	if x == nil {
		return Key{}
	}
	return x.key
}

// Find returns the topic of a filter.
func (x *Set) Find(filter string) (Topic, bool) {
	i, ok := slices.BinarySearchFunc(x.Topics(), filter, func(t Topic, f string) int {
		return strings.Compare(t.Filter, f)
	})
	if !ok {
		return Topic{}, false
	}
	return x.topics[i], true
}

// With is the union; where both have a filter, y's options count, and when y's ends.
func (x *Set) With(y *Set) *Set {
	if x.Len() == 0 {
		return y
	}
	if y.Len() == 0 {
		return x
	}
	out := picked{topics: make([]Topic, 0, x.Len()+y.Len())}
	i, j := 0, 0
	for i < x.Len() && j < y.Len() {
		switch strings.Compare(x.topics[i].Filter, y.topics[j].Filter) {
		case -1:
			out.take(x, i)
			i++
		case 1:
			out.take(y, j)
			j++
		default:
			out.take(y, j)
			i++
			j++
		}
	}
	for ; i < x.Len(); i++ {
		out.take(x, i)
	}
	for ; j < y.Len(); j++ {
		out.take(y, j)
	}
	return out.made()
}

// Without is what of x is not in y, whatever its options.
func (x *Set) Without(y *Set) *Set {
	return x.where(func(t *Topic) bool {
		_, ok := y.Find(t.Filter)
		return !ok
	})
}

// where is the topics for which keep is true; x itself if that is all.
func (x *Set) where(keep func(t *Topic) bool) *Set {
	return x.pick(func(i int) bool { return keep(&x.topics[i]) })
}

// pick is the topics for whose places keep is true; x itself if that is all.
func (x *Set) pick(keep func(i int) bool) *Set {
	var out picked
	left := 0
	for i := range x.Topics() {
		if keep(i) {
			if left > 0 {
				out.take(x, i)
			}
			continue
		}
		if left == 0 {
			for k := range i {
				out.take(x, k)
			}
		}
		left++
	}
	if left == 0 {
		return x
	}
	return out.made()
}

// picked is topics of sets that another is made of.
type picked struct {
	topics []Topic
	ends   []int64 // none, or one for each
}

func (p *picked) take(x *Set, i int) {
	if at := x.End(i); at != 0 || p.ends != nil {
		for len(p.ends) < len(p.topics) {
			p.ends = append(p.ends, 0)
		}
		p.ends = append(p.ends, at)
	}
	p.topics = append(p.topics, x.topics[i])
}

func (p *picked) made() *Set { return made(p.topics, p.ends) }

// Capped is the set with no QoS above the one given; x itself if it has none.
func (x *Set) Capped(qos uint8) *Set {
	if qos >= 2 || !slices.ContainsFunc(x.Topics(), func(t Topic) bool { return t.QoS > qos }) {
		return x
	}
	out := slices.Clone(x.topics)
	for i := range out {
		out[i].QoS = min(out[i].QoS, qos)
	}
	return made(out, x.Ends())
}

// Mounted is the set with a mount point before each filter; x itself if that is empty.
func (x *Set) Mounted(mount string) *Set {
	if mount == "" || x.Len() == 0 {
		return x
	}
	out := slices.Clone(x.topics)
	for i := range out {
		out[i].Filter = Mounted(out[i].Filter, mount)
	}
	return NewEndingSet(out, x.Ends())
}

// Mounted is a filter with a mount point before it, behind the share name if it has one.
func Mounted(filter, mount string) string {
	at := shareLen(filter)
	return filter[:at] + mount + filter[at:]
}

// Unmounted is a filter without a mount point.
func Unmounted(filter, mount string) string {
	at := shareLen(filter)
	return filter[:at] + strings.TrimPrefix(filter[at:], mount)
}

// shareLen is the length of "$share/NAME/" in front of a filter.
func shareLen(filter string) int {
	_, name, shared := codec.SplitShare([]byte(filter))
	if !shared {
		return 0
	}
	return len(filter) - len(name)
}
