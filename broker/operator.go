package broker

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"

	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/view"
	"noctule/codec"
	"noctule/topictree"
)

// The doors of operators: to find clients, to look at them a page at a time, to end their connections, to
// have them looked at again, and to see retained messages and shared subscriptions. They ask the loops, a
// bounded piece a turn, and none is for a loop's goroutine. What happens is told by Watch. How lists are read
// and events are told is for package view.

// What operators see; the types are view's.
type (
	Client        = view.Client
	Subscription  = view.Subscription
	Retained      = view.Retained
	Share         = view.Share
	Cursor[T any] = view.Cursor[T]
	Event         = view.Event[EndReason]
	EventKind     = view.EventKind
	Watch         = view.Watch[EndReason]
)

// SessionForever is the Expiry of a session that does not end by itself.
const SessionForever = view.SessionForever

// The kinds of events.
const (
	EventConnected    = view.EventConnected    // it was let in
	EventDisconnected = view.EventDisconnected // its connection has ended, for Reason
	EventSubscribed   = view.EventSubscribed   // to Filter, with QoS, or changed that
	EventUnsubscribed = view.EventUnsubscribed // from Filter
)

// ErrCursor says that a cursor has been closed, or had to go for others, or that an earlier wait for it has
// ended.
var ErrCursor = view.ErrCursor

// loops is the loops as cursors see them.
type loops Broker

// Len implements view.Loops.
func (x *loops) Len() int { return len(x.shards) }

// Ask implements view.Loops.
func (x *loops) Ask(ctx context.Context, loop int, f func()) error {
	return (*Broker)(x).answer(ctx, x.shards[loop], f)
}

// Post implements view.Loops.
func (x *loops) Post(loop int, f func()) { x.shards[loop].post(f) }

// answer runs f on a shard's loop and waits for it.
func (b *Broker) answer(ctx context.Context, s *shard, f func()) error {
	if !b.onLoop(ctx, s, f) {
		return unanswered(ctx)
	}
	return nil
}

// Find tells of the session of a client id; ok is false if there is none.
func (b *Broker) Find(ctx context.Context, id string) (_ Client, ok bool, err error) {
	s := b.home([]byte(id))
	var c Client
	found := false
	err = b.answer(ctx, s, func() {
		if cl := s.sessions[id]; cl != nil {
			c, found = cl.view(), true
		}
	})
	if err != nil {
		return Client{}, false, err
	}
	return c, found, nil
}

// Clients reads the sessions that match, all with nil, in no order. match runs on the loops and must not
// block.
func (b *Broker) Clients(match func(*Client) bool) *Cursor[Client] {
	all := func(loop int) iter.Seq[*client] { return maps.Values(b.shards[loop].sessions) }
	return view.OfTables(&b.pages, all, func(loop int, cl *client) (Client, bool) {
		s := b.shards[loop]
		c := cl.view()
		return c, s.sessions[cl.id] == cl && (match == nil || match(&c))
	})
}

// ClientsOf reads those of some users, as Clients does. With Options.RequestsByUsername it looks at no
// others.
func (b *Broker) ClientsOf(usernames []string, match func(*Client) bool) *Cursor[Client] {
	names := slices.Compact(slices.Sorted(slices.Values(usernames)))
	theirs := func(loop int) iter.Seq[*client] {
		s := b.shards[loop]
		if list, known := s.grants.Of(names); known { // at once: nobody who gets another name comes twice
			return slices.Values(list)
		}
		return maps.Values(s.sessions)
	}
	return view.OfTables(&b.pages, theirs, func(loop int, cl *client) (Client, bool) {
		s := b.shards[loop]
		_, wanted := slices.BinarySearch(names, cl.username())
		if !wanted || s.sessions[cl.id] != cl {
			return Client{}, false
		}
		c := cl.view()
		return c, match == nil || match(&c)
	})
}

// Subscriptions reads what a client has subscribed to itself; an unknown one has nothing. What servers have
// given to it is in List. Where it unsubscribes meanwhile, one may be passed over.
func (b *Broker) Subscriptions(id string) *Cursor[Subscription] {
	s, at := b.home([]byte(id)), 0
	step := func(page []Subscription, limit int) ([]Subscription, bool) {
		cl := s.sessions[id]
		if cl == nil {
			return page, true
		}
		for ; at < len(cl.subs) && len(page) < limit; at++ {
			sub := &cl.subs[at]
			o, number := sub.opts, sub.subID
			if sub.share != nil {
				o, number = sub.share.Options, sub.share.SubID
			}
			page = append(page, Subscription{
				Filter: s.b.index.Filter(sub.id), QoS: o.QoS(), NoLocal: o.Has(fanout.NoLocal),
				RetainAsPublished: o.Has(fanout.RetainAsPublished), Identifier: number,
			})
		}
		return page, at >= len(cl.subs)
	}
	return view.OfLoop(&b.pages, s.index, step)
}

