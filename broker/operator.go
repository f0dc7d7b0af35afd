package broker

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"time"

	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// The doors of operators: to find clients, to look at them a page at a time, to end their connections, to
// have them looked at again, and to see retained messages and shared subscriptions. They ask the loops, a
// bounded piece a turn, and none is for a loop's goroutine. What happens is told by Watch.

// Client is a session, and its connection if there is one, as they were when they were asked.
type Client struct {
	ID        string
	Username  string
	Connected bool
	// Address is the client's, zero while offline, for unix sockets and pipes; Listener is where it came in.
	Address   netip.AddrPort
	Listener  string
	Version   codec.Version
	KeepAlive time.Duration // 0: none
	WebSocket bool
	TLS       bool
	Bridge    bool
	Will      bool // it has one that is still to come
	// Expiry is how long the session outlives its connection, SessionForever for no end. OfflineSince is when
	// that began, to the second, zero while connected.
	Expiry       time.Duration
	OfflineSince time.Time
	Stored       bool // the session survives a restart

	Subscriptions int   // its own
	Granted       int   // made by servers
	Queued        int   // messages that wait
	QueuedBytes   int64 // their payloads
	Inflight      int   // sent, and not acknowledged
}

// SessionForever is the Expiry of a session that does not end by itself.
const SessionForever = time.Duration(1<<63 - 1)

// clientOf tells of a session. On the loop.
func (s *shard) clientOf(cl *client) Client {
	c := Client{
		ID: cl.id, Username: cl.username(), Connected: cl.conn != nil, Version: cl.version, Bridge: cl.bridge,
		KeepAlive: time.Duration(cl.keepAlive) * time.Second, Will: cl.will() != nil, Stored: cl.Durable(),
		Subscriptions: len(cl.subs), Granted: cl.grantedTopics(), Queued: cl.Queued(),
		QueuedBytes: cl.QueuedBytes(), Inflight: cl.Inflight(),
		Expiry: time.Duration(cl.expiry) * time.Second,
	}
	if cl.expiry == never {
		c.Expiry = SessionForever
	}
	if conn := cl.conn; conn != nil {
		c.Address, c.Listener = conn.RemoteAddr(), listenerOf(conn).name
		c.WebSocket, c.TLS = conn.WebSocket(), listenerOf(conn).opts.Load().Net.TLS != nil && !conn.Piped()
	} else {
		ago := time.Duration(max(s.seconds()-int64(cl.offlineAt), 0)) * time.Second
		c.OfflineSince = time.UnixMilli(s.b.clock.source.Wall()).Add(-ago).Truncate(time.Second)
	}
	return c
}

// Find tells of the session of a client id; ok is false if there is none.
func (b *Broker) Find(ctx context.Context, id string) (_ Client, ok bool, err error) {
	s := b.home([]byte(id))
	var c Client
	found := false
	answered := b.onLoop(ctx, s, func() {
		if cl := s.sessions[id]; cl != nil {
			c, found = s.clientOf(cl), true
		}
	})
	if !answered {
		return Client{}, false, unanswered(ctx)
	}
	return c, found, nil
}

// Clients reads the sessions that match, all with nil, in no order. match runs on the loops and must not
// block.
func (b *Broker) Clients(match func(*Client) bool) *Cursor[Client] {
	return cursorOf(b, (*shard).eachClient, func(s *shard, cl *client) (Client, bool) {
		c := s.clientOf(cl)
		return c, s.sessions[cl.id] == cl && (match == nil || match(&c))
	})
}

func (s *shard) eachClient() iter.Seq[*client] { return maps.Values(s.sessions) }

// Subscription is one that a client has made.
type Subscription struct {
	Filter            string // as the broker knows it, with the mount point, and $share/ if it is shared
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	Identifier        uint32 // 0: none
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
				o, number = sub.share.opts, sub.share.subID
			}
			page = append(page, Subscription{
				Filter: s.b.index.Filter(sub.id), QoS: o.QoS(), NoLocal: o.Has(fanout.NoLocal),
				RetainAsPublished: o.Has(fanout.RetainAsPublished), Identifier: number,
			})
		}
		return page, at >= len(cl.subs)
	}
	return newCursor(b, func() {}, paged(b, s, step))
}

