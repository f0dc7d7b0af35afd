package grants

import (
	"strconv"
	"strings"

	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/codec"
	"noctule/topictree"
)

// List is what one session has been given: a grant an origin, in the order in which they came; of several
// with a filter the first counts. A nil List is empty, for all methods.
type List[C comparable] struct {
	first *grant[C]
}

// grant is what a session has of one origin. It stays, with its revision, after its subscriptions have gone.
type grant[C comparable] struct {
	next     *grant[C]
	origin   *behalf.Origin
	set      *set[C]   // nil: none
	extra    *extra[C] // nil mostly
	revision uint64
	at       uint32 // place among the set's members
	member   bool   // false if an earlier grant is the member of the same set
	late     bool   // the list has not come yet
}

// extra is what few grants have.
type extra[C comparable] struct {
	shares []*fanout.Share[C]  // of the set's shared subscriptions
	muted  map[string]struct{} // filters that the client has unsubscribed from
	replay *retained.Replay    // retained messages that are still to be sent
}

// grantsMax is how many origins a session may have, with those that have no topics any more, which make room
// for another: see newGrant.
const grantsMax = 32

func (g *grant[C]) more() *extra[C] {
	if g.extra == nil {
		g.extra = &extra[C]{}
	}
	return g.extra
}

// settle gives the rare part up once nothing is in it.
func (g *grant[C]) settle() {
	x := g.extra
	if x != nil && len(x.shares) == 0 && len(x.muted) == 0 && x.replay == nil {
		g.extra = nil
	}
}

// muted reports whether the client has unsubscribed from a filter of this grant.
func (g *grant[C]) muted(filter string) bool {
	if g.extra == nil || g.extra.muted == nil {
		return false
	}
	_, ok := g.extra.muted[filter]
	return ok
}

// mute notes that the client has unsubscribed from a filter.
func (g *grant[C]) mute(filter string) {
	x := g.more()
	if x.muted == nil {
		x.muted = make(map[string]struct{})
	}
	x.muted[filter] = struct{}{}
}

// contents is what the session has of the origin; g may be nil.
func (g *grant[C]) contents() *behalf.Set {
	if g == nil {
		return nil
	}
	return g.set.contents()
}

// len is the number of topics; g may be nil.
func (g *grant[C]) len() int {
	if g == nil {
		return 0
	}
	return g.set.len()
}

// has reports whether the grant has a filter, plain or shared, that is not muted.
func (g *grant[C]) has(filter string) bool {
	return g.set.contains(filter) && !g.muted(filter)
}

// stood is how a plain topic stands in the grant.
func (g *grant[C]) stood(filter string) behalf.Standing {
	if _, there := g.set.find(filter); !there {
		return behalf.Fresh
	}
	if g.muted(filter) {
		return behalf.Muted
	}
	return behalf.Held
}

// head is the first grant.
func (l *List[C]) head() *grant[C] {
	if l == nil {
		return nil
	}
	return l.first
}

// Empty reports whether there never was anything, or it has been dropped.
func (l *List[C]) Empty() bool { return l.head() == nil }

// of is the grant of an origin, nil if there is none.
func (l *List[C]) of(origin string) *grant[C] {
	for g := l.head(); g != nil; g = g.next {
		if g.origin.Name == origin {
			return g
		}
	}
	return nil
}

// add makes a grant of an origin, behind the others; nil if there are too many.
func (l *List[C]) add(o *behalf.Origin) *grant[C] {
	n := 0
	end := &l.first
	for *end != nil {
		end = &(*end).next
		n++
	}
	if n >= grantsMax {
		return nil
	}
	*end = &grant[C]{origin: o}
	return *end
}

// PlacedIn notes the place in a set of the session that the list is of, see fanout.Receiver.
func (l *List[C]) PlacedIn(x *fanout.Set[C], at int) {
	for g := l.head(); g != nil; g = g.next {
		if g.set != nil && &g.set.members == x && g.member {
			g.at = uint32(at)
			return
		}
	}
}