// ErrReason says that a reason code is none with which a server may end a connection.
var ErrReason = errors.New("broker: not a reason for DISCONNECT")

// Disconnect ends a client's connection, whose session stays as the client wished; ok is false if it was not
// connected. An MQTT 5 client is told the reason, others are only closed. will says whether its will is
// published.
func (b *Broker) Disconnect(
	ctx context.Context, id string, reason codec.Reason, will bool,
) (ok bool, err error) {
	if !mayDisconnect(reason) {
		return false, ErrReason
	}
	s := b.home([]byte(id))
	found := false
	err = b.answer(ctx, s, func() {
		if cl := s.sessions[id]; cl != nil && cl.conn != nil {
			found = true
			if !will && cl.will() != nil {
				cl.rare.will = nil
			}
			cl.end(reason, EndAdministrative)
		}
	})
	if err != nil {
		return false, err
	}
	return found, nil
}

// mayDisconnect says that a server may send DISCONNECT with a reason [MQTT-3.14.2-1].
func mayDisconnect(r codec.Reason) bool {
	d := codec.Disconnect{Reason: r}
	raw := d.Append(nil, codec.V5)
	h, err := codec.ParseHeader(raw)
	return err == nil && r != codec.DisconnectWithWill && d.Parse(h.Flags, raw[h.Size:], codec.V5) == nil
}

// Recheck looks again at the sessions that match, all with nil, as Reload does: who may not stay is
// disconnected, and what the others may do is worked out anew. It is for a policy whose sources have changed
// for some. match runs on the loops and must not block.
func (b *Broker) Recheck(ctx context.Context, match func(*Client) bool) error {
	for _, s := range b.shards {
		asked := b.await(ctx, s, func(done func()) {
			newRecheck(s, func(cl *client) bool {
				c := cl.view()
				return match == nil || match(&c)
			}, done).Run(s.loop)
		})
		if !asked {
			return unanswered(ctx)
		}
	}
	return nil
}

// Retained reads the retained messages whose topics match a filter, in no order, by at most 4 MiB of payloads
// a page. No loop is asked.
func (b *Broker) Retained(filter string) (*Cursor[Retained], error) {
	return view.RetainedOf(&b.pages, b.retained, filter, b.clock.Source.Now, b.clock.Source.Wall)
}

// Shares reads the shared subscriptions, in no order.
func (b *Broker) Shares() *Cursor[Share] { return view.SharesOf(&b.pages, b.sharesAt) }

// ShareMembers reads the client ids of a shared subscription's members, in the order in which they are dealt
// to.
func (b *Broker) ShareMembers(group, filter string) *Cursor[string] {
	home := b.shareHome([]byte(group), []byte(filter))
	of := func() (topictree.FilterID, bool) { return b.index.LookupShared([]byte(group), []byte(filter)) }
	return view.MembersOf(&b.pages, home, b.sharesAt(home), of, (*client).String)
}

// sharesAt is the shared subscriptions that a loop deals.
func (b *Broker) sharesAt(loop int) *fanout.Shares[*client] { return &b.shards[loop].router.Shares }

// WriteTree writes all subscriptions to w, as Mosquitto prints them on SIGUSR2; see view.Tree. Any goroutine
// but a loop's.
func (b *Broker) WriteTree(ctx context.Context, w io.Writer) error {
	t := view.Tree[*client]{
		Index: b.index, Loops: (*loops)(b), Name: (*client).String,
		At: func(loop int) (*fanout.Table[*client], *fanout.Shares[*client]) {
			return b.shards[loop].receivers, b.sharesAt(loop)
		},
	}
	return t.Write(ctx, w)
}

// Watch begins to hear of what happens to clients: subscriptions that servers make are not among it. It holds
// so many events until they are read, and counts those that it has no room for; nothing waits for it. While
// nobody watches, events cost a comparison each, and messages never anything. Any goroutine.
func (b *Broker) Watch(hold int) *Watch { return b.watching.Watch(hold) }

// CheckLogin asks a policy about a login that has not come with a CONNECT: see admit.Desk. Who is banned may
// not, either. Any goroutine but a loop's may call it.
func (b *Broker) CheckLogin(ctx context.Context, p *auth.Policy, login auth.Login) codec.Reason {
	if b.denials.Denies(&login, "") {
		return codec.NotAuthorized
	}
	return b.desk.CheckLogin(ctx, p, login)
}
