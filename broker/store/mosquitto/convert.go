package mosquitto

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/codec"
)

// Report says what an import has put into a store.
type Report struct {
	Sessions, Subscriptions, Queued, Retained int

	Lists, Grants int      // made by servers
	Notes         []string // what was left out, and why
}

// notesMost bounds the notes.
const notesMost = 20

func (r *Report) note(format string, a ...any) {
	switch {
	case len(r.Notes) < notesMost:
		r.Notes = append(r.Notes, fmt.Sprintf(format, a...))
	case len(r.Notes) == notesMost:
		r.Notes = append(r.Notes, "... and more")
	}
}

// batchBytes is about how much one commit of an import takes.
const batchBytes = 4 << 20

// importer puts a State into a store. Numbers of sessions and ids of messages begin at 1: a broker gives out
// others.
type importer struct {
	to       store.Store
	now      int64 // Unix seconds
	b        store.Batch
	report   Report
	sessions map[string]uint64
	messages map[uint64]*message.Message // valid ones, by Mosquitto's id
	sources  map[uint64]*message.Source  // of those, where they are known
	written  map[uint64]uint64           // Mosquitto's id -> ours
	seq      map[uint64]uint64           // last one of a session
}

// Import puts s into an empty store; now is the Unix time in seconds at which sessions that were online went
// offline.
func Import(s *State, to store.Store, now int64) (Report, error) {
	i := &importer{
		to: to, now: now, sessions: map[string]uint64{}, messages: map[uint64]*message.Message{},
		sources: map[uint64]*message.Source{}, written: map[uint64]uint64{}, seq: map[uint64]uint64{},
	}
	for k := range s.Clients {
		i.client(&s.Clients[k])
		if err := i.flush(batchBytes); err != nil {
			return i.report, err
		}
	}
	for k := range s.Messages {
		i.message(&s.Messages[k])
	}
	for k := range s.Subscriptions {
		i.subscription(&s.Subscriptions[k])
		if err := i.flush(batchBytes); err != nil {
			return i.report, err
		}
	}
	for _, m := range inFlightFirst(s) {
		i.clientMessage(m)
		if err := i.flush(batchBytes); err != nil {
			return i.report, err
		}
	}
	for _, r := range s.Retained {
		i.retained(r.Message)
		if err := i.flush(batchBytes); err != nil {
			return i.report, err
		}
	}
	if err := i.grants(s); err != nil {
		return i.report, err
	}
	return i.report, i.flush(1)
}

// flush commits once so much has come together.
func (i *importer) flush(from int) error {
	if i.b.Size() < from {
		return nil
	}
	return i.to.Commit(i.b.Take(nil))
}

func (i *importer) client(c *Client) {
	switch {
	case c.ID == "" || i.sessions[c.ID] != 0:
		i.report.note("client %q is there twice, or has no id", c.ID)
		return
	case c.Expiry == 0:
		i.report.note("client %q has a session that ended with its connection", c.ID)
		return
	case c.Expires != 0 && c.Expires <= i.now:
		i.report.note("client %q has expired", c.ID)
		return
	}
	r := store.Session{
		Number: uint64(len(i.sessions) + 1), ClientID: c.ID, Username: c.Username, Expiry: c.Expiry,
		OfflineAt: i.now,
	}
	if c.OfflineAt != 0 {
		r.OfflineAt = c.OfflineAt
	} else if c.Expires != 0 {
		r.OfflineAt = c.Expires - int64(c.Expiry)
	}
	if w := c.Will; w != nil {
		r.Will = &store.Will{Delay: w.Delay, Expiry: w.Expiry, Message: message.Message{
			Topic: []byte(w.Topic), Payload: w.Payload, Properties: codec.Properties(w.Properties),
			QoS: w.QoS, Retain: w.Retain != 0, Publisher: r.Number,
		}}
		if err := validMessage(&r.Will.Message); err != nil {
			i.report.note("will of %q: %v", c.ID, err)
			r.Will = nil
		}
	}
	i.sessions[c.ID] = r.Number
	i.b.PutSession(&r)
	i.report.Sessions++
}

// message checks a message; it is written with the first that refers to it.
func (i *importer) message(m *Message) {
	out := &message.Message{
		Topic: []byte(m.Topic), Payload: m.Payload, Properties: codec.Properties(m.Properties),
		Expiry: m.Expiry * 1000, QoS: m.QoS, Retain: m.Retain != 0, Publisher: i.sessions[m.Source],
	}
	if m.Expiry != 0 && m.Expiry <= i.now {
		return
	}
	if err := validMessage(out); err != nil {
		i.report.note("message %d: %v", m.ID, err)
		return
	}
	i.messages[m.ID] = out
	if m.Source != "" && m.SourcePort != 0 {
		i.sources[m.ID] = &message.Source{
			ClientID: m.Source, Username: m.Username, Named: m.Username != "",
			Listener: fmt.Sprintf("tcp :%d", m.SourcePort), // all that is known of it
		}
	}
}

