// Package state reads what a store holds: tables into values. Visitor is the one place that knows what the
// records of each table are; Load makes of them what a broker begins with, and says what to repair;
// References finds records that refer to what is not there.
package state

import (
	"noctule/broker/message"
	"noctule/broker/store"
)

// Visitor takes the records of a store. What is nil is passed over. Messages, and the message of a will,
// are a loan that ends with the call; the rest may be kept.
type Visitor struct {
	Meta         func(m *store.Meta) error
	Clock        func(c *store.Clock) error
	Session      func(s *store.Session) error
	Subscription func(s *store.Subscription) error
	Message      func(id uint64, m *message.Message) error
	Entry        func(e *store.Entry) error
	Handshake    func(h *store.Handshake) error
	Retained     func(m *message.Message) error
	Transit      func(t *store.Transit) error
	Set          func(s *store.Set) error
	Grant        func(g *store.Grant) error
	Denial       func(d *store.Denial) error
	AnswerList   func(s *store.Set) error
	Answer       func(a *store.Answer) error
}

// Walk shows a visitor all that it takes, table by table: each record comes behind those that it refers to.
func Walk(s store.Store, v *Visitor) error {
	for t := range store.Tables {
		if err := WalkTable(s, t, v); err != nil {
			return err
		}
	}
	return nil
}

// WalkTable is Walk for one table.
func WalkTable(s store.Store, t store.Table, v *Visitor) error {
	if !v.takes(t) {
		return nil
	}
	return s.Walk(t, func(key, value []byte) error { return v.Look(t, key, value) })
}

// takes reports whether the visitor takes records of a table.
func (v *Visitor) takes(t store.Table) bool {
	switch t {
	case store.Config:
		return v.Meta != nil || v.Clock != nil
	case store.Sessions:
		return v.Session != nil
	case store.Subscriptions:
		return v.Subscription != nil
	case store.Messages:
		return v.Message != nil
	case store.Entries:
		return v.Entry != nil
	case store.Inbound:
		return v.Handshake != nil
	case store.Retained:
		return v.Retained != nil
	case store.Transits:
		return v.Transit != nil
	case store.Sets:
		return v.Set != nil
	case store.Grants:
		return v.Grant != nil
	case store.Denials:
		return v.Denial != nil
	default:
		return v.Answer != nil || v.AnswerList != nil
	}
}

// Look shows a visitor one record. The error is its own, or says what is wrong with the record.
func (v *Visitor) Look(t store.Table, key, value []byte) error {
	switch t {
	case store.Config:
		if store.IsClock(key) {
			return give(v.Clock, func() (store.Clock, error) { return store.ReadClock(value) })
		}
		return give(v.Meta, func() (store.Meta, error) { return store.ReadMeta(value) })
	case store.Sessions:
		return give(v.Session, func() (store.Session, error) { return store.ReadSession(key, value) })
	case store.Subscriptions:
		return give(v.Subscription, func() (store.Subscription, error) {
			return store.ReadSubscription(key, value)
		})
	case store.Messages:
		if v.Message == nil {
			return nil
		}
		m, err := store.ReadMessage(value)
		if err != nil {
			return err
		}
		return v.Message(store.KeyNumber(key), &m)
	case store.Entries:
		return give(v.Entry, func() (store.Entry, error) { return store.ReadEntry(key, value) })
	case store.Inbound:
		return give(v.Handshake, func() (store.Handshake, error) { return store.ReadHandshake(key, value) })
	case store.Retained:
		return give(v.Retained, func() (message.Message, error) { return store.ReadMessage(value) })
	case store.Transits:
		return give(v.Transit, func() (store.Transit, error) { return store.ReadTransit(key, value) })
	case store.Sets:
		return give(v.Set, func() (store.Set, error) { return store.ReadSet(key, value) })
	case store.Answers:
		if store.IsAnswerList(key) {
			return give(v.AnswerList, func() (store.Set, error) { return store.ReadAnswerList(key, value) })
		}
		return give(v.Answer, func() (store.Answer, error) { return store.ReadAnswer(key, value) })
	case store.Denials:
		return give(v.Denial, func() (store.Denial, error) { return store.ReadDenial(key, value) })
	default:
		return give(v.Grant, func() (store.Grant, error) { return store.ReadGrant(key, value) })
	}
}

// give reads a record and passes it on, if it is taken.
func give[R any](take func(*R) error, read func() (R, error)) error {
	if take == nil {
		return nil
	}
	r, err := read()
	if err != nil {
		return err
	}
	return take(&r)
}