// Masks reports whether a member of x, which has not subscribed itself, must not get a message by x for a
// filter: it has unsubscribed, or gets it by an earlier grant.
func (l *List[C]) Masks(x *fanout.Set[C], filter string) bool {
	for g := l.first; g != nil; g = g.next {
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

// Find is as what a session, which has not subscribed itself, gets what comes by a filter, if it does.
func (l *List[C]) Find(id topictree.FilterID) (t *retained.Topic, ok bool) {
	_, t = l.find(id.Filter())
	return t, t != nil
}

// find finds the set by which a session gets what comes by a plain filter, and the topic in it; nil if there
// is none.
func (l *List[C]) find(filter string) (*set[C], *retained.Topic) {
	for g := l.head(); g != nil; g = g.next {
		if g.set == nil {
			continue
		}
		if i, ok := g.set.find(filter); ok && !g.muted(filter) {
			return g.set, &g.set.topics[i]
		}
	}
	return nil, nil
}

// Has reports whether any origin but the one named has given a filter, plain or shared, that is not muted.
func (l *List[C]) Has(filter, but string) bool {
	for g := l.head(); g != nil; g = g.next {
		if g.origin.Name != but && g.has(filter) {
			return true
		}
	}
	return false
}

// Bypasses reports whether an origin that takes no account of rights has given a topic.
func (l *List[C]) Bypasses(topic []byte) bool {
	for g := l.head(); g != nil; g = g.next {
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

// Awaits reports whether a message that has come live for a topic is left out, since it comes with the
// retained ones: see retained.Replay.Awaits.
func (l *List[C]) Awaits(id topictree.FilterID, m *message.Message) bool {
	for g := l.head(); g != nil; g = g.next {
		if r := g.replay(); r != nil && r.Awaits(id, m) {
			return true
		}
	}
	return false
}

// Owes reports whether the retained messages for a filter are not all sent.
func (l *List[C]) Owes(filter string) bool {
	for g := l.head(); g != nil; g = g.next {
		if r := g.replay(); r != nil && r.Owes(filter) {
			return true
		}
	}
	return false
}

// Current is what a session, which has not subscribed to a filter itself, has of it by the grant whose
// retained messages r sends, and not by an earlier one.
func (l *List[C]) Current(r *retained.Replay, filter string) (t retained.Topic, ok bool) {
	g := l.sending(r)
	if g == nil || g.set == nil || g.muted(filter) {
		return t, false
	}
	by, topic := l.find(filter)
	if by != g.set {
		return t, false
	}
	return *topic, true
}

// sending is the grant whose retained messages r sends, nil if there is none.
func (l *List[C]) sending(r *retained.Replay) *grant[C] {
	g := l.head()
	for g != nil && g.replay() != r {
		g = g.next
	}
	return g
}

// replay is what is still to be sent of a grant, nil for nothing.
func (g *grant[C]) replay() *retained.Replay {
	if g.extra == nil {
		return nil
	}
	return g.extra.replay
}

// Topics is the number of topics.
func (l *List[C]) Topics() int {
	n := 0
	for g := l.head(); g != nil; g = g.next {
		n += g.set.len()
	}
	return n
}

// Revision is that of the session's subscriptions made by servers; 0 if there never were any.
func (l *List[C]) Revision() uint64 {
	var r uint64
	for g := l.head(); g != nil; g = g.next {
		r = max(r, g.revision)
	}
	return r
}

// Shares shows the session's parts in shared subscriptions, until yield says false.
func (l *List[C]) Shares(yield func(m *fanout.Share[C]) bool) {
	for g := l.head(); g != nil; g = g.next {
		if g.extra == nil {
			continue
		}
		for _, m := range g.extra.shares {
			if !yield(m) {
				return
			}
		}
	}
}

// InShare reports whether the session has been made a member of a shared subscription.
func (l *List[C]) InShare(id topictree.FilterID) bool { return l.share(id) != nil }

func (l *List[C]) share(id topictree.FilterID) *fanout.Share[C] {
	for m := range l.Shares {
		if m.ID == id {
			return m
		}
	}
	return nil
}

// missing names the origins whose lists have not come yet.
func (l *List[C]) missing() (names []string) {
	for g := l.head(); g != nil; g = g.next {
		if g.late {
			names = append(names, g.origin.Name)
		}
	}
	return names
}

// AppendProperties says in CONNACK what a client has got: MQTT 5 user properties.
func (l *List[C]) AppendProperties(props codec.Properties) codec.Properties {
	if names := l.missing(); names != nil {
		value := []byte(strings.Join(names, " "))
		props = codec.AppendUserProperty(props, []byte("presub-incomplete"), value)
	}
	r := l.Revision()
	if r == 0 {
		return props
	}
	props = codec.AppendUserProperty(props, []byte("presub-revision"), strconv.AppendUint(nil, r, 10))
	n := strconv.AppendInt(nil, int64(l.Topics()), 10)
	return codec.AppendUserProperty(props, []byte("presub-count"), n)
}
