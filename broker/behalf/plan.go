package behalf

import (
	"noctule/codec"
	"noctule/codec/im"
)

// What a request comes to is worked out here, by values alone: no session, no loop, no clock. The broker says
// what a session has and what it is held to, and puts into effect what comes out. Filters are full ones, with
// the mount point, but for those of a request.

// Terms are what a session is held to when others subscribe it.
type Terms struct {
	// Room is how many topics it may have of the origin; below 0: any number.
	Room int
	// MaxQoS and Mount are the highest QoS and the mount point of its listener.
	MaxQoS uint8
	Mount  string
	// May reports whether it may be subscribed to a full filter; nil: to all.
	May func(filter string) bool
}

// None reports whether there is nothing that it is held to.
func (t *Terms) None() bool { return t.Room < 0 && t.MaxQoS >= 2 && t.Mount == "" && t.May == nil }

// Plan is what a request comes to for one session.
type Plan struct {
	// Want is what the session is to have of the origin.
	Want *Set
	// Asked is the topics of the request as the session's listener makes them: mounted, and with its QoS.
	Asked *Set
	// Refused are the filters of Asked that the request cannot have, each with its reason; nil if there are
	// none. What the session had of them is in Want only if the request replaces nothing.
	Refused map[string]codec.Reason

	have   *Set
	action Action
}

// NewPlan works out what a session that has a list of an origin is to have after a request of that origin.
// What it has and the request does not take away stays, however little room there is; of the rest the first
// come in. Want is x itself if that is what it comes to.
func NewPlan(have *Set, a Action, x *Set, t *Terms) Plan {
	p := Plan{Asked: x.Capped(t.MaxQoS).Mounted(t.Mount), have: have, action: a}
	good := p.Asked
	if a != im.Unsubscribe && t.May != nil {
		good = good.where(func(x *Topic) bool { return t.May(x.Filter) || p.refuse(x, codec.NotAuthorized) })
	}
	p.Want = p.within(have.after(a, good), t.Room)
	return p
}

// refuse notes a reason; it is false, for the sake of those who ask whether a topic is to come in.
func (p *Plan) refuse(t *Topic, why codec.Reason) bool {
	if p.Refused == nil {
		p.Refused = make(map[string]codec.Reason)
	}
	p.Refused[t.Filter] = why
	return false
}

// within is the part of a list that there is room for.
func (p *Plan) within(want *Set, room int) *Set {
	if room < 0 || want.Len() <= room {
		return want
	}
	had := func(t *Topic) bool {
		_, ok := p.have.Find(t.Filter)
		return ok
	}
	for i := range want.topics {
		if had(&want.topics[i]) {
			room--
		}
	}
	return want.where(func(t *Topic) bool {
		if had(t) {
			return true
		}
		room--
		return room >= 0 || p.refuse(t, codec.QuotaExceeded)
	})
}

// after is a list after a request, with nobody to hold it to anything.
func (x *Set) after(a Action, y *Set) *Set {
	switch a {
	case im.Subscribe:
		return x.With(y)
	case im.Unsubscribe:
		return x.Without(y)
	default:
		return y
	}
}

// Effect is how a filter stood before a request has changed anything.
type Effect struct {
	Had bool // messages came by it
	// First says that they go on coming by the subscription by which they came, the client's own or one of
	// an earlier origin, and not by the one that was asked for; QoS is that one's.
	First bool
	QoS   uint8
}

// Results says what becomes of each topic that was asked for, in their order: planted reports whether a
// filter of Want could be put into effect, and stood how it was before, from wherever.
func (p *Plan) Results(
	t *Terms, planted func(filter string) bool, stood func(filter string) Effect,
) []Result {
	list := make([]Result, 0, p.Asked.Len())
	for _, x := range p.Asked.Topics() {
		r := Result{Filter: Unmounted(x.Filter, t.Mount)}
		why, refused := p.Refused[x.Filter]
		_, held := p.have.Find(x.Filter)
		switch {
		case refused:
			r.Code, r.State = why, im.Absent
		case p.action == im.Unsubscribe && held:
			r.State = im.Removed
		case p.action == im.Unsubscribe:
			r.Code, r.State = codec.NoSubscriptionExisted, im.Absent
		case !planted(x.Filter):
			r.Code, r.State = codec.QuotaExceeded, im.Absent
		default:
			r.Code, r.State = codec.Reason(x.QoS), im.New
			e := stood(x.Filter)
			if e.Had {
				r.State = im.Existing
			}
			if e.First {
				r.Code = codec.Reason(e.QoS)
			}
		}
		list = append(list, r)
	}
	return list
}

// Removed is the topics that go without having been asked about, replaced by others: plain ones, then shared
// ones.
func (p *Plan) Removed(t *Terms) (list []Result) {
	if p.action != im.Replace {
		return nil
	}
	for _, shared := range []bool{false, true} {
		for _, x := range p.have.Topics() {
			if x.IsShared() != shared {
				continue
			}
			if _, asked := p.Asked.Find(x.Filter); !asked { // else Results tells
				list = append(list, Result{Filter: Unmounted(x.Filter, t.Mount), State: im.Removed})
			}
		}
	}
	return list
}

// Waiting is what the requests come to that wait for one client, or the sessions of one user, of one origin.
type Waiting struct {
	List  *Set
	Whole bool // it replaces what a session has of the origin; else it adds to it
}

// Fold is what waits once a request has been added to w, which is nil if none waits yet; so is the result if
// no topic is left to wait for: sessions that are there have been told at once, others have nothing to end.
func (w *Waiting) Fold(a Action, x *Set) *Waiting {
	var next Waiting
	if w != nil {
		next = *w
	}
	next.List = next.List.after(a, x)
	next.Whole = next.Whole || a == im.Replace
	if next.List.Len() == 0 {
		return nil
	}
	return &next
}

// Plan is what comes of it for a session that has a list of the origin.
func (w *Waiting) Plan(have *Set, t *Terms) Plan {
	a := im.Subscribe
	if w.Whole {
		a = im.Replace
	}
	return NewPlan(have, a, w.List, t)
}

// Standing is how a topic stood in the list that another takes the place of.
type Standing uint8

// The standings.
const (
	Fresh Standing = iota // it was not in it
	Muted                 // it was, but the client had unsubscribed from it
	Held                  // it was in effect
)

// Replays reports whether the retained messages of a topic of the new list may be sent: named says that the
// request has the topic, and again that it is like a SUBSCRIBE, which has them sent once more [MQTT-3.8.4-3].
// Of a topic that is not Held the Retain Handling is looked at when they are sent [MQTT-3.3.1-9]
// [MQTT-3.3.1-10] [MQTT-3.3.1-11].
func (s Standing) Replays(named, again bool, retainHandling uint8) bool {
	switch s {
	case Fresh:
		return true
	case Muted:
		return named
	default:
		return named && again && retainHandling == 0
	}
}
