package broker

import (
	"slices"
	"strings"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/retained"
	"noctule/codec"
	"noctule/topictree"
)

// grant is what a session has of one origin. It stays, with its revision, after its subscriptions have gone.
type grant struct {
	next     *grant
	origin   *behalf.Origin
	set      *set // nil: none
	extra    *grantExtra
	revision uint64
	at       uint32 // place among the set's members
	member   bool   // false if an earlier grant is the member of the same set
	late     bool   // the list has not come yet
}

// grantExtra is what few grants have.
type grantExtra struct {
	shares []*shareMember      // of the set's shared subscriptions
	muted  map[string]struct{} // filters that the client has unsubscribed from
	replay *retained.Replay    // retained messages that are still to be sent
}

// grantsMax is how many origins a session may have, with those that have no topics any more, which make room
// for another: see newGrant.
const grantsMax = 32

func (g *grant) more() *grantExtra {
	if g.extra == nil {
		g.extra = &grantExtra{}
	}
	return g.extra
}

// settle gives the rare part up once nothing is in it.
func (g *grant) settle() {
	x := g.extra
	if x != nil && len(x.shares) == 0 && len(x.muted) == 0 && x.replay == nil {
		g.extra = nil
	}
}

// muted reports whether the client has unsubscribed from a filter of this grant.
func (g *grant) muted(filter string) bool {
	if g.extra == nil || g.extra.muted == nil {
		return false
	}
	_, ok := g.extra.muted[filter]
	return ok
}

// mute notes that the client has unsubscribed from a filter.
func (g *grant) mute(filter string) {
	x := g.more()
	if x.muted == nil {
		x.muted = make(map[string]struct{})
	}
	x.muted[filter] = struct{}{}
}

// grants is the first of the client's grants.
func (c *client) grants() *grant {
	if c.rare == nil {
		return nil
	}
	return c.rare.grants
}

// contents is what the session has of the origin; g may be nil.
func (g *grant) contents() *behalf.Set {
	if g == nil {
		return nil
	}
	return g.set.contents()
}

// grantOf is the grant of an origin, nil if there is none.
func (c *client) grantOf(origin string) *grant {
	for g := c.grants(); g != nil; g = g.next {
		if g.origin.Name == origin {
			return g
		}
	}
	return nil
}

// addGrant makes a grant of an origin, behind the others; nil if there are too many.
func (c *client) addGrant(o *behalf.Origin) *grant {
	n := 0
	end := &c.extra().grants
	for *end != nil {
		end = &(*end).next
		n++
	}
	if n >= grantsMax {
		c.settle()
		return nil
	}
	*end = &grant{origin: o}
	return *end
}

// newGrant makes a grant of an origin that the session has none of. If there are too many, those without
// topics are forgotten: their revisions go on with the new one. nil: all of them have topics.
func (s *shard) newGrant(cl *client, o *behalf.Origin) *grant {
	g := cl.addGrant(o)
	if g != nil {
		return g
	}
	revision := cl.revision()
	if !s.forgetEmptied(cl) {
		return nil
	}
	g = cl.addGrant(o)
	g.revision = revision
	return g
}

// forgetEmptied takes all grants without topics out of the list; false if there are none.
func (s *shard) forgetEmptied(cl *client) bool {
	s.loop.MustBeHere()
	gone := false
	for at := &cl.rare.grants; *at != nil; {
		g := *at
		if g.set == nil && g.extra == nil && !g.late {
			*at, gone = g.next, true
			if cl.Durable() {
				s.journal.Batch.DeleteGrant(cl.number, g.origin.Name)
			}
			continue
		}
		if gone { // its place is another
			s.saveGrant(cl, g)
		}
		at = &g.next
	}
	return gone
}

// PlacedIn implements fanout.Receiver.
func (c *client) PlacedIn(x *fanout.Set[*client], at int) {
	for g := c.grants(); g != nil; g = g.next {
		if g.set != nil && &g.set.members == x && g.member {
			g.at = uint32(at)
			return
		}
	}
}

