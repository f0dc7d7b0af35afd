package state

import (
	"errors"
	"fmt"

	"noctule/broker/store"
)

// References holds records against those that they refer to. The zero value has seen none.
type References struct {
	sessions, messages map[uint64]bool
	sets, lists        map[store.SetKey]bool // lists are those of answers
}

// Look looks at the next record, table after table, and returns what is wrong with what it refers to.
func (r *References) Look(t store.Table, key, value []byte) error {
	if r.sessions == nil {
		r.sessions, r.messages = map[uint64]bool{}, map[uint64]bool{}
		r.sets, r.lists = map[store.SetKey]bool{}, map[store.SetKey]bool{}
	}
	switch t {
	case store.Sessions:
		r.sessions[store.KeyNumber(key)] = true
	case store.Messages:
		r.messages[store.KeyNumber(key)] = true
	case store.Sets:
		r.sets[store.SetKey(key)] = true
	case store.Subscriptions:
		return r.session(key)
	case store.Entries, store.Inbound, store.Grants:
		v := Visitor{Entry: r.entry, Handshake: r.handshake, Grant: r.grant}
		return errors.Join(v.Look(t, key, value), r.session(key))
	case store.Transits:
		return r.message(store.KeyNumber(key))
	case store.Answers:
		v := Visitor{Answer: r.answer, AnswerList: func(x *store.Set) error {
			r.lists[x.Key] = true
			return nil
		}}
		return v.Look(t, key, value)
	default:
	}
	return nil
}

func (r *References) answer(a *store.Answer) error {
	if !r.lists[a.List] {
		return fmt.Errorf("%w: it refers to list %x, which is not there", store.ErrCorrupt, a.List)
	}
	return nil
}

func (r *References) entry(e *store.Entry) error {
	if e.State == store.WaitComp { // the message is the receiver's
		return nil
	}
	return r.message(e.Message)
}

func (r *References) handshake(h *store.Handshake) error {
	if h.Message == 0 {
		return nil
	}
	return r.message(h.Message)
}

func (r *References) grant(g *store.Grant) error {
	if g.Set != (store.SetKey{}) && !r.sets[g.Set] {
		return fmt.Errorf("%w: it refers to list %x, which is not there", store.ErrCorrupt, g.Set)
	}
	return nil
}

// session checks the session that a key begins with.
func (r *References) session(key []byte) error {
	if n := store.KeyNumber(key); !r.sessions[n] {
		return fmt.Errorf("%w: it belongs to session %d, which is not there", store.ErrCorrupt, n)
	}
	return nil
}

func (r *References) message(id uint64) error {
	if !r.messages[id] {
		return fmt.Errorf("%w: it refers to message %d, which is not there", store.ErrCorrupt, id)
	}
	return nil
}
