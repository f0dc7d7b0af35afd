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

// Set is an immutable set of subscriptions, each filter once. Sets with the same contents have the same key.
type Set struct {
	topics []Topic // by filter
	key    Key
	bytes  int
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
	return made(out)
}

func byFilter(a, b Topic) int { return strings.Compare(a.Filter, b.Filter) }

// made is the set of a list in order, without duplicates.
func made(topics []Topic) *Set {
	x := &Set{topics: topics}
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
		h.Write(head[:])
		h.Write([]byte(t.Filter))
		x.bytes += len(t.Filter)
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

// Bytes is the length of all filters together.
func (x *Set) Bytes() int {
	if x == nil {
		return 0
	}
	return x.bytes
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

// With is the union; where both have a filter, y's options count.
func (x *Set) With(y *Set) *Set {
	if x.Len() == 0 {
		return y
	}
	if y.Len() == 0 {
		return x
	}
	out := make([]Topic, 0, x.Len()+y.Len())
	a, b := x.topics, y.topics
	for len(a) > 0 && len(b) > 0 {
		switch strings.Compare(a[0].Filter, b[0].Filter) {
		case -1:
			out, a = append(out, a[0]), a[1:]
		case 1:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, b[0]), a[1:], b[1:]
		}
	}
	return made(append(append(out, a...), b...))
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
	var out []Topic
	left := 0
	for i := range x.Topics() {
		if keep(&x.topics[i]) {
			if left > 0 {
				out = append(out, x.topics[i])
			}
			continue
		}
		if left == 0 {
			out = append(out, x.topics[:i]...)
		}
		left++
	}
	if left == 0 {
		return x
	}
	return made(out)
}

// Capped is the set with no QoS above the one given; x itself if it has none.
func (x *Set) Capped(qos uint8) *Set {
	if qos >= 2 || !slices.ContainsFunc(x.Topics(), func(t Topic) bool { return t.QoS > qos }) {
		return x
	}
	out := slices.Clone(x.topics)
	for i := range out {
		out[i].QoS = min(out[i].QoS, qos)
	}
	return made(out)
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
	return NewSet(out)
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