// masks reports whether a member of x must not get a message by x for a filter: it has subscribed itself, has
// unsubscribed, or gets it by an earlier grant.
func (c *client) masks(x *fanout.Set[*client], id topictree.FilterID) bool {
	if len(c.subs) > 0 {
		if _, ok := c.find(id); ok {
			return true
		}
	}
	filter := id.Filter()
	for g := c.rare.grants; g != nil; g = g.next {
		switch {
		case g.set == nil || g.muted(filter):
		case &g.set.members == x:
			return false
		default:
			if _, ok := g.set.find(filter); ok {
				return true
			}
		}
	}
	return true
}

// granted finds by which set a client gets a filter that it has not subscribed to itself.
func (c *client) granted(id topictree.FilterID) (*set, member, bool) {
	if _, ok := c.find(id); ok {
		return nil, member{}, false
	}
	for g := c.grants(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		if i, ok := g.set.find(id.Filter()); ok && !g.muted(id.Filter()) {
			t := &g.set.topics[i]
			return g.set, member{C: c, SubID: t.SubID, Options: t.Options}, true
		}
	}
	return nil, member{}, false
}

// has reports whether the grant has a filter, plain or shared, that is not muted.
func (g *grant) has(filter string) bool {
	return g.set.contains(filter) && !g.muted(filter)
}

// contains reports whether a filter, plain or shared, is in the set.
func (x *set) contains(filter string) bool {
	if x == nil {
		return false
	}
	if strings.HasPrefix(filter, "$share/") {
		for i := range x.shares {
			if x.shares[i].Filter == filter {
				return true
			}
		}
		return false
	}
	_, ok := x.find(filter)
	return ok
}

// hasGranted reports whether any origin but the client itself, and but the one named, has made a
// subscription to a filter.
func (c *client) hasGranted(filter, but string) bool {
	for g := c.grants(); g != nil; g = g.next {
		if g.origin.Name != but && g.has(filter) {
			return true
		}
	}
	return false
}

// bypassed reports whether an origin that takes no account of rights has made a subscription to a topic.
func (c *client) bypassed(topic []byte) bool {
	for g := c.grants(); g != nil; g = g.next {
		if !g.origin.Bypass || g.set == nil {
			continue
		}
		for i := range g.set.topics {
			filter := g.set.topics[i].ID.Filter()
			if topictree.MatchFilter([]byte(filter), topic) && !g.muted(filter) {
				return true
			}
		}
	}
	return false
}

// grantedTopics is the number of topics of all grants.
func (c *client) grantedTopics() int {
	n := 0
	for g := c.grants(); g != nil; g = g.next {
		n += g.set.len()
	}
	return n
}

// revision is that of the session's subscriptions made by servers; 0 if there never were any.
func (c *client) revision() uint64 {
	var r uint64
	for g := c.grants(); g != nil; g = g.next {
		r = max(r, g.revision)
	}
	return r
}

// regrant replaces what a session has of one origin by the topics of a set, which is planted; nil for none.
// Every topic that was there before goes on without a gap. What is asked for by name is no longer muted, and
// with again its retained messages are sent although it was there before, as with a SUBSCRIBE [MQTT-3.8.4-3].
// It returns the grant, nil when the session has too many.
func (s *shard) regrant(cl *client, o *behalf.Origin, x *set, asked *behalf.Set, again bool) *grant {
	s.loop.MustBeHere()
	g := cl.grantOf(o.Name)
	fresh := g == nil
	if fresh {
		if g = s.newGrant(cl, o); g == nil {
			return nil
		}
	}
	changed := fresh || g.origin != o && *g.origin != *o || g.revision == 0
	g.origin, g.late = o, false
	old := g.set
	if x.len() == 0 {
		x = nil
	}
	replay := s.freshTopics(g, x, asked, again)
	if old != x {
		g.revision = s.b.lastRevision.Add(1)
		s.count.subscriptions += int64(x.plainLen() - old.plainLen())
		s.count.granted += int64(x.len() - old.len())
		s.exchange(cl, g, x)
		changed = true
	}
	if g.extra != nil {
		for f := range g.extra.muted { // asked for anew, or gone
			if _, ok := asked.Find(f); ok || !g.set.contains(f) {
				delete(g.extra.muted, f)
				changed = true
			}
		}
	}
	if s.replayGranted(cl, g, replay) || changed {
		s.saveGrant(cl, g)
	}
	s.syncShares(cl)
	g.settle()
	return g
}

