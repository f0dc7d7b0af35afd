package mosquitto

import (
	"maps"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/state"
)

// retainedID is added to the number of a retained message: it is stored apart, and has no id of its own.
const retainedID = 1 << 62

// exporter is a store as a source.
type exporter struct {
	from store.Store

	// Set by begin, then read-only:
	ahead   int64                          // of Unix times to those in the store, in milliseconds
	ids     map[uint64]string              // of sessions
	lastMID map[uint64]uint16              // of sessions: the last one, with those given out here
	first   map[uint64]uint16              // of sessions: before the first given out here
	flying  map[uint64]map[uint16]struct{} // of sessions: packet ids of handshakes
}

// Export returns the source that a store holds, which nobody writes.
func Export(from store.Store) (Source, error) {
	x := &exporter{
		from: from, ids: map[uint64]string{}, lastMID: map[uint64]uint16{},
		first: map[uint64]uint16{}, flying: map[uint64]map[uint16]struct{}{},
	}
	return x, x.begin()
}

// begin reads what the records of one table need of others.
func (x *exporter) begin() error {
	err := state.Walk(x.from, &state.Visitor{
		Clock: func(c *store.Clock) error { x.ahead = c.Ahead; return nil },
		Session: func(r *store.Session) error {
			x.ids[r.Number] = r.ClientID
			return nil
		},
		Entry: func(e *store.Entry) error {
			if e.PacketID == 0 {
				return nil
			}
			if x.flying[e.Session] == nil {
				x.flying[e.Session] = map[uint16]struct{}{}
			}
			x.flying[e.Session][e.PacketID] = struct{}{}
			x.lastMID[e.Session] = e.PacketID
			return nil
		},
	})
	if err != nil {
		return err
	}
	x.first = maps.Clone(x.lastMID)
	return state.Walk(x.from, &state.Visitor{Entry: func(e *store.Entry) error {
		if e.QoS > 0 && e.PacketID == 0 {
			x.lastMID[e.Session] = x.nextMID(e.Session, x.lastMID[e.Session])
		}
		return nil
	}})
}

// nextMID is a packet id for what waits in a queue: Mosquitto gives out ids earlier than we do.
func (x *exporter) nextMID(session uint64, mid uint16) uint16 {
	for range 1 << 16 {
		mid++
		if _, taken := x.flying[session][mid]; mid != 0 && !taken {
			break
		}
	}
	return mid
}

// Each implements Source.
func (x *exporter) Each(v *Visitor) error {
	mids := map[uint64]uint16{}
	for _, step := range []struct {
		wanted bool
		v      state.Visitor
	}{
		{v.Message != nil, state.Visitor{Message: x.message(v)}},
		{v.Message != nil, state.Visitor{Retained: x.retainedMessage(v)}},
		{v.Client != nil, state.Visitor{Session: x.session(v)}},
		{v.ClientMessage != nil, state.Visitor{Entry: x.entry(v, mids), Handshake: x.handshake(v)}},
		{v.Retained != nil, state.Visitor{Retained: retained(v)}},
		{v.Subscription != nil, state.Visitor{Subscription: x.subscription(v)}},
		{v.List != nil, state.Visitor{Set: x.list(v)}},
		{v.Grant != nil, state.Visitor{Grant: x.grant(v)}},
		{v.Denial != nil, state.Visitor{Denial: denial(v)}},
	} {
		if !step.wanted {
			continue
		}
		if err := state.Walk(x.from, &step.v); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) session(v *Visitor) func(*store.Session) error {
	return func(r *store.Session) error {
		if r.OfflineAt != 0 {
			r.OfflineAt += (x.ahead + 999) / 1000 // never early
		}
		c := Client{
			ID: r.ClientID, Username: r.Username, Expiry: r.Expiry, OfflineAt: r.OfflineAt,
			LastMID: x.lastMID[r.Number],
		}
		if r.OfflineAt != 0 && r.Expiry != 0xFFFFFFFF {
			c.Expires = r.OfflineAt + int64(r.Expiry)
		}
		if w := r.Will; w != nil {
			m := x.convert(0, &w.Message)
			c.Will = &Will{
				Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain,
				Delay: w.Delay, Expiry: w.Expiry, Properties: m.Properties,
			}
		}
		return v.Client(&c)
	}
}

func (x *exporter) convert(id uint64, m *message.Message) Message {
	out := Message{
		ID: id, QoS: m.QoS, Topic: string(m.Topic), Payload: append(Payload{}, m.Payload...),
		Properties: append(Properties(nil), m.Properties...), Source: x.ids[m.Publisher],
	}
	if m.Expiry != 0 {
		out.Expiry = (m.Expiry + x.ahead + 999) / 1000
	}
	if m.Retain {
		out.Retain = 1
	}
	return out
}

func (x *exporter) message(v *Visitor) func(uint64, *message.Message) error {
	return func(id uint64, m *message.Message) error {
		out := x.convert(id, m)
		return v.Message(&out)
	}
}

// retainedMessage visits the messages that are retained; retained does so with the fact.
func (x *exporter) retainedMessage(v *Visitor) func(*message.Message) error {
	id := uint64(retainedID)
	return func(m *message.Message) error {
		out := x.convert(id, m)
		id++
		return v.Message(&out)
	}
}

func retained(v *Visitor) func(*message.Message) error {
	id := uint64(retainedID)
	return func(*message.Message) error {
		id++
		return v.Retained(&Retained{id - 1})
	}
}

// outStates are Mosquitto's states in the order of the store's.
func outStates() [4]uint8 {
	return [...]uint8{stateQueued, stateWaitPuback, stateWaitPubrec, stateWaitPubcomp}
}

func (x *exporter) entry(v *Visitor, mids map[uint64]uint16) func(*store.Entry) error {
	return func(e *store.Entry) error {
		c := ClientMessage{
			Client: x.ids[e.Session], Message: e.Message, MID: e.PacketID, QoS: e.QoS, Direction: 1,
			Subscription: e.SubscriptionID,
			State:        outStates()[e.State],
		}
		if e.Retain {
			c.RetainDup = 1 << 4
		}
		if e.QoS > 0 && e.PacketID == 0 {
			last, ok := mids[e.Session]
			if !ok {
				last = x.first[e.Session]
			}
			c.MID = x.nextMID(e.Session, last)
			mids[e.Session] = c.MID
		}
		return v.ClientMessage(&c)
	}
}

func (x *exporter) handshake(v *Visitor) func(*store.Handshake) error {
	return func(h *store.Handshake) error {
		return v.ClientMessage(&ClientMessage{
			Client: x.ids[h.Session], Message: h.Message, MID: h.PacketID, QoS: 2, State: stateWaitPubrel,
		})
	}
}

func (x *exporter) subscription(v *Visitor) func(*store.Subscription) error {
	return func(r *store.Subscription) error {
		return v.Subscription(&Subscription{
			Client: x.ids[r.Session], Topic: r.Filter, QoS: r.Options & 3, Options: r.Options &^ 3,
			Identifier: r.ID,
		})
	}
}
