package broker

import (
	"noctule/broker/auth"
	"noctule/broker/fanout"
	"noctule/codec"
	"noctule/topictree"
	"noctule/wsnet"
)

// subscription is one entry of a session's list.
type subscription struct {
	id    topictree.FilterID
	share *shareMember // nil unless shared
	at    int32        // place in the crowd; 0 for an only member
	subID uint32       // Subscription Identifier; 0 none
	opts  fanout.Options
}

// indexFrom is the number of subscriptions from which a session keeps a map of them.
const indexFrom = 32

// handleSubscribe adds subscriptions, answers, and then starts on the retained messages.
func (s *shard) handleSubscribe(cl *client, h codec.Header, body []byte) error {
	p := &s.subs
	if err := p.Parse(h.Flags, body, cl.version); err != nil {
		return err
	}
	if cl.asks() && s.mustAsk(cl, auth.Subscribe, filterNames(cl, p)...) {
		return errAsked
	}
	subID, _ := p.Properties.Uint(codec.SubscriptionIdentifier)
	if s.debug {
		s.debugf("Received SUBSCRIBE from %s", cl.id)
	}
	s.codes = s.codes[:0]
	for i := range p.Filters {
		f := &p.Filters[i]
		f.Name = cl.mounted(f.Name)
		if s.debug {
			s.debugf("\t%s (QoS %d)", f.Name, f.QoS)
		}
		if cl.bridge { // as MQTT 5 bridges ask for: what they bring does not go back, retained stays retained
			_, _, shared := codec.SplitShare(f.Name)
			f.NoLocal, f.RetainAsPublished = !shared, true
		}
		code, fresh := s.subscribe(cl, f, subID)
		s.codes = append(s.codes, code)
		if code >= 0x80 {
			continue
		}
		s.logSubscribed(cl, f)
		s.tellSubscribed(cl, f, code)
		if r := s.newReplay(cl, f, fresh); r != nil {
			s.fresh = append(s.fresh, r)
		}
	}
	fenced := s.addReplays(cl)
	if s.debug {
		s.debugf("Sending SUBACK to %s", cl.id)
	}
	if err := cl.send(&codec.Suback{PacketID: p.PacketID, Codes: s.codes}); err != nil { // [MQTT-3.8.4-1]
		return err
	}
	s.replayRetained(cl)
	if fenced && cl.conn != nil {
		s.holdForFence(cl)
	}
	if s.opts.Describe != nil {
		s.tellSubscriber(cl, p.Filters)
	}
	return s.checkOutput(cl)
}

func (s *shard) logSubscribed(cl *client, f *codec.Filter) {
	if s.logSubs {
		s.logf(LevelSubscribe, "%s %d %s", cl.id, f.QoS, f.Name)
	}
}

// subscribe adds or changes one subscription [MQTT-3.8.4-3]; fresh reports a new one. The code is the
// granted QoS.
func (s *shard) subscribe(cl *client, f *codec.Filter, subID uint32) (code codec.Reason, fresh bool) {
	s.loop.MustBeHere()
	qos := min(f.QoS, cl.listener().MaxQoS)
	o := fanout.NewOptions(qos, f.NoLocal, f.RetainAsPublished)
	if !cl.may(auth.Subscribe, f.Name) {
		return refused(cl, codec.NotAuthorized), false
	}
	group, name, shared := codec.SplitShare(f.Name)
	o |= cl.coverage(f.Name)
	if s.mayNotGrow(cl) && !s.has(cl, f.Name) {
		s.count.RefusedSubscriptions++
		return refused(cl, codec.QuotaExceeded), false
	}
	if cl.Durable() && s.journal.Failing() {
		return refused(cl, codec.QuotaExceeded), false
	}
	var err error
	if shared {
		fresh, err = s.subscribeShared(cl, group, name, o, subID)
	} else {
		fresh, err = s.subscribePlain(cl, f.Name, o, subID)
	}
	if err != nil {
		s.logf(LevelWarning, "Subscription of %s to %q refused: %v.", cl.id, f.Name, err)
		return refused(cl, codec.QuotaExceeded), false
	}
	s.saveSubscription(cl, f, o, subID)
	if fresh && !cl.grants().Empty() {
		fresh = !cl.grants().Has(string(f.Name), "")
	}
	return codec.Reason(qos), fresh
}