func (x *set) plainLen() int {
	if x == nil {
		return 0
	}
	return len(x.topics)
}

// exchange moves the membership from the set that a grant has to another.
func (s *shard) exchange(cl *client, g *grant, x *set) {
	s.loop.MustBeHere()
	old, member, at := g.set, g.member, int(g.at)
	g.set, g.member = nil, false
	if x != nil {
		x.grants++
		if cl.Durable() {
			s.holdSet(x)
		}
		other := cl.memberOf(x)
		g.set = x
		if other == nil {
			g.member, g.at = true, uint32(x.members.Enter(cl))
		}
	}
	if old == nil {
		return
	}
	if member {
		if other := cl.sharing(old); other != nil { // a later grant of the same set takes the place over
			other.member, other.at = true, uint32(at)
		} else {
			s.receivers.Exit(&old.members, at, x != nil)
		}
	}
	if cl.Durable() {
		s.releaseSet(old)
	}
	old.grants--
	s.uproot(old)
}

// memberOf is the client's grant that is a member of x.
func (c *client) memberOf(x *set) *grant {
	for g := c.grants(); g != nil; g = g.next {
		if g.set == x && g.member {
			return g
		}
	}
	return nil
}

// sharing is a grant of x.
func (c *client) sharing(x *set) *grant {
	for g := c.grants(); g != nil; g = g.next {
		if g.set == x {
			return g
		}
	}
	return nil
}

// freshTopics is the topics of next, which takes the place of the grant's set, whose retained messages are to
// be sent.
func (s *shard) freshTopics(g *grant, next *set, asked *behalf.Set, again bool) []retained.Topic {
	old := g.set
	if next == nil || !s.opts.RetainAvailable || s.b.retained.Len() == 0 || old == next && asked.Len() == 0 {
		return nil
	}
	if old == nil {
		return next.topics // each looks at its own Retain Handling
	}
	var list []retained.Topic
	for i := range next.topics {
		t := &next.topics[i]
		filter := t.ID.Filter()
		stood := g.stood(filter)
		_, named := asked.Find(filter)
		if stood.Replays(named, again, t.RetainHandling) {
			list = append(list, *t)
			list[len(list)-1].Had = stood == behalf.Held
		}
	}
	return list
}

// stood is how a plain topic stands in the grant.
func (g *grant) stood(filter string) behalf.Standing {
	if _, there := g.set.find(filter); !there {
		return behalf.Fresh
	}
	if g.muted(filter) {
		return behalf.Muted
	}
	return behalf.Held
}

// unmute gives a client back what it has unsubscribed from, with its retained messages: these are new
// subscriptions [MQTT-3.3.1-9].
func (s *shard) unmute(cl *client, g *grant) {
	var list []retained.Topic
	for filter := range g.extra.muted {
		if i, ok := g.set.find(filter); ok {
			list = append(list, g.set.topics[i])
		}
	}
	slices.SortFunc(list, func(a, b retained.Topic) int { return retained.ByFilter(a, b.ID.Filter()) })
	g.extra.muted = nil
	if s.opts.RetainAvailable && s.b.retained.Len() > 0 {
		s.replayGranted(cl, g, list)
	}
	s.saveGrant(cl, g)
	s.syncShares(cl)
	g.settle()
}

// syncShares makes the client a member of the shared subscriptions of its grants, once each, and of no other.
func (s *shard) syncShares(cl *client) {
	for g := cl.grants(); g != nil; g = g.next {
		if g.extra != nil {
			s.pruneShares(cl, g)
		}
	}
	for g := cl.grants(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		for i := range g.set.shares {
			s.joinGrantedShare(cl, g, &g.set.shares[i])
		}
	}
}

