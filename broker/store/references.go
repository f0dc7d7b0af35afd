package store

import (
	"errors"
	"fmt"
)

// References holds records against those that they refer to. The zero value has seen none.
type References struct {
	sessions, messages map[uint64]bool
	sets               map[SetKey]bool
}

// Look looks at the next record, table after table, and returns what is wrong with what it refers to.
func (r *References) Look(t Table, key, value []byte) error {
	if r.sessions == nil {
		r.sessions, r.messages, r.sets = map[uint64]bool{}, map[uint64]bool{}, map[SetKey]bool{}
	}
	switch t {
	case Sessions:
		r.sessions[KeyNumber(key)] = true
	case Messages:
		r.messages[KeyNumber(key)] = true
	case Sets:
		r.sets[SetKey(key)] = true
	case Subscriptions:
		return r.session(key)
	case Entries:
		e, err := ReadEntry(key, value)
		if err == nil && e.State != WaitComp {
			err = r.message(e.Message)
		}
		return errors.Join(err, r.session(key))
	case Inbound:
		h, err := ReadHandshake(key, value)
		if err == nil && h.Message != 0 {
			err = r.message(h.Message)
		}
		return errors.Join(err, r.session(key))
	case Transits:
		return r.message(KeyNumber(key))
	case Grants:
		g, err := ReadGrant(key, value)
		if err == nil && g.Set != (SetKey{}) && !r.sets[g.Set] {
			err = fmt.Errorf("%w: it refers to list %x, which is not there", ErrCorrupt, g.Set)
		}
		return errors.Join(err, r.session(key))
	default:
	}
	return nil
}

// session checks the session that a key begins with.
func (r *References) session(key []byte) error {
	if n := KeyNumber(key); !r.sessions[n] {
		return fmt.Errorf("%w: it belongs to session %d, which is not there", ErrCorrupt, n)
	}
	return nil
}

func (r *References) message(id uint64) error {
	if !r.messages[id] {
		return fmt.Errorf("%w: it refers to message %d, which is not there", ErrCorrupt, id)
	}
	return nil
}