// mayNotGrow reports that a client can have no further subscription: it has as many as it may, or memory is
// short. Changing one goes on.
func (s *shard) mayNotGrow(cl *client) bool {
	full := s.opts.MaxSubscriptions
	return s.b.memory.Short() || full > 0 && len(cl.subs)+cl.grants().Topics() >= full
}

// refused is the SUBACK code of a refusal: MQTT 3 knows only one.
func refused(cl *client, r codec.Reason) codec.Reason {
	if cl.version != codec.V5 {
		return codec.UnspecifiedError
	}
	return r
}

func (s *shard) subscribePlain(
	cl *client,
	name []byte,
	o fanout.Options,
	subID uint32,
) (fresh bool, err error) {
	id, err := s.b.index.Add(name, s.index)
	if err != nil {
		return false, err
	}
	if i, ok := cl.find(id); ok {
		sub := &cl.subs[i]
		sub.opts, sub.subID = o, subID
		s.receivers.Change(id, int(sub.at), member{C: cl, Options: o, SubID: subID})
		return false, nil
	}
	at := s.receivers.Join(id, member{C: cl, Options: o, SubID: subID})
	cl.addSub(subscription{id: id, at: int32(at), subID: subID, opts: o})
	s.count.Subscriptions++
	if cl.Durable() {
		s.journal.Enter(id)
	}
	return true, nil
}

func (s *shard) subscribeShared(
	cl *client,
	group, name []byte,
	o fanout.Options,
	subID uint32,
) (fresh bool, err error) {
	home := s.b.shareHome(group, name)
	id, err := s.b.index.AddShared(group, name, home)
	if err != nil {
		return false, err
	}
	if i, ok := cl.find(id); ok {
		s.b.index.RemoveShared(id) // it was counted already
		m := cl.subs[i].share
		m.Options, m.SubID = o, subID
		return false, nil
	}
	s.grants.LeaveShare(cl, id)
	m := newShareMember(cl, id, home, o, subID)
	s.router.Join(m)
	cl.addSub(subscription{id: id, share: m, subID: subID, opts: o})
	cl.shared++
	cl.updateFull()
	s.count.SharedSubscriptions++
	if cl.Durable() {
		s.journal.Enter(id)
	}
	return true, nil
}

// has reports whether the client has this very subscription.
func (s *shard) has(cl *client, filter []byte) bool {
	_, ok := s.lookup(cl, filter)
	return ok
}

// lookup finds the place of a subscription in the client's list.
func (s *shard) lookup(cl *client, filter []byte) (int, bool) {
	var id topictree.FilterID
	var ok bool
	if group, name, shared := codec.SplitShare(filter); shared {
		id, ok = s.b.index.LookupShared(group, name)
	} else {
		id, ok = s.b.index.Lookup(filter)
	}
	if !ok {
		return 0, false
	}
	return cl.find(id)
}

// handleUnsubscribe removes subscriptions [MQTT-3.10.4-1] and answers [MQTT-3.10.4-4].
func (s *shard) handleUnsubscribe(cl *client, h codec.Header, body []byte) error {
	p := &s.unsubs
	if err := p.Parse(h.Flags, body, cl.version); err != nil {
		return err
	}
	if cl.asks() && s.mustAsk(cl, auth.Unsubscribe, mountedNames(cl, p.Filters)...) {
		return errAsked
	}
	if s.debug {
		s.debugf("Received UNSUBSCRIBE from %s", cl.id)
	}
	s.codes = s.codes[:0]
	for _, name := range p.Filters {
		name = cl.mounted(name)
		code := codec.NotAuthorized
		if cl.may(auth.Unsubscribe, name) {
			code = s.endSubscription(cl, name)
		}
		if s.debug {
			s.debugf("\t%s", name)
		}
		s.logf(LevelUnsubscribe, "%s %s", cl.id, name)
		if code == codec.Success && s.b.watching.Any() {
			s.tellEvent(cl, Event{Kind: EventUnsubscribed, Filter: string(name)})
		}
		s.codes = append(s.codes, code)
	}
	if s.debug {
		s.debugf("Sending UNSUBACK to %s", cl.id)
	}
	if err := cl.sendLate(&codec.Unsuback{PacketID: p.PacketID, Codes: s.codes}); err != nil {
		return err
	}
	return s.checkOutput(cl)
}

