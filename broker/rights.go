package broker

import (
	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/listener"
	"noctule/broker/message"
	"noctule/wsnet"
)

// What a client may do is worked out once, when it connects, and again when the settings are replaced. A
// subscription whose filter lies within what may be read carries the bit covered: its messages are
// delivered without a question. Others are asked about one by one, and so is what comes out of a queue,
// since rights may have changed since it went in.

// Private is topics that only some may read.
type Private = auth.Private

// rights is what is known of a client whose listener has a policy or a mount point.
type rights struct {
	auth.Rights
	via *Listener // where it came in; nil if that is not known
}

// rights are those of the client; nil means that nothing is restricted.
func (c *client) rights() *rights {
	if c.rare == nil {
		return nil
	}
	return c.rare.rights
}

// may reports whether the client may do one thing with a topic, or with a filter.
func (c *client) may(a auth.Access, topic []byte) bool {
	if a == auth.Read && len(c.shard.opts.Private) > 0 && !c.mayReadPrivate(topic) {
		return false
	}
	r := c.rights()
	return r == nil || r.Permissions.Allows(a, topic) || r.Permissions.Asks() && c.heard().Allow(a, topic)
}

// mayReadPrivate reports whether nothing private keeps the client from reading a topic.
func (c *client) mayReadPrivate(topic []byte) bool {
	var p *auth.Permissions
	if r := c.rights(); r != nil {
		p = r.Permissions
	}
	return c.shard.opts.Private.MayRead(topic, c.username(), p)
}

// mountPoint is the mount point, mostly empty.
func (r *rights) mountPoint() string {
	if r == nil {
		return ""
	}
	return r.MountPoint
}

// bounds are what a client with these rights, which is offline, is held to by those who subscribe it.
func (r *rights) bounds() grants.Bounds {
	b := grants.Free()
	if r == nil {
		return b
	}
	if b.Mount = r.MountPoint; r.Permissions != nil {
		b.Rights = r.Permissions
	}
	return b
}

// entitle gives a client that connects its rights by the settings of g. If these are replaced meanwhile, a
// recheck follows.
func (c *client) entitle(g *greet) {
	s := c.shard
	s.loop.MustBeHere()
	p, o := &s.connect, g.opts
	who := auth.Rights{Named: p.HasUsername, Identified: g.as.Vouched(), MountPoint: o.MountPoint}
	if g.as != nil {
		who.Stay = g.as.Stay
	}
	r := rights{Rights: who.Entitled(o.Policy, c.id, string(p.Username)), via: listener.Of(g.conn)}
	switch {
	case r.Tell(o.Policy):
		c.extra().rights = &r
	case c.rights() == nil:
		if len(s.opts.Private) > 0 { // a session that was stored has not been asked
			c.coverAll()
		}
		return
	default:
		c.rare.rights = nil
	}
	c.coverAll()
}

// coverAll sets the bit Covered of all subscriptions, as the rights are now: of very many in later turns.
// Until then their messages are asked about.
func (c *client) coverAll() {
	n := len(c.subs)
	if n <= auth.ReviewSlice {
		c.cover(0, n)
		return
	}
	for i := range c.subs {
		c.setCoverage(i, 0)
	}
	if c.shard.covering.Add(c, n) {
		c.shard.loop.Again(coverTask{})
	}
}

// coverTask goes on with the first client that waits for coverAll.
type coverTask struct{}

// Run implements wsnet.Task.
func (t coverTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	cl, from, to := s.covering.Next()
	cl.cover(from, to)
	if s.covering.Len() > 0 {
		l.Again(t)
	}
}

// renew works the rights out again after a reload; false means that the client would not be let in any
// more. Its password is not kept: who has the same entry in the password file as before stays. The bits
// Covered of its subscriptions are the caller's to set.
func (c *client) renew() bool {
	c.shard.loop.MustBeHere()
	var username string
	if c.rare != nil {
		username = c.rare.username
	}
	r := c.rights()
	if r == nil || r.via == nil {
		if c.conn == nil { // nothing is known of where it came in
			return true
		}
		r = &rights{Rights: auth.Rights{Named: username != ""}, via: listener.Of(c.conn)}
	}
	o := r.via.Options()
	barred := c.conn != nil && o.Bars(c.conn)
	now, welcome := r.Renewed(o.Policy, c.id, username, o.AllowAnonymous)
	next := rights{Rights: now, via: r.via}
	switch {
	case next.Tell(o.Policy):
		c.extra().rights = &next
	case c.rare != nil:
		c.rare.rights = nil
		c.settle()
	}
	return welcome && !barred
}

// cover sets the bit Covered of the subscriptions from one to another, as the rights are now.
func (c *client) cover(from, to int) {
	for i := from; i < min(to, len(c.subs)); i++ {
		c.setCoverage(i, c.coverage([]byte(c.shard.b.index.Filter(c.subs[i].id))))
	}
}

// setCoverage sets or clears the bit of one subscription.
func (c *client) setCoverage(i int, bit fanout.Options) {
	sub := &c.subs[i]
	o := sub.opts&^fanout.Covered | bit
	if o == sub.opts {
		return
	}
	sub.opts = o
	if sub.share != nil {
		sub.share.Options = o
		return
	}
	c.shard.receivers.Change(sub.id, int(sub.at), member{C: c, Options: o, SubID: sub.subID})
}

// coverage is the bit Covered if the client may read whatever matches filter, which may be shared.
func (c *client) coverage(filter []byte) fanout.Options {
	if c.shard.opts.Private.Touches(filter) {
		return 0
	}
	if r := c.rights(); r != nil && !r.Permissions.CoversSubscription(filter) {
		return 0
	}
	return fanout.Covered
}

// sourceOf is what a retained message keeps of its publisher, for check_retain_source.
func (c *client) sourceOf() *message.Source {
	src := &message.Source{ClientID: c.id}
	if c.rare != nil {
		src.Username, src.Named = c.rare.username, c.rare.username != ""
	}
	r := c.rights()
	if r != nil {
		src.Named = r.Named
	}
	switch {
	case c.conn != nil:
		src.Listener = listener.Of(c.conn).Name()
	case r != nil && r.via != nil:
		src.Listener = r.via.Name()
	}
	return src
}

// sourceMay reports whether who published a retained message might do so still.
func (s *shard) sourceMay(m *message.Message) bool {
	if !s.opts.CheckRetainSource || m.Source == nil {
		return true
	}
	l := s.b.listeners.Near(m.Source.Listener)
	if l == nil {
		return true
	}
	p := l.Options().Policy
	if p == nil {
		return true
	}
	src := m.Source
	return p.Permissions(src.ClientID, src.Username, src.Named).Allows(auth.Write, m.Topic)
}
