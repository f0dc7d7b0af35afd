package state

import (
	"fmt"

	"noctule/broker/behalf"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/store"
)

// State is what a broker begins with.
type State struct {
	Sessions map[uint64]*Session // by number
	Sets     map[store.SetKey]*behalf.Set
	Transits []store.Transit

	Repair   store.Batch // removes what refers to nothing: the end of something that a crash has cut off
	Lost     int         // records that refer to what is not there, which no crash leaves
	Entries  int         // outgoing messages of sessions
	Retained int         // retained messages that were taken
	Revision uint64      // the highest of a grant

	messages map[uint64]*message.Message
	away     map[uint64]*message.Stored // messages for which there is no room in memory
	held     int64                      // payload bytes of the others
}

// Session is a session with all that belongs to it.
type Session struct {
	store.Session
	Subscriptions []store.Subscription
	Grants        []store.Grant    // of sets that are in Sets, or of none
	Out           []session.Change // as session.Restore takes it; what is in flight has its messages
	Held          []Held
}

// Held is an incoming QoS 2 message that waits for its PUBREL.
type Held struct {
	ID      uint16           // packet id
	Message *message.Message // nil: nothing is to be passed on
}

// Options say how to load.
type Options struct {
	// Bound is how many payload bytes of messages may be in memory, if Bounded. The store must be a Reader
	// then.
	Bound   int64
	Bounded bool
	// Retain takes a retained message, a loan; false removes it from the store.
	Retain func(m *message.Message) (keep bool, err error)
	// Progress is told how many records have been read, now and then.
	Progress func(records int)
}

// progressEvery is how many records pass between two calls of Progress.
const progressEvery = 500_000

// Message is the message with an id; nil if there is none, or it is not in memory. Those of transits are.
func (st *State) Message(id uint64) *message.Message { return st.messages[id] }

// loader is a State on its way into memory.
type loader struct {
	*State
	from store.Store
	o    Options
	used map[store.SetKey]bool
	n    int // records
}

