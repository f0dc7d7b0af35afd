package broker

import (
	"context"

	"noctule/broker/behalf"
	"noctule/codec/im"
)

// moveStep is how many members change their set at a time.
const moveStep = 256

// Move edits a set: all sessions whose list of an origin is from, connected or not, get the list to instead,
// as if each had been asked for. It returns their number when that is in effect on all loops. A session whose
// rights or listener made another list of from is left as it is.
func (b *Broker) Move(ctx context.Context, o *behalf.Origin, from, to *behalf.Set) (moved int, err error) {
	if b.committer != nil && b.committer.Failing() {
		return 0, errNotKept
	}
	for _, s := range b.shards {
		next := b.hold(ctx, s, to, o.Bypass)
		if next == nil && to.Len() > 0 {
			return moved, errNoAnswer
		}
		m := &moving{
			s: s, origin: o, key: setKey{from.Key(), o.Bypass}, from: from, to: next, topics: to, at: -1,
		}
		for more := true; more; {
			n := 0
			if !b.onLoop(ctx, s, func() { n, more = m.step() }) {
				s.letGo(next)
				return moved, errNoAnswer
			}
			moved += n
		}
		s.letGo(next)
	}
	for _, s := range b.shards {
		if !b.durably(ctx, s) {
			return moved, errNoAnswer
		}
	}
	return moved, nil
}

// moving is the edit of a set on one loop.
type moving struct {
	s      *shard
	origin *behalf.Origin
	key    setKey
	to     *set
	from   *behalf.Set
	topics *behalf.Set // that to is made of
	at     int         // place of the next member, from the end; -1: at the beginning
}

// step moves some members; more says that it has not come to the end.
func (m *moving) step() (n int, more bool) {
	x := m.s.sets[m.key]
	if x == nil || x == m.to || x.uprooting {
		return 0, false
	}
	if m.at < 0 || m.at >= x.members.Len() {
		m.at = x.members.Len() - 1
	}
	x.pins++ // its last member may leave
	for left := moveStep; m.at >= 0 && left > 0; left-- {
		c := x.members.At(m.at)
		m.at--
		if c == nil {
			continue
		}
		g := c.grantOf(m.origin.Name)
		if g == nil || g.set != x || c.rights().mountPoint() != "" { // from is without mount point
			continue
		}
		m.s.regrant(c, m.origin, m.fit(c), nil, false)
		m.s.replayRetained(c)
		m.s.tell(c)
		n++
	}
	m.s.unpinLoose()
	m.s.unpin(x)
	return n, m.at >= 0
}

// fit is the set that one member gets.
func (m *moving) fit(c *client) *set {
	t := m.s.terms(c, m.origin)
	plan := behalf.NewPlan(m.from, im.Replace, m.topics, &t)
	if plan.Want == m.topics {
		return m.to
	}
	m.s.tellCut(c, m.origin, &plan)
	return m.s.ready(plan.Want, m.origin.Bypass)
}
