package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"noctule/broker/auth"
	"noctule/broker/auth/deny"
	"noctule/broker/store"
	"noctule/broker/store/state"
	"noctule/codec"
	"noctule/wsnet"
)

// Who may not be here is one table (broker/auth/deny), which is asked on a loop: when a CONNECT has been
// read, and again when its client gets its session, by what is known then. An entry that is added ends those
// who are here and whom it names, on each loop in slices; it is in the table before, so that nobody comes in
// between.

// Ban is an entry of the table of who may not be here.
type (
	Ban       = deny.Entry
	BanKind   = deny.Kind
	BanCursor = deny.Cursor
	BanStats  = deny.Stats
)

// What a ban names.
const (
	BanToken   = deny.Token   // the id of a token (jti)
	BanUser    = deny.User    // a username
	BanClient  = deny.Client  // a client id
	BanAddress = deny.Address // an address, or a prefix as in "10.0.0.0/8"
)

// ErrBansFull is the error of Ban when the table, or what one author may have of it, is full.
var ErrBansFull = deny.ErrFull

// ErrBan is the error of Ban for an entry that cannot be one.
var ErrBan = errors.New("broker: it is no ban")

// Ban adds an entry, or takes the place of the one with its name, and ends the connections that it names, by
// AdministrativeAction, since MQTT has Banned for CONNACK only; ended is how many. It returns when they have
// ended and the entry is durable. An error with an entry that was taken says that ctx has ended first; what
// was begun goes on. Any goroutine but a loop's may call it.
func (b *Broker) Ban(ctx context.Context, x Ban) (_ Ban, ended int, err error) {
	if b.hasEnded() {
		return Ban{}, 0, errEnded
	}
	x, err = b.denials.Add(x)
	switch {
	case errors.Is(err, ErrBansFull):
		return Ban{}, 0, err
	case err != nil:
		return Ban{}, 0, fmt.Errorf("%w: %w", ErrBan, err)
	}
	counts := make(chan int, len(b.shards))
	for _, s := range b.shards {
		// Bounded by the callers, who wait.
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { endBanned(s, &x, counts) }))
	}
	for range b.shards {
		select {
		case n := <-counts:
			ended += n
		case <-ctx.Done():
			return x, ended, ctx.Err()
		case <-b.ended:
			return x, ended, errEnded
		}
	}
	return x, ended, b.syncDenials(ctx)
}

// Unban takes the entry with a name out; ok is false if there is none. An address may be written in any way.
func (b *Broker) Unban(ctx context.Context, k BanKind, name string) (_ Ban, ok bool, err error) {
	if b.hasEnded() {
		return Ban{}, false, errEnded
	}
	x, ok := b.denials.Remove(k, name)
	if !ok {
		return Ban{}, false, nil
	}
	return x, true, b.syncDenials(ctx)
}

// Bans lists entries behind a place, by kind and name, at most n: see deny.Table.Page.
func (b *Broker) Bans(after BanCursor, n int) (list []Ban, next BanCursor, more bool) {
	return b.denials.Page(after, n)
}

func (b *Broker) hasEnded() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

// syncDenials returns when what was changed is durable, where that is promised.
func (b *Broker) syncDenials(ctx context.Context) error {
	if b.committer == nil || b.opts.PersistenceSync == SyncInterval {
		return nil
	}
	return b.committer.Sync(ctx)
}

// openDenials makes the table, with what the store has.
func (b *Broker) openDenials() error {
	cfg := deny.Config{Now: func() int64 { return b.clock.Source.Wall() / 1000 }}
	if b.committer != nil {
		cfg.Shared = b.committer.Shared
	}
	b.denials = deny.New(cfg)
	if b.opts.Store == nil {
		return nil
	}
	v := state.Visitor{Denial: b.denials.Load}
	if err := state.WalkTable(b.opts.Store, store.Denials, &v); err != nil {
		return fmt.Errorf("bans: %w", err)
	}
	return nil
}

// query is by what the client, which is online, may be denied.
func (c *client) query() deny.Query {
	q := deny.Query{Client: c.id, User: c.username(), Address: c.conn.RemoteAddr().Addr()}
	if st := c.stay(); st != nil {
		q.Token = st.TokenID
	}
	return q
}

// endBanned ends those whom an entry names.
func endBanned(s *shard, x *Ban, counts chan<- int) {
	s.loop.MustBeHere()
	n := 0
	look := func(cl *client) int {
		if cl.conn == nil {
			return 0
		}
		if q := cl.query(); x.Covers(&q) {
			cl.end(codec.AdministrativeAction, EndBanned)
			n++
		}
		return 0
	}
	reviewTask{auth.NewReview(maps.Values(s.sessions), look, nil, func() { counts <- n })}.Run(s.loop)
}