// paged is a cursor's read of one loop, pageMax items a turn.
func paged[T any](
	b *Broker, s *shard, step func(page []T, limit int) ([]T, bool),
) func(context.Context, []T, int) ([]T, bool, error) {
	return func(ctx context.Context, page []T, limit int) ([]T, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, cursorTime)
		defer cancel()
		over := false
		if !b.onLoop(ctx, s, func() { page, over = step(page, limit) }) {
			return nil, false, unanswered(ctx)
		}
		return page, over, nil
	}
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
	answered := b.onLoop(ctx, s, func() {
		if cl := s.sessions[id]; cl != nil && cl.conn != nil {
			found = true
			if !will && cl.will() != nil {
				cl.rare.will = nil
			}
			s.end(cl, reason, EndAdministrative)
		}
	})
	if !answered {
		return false, unanswered(ctx)
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
			s.recheckSome(func(cl *client) bool {
				c := s.clientOf(cl)
				return match == nil || match(&c)
			}, done)
		})
		if !asked {
			return unanswered(ctx)
		}
	}
	return nil
}

// Retained is a retained message.
type Retained struct {
	Topic      string
	Payload    []byte // not to be changed
	QoS        uint8
	Properties codec.Properties // not to be changed
	Expires    time.Time        // zero: never
}

// retainedPageBytes is how many bytes of payloads a page of retained messages has before it ends early.
const retainedPageBytes = 4 << 20

// Retained reads the retained messages whose topics match a filter, in no order, by at most 4 MiB of payloads
// a page. No loop is asked.
func (b *Broker) Retained(filter string) (*Cursor[Retained], error) {
	if err := codec.CheckTopicFilter([]byte(filter)); err != nil {
		return nil, err
	}
	if _, _, shared := codec.SplitShare([]byte(filter)); shared {
		return nil, errShared
	}
	walk := b.retained.Cursor([]byte(filter))
	read := func(ctx context.Context, page []Retained, limit int) ([]Retained, bool, error) {
		size, over := 0, false
		for !over && len(page) < limit && size < retainedPageBytes {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			over = walk.Next(limit-len(page), func(topic string, m *message.Message) {
				if !m.Expired(b.clock.source.Now()) {
					page = append(page, b.retainedItem(topic, m))
					size += len(m.Payload)
				}
			})
		}
		return page, over, nil
	}
	return newCursor(b, func() {}, read), nil
}

var errShared = errors.New("broker: retained messages are not for shared subscriptions")

func (b *Broker) retainedItem(topic string, m *message.Message) Retained {
	r := Retained{Topic: topic, Payload: m.Payload, QoS: m.QoS, Properties: m.Properties}
	if m.Expiry != 0 {
		left := time.Duration(m.Expiry-b.clock.source.Now()) * time.Millisecond
		r.Expires = time.UnixMilli(b.clock.source.Wall()).Add(left)
	}
	return r
}

// Share is a shared subscription.
type Share struct {
	Group, Filter string
	Members       int
}

// Shares reads the shared subscriptions, in no order.
func (b *Broker) Shares() *Cursor[Share] {
	return cursorOf(b, (*shard).eachShare, func(s *shard, id topictree.FilterID) (Share, bool) {
		g := s.shares[id]
		group, filter, ok := codec.SplitShare([]byte(s.b.index.Filter(id)))
		if g == nil || !ok {
			return Share{}, false
		}
		return Share{Group: string(group), Filter: string(filter), Members: g.Len()}, true
	})
}

func (s *shard) eachShare() iter.Seq[topictree.FilterID] { return maps.Keys(s.shares) }

// ShareMembers reads the client ids of a shared subscription's members, in the order in which they are dealt
// to.
func (b *Broker) ShareMembers(group, filter string) *Cursor[string] {
	s, at := b.shards[b.shareHome([]byte(group), []byte(filter))], 0
	step := func(page []string, limit int) ([]string, bool) {
		id, ok := b.index.LookupShared([]byte(group), []byte(filter))
		if !ok || s.shares[id] == nil {
			return page, true
		}
		g := s.shares[id]
		for _, m := range g.Page(at, limit) {
			page = append(page, m.c.id)
			at++
		}
		return page, at >= g.Len()
	}
	return newCursor(b, func() {}, paged(b, s, step))
}

// unanswered is the error of a wait for a loop that has ended: the context's, if it is that.
func unanswered(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errNoAnswer
}

// post runs f on the loop; for what is bounded by its cause.
func (s *shard) post(f func()) { s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f() })) }
