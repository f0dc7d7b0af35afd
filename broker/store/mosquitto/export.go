package mosquitto

import (
	"noctule/broker/message"
	"noctule/broker/store"
)

// retainedID is added to the number of a retained message: it is stored apart, and has no id of its own.
const retainedID = 1 << 62

// exporter makes a State of a store.
type exporter struct {
	s        *State
	ahead    int64          // what the times in the store are behind Unix times, in milliseconds
	sessions map[uint64]int // places in s.Clients
	ids      map[uint64]string
}

// Export reads a store that nobody writes.
func Export(from store.Store) (*State, error) {
	x := &exporter{s: &State{
		Messages: []Message{}, Clients: []Client{}, ClientMessages: []ClientMessage{},
		Retained: []Retained{}, Subscriptions: []Subscription{},
	}, sessions: map[uint64]int{}, ids: map[uint64]string{}}
	for _, step := range []struct {
		t store.Table
		f func(key, value []byte) error
	}{
		{store.Config, x.clock},
		{store.Sessions, x.session},
		{store.Messages, x.message},
		{store.Entries, x.entry},
		{store.Inbound, x.handshake},
		{store.Retained, x.retained},
		{store.Subscriptions, x.subscription},
		{store.Sets, x.list},
		{store.Grants, x.grant},
	} {
		if err := from.Walk(step.t, step.f); err != nil {
			return nil, err
		}
	}
	return x.s, nil
}

func (x *exporter) clock(key, value []byte) error {
	if !store.IsClock(key) {
		return nil
	}
	c, err := store.ReadClock(value)
	x.ahead = c.Ahead
	return err
}

func (x *exporter) session(key, value []byte) error {
	r, err := store.ReadSession(key, value)
	if err != nil {
		return err
	}
	if r.OfflineAt != 0 {
		r.OfflineAt += (x.ahead + 999) / 1000 // never early
	}
	c := Client{ID: r.ClientID, Username: r.Username, Expiry: r.Expiry, OfflineAt: r.OfflineAt}
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
	x.ids[r.Number] = r.ClientID
	x.sessions[r.Number] = len(x.s.Clients)
	x.s.Clients = append(x.s.Clients, c)
	return nil
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

func (x *exporter) message(key, value []byte) error {
	m, err := store.ReadMessage(value)
	if err == nil {
		x.s.Messages = append(x.s.Messages, x.convert(store.KeyNumber(key), &m))
	}
	return err
}

func (x *exporter) retained(_, value []byte) error {
	m, err := store.ReadMessage(value)
	if err != nil {
		return err
	}
	id := retainedID + uint64(len(x.s.Retained))
	x.s.Messages = append(x.s.Messages, x.convert(id, &m))
	x.s.Retained = append(x.s.Retained, Retained{id})
	return nil
}

func (x *exporter) entry(key, value []byte) error {
	e, err := store.ReadEntry(key, value)
	if err != nil {
		return err
	}
	c := ClientMessage{
		Client: x.ids[e.Session], Message: e.Message, MID: e.PacketID, QoS: e.QoS, Direction: 1,
		Subscription: e.SubscriptionID,
		State:        [...]uint8{stateQueued, stateWaitPuback, stateWaitPubrec, stateWaitPubcomp}[e.State],
	}
	if e.Retain {
		c.RetainDup = 1 << 4
	}
	if at, ok := x.sessions[e.Session]; ok && e.PacketID != 0 {
		x.s.Clients[at].LastMID = e.PacketID
	}
	x.s.ClientMessages = append(x.s.ClientMessages, c)
	return nil
}

func (x *exporter) handshake(key, value []byte) error {
	h, err := store.ReadHandshake(key, value)
	if err == nil {
		x.s.ClientMessages = append(x.s.ClientMessages, ClientMessage{
			Client: x.ids[h.Session], Message: h.Message, MID: h.PacketID, QoS: 2, State: stateWaitPubrel,
		})
	}
	return err
}

func (x *exporter) subscription(key, value []byte) error {
	r, err := store.ReadSubscription(key, value)
	if err == nil {
		qos := r.Options & 3
		x.s.Subscriptions = append(x.s.Subscriptions, Subscription{
			Client: x.ids[r.Session], Topic: r.Filter, QoS: qos, Options: r.Options &^ 3, Identifier: r.ID,
		})
	}
	return err
}