// validMessage checks a message as if it came from a client.
func validMessage(m *message.Message) error {
	if m.QoS > 2 {
		return fmt.Errorf("QoS %d", m.QoS)
	}
	if len(m.Topic) == 0 || strings.HasPrefix(string(m.Topic), "$SYS/") {
		return fmt.Errorf("topic %q", m.Topic)
	}
	p := codec.Publish{Topic: m.Topic, Properties: m.Properties}
	return parse(&p, p.Append(nil, codec.V5))
}

// parse parses a packet that was just encoded.
func parse(p interface {
	Parse(flags uint8, body []byte, v codec.Version) error
}, raw []byte,
) error {
	h, err := codec.ParseHeader(raw)
	if err != nil {
		return err
	}
	return p.Parse(h.Flags, raw[h.Size:], codec.V5)
}

func (i *importer) subscription(s *Subscription) {
	number := i.sessions[s.Client]
	if number == 0 {
		i.report.note("subscription of %q, which has no session", s.Client)
		return
	}
	if err := validFilter(s.Topic, s.QoS); err != nil {
		i.report.note("subscription of %q to %q: %v", s.Client, s.Topic, err)
		return
	}
	i.b.PutSubscription(&store.Subscription{
		Session: number, Filter: s.Topic, Options: s.QoS&3 | s.Options&0x0C, ID: s.Identifier,
	})
	i.report.Subscriptions++
}

// validFilter checks a filter as if it came from a client.
func validFilter(filter string, qos uint8) error {
	p := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte(filter), QoS: qos}}}
	return parse(&codec.Subscribe{}, p.Append(nil, codec.V5))
}

// inFlightFirst orders the messages of each client: what was sent first, in the order of the packet ids from
// the last one given out, so that a client finds it where it left it [MQTT-4.6.0-1]; then the others in their
// order.
func inFlightFirst(s *State) []*ClientMessage {
	last := map[string]uint16{}
	for k := range s.Clients {
		last[s.Clients[k].ID] = s.Clients[k].LastMID
	}
	list := make([]*ClientMessage, len(s.ClientMessages))
	for k := range s.ClientMessages {
		list[k] = &s.ClientMessages[k]
	}
	rank := func(m *ClientMessage) int {
		if m.Direction == 1 && m.outState() != store.Queued {
			return int(m.MID - last[m.Client] - 1)
		}
		return 1 << 16
	}
	slices.SortStableFunc(list, func(a, b *ClientMessage) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(rank(a), rank(b)))
	})
	return list
}

// outState is ours for an outgoing message.
func (m *ClientMessage) outState() store.State {
	switch m.State {
	case statePublishQoS1, stateWaitPuback:
		if m.MID != 0 && m.QoS == 1 {
			return store.WaitAck
		}
	case stateWaitPubrec, statePublishQoS2:
		if m.MID != 0 && m.QoS == 2 {
			return store.WaitRec
		}
	case stateSendPubrel, stateWaitPubcomp:
		if m.MID != 0 && m.QoS == 2 {
			return store.WaitComp
		}
	}
	return store.Queued
}

func (i *importer) clientMessage(c *ClientMessage) {
	number := i.sessions[c.Client]
	m := i.messages[c.Message]
	state := c.outState()
	switch {
	case number == 0:
		i.report.note("message of %q, which has no session", c.Client)
		return
	case c.Direction == 0:
		if c.QoS == 2 && c.MID != 0 {
			i.b.PutHandshake(&store.Handshake{Session: number, PacketID: c.MID, Message: i.put(c.Message)})
			i.report.Queued++
		}
		return
	case m == nil && state != store.WaitComp: // expired, or reported already
		return
	}
	i.seq[number]++
	e := store.Entry{
		Session: number, Seq: i.seq[number], QoS: min(c.QoS, 2), State: state, Retain: c.RetainDup>>4 != 0,
		SubscriptionID: c.Subscription,
	}
	if state != store.Queued {
		e.PacketID = c.MID
	}
	if state != store.WaitComp {
		e.Message = i.put(c.Message)
	}
	i.b.PutEntry(&e)
	i.report.Queued++
}

// put writes a message once and returns our id of it; 0 if there is none.
func (i *importer) put(id uint64) uint64 {
	if ours := i.written[id]; ours != 0 {
		return ours
	}
	m := i.messages[id]
	if m == nil {
		return 0
	}
	ours := uint64(len(i.written) + 1)
	i.written[id] = ours
	i.b.PutMessage(ours, m)
	return ours
}

func (i *importer) retained(id uint64) {
	m := i.messages[id]
	if m == nil || len(m.Payload) == 0 {
		return
	}
	r := *m
	r.Retain, r.Source = true, i.sources[id]
	i.b.PutRetained(&r)
	i.report.Retained++
}