// endSubscription ends what a client has of a filter, by itself or by others.
func (s *shard) endSubscription(cl *client, name []byte) codec.Reason {
	code := codec.NoSubscriptionExisted
	if !cl.grants().Empty() {
		done, denied := s.grants.Withdraw(cl, string(name))
		if denied {
			return codec.NotAuthorized
		}
		if done {
			code = codec.Success
		}
	}
	if i, ok := s.lookup(cl, name); ok {
		s.unsubscribe(cl, i)
		if cl.Durable() {
			s.journal.Batch.DeleteSubscription(cl.number, string(name))
		}
		code = codec.Success
	}
	return code
}

// unsubscribe removes the i-th subscription of a session.
func (s *shard) unsubscribe(cl *client, i int) {
	s.loop.MustBeHere()
	sub := cl.subs[i]
	cl.removeSub(i)
	cl.dropReplay(sub.id) // [MQTT-3.10.4-2]
	if cl.Durable() {
		s.journal.Leave(sub.id)
	}
	if sub.share != nil {
		cl.shared--
		s.count.SharedSubscriptions--
		s.router.Leave(sub.share)
		return
	}
	s.count.Subscriptions--
	s.receivers.Leave(sub.id, int(sub.at))
}

// endSlice is how many subscriptions of sessions that have ended are removed in one turn.
const endSlice = 1024

// dropSubscriptions removes all of them, when a session ends; very many in later turns, a slice a turn of
// all sessions. Until then nothing is sent to it, nor dealt.
func (s *shard) dropSubscriptions(cl *client) {
	if len(cl.subs) <= endSlice {
		s.dropSome(cl, len(cl.subs))
		return
	}
	cl.ready.End()
	s.leaving.Push(cl)
	if s.leaving.Len() == 1 {
		s.loop.Again(leaveTask{})
	}
}

// dropSome removes the last n.
func (s *shard) dropSome(cl *client, n int) {
	for range n {
		s.unsubscribe(cl, len(cl.subs)-1)
	}
	if len(cl.subs) > 0 {
		return
	}
	cl.subs = nil
	if cl.rare != nil {
		cl.rare.subIndex = nil
	}
}

// leaveTask goes on with the oldest session that has ended.
type leaveTask struct{}

// Run implements wsnet.Task.
func (t leaveTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	cl := *s.leaving.At(0)
	s.dropSome(cl, min(endSlice, len(cl.subs)))
	if len(cl.subs) == 0 {
		s.leaving.Pop()
	}
	if s.leaving.Len() > 0 {
		l.Again(t)
	}
}

// Subscribed implements fanout.Receiver.
func (c *client) Subscribed(id topictree.FilterID) member {
	i, _ := c.find(id)
	sub := &c.subs[i]
	return member{C: c, Options: sub.opts, SubID: sub.subID}
}

// Placed implements fanout.Receiver.
func (c *client) Placed(id topictree.FilterID, at int) {
	if i, ok := c.find(id); ok {
		c.subs[i].at = int32(at)
	}
}

// find returns the place of a filter in the session's list.
func (c *client) find(id topictree.FilterID) (int, bool) {
	if c.rare != nil && c.rare.subIndex != nil {
		i, ok := c.rare.subIndex[id]
		return i, ok
	}
	for i := range c.subs {
		if c.subs[i].id == id {
			return i, true
		}
	}
	return 0, false
}

func (c *client) addSub(sub subscription) {
	if c.subs == nil {
		c.subs = make([]subscription, 0, 1) // most sessions have one
	}
	c.subs = append(c.subs, sub)
	switch {
	case c.rare != nil && c.rare.subIndex != nil:
		c.rare.subIndex[sub.id] = len(c.subs) - 1
	case len(c.subs) == indexFrom:
		index := make(map[topictree.FilterID]int, 2*indexFrom)
		c.extra().subIndex = index
		for i := range c.subs {
			index[c.subs[i].id] = i
		}
	}
}

func (c *client) removeSub(i int) {
	last := len(c.subs) - 1
	if c.rare != nil && c.rare.subIndex != nil {
		delete(c.rare.subIndex, c.subs[i].id)
		if i != last {
			c.rare.subIndex[c.subs[last].id] = i
		}
	}
	c.subs[i] = c.subs[last]
	c.subs[last] = subscription{}
	c.subs = c.subs[:last]
}
