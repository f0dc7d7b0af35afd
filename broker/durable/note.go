package durable

import (
	"noctule/broker/session"
	"noctule/broker/store"
)

// Note notes what has changed in the messages of a durable session. Expired and Wanted change nothing here.
func (j *Journal) Note(number uint64, ch session.Change) {
	b := &j.Batch
	e := store.Entry{
		Session: number, Seq: ch.Seq, QoS: ch.Grant.QoS, Retain: ch.Grant.Retain,
		Share:          ch.Grant.Share,
		SubscriptionID: ch.Grant.SubscriptionID, State: store.State(ch.State), PacketID: ch.ID,
	}
	switch ch.Kind {
	case session.Stored:
		e.Message = j.Ref(ch.Message)
		b.PutEntry(&e)
	case session.Moved:
		e.Message = j.Stored(ch.Message).ID
		b.PutEntry(&e)
	case session.Yielded:
		b.PutEntry(&e)
		j.Unref(ch.Message.Keep().Stored)
	case session.Removed:
		b.DeleteEntry(number, ch.Seq)
		if ch.Message != nil {
			j.Unref(ch.Message.Keep().Stored)
		} else if ch.Away != nil {
			j.Unref(ch.Away)
		}
	case session.Held:
		h := store.Handshake{Session: number, PacketID: ch.ID}
		if ch.Message != nil {
			h.Message = j.Ref(ch.Message)
		}
		b.PutHandshake(&h)
	case session.Released:
		b.DeleteHandshake(number, ch.ID) // who passes the message on gives it up after that
	case session.Superseded:
		b.DeleteHandshake(number, ch.ID)
		if ch.Message != nil {
			j.Unref(ch.Message.Keep().Stored)
		}
	case session.Expired, session.Wanted:
	}
}
