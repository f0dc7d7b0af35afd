package broker

import (
	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/codec"
)

// selfTopic is where a client hears what it is subscribed to on its behalf, if it has asked for it: by a
// subscription to this very filter, its own or one of its lists. Nobody can publish there.
const selfTopic = "$me/subscriptions"

// tellMax is how many topics are told one by one; of more only their number is.
const tellMax = 1000

// tell sends a client the list of what others have subscribed it to, if it wants to know.
func (s *shard) tell(cl *client) {
	s.loop.MustBeHere()
	if s.opts.Describe == nil || cl.conn == nil || cl.mount() != "" {
		return
	}
	o, ok := s.selfOptions(cl)
	if !ok {
		return
	}
	l := behalf.Listing{ClientID: cl.id, Connected: true, Revision: cl.revision()}
	n := cl.grantedTopics()
	for g := cl.grants(); g != nil; g = g.next {
		if g.set == nil && !g.late {
			continue
		}
		h := behalf.Holding{Origin: g.origin.Name, Revision: g.revision, Late: g.late}
		if n <= tellMax {
			h.Topics = g.set.contents().Topics()
		}
		l.Holdings = append(l.Holdings, h)
	}
	m := message.New([]byte(selfTopic), s.opts.Describe(&l, n), o.QoS(), false)
	s.send(cl, m, session.Grant{QoS: o.QoS()})
}

// selfOptions is with what options a client has subscribed to selfTopic.
func (s *shard) selfOptions(cl *client) (fanout.Options, bool) {
	if i, ok := s.lookup(cl, []byte(selfTopic)); ok {
		return cl.subs[i].opts, true
	}
	if cl.grants() == nil {
		return 0, false
	}
	id, ok := s.b.index.Lookup([]byte(selfTopic))
	if !ok {
		return 0, false
	}
	_, mb, ok := cl.granted(id)
	return mb.Options, ok
}

// tellSubscriber answers a SUBSCRIBE to selfTopic, as a retained message would.
func (s *shard) tellSubscriber(cl *client, filters []codec.Filter) {
	for i := range filters {
		if string(filters[i].Name) == selfTopic {
			s.tell(cl)
			return
		}
	}
}
