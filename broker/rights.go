package broker

import (
	"bytes"
	"errors"
	"slices"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/message"
	"noctule/codec"
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
	via *listener.Listener // where it came in; nil if that is not known
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

// A listener's mount point stands before each topic and filter of its clients, without a slash of its own,
// and is taken off what is delivered to them. Inside, everything has its full name; ACLs see it too.

// topicMax is the longest topic, in bytes, the mount point included.
const topicMax = 65535

// mount is the mount point of a client, mostly empty.
func (c *client) mount() string {
	if r := c.rights(); r != nil {
		return r.MountPoint
	}
	return ""
}

// mounted is the full name of a client's filter. The share name stays in front.
func (c *client) mounted(filter []byte) []byte {
	mount := c.mount()
	if mount == "" {
		return filter
	}
	at := 0
	if _, name, shared := codec.SplitShare(filter); shared {
		at = len(filter) - len(name)
	}
	return slices.Concat(filter[:at], []byte(mount), filter[at:])
}

// Where a client's rules have an auth.Asker, what it may do is for somebody else to say, who takes time
// (broker/admit). Meanwhile its connection is held (wsnet.Conn.Hold) and all others go on. The packet is left
// unread, and read again with the answers, which are there for it and for nothing else; without an answer the
// connection ends, so that nothing is acknowledged that was not passed on: the client can come again.

// errAsked says that a packet waits for an answer, and comes again.
var errAsked = errors.New("broker: somebody has to be asked")

// heard is what was said about the client's packet that has come again; nil if nothing was.
func (c *client) heard() *admit.Answers {
	if c.rare == nil {
		return nil
	}
	return c.rare.answers
}

// asks reports whether the client's rules may have to ask somebody.
func (c *client) asks() bool {
	r := c.rights()
	return r != nil && r.Permissions.Asks()
}

// mustAsk, for a client that asks, reports whether something of a packet is for somebody else to say, which
// has not been asked yet. Then the connection is held, and the packet is to be left unread.
func (c *client) mustAsk(a auth.Access, topics ...[]byte) bool {
	q := c.heard().Ask(c.rights().Permissions, a, topics...)
	if q == nil {
		return false
	}
	conn := c.conn
	conn.Hold()
	q.ClientID, q.Peer, q.Address, q.Trusted = c.id, line.Peer(conn), conn.RemoteAddr().Addr(), conn.Local()
	c.shard.b.desk.Resolve(q, func(r codec.Reason) {
		c.shard.post(func() { c.goOn(conn, q, r) }) // one a connection
	})
	return true
}

// goOn lets a connection go on whose packet was asked about.
func (c *client) goOn(conn *wsnet.Conn, q *admit.Question, r codec.Reason) {
	s := c.shard
	if c.conn != conn { // it has ended meanwhile
		return
	}
	if r != codec.Success {
		c.fail(&codec.Error{Reason: r, Detail: "nobody says what the client may do"})
		return
	}
	conn.Release(s.loop, wsnet.TaskFunc(func(*wsnet.Loop) {
		c.lastSeen = uint32(s.seconds())
		x := c.extra()
		x.answers = q.Answers(x.answers)
		s.told = c
	}))
}

// forgetAnswers ends the packet that has come again.
func (c *client) forgetAnswers() {
	c.shard.told = nil
	if c.rare != nil {
		c.rare.answers = nil
		c.settle()
	}
}

// filterNames are the filters of a SUBSCRIBE as the broker knows them.
func filterNames(cl *client, p *codec.Subscribe) [][]byte {
	list := make([][]byte, len(p.Filters))
	for i := range p.Filters {
		list[i] = cl.mounted(p.Filters[i].Name)
	}
	return list
}

// mountedNames are those of an UNSUBSCRIBE.
func mountedNames(cl *client, names [][]byte) [][]byte {
	list := make([][]byte, len(names))
	for i, name := range names {
		list[i] = cl.mounted(name)
	}
	return list
}

// mountTopic gives m its full name, in a buffer of the shard's.
func (c *client) mountTopic(mount string, m *message.Message) error {
	s := c.shard
	if len(mount)+len(m.Topic) > topicMax {
		return &codec.Error{
			Reason: codec.TopicNameInvalid, Packet: codec.PUBLISH, Detail: "too long with the mount point",
		}
	}
	s.topic = append(append(s.topic[:0], mount...), m.Topic...)
	m.Topic = s.topic
	return nil
}

// unmount returns heads for the message of h as clients of a mount point see it; false when nothing of the
// topic is left.
func (c *client) unmount(h *message.Heads, mount string) (*message.Heads, bool) {
	s := c.shard
	rest, ok := bytes.CutPrefix(h.Message().Topic, []byte(mount))
	if !ok { // queued before the mount point changed
		return h, true
	}
	s.bare = *h.Message()
	s.bare.Topic = rest
	s.stripped.Reset(&s.bare, s.loop.Now())
	return &s.stripped, len(rest) > 0
}
