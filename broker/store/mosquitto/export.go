package mosquitto

import (
	"maps"

	"noctule/broker/message"
	"noctule/broker/store"
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
	if err := x.from.Walk(store.Config, x.clock); err != nil {
		return err
	}
	err := x.from.Walk(store.Sessions, func(key, value []byte) error {
		r, err := store.ReadSession(key, value)
		x.ids[r.Number] = r.ClientID
		return err
	})
	if err != nil {
		return err
	}
	err = x.from.Walk(store.Entries, func(key, value []byte) error {
		e, err := store.ReadEntry(key, value)
		if err == nil && e.PacketID != 0 {
			if x.flying[e.Session] == nil {
				x.flying[e.Session] = map[uint16]struct{}{}
			}
			x.flying[e.Session][e.PacketID] = struct{}{}
			x.lastMID[e.Session] = e.PacketID
		}
		return err
	})
	if err != nil {
		return err
	}
	x.first = maps.Clone(x.lastMID)
	return x.from.Walk(store.Entries, func(key, value []byte) error {
		e, err := store.ReadEntry(key, value)
		if err == nil && e.QoS > 0 && e.PacketID == 0 {
			x.lastMID[e.Session] = x.nextMID(e.Session, x.lastMID[e.Session])
		}
		return err
	})
}

func (x *exporter) clock(key, value []byte) error {
	if !store.IsClock(key) {
		return nil
	}
	c, err := store.ReadClock(value)
	x.ahead = c.Ahead
	return err
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
		t      store.Table
		f      func(key, value []byte) error
		wanted bool
	}{
		{store.Messages, x.message(v), v.Message != nil},
		{store.Retained, x.retainedMessage(v), v.Message != nil},
		{store.Sessions, x.session(v), v.Client != nil},
		{store.Entries, x.entry(v, mids), v.ClientMessage != nil},
		{store.Inbound, x.handshake(v), v.ClientMessage != nil},
		{store.Retained, retained(v), v.Retained != nil},
		{store.Subscriptions, x.subscription(v), v.Subscription != nil},
		{store.Sets, list(v), v.List != nil},
		{store.Grants, x.grant(v), v.Grant != nil},
	} {
		if !step.wanted {
			continue
		}
		if err := x.from.Walk(step.t, step.f); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) session(v *Visitor) func(key, value []byte) error {
	return func(key, value []byte) error {
		r, err := store.ReadSession(key, value)
		if err != nil {
			return err
		}
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

func (x *exporter) message(v *Visitor) func(key, value []byte) error {
	return func(key, value []byte) error {
		m, err := store.ReadMessage(value)
		if err != nil {
			return err
		}
		out := x.convert(store.KeyNumber(key), &m)
		return v.Message(&out)
	}
}

// retainedMessage visits the messages that are retained; retained does so with the fact.
func (x *exporter) retainedMessage(v *Visitor) func(key, value []byte) error {
	id := uint64(retainedID)
	return func(_, value []byte) error {
		m, err := store.ReadMessage(value)
		if err != nil {
			return err
		}
		out := x.convert(id, &m)
		id++
		return v.Message(&out)
	}
}

func retained(v *Visitor) func(key, value []byte) error {
	id := uint64(retainedID)
	return func(_, _ []byte) error {
		id++
		return v.Retained(&Retained{id - 1})
	}
}

// outStates are Mosquitto's states in the order of the store's.
func outStates() [4]uint8 {
	return [...]uint8{stateQueued, stateWaitPuback, stateWaitPubrec, stateWaitPubcomp}
}

func (x *exporter) entry(v *Visitor, mids map[uint64]uint16) func(key, value []byte) error {
	return func(key, value []byte) error {
		e, err := store.ReadEntry(key, value)
		if err != nil {
			return err
		}
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

func (x *exporter) handshake(v *Visitor) func(key, value []byte) error {
	return func(key, value []byte) error {
		h, err := store.ReadHandshake(key, value)
		if err != nil {
			return err
		}
		return v.ClientMessage(&ClientMessage{
			Client: x.ids[h.Session], Message: h.Message, MID: h.PacketID, QoS: 2, State: stateWaitPubrel,
		})
	}
}

func (x *exporter) subscription(v *Visitor) func(key, value []byte) error {
	return func(key, value []byte) error {
		r, err := store.ReadSubscription(key, value)
		if err != nil {
			return err
		}
		return v.Subscription(&Subscription{
			Client: x.ids[r.Session], Topic: r.Filter, QoS: r.Options & 3, Options: r.Options &^ 3,
			Identifier: r.ID,
		})
	}
}