// Load reads what the store holds. Nobody writes it meanwhile.
func Load(from store.Store, o Options) (*State, error) {
	l := &loader{
		State: &State{
			Sessions: map[uint64]*Session{}, Sets: map[store.SetKey]*behalf.Set{},
			messages: map[uint64]*message.Message{}, away: map[uint64]*message.Stored{},
		},
		from: from, o: o, used: map[store.SetKey]bool{},
	}
	v := &Visitor{
		Session: l.session, Subscription: l.subscription, Message: l.message, Entry: l.entry,
		Handshake: l.handshake, Retained: l.retained, Transit: l.transit, Set: l.set, Grant: l.grant,
	}
	for t := range store.Tables {
		if !v.takes(t) {
			continue
		}
		err := from.Walk(t, func(key, value []byte) error {
			if l.n++; l.n%progressEvery == 0 {
				o.Progress(l.n)
			}
			return v.Look(t, key, value)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
	}
	l.dropUnused()
	return l.State, l.readFlying()
}

// dropUnused removes messages and lists of nobody.
func (l *loader) dropUnused() {
	for id, m := range l.messages {
		if !m.Stored.Used() {
			l.Repair.DeleteMessage(id)
		}
	}
	for id, st := range l.away {
		if !st.Used() {
			l.Repair.DeleteMessage(id)
		}
	}
	for key := range l.Sets {
		if !l.used[key] {
			l.Repair.DeleteSet(key)
			delete(l.Sets, key)
		}
	}
}

// readFlying reads the messages that were in flight.
func (l *loader) readFlying() (err error) {
	if len(l.away) == 0 {
		return nil
	}
	for _, s := range l.Sessions {
		for i, c := range session.Flying(s.Out) {
			if c.Away == nil {
				continue
			}
			if s.Out[i].Message, err = l.need(c.Away.ID); err != nil {
				return err
			}
			s.Out[i].Away = nil
		}
	}
	return nil
}

// need is a message that must be in memory; nil if there is none with that id.
func (l *loader) need(id uint64) (*message.Message, error) {
	st := l.away[id]
	if m := l.messages[id]; m != nil || st == nil {
		return m, nil
	}
	err := l.from.(store.Reader).ReadMessages([]uint64{id}, func(_ int, value []byte) (err error) {
		l.messages[id], err = Message(st, value)
		return err
	})
	if err == nil && l.messages[id] == nil {
		err = fmt.Errorf("%w: message %d is not there", store.ErrCorrupt, id)
	}
	return l.messages[id], err
}

// Message makes the message that st is about of its record.
func Message(st *message.Stored, value []byte) (*message.Message, error) {
	m, err := store.ReadMessage(value)
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", st.ID, err)
	}
	k := m.Keep()
	k.Stored = st
	return k, nil
}

func (l *loader) message(id uint64, m *message.Message) error {
	st := message.Restored(id, m)
	if l.o.Bounded && l.held+m.Size() > l.o.Bound {
		l.away[id] = st
		return nil
	}
	l.held += m.Size()
	k := m.Keep()
	k.Stored = st
	l.messages[id] = k
	return nil
}

func (l *loader) session(s *store.Session) error {
	if s.Will != nil {
		s.Will.Message = *s.Will.Message.Keep()
	}
	l.Sessions[s.Number] = &Session{Session: *s}
	return nil
}

func (l *loader) subscription(s *store.Subscription) error {
	if of := l.Sessions[s.Session]; of != nil {
		of.Subscriptions = append(of.Subscriptions, *s)
	} else {
		l.Lost++
		l.Repair.DeleteSubscription(s.Session, s.Filter)
	}
	return nil
}

func (l *loader) entry(e *store.Entry) error {
	of, m, st := l.Sessions[e.Session], l.messages[e.Message], l.away[e.Message]
	if of == nil || m == nil && st == nil && e.State != store.WaitComp {
		l.Lost++
		l.Repair.DeleteEntry(e.Session, e.Seq)
		return nil
	}
	if m != nil {
		m.Stored.Ref()
	} else if st != nil {
		st.Ref()
	}
	l.Entries++
	of.Out = append(of.Out, session.Change{
		Seq: e.Seq, Message: m, Away: st, State: session.State(e.State), ID: e.PacketID,
		Grant: session.Grant{
			QoS: e.QoS, Retain: e.Retain, Share: e.Share, SubscriptionID: e.SubscriptionID,
		},
	})
	return nil
}

func (l *loader) handshake(h *store.Handshake) error {
	of := l.Sessions[h.Session]
	if of == nil {
		l.Lost++
		l.Repair.DeleteHandshake(h.Session, h.PacketID)
		return nil
	}
	m, err := l.need(h.Message)
	if err != nil {
		return err
	}
	if m != nil {
		m.Stored.Ref()
	} else if h.Message != 0 {
		l.Lost++
	}
	of.Held = append(of.Held, Held{h.PacketID, m})
	return nil
}

func (l *loader) transit(t *store.Transit) error {
	m, err := l.need(t.Message)
	if err != nil {
		return err
	}
	if m != nil {
		m.Stored.Ref()
		l.Transits = append(l.Transits, *t)
	} else {
		l.Lost++
		l.Repair.DeleteTransit(t)
	}
	return nil
}

func (l *loader) retained(m *message.Message) error {
	keep, err := l.o.Retain(m)
	if err != nil {
		return fmt.Errorf("%q: %w", m.Topic, err)
	}
	if keep {
		l.Retained++
	} else {
		l.Repair.DeleteRetained(m.Topic)
	}
	return nil
}

func (l *loader) set(x *store.Set) error {
	l.Sets[x.Key] = listOf(x)
	return nil
}

// listOf is a stored list as a set: its options are those of SUBSCRIBE (MQTT 5, 3.8.3.1).
func listOf(x *store.Set) *behalf.Set {
	list := make([]behalf.Topic, 0, len(x.Topics))
	var ends []int64
	for i := range x.Topics {
		t := &x.Topics[i]
		if t.End != 0 && ends == nil {
			ends = make([]int64, len(x.Topics))
		}
		if t.End != 0 {
			ends[i] = t.End
		}
		list = append(list, behalf.Topic{
			Filter: t.Filter, ID: t.ID, QoS: t.Options & 3, RetainHandling: t.Options >> 4,
			NoLocal: t.Options&4 != 0, RetainAsPublished: t.Options&8 != 0,
		})
	}
	return behalf.NewEndingSet(list, ends)
}

func (l *loader) grant(g *store.Grant) error {
	of := l.Sessions[g.Session]
	if of == nil {
		l.Lost++
		l.Repair.DeleteGrant(g.Session, g.Origin)
		return nil
	}
	if g.Set != (store.SetKey{}) {
		if l.Sets[g.Set] == nil {
			return fmt.Errorf("%w: a grant refers to a list of topics that is not there", store.ErrCorrupt)
		}
		l.used[g.Set] = true
	}
	of.Grants = append(of.Grants, *g)
	l.Revision = max(l.Revision, g.Revision)
	return nil
}
