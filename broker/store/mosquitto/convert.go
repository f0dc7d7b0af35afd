package mosquitto

import (
	"cmp"
	"fmt"
	"math"
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
	Denials       int      // who may not be here
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
const batchBytes = 32 << 20

// importer puts a source into a store, in several passes, so that payloads pass through memory and are not
// kept there. Numbers of sessions and ids of messages begin at 1: a broker gives out others.
type importer struct {
	to       store.Store
	now      int64 // Unix seconds
	b        store.Batch
	report   Report
	sessions map[string]uint64
	lastMID  map[uint64]uint16
	needed   map[uint64]need   // messages that are referred to, by Mosquitto's id
	written  map[uint64]uint64 // Mosquitto's id -> ours
	seq      map[uint64]uint64 // last one of a session
	flying   []ClientMessage   // what was sent and is not acknowledged
	lists    lists
}

// need says what for a message is needed.
type need uint8

const (
	forQueues need = 1 << iota
	forRetained
	isThere // it is valid, and has been met
)

// Import puts a source into an empty store; now is the Unix time in seconds at which sessions that were
// online went offline.
func Import(from Source, to store.Store, now int64) (Report, error) {
	i := &importer{
		to: to, now: now, sessions: map[string]uint64{}, lastMID: map[uint64]uint16{},
		needed: map[uint64]need{}, written: map[uint64]uint64{}, seq: map[uint64]uint64{}, lists: lists{},
	}
	for _, pass := range []func() error{
		func() error {
			return from.Each(&Visitor{
				Client: i.client, List: i.list,
				Retained: func(r *Retained) error { i.needed[r.Message] |= forRetained; return nil },
			})
		},
		func() error { return from.Each(&Visitor{ClientMessage: i.look}) },
		func() error { return from.Each(&Visitor{Message: i.message}) },
		i.inFlight,
		func() error {
			return from.Each(&Visitor{
				Subscription: i.subscription, ClientMessage: i.clientMessage, Grant: i.granted,
				Denial: i.denied,
			})
		},
	} {
		if err := pass(); err != nil {
			return i.report, err
		}
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

func (i *importer) client(c *Client) error {
	switch {
	case c.ID == "" || i.sessions[c.ID] != 0:
		i.report.note("client %q is there twice, or has no id", c.ID)
		return nil
	case c.Expiry == 0:
		i.report.note("client %q has a session that ended with its connection", c.ID)
		return nil
	case c.Expires != 0 && c.Expires <= i.now:
		i.report.note("client %q has expired", c.ID)
		return nil
	}
	r := store.Session{
		Number: uint64(len(i.sessions) + 1), ClientID: c.ID, Username: c.Username, Expiry: c.Expiry,
		OfflineAt: i.now, AnyUser: c.Username == "", AnyMount: true,
	}
	if c.OfflineAt != 0 {
		r.OfflineAt = c.OfflineAt
	} else if c.Expires != 0 { // what is left: persistent_client_expiration may have ended the interval early
		r.Expiry = uint32(min(c.Expires-i.now, math.MaxUint32-1))
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
	i.lastMID[r.Number] = c.LastMID
	i.b.PutSession(&r)
	i.report.Sessions++
	return i.flush(batchBytes)
}

// look notes what a message of a client needs.
func (i *importer) look(c *ClientMessage) error {
	switch state := c.outState(); {
	case i.sessions[c.Client] == 0: // the last pass tells
		return nil
	case c.Direction == 1 && state != store.Queued:
		i.flying = append(i.flying, *c)
		if state == store.WaitComp {
			return nil
		}
	case c.Direction == 0 && (c.QoS != 2 || c.MID == 0):
		return nil
	}
	i.needed[c.Message] |= forQueues
	return nil
}

// message writes a message if it is needed and valid.
func (i *importer) message(m *Message) error {
	out := &message.Message{
		Topic: []byte(m.Topic), Payload: m.Payload, Properties: codec.Properties(m.Properties),
		Expiry: m.Expiry * 1000, QoS: m.QoS, Retain: m.Retain != 0, Publisher: i.sessions[m.Source],
	}
	need := i.needed[m.ID]
	if need&isThere != 0 || m.Expiry != 0 && m.Expiry <= i.now {
		return nil
	}
	if err := validMessage(out); err != nil {
		i.report.note("message %d: %v", m.ID, err)
		return nil
	}
	if need&forQueues != 0 {
		i.written[m.ID] = uint64(len(i.written) + 1)
		i.b.PutMessage(i.written[m.ID], out)
	}
	if need&forRetained != 0 && len(m.Payload) > 0 {
		out.Retain = true
		if m.Source != "" && m.SourcePort != 0 {
			out.Source = &message.Source{
				ClientID: m.Source, Username: m.Username, Named: m.Username != "",
				Listener: fmt.Sprintf("tcp :%d", m.SourcePort), // all that is known of it
			}
		}
		i.b.PutRetained(out)
		i.report.Retained++
	}
	i.needed[m.ID] = need | isThere
	return i.flush(batchBytes)
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

func (i *importer) subscription(s *Subscription) error {
	number := i.sessions[s.Client]
	if number == 0 {
		i.report.note("subscription of %q, which has no session", s.Client)
		return nil
	}
	if err := validFilter(s.Topic, s.QoS); err != nil {
		i.report.note("subscription of %q to %q: %v", s.Client, s.Topic, err)
		return nil
	}
	i.b.PutSubscription(&store.Subscription{
		Session: number, Filter: s.Topic, Options: s.QoS&3 | s.Options&0x0C, ID: s.Identifier,
	})
	i.report.Subscriptions++
	return i.flush(batchBytes)
}

// validFilter checks a filter as if it came from a client.
func validFilter(filter string, qos uint8) error {
	p := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte(filter), QoS: qos}}}
	return parse(&codec.Subscribe{}, p.Append(nil, codec.V5))
}

// inFlight puts what was sent in front of what else waits for each client, in the order of the packet ids
// from the last one given out, so that a client finds it where it left it [MQTT-4.6.0-1].
func (i *importer) inFlight() error {
	rank := func(m *ClientMessage) uint16 { return m.MID - i.lastMID[i.sessions[m.Client]] - 1 }
	slices.SortStableFunc(i.flying, func(a, b ClientMessage) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(rank(&a), rank(&b)))
	})
	for k := range i.flying {
		if err := i.put(&i.flying[k]); err != nil {
			return err
		}
	}
	return nil
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

// clientMessage puts one that was not sent yet, or that a client sends.
func (i *importer) clientMessage(c *ClientMessage) error {
	if c.Direction == 1 && c.outState() != store.Queued {
		return nil
	}
	return i.put(c)
}

func (i *importer) put(c *ClientMessage) error {
	number := i.sessions[c.Client]
	ours := i.written[c.Message]
	state := c.outState()
	switch {
	case number == 0:
		i.report.note("message of %q, which has no session", c.Client)
		return nil
	case c.Direction == 0:
		if c.QoS == 2 && c.MID != 0 {
			i.b.PutHandshake(&store.Handshake{Session: number, PacketID: c.MID, Message: ours})
			i.report.Queued++
		}
		return i.flush(batchBytes)
	case ours == 0 && state != store.WaitComp: // expired, or reported already
		return nil
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
		e.Message = ours
	}
	i.b.PutEntry(&e)
	i.report.Queued++
	return i.flush(batchBytes)
}
