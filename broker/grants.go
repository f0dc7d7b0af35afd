package broker

import (
	"context"
	"time"

	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/retained"
	"noctule/wsnet"
)

// What servers subscribe sessions to is for package grants. Here are its doors, what it has to know of a
// session, and what goes on the wire.

// Broker implements behalf.Broker.
var _ behalf.Broker = (*Broker)(nil)

// Apply implements behalf.Broker.
func (b *Broker) Apply(ctx context.Context, r *behalf.Request) []behalf.Answer {
	return b.grants.Apply(ctx, r)
}

// Move edits a set: all sessions whose list of an origin is from, connected or not, get the list to instead,
// as if each had been asked for. It returns their number when that is in effect on all loops. A session whose
// rights or listener made another list of from is left as it is.
func (b *Broker) Move(ctx context.Context, o *behalf.Origin, from, to *behalf.Set) (moved int, err error) {
	return b.grants.Move(ctx, o, from, to)
}

// Pending returns what waits for clients, by origins for which of says true: without the topics, whose number
// it has. It is in no order. Any goroutine but a loop's may call it.
func (b *Broker) Pending(ctx context.Context, of func(origin string) bool) ([]behalf.Pending, error) {
	list, err := b.grants.Pending(ctx, of)
	behalf.ByWall(b.clock.Wall, nil, list)
	return list, err
}

// End is when a topic ends that is to be there for so long, for behalf.NewEndingSet: never early. Any
// goroutine may ask.
func (b *Broker) End(after time.Duration) int64 {
	const second = 1000
	return (b.clock.Source.Now() + after.Milliseconds() + second - 1) / second
}

// EndAt is the same of a topic that is to be there until a time of the system's clock. Any goroutine.
func (b *Broker) EndAt(at time.Time) int64 {
	return behalf.Seconds(at.UnixMilli() - b.clock.Wall(0))
}

// List implements behalf.Broker.
func (b *Broker) List(ctx context.Context, clientID string) (behalf.Listing, error) {
	s := b.home([]byte(clientID))
	out := behalf.Listing{ClientID: clientID}
	found := false
	answered := b.onLoop(ctx, s, func() {
		if cl := s.sessionOf([]byte(clientID)); cl != nil {
			found = true
			cl.listing(&out)
		}
		s.grants.Waiting(&out)
	})
	if !answered { // and the loop may still write out
		return behalf.Listing{}, behalf.ErrNoAnswer
	}
	behalf.ByWall(b.clock.Wall, out.Holdings, out.Pending)
	if !found {
		return out, behalf.ErrNoSession
	}
	return out, nil
}

// listing fills a Listing.
func (c *client) listing(out *behalf.Listing) {
	out.Connected, out.Revision, out.Username = c.conn != nil, c.grants().Revision(), c.username()
	if r := c.rights(); r != nil {
		out.Mount = r.MountPoint
		if perms := r.Permissions; perms != nil {
			out.MayRead = func(topic []byte) bool { return perms.Allows(auth.Read, topic) }
		}
	}
	own := behalf.Holding{Origin: behalf.Client}
	for i := range c.subs {
		sub := &c.subs[i]
		opts, subID := sub.opts, sub.subID
		if sub.share != nil {
			opts, subID = sub.share.Options, sub.share.SubID
		}
		own.Topics = append(own.Topics, behalf.Topic{
			Filter: sub.id.Filter(), ID: subID, QoS: opts.QoS(),
			NoLocal: opts.Has(fanout.NoLocal), RetainAsPublished: opts.Has(fanout.RetainAsPublished),
		})
	}
	out.Holdings = append(append(out.Holdings, own), c.grants().Holdings()...)
}

// grantLoops is the event loops as package grants sees them.
type grantLoops Broker

// Home implements grants.Loops.
func (b *grantLoops) Home(clientID string) int { return (*Broker)(b).home([]byte(clientID)).index }

// Post implements grants.Loops.
func (b *grantLoops) Post(loop int, f func()) {
	b.shards[loop].loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f() })) // bounded by who waits for it
}

// Await implements grants.Loops.
func (b *grantLoops) Await(ctx context.Context, loop int, f func(done func())) bool {
	return (*Broker)(b).await(ctx, b.shards[loop], f)
}

// grantLoop is one of them.
type grantLoop struct{ *wsnet.Loop }

// Again implements grants.Loop.
func (l grantLoop) Again(f func()) { l.Loop.Again(wsnet.TaskFunc(func(*wsnet.Loop) { f() })) }

// openGrants makes the shard's table.
func openGrants(s *shard) {
	s.grants = s.b.grants.Open(grants.Config[*client]{
		Loop: grantLoop{s.loop}, Host: (*granting)(s), Shares: (*granting)(s), Receivers: s.receivers,
		Journal: s.journal, ByUser: s.opts.RequestsByUsername,
		Warn: func(format string, args ...any) { s.logf(LevelWarning, format, args...) },
		Go:   s.b.aside, Ended: s.opts.Ended,
	}, s.opts.grantLimits())
}

// aside runs f, which works for loops, on a goroutine of its own; it must end with the broker.
func (b *Broker) aside(f func()) {
	go func() {
		defer b.crash.Guard(func() string { return "ending subscriptions whose time is over" })
		f()
	}()
}

// grantLimits is the settings that package grants needs.
func (o *Options) grantLimits() grants.Limits {
	return grants.Limits{
		Subscriptions: o.MaxSubscriptions, Pending: o.MaxPending, PendingBytes: o.MaxPendingBytes,
		Retained: o.RetainAvailable,
	}
}

// granting is a shard as its table of grants sees it.
type granting shard

// Session implements grants.Host.
func (g *granting) Session(id string) (*client, bool) {
	cl := (*shard)(g).sessionOf([]byte(id))
	return cl, cl != nil
}

// Replays implements grants.Host.
func (g *granting) Replays(cl *client, wait bool) (q *retained.Queue, round uint64) {
	if q = cl.replayQueue(); wait {
		round = cl.fenceFor()
	}
	return q, round
}

// Changed implements grants.Host.
func (g *granting) Changed(cl *client) {
	cl.replayRetained()
	cl.tell()
}

// Join implements grants.Shares.
func (g *granting) Join(
	cl *client,
	group, filter []byte,
	o fanout.Options,
	subID uint32,
) (*shareMember, error) {
	s := (*shard)(g)
	home := s.b.shareHome(group, filter)
	id, err := s.b.index.AddShared(group, filter, home)
	if err != nil {
		return nil, err
	}
	m := newShareMember(cl, id, home, o, subID)
	s.router.Join(m)
	cl.shared++
	s.count.SharedSubscriptions++
	if cl.Durable() {
		s.journal.Enter(id)
	}
	cl.updateFull()
	return m, nil
}

// Leave implements grants.Shares.
func (g *granting) Leave(cl *client, m *shareMember) {
	s := (*shard)(g)
	cl.shared--
	s.count.SharedSubscriptions--
	if cl.Durable() {
		s.journal.Leave(m.ID)
	}
	s.router.Leave(m)
}