// pruneShares leaves what a grant has no longer.
func (s *shard) pruneShares(cl *client, g *grant) {
	kept := g.extra.shares[:0]
	for _, m := range g.extra.shares {
		if g.has(m.ID.Filter()) {
			kept = append(kept, m)
			continue
		}
		s.leaveGrantedShare(cl, m)
	}
	clear(g.extra.shares[len(kept):])
	g.extra.shares = kept
}

func (s *shard) leaveGrantedShare(cl *client, m *shareMember) {
	cl.shared--
	s.count.sharedSubscriptions--
	if cl.Durable() {
		s.journal.Leave(m.ID)
	}
	s.leaveShare(m)
}

// joinGrantedShare joins one shared subscription, unless the client is in it already.
func (s *shard) joinGrantedShare(cl *client, g *grant, t *behalf.Topic) {
	if g.muted(t.Filter) {
		return
	}
	group, name, _ := codec.SplitShare([]byte(t.Filter))
	if id, ok := s.b.index.LookupShared(group, name); ok {
		if _, own := cl.find(id); own {
			return
		}
		if m := cl.grantedShare(id); m != nil {
			m.Options, m.SubID = optionsOf(t), t.ID
			return
		}
	}
	home := s.b.shareHome(group, name)
	id, err := s.b.index.AddShared(group, name, home)
	if err != nil {
		s.logf(LevelWarning, "Subscription of %s to %q refused: %v.", cl.id, t.Filter, err)
		return
	}
	m := newShareMember(cl, id, home, optionsOf(t), t.ID)
	s.joinShare(m)
	x := g.more()
	x.shares = append(x.shares, m)
	cl.shared++
	s.count.sharedSubscriptions++
	if cl.Durable() {
		s.journal.Enter(id)
	}
	cl.updateFull()
}

// grantedShare is the client's part in a shared subscription that a grant made.
func (c *client) grantedShare(id topictree.FilterID) *shareMember {
	for g := c.grants(); g != nil; g = g.next {
		if g.extra == nil {
			continue
		}
		for _, m := range g.extra.shares {
			if m.ID == id {
				return m
			}
		}
	}
	return nil
}

// ownShare makes room for a shared subscription of the client's own: it is not to count twice.
func (s *shard) ownShare(cl *client, id topictree.FilterID) {
	for g := cl.grants(); g != nil; g = g.next {
		if g.extra == nil {
			continue
		}
		for i, m := range g.extra.shares {
			if m.ID == id {
				last := len(g.extra.shares) - 1
				g.extra.shares[i] = g.extra.shares[last]
				g.extra.shares[last] = nil
				g.extra.shares = g.extra.shares[:last]
				s.leaveGrantedShare(cl, m)
				break
			}
		}
	}
}

// withdraw decides about an UNSUBSCRIBE for what others have made: done says that the client had it, and
// denied that it may not end it.
func (s *shard) withdraw(cl *client, filter string) (done, denied bool) {
	for g := cl.grants(); g != nil; g = g.next {
		if g.origin.Unsubscribe == behalf.Deny && g.has(filter) {
			return true, true
		}
	}
	for g := cl.grants(); g != nil; g = g.next {
		if !g.has(filter) {
			continue
		}
		g.mute(filter)
		s.saveGrant(cl, g) // and no more retained messages for it [MQTT-3.10.4-2]: see refresh
		done = true
	}
	if done {
		s.syncShares(cl)
	}
	return done, false
}

// dropGrants ends all of them, when a session ends.
func (s *shard) dropGrants(cl *client) {
	for g := cl.grants(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		s.count.subscriptions -= int64(len(g.set.topics))
		s.count.granted -= int64(g.set.len())
		s.exchange(cl, g, nil)
		g.extra.forget(s, cl)
		g.extra = nil
	}
	if cl.rare != nil {
		if cl.rare.grants != nil && cl.Durable() {
			s.journal.Batch.DropGrants(cl.number)
		}
		cl.rare.grants, cl.rare.replays = nil, nil // those for its own subscriptions have gone with them
	}
}

// forget leaves the shared subscriptions.
func (x *grantExtra) forget(s *shard, cl *client) {
	if x == nil {
		return
	}
	for _, m := range x.shares {
		s.leaveGrantedShare(cl, m)
	}
	x.shares = nil
}
