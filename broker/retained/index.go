package retained

import (
	"bytes"
	"sync"
	"sync/atomic"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/topictree"
)

// Index is the retained messages by topic. Safe for concurrent use.
type Index struct {
	tree  *topictree.Retained[*message.Message]
	bytes atomic.Int64

	numbering sync.Mutex    // held while a message gets its number and its place
	last      atomic.Uint64 // number
}

// Log is where changes of durable messages are noted, in one order with those of the index. A
// *store.Committer is one.
type Log interface {
	Shared(f func(b *store.Batch))
}

// New is an index without messages.
func New() *Index {
	return &Index{tree: topictree.NewRetained[*message.Message](topictree.Options{})}
}

// Len is the number of messages.
func (x *Index) Len() int { return x.tree.Len() }

// Bytes is the size of their payloads.
func (x *Index) Bytes() int64 { return x.bytes.Load() }

// Mark is the last number that was given out: who has read it finds every message up to it in the index,
// unless a later one has taken its place.
func (x *Index) Mark() uint64 { return x.last.Load() }

// Put makes m, of which a copy is kept, the message of its topic and gives both the next number, unless
// the payload is empty: then it removes what the topic has [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7].
// log is nil for what is not durable.
func (x *Index) Put(m *message.Message, log Log) (err error) {
	if len(m.Payload) == 0 {
		shared(log, func(b *store.Batch) {
			if old, existed := x.tree.Delete(m.Topic); existed {
				x.bytes.Add(-old.Size())
				if b != nil {
					b.DeleteRetained(m.Topic)
				}
			}
		})
		return nil
	}
	k := m.Keep()
	shared(log, func(b *store.Batch) {
		if err = x.set(m, k); err == nil && b != nil {
			b.PutRetained(k)
		}
	})
	return err
}

func shared(log Log, f func(b *store.Batch)) {
	if log == nil {
		f(nil)
		return
	}
	log.Shared(f)
}

func (x *Index) set(m, k *message.Message) error {
	x.numbering.Lock()
	defer x.numbering.Unlock()
	n := x.last.Load() + 1
	m.Number, k.Number = n, n // before others see it
	old, existed, err := x.tree.Set(k.Topic, k)
	if err != nil {
		m.Number, k.Number = 0, 0
		return err
	}
	x.last.Store(n)
	x.bytes.Add(k.Size())
	if existed {
		x.bytes.Add(-old.Size())
	}
	return nil
}

// Load enters a message that a store has, before anything is published. It has no number: every mark is
// behind it.
func (x *Index) Load(m *message.Message) error {
	if _, _, err := x.tree.Set(m.Topic, m); err != nil {
		return err
	}
	x.bytes.Add(m.Size())
	return nil
}

// Forget removes a message that has expired, if its topic still has that one.
func (x *Index) Forget(m *message.Message, log Log) {
	shared(log, func(b *store.Batch) {
		if x.tree.DeleteIf(m.Topic, func(now *message.Message) bool { return now == m }) {
			x.bytes.Add(-m.Size())
			if b != nil {
				b.DeleteRetained(m.Topic)
			}
		}
	})
}

// probeSteps is how much of the tree is looked at to find out that nothing in it matches.
const probeSteps = 32

// MayMatch reports whether a message matches a filter, or may: a large tree is not searched to its end. A
// message that is stored while it looks is on its way to who has the filter in the subscription index
// already.
func (x *Index) MayMatch(filter []byte) bool {
	if !bytes.ContainsAny(filter, "+#") {
		_, ok := x.tree.Get(filter)
		return ok
	}
	found := false
	over := x.tree.Cursor(filter).Next(probeSteps, func(string, *message.Message) { found = true })
	return found || !over
}

// Cursor is a walk over the messages that match a filter.
func (x *Index) Cursor(filter []byte) *topictree.Cursor[*message.Message] {
	return x.tree.Cursor(filter)
}

// Sweep is a walk over all messages, of which each Next calls expired for some that have expired at a time.
type Sweep struct {
	cursor *topictree.Cursor[*message.Message] // nil between two walks
}

// sweepSteps is how many topics a step of a sweep looks at.
const sweepSteps = 500

// Step looks at the next messages, and begins anew behind the last. now is in Unix milliseconds.
func (w *Sweep) Step(x *Index, now int64, expired func(m *message.Message)) {
	if w.cursor == nil {
		if x.Len() == 0 {
			return
		}
		w.cursor = x.tree.Cursor([]byte("#"))
	}
	done := w.cursor.Next(sweepSteps, func(_ string, m *message.Message) {
		if m.Expired(now) {
			expired(m)
		}
	})
	if done {
		w.cursor = nil
	}
}
