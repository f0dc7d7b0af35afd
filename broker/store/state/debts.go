package state

import (
	"iter"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/codec"
)

// Debt is a message that a loop of the last broker had still to take, in memory.
type Debt struct {
	*store.Transit
	M *message.Message
}

// Debts is all of them, in the order of the table.
func (st *State) Debts() iter.Seq[Debt] {
	return func(yield func(Debt) bool) {
		for i := range st.Transits {
			t := &st.Transits[i]
			if !yield(Debt{t, st.messages[t.Message]}) {
				return
			}
		}
	}
}

// ByTopic reports whether it is owed to all whose subscriptions match its topic, shared ones too.
func (d *Debt) ByTopic() bool { return d.Filter == "" }

// Share is the shared subscription that it is owed to; false if it is no shared one.
func (d *Debt) Share() (group, filter []byte, ok bool) { return codec.SplitShare([]byte(d.Filter)) }

// IsOf reports whether the debt is one of the loop that a session lived on.
func (d *Debt) IsOf(loop uint64) bool { return d.Loop == store.AllLoops || uint64(d.Loop) == loop }
