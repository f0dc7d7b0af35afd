package broker

import (
	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/message"
	"noctule/broker/session"
	"noctule/broker/view"
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
func (c *client) handleSubscribe(h codec.Header, body []byte) error {
	s := c.shard
	p := &s.subs
	if err := p.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	if c.asks() && c.mustAsk(auth.Subscribe, filterNames(c, p)...) {
		return errAsked
	}
	subID, _ := p.Properties.Uint(codec.SubscriptionIdentifier)
	if s.debug {
		s.debugf("Received SUBSCRIBE from %s", c.id)
	}
	s.codes = s.codes[:0]
	for i := range p.Filters {
		f := &p.Filters[i]
		f.Name = c.mounted(f.Name)
		if s.debug {
			s.debugf("\t%s (QoS %d)", f.Name, f.QoS)
		}
		if c.bridge { // as MQTT 5 bridges ask for: what they bring does not go back, retained stays retained
			_, _, shared := codec.SplitShare(f.Name)
			f.NoLocal, f.RetainAsPublished = !shared, true
		}
		code, fresh := c.subscribe(f, subID)
		s.codes = append(s.codes, code)
		if code >= 0x80 {
			continue
		}
		c.logSubscribed(f)
		c.tellSubscribed(f, code)
		if r := c.newReplay(f, fresh); r != nil {
			s.fresh = append(s.fresh, r)
		}
	}
	fenced := c.addReplays()
	if s.debug {
		s.debugf("Sending SUBACK to %s", c.id)
	}
	if err := c.send(&codec.Suback{PacketID: p.PacketID, Codes: s.codes}); err != nil { // [MQTT-3.8.4-1]
		return err
	}
	c.replayRetained()
	if fenced && c.conn != nil {
		c.holdForFence()
	}
	if s.opts.Describe != nil {
		c.tellSubscriber(p.Filters)
	}
	return c.checkOutput()
}

func (c *client) logSubscribed(f *codec.Filter) {
	if c.shard.logSubs {
		c.shard.logf(LevelSubscribe, "%s %d %s", c.id, f.QoS, f.Name)
	}
}

// subscribe adds or changes one subscription [MQTT-3.8.4-3]; fresh reports a new one. The code is the
// granted QoS.
func (c *client) subscribe(f *codec.Filter, subID uint32) (code codec.Reason, fresh bool) {
	s := c.shard
	s.loop.MustBeHere()
	qos := min(f.QoS, c.listener().MaxQoS)
	o := fanout.NewOptions(qos, f.NoLocal, f.RetainAsPublished)
	if !c.may(auth.Subscribe, f.Name) {
		return refused(c, codec.NotAuthorized), false
	}
	group, name, shared := codec.SplitShare(f.Name)
	o |= c.coverage(f.Name)
	if c.mayNotGrow() && !c.subscribed(f.Name) {
		s.count.RefusedSubscriptions++
		return refused(c, codec.QuotaExceeded), false
	}
	if c.Durable() && s.journal.Failing() {
		return refused(c, codec.QuotaExceeded), false
	}
	var err error
	if shared {
		fresh, err = c.subscribeShared(group, name, o, subID)
	} else {
		fresh, err = c.subscribePlain(f.Name, o, subID)
	}
	if err != nil {
		s.logf(LevelWarning, "Subscription of %s to %q refused: %v.", c.id, f.Name, err)
		return refused(c, codec.QuotaExceeded), false
	}
	c.saveSubscription(f, o, subID)
	if fresh && !c.grants().Empty() {
		fresh = !c.grants().Has(string(f.Name), "")
	}
	return codec.Reason(qos), fresh
}

// mayNotGrow reports that a client can have no further subscription: it has as many as it may, or memory is
// short. Changing one goes on.
func (c *client) mayNotGrow() bool {
	full := c.shard.opts.MaxSubscriptions
	return c.shard.b.memory.Short() || full > 0 && len(c.subs)+c.grants().Topics() >= full
}

// refused is the SUBACK code of a refusal: MQTT 3 knows only one.
func refused(cl *client, r codec.Reason) codec.Reason {
	if cl.version != codec.V5 {
		return codec.UnspecifiedError
	}
	return r
}

func (c *client) subscribePlain(
	name []byte,
	o fanout.Options,
	subID uint32,
) (fresh bool, err error) {
	s := c.shard
	id, err := s.b.index.Add(name, s.index)
	if err != nil {
		return false, err
	}
	if i, ok := c.find(id); ok {
		sub := &c.subs[i]
		sub.opts, sub.subID = o, subID
		s.receivers.Change(id, int(sub.at), member{C: c, Options: o, SubID: subID})
		return false, nil
	}
	at := s.receivers.Join(id, member{C: c, Options: o, SubID: subID})
	c.addSub(subscription{id: id, at: int32(at), subID: subID, opts: o})
	s.count.Subscriptions++
	if c.Durable() {
		s.journal.Enter(id)
	}
	return true, nil
}

func (c *client) subscribeShared(
	group, name []byte,
	o fanout.Options,
	subID uint32,
) (fresh bool, err error) {
	s := c.shard
	home := s.b.shareHome(group, name)
	id, err := s.b.index.AddShared(group, name, home)
	if err != nil {
		return false, err
	}
	if i, ok := c.find(id); ok {
		s.b.index.RemoveShared(id) // it was counted already
		m := c.subs[i].share
		m.Options, m.SubID = o, subID
		return false, nil
	}
	s.grants.LeaveShare(c, id)
	m := newShareMember(c, id, home, o, subID)
	s.router.Join(m)
	c.addSub(subscription{id: id, share: m, subID: subID, opts: o})
	c.shared++
	c.updateFull()
	s.count.SharedSubscriptions++
	if c.Durable() {
		s.journal.Enter(id)
	}
	return true, nil
}

// subscribed reports whether the client has this very subscription.
func (c *client) subscribed(filter []byte) bool {
	_, ok := c.lookup(filter)
	return ok
}

// lookup finds the place of a subscription in the client's list.
func (c *client) lookup(filter []byte) (int, bool) {
	var id topictree.FilterID
	var ok bool
	if group, name, shared := codec.SplitShare(filter); shared {
		id, ok = c.shard.b.index.LookupShared(group, name)
	} else {
		id, ok = c.shard.b.index.Lookup(filter)
	}
	if !ok {
		return 0, false
	}
	return c.find(id)
}

// handleUnsubscribe removes subscriptions [MQTT-3.10.4-1] and answers [MQTT-3.10.4-4].
func (c *client) handleUnsubscribe(h codec.Header, body []byte) error {
	s := c.shard
	p := &s.unsubs
	if err := p.Parse(h.Flags, body, c.version); err != nil {
		return err
	}
	if c.asks() && c.mustAsk(auth.Unsubscribe, mountedNames(c, p.Filters)...) {
		return errAsked
	}
	if s.debug {
		s.debugf("Received UNSUBSCRIBE from %s", c.id)
	}
	s.codes = s.codes[:0]
	for _, name := range p.Filters {
		name = c.mounted(name)
		code := codec.NotAuthorized
		if c.may(auth.Unsubscribe, name) {
			code = c.endSubscription(name)
		}
		if s.debug {
			s.debugf("\t%s", name)
		}
		s.logf(LevelUnsubscribe, "%s %s", c.id, name)
		if code == codec.Success && s.b.watching.Any() {
			c.tellEvent(event{Kind: view.EventUnsubscribed, Filter: string(name)})
		}
		s.codes = append(s.codes, code)
	}
	if s.debug {
		s.debugf("Sending UNSUBACK to %s", c.id)
	}
	if err := c.sendLate(&codec.Unsuback{PacketID: p.PacketID, Codes: s.codes}); err != nil {
		return err
	}
	return c.checkOutput()
}

// endSubscription ends what a client has of a filter, by itself or by others.
func (c *client) endSubscription(name []byte) codec.Reason {
	code := codec.NoSubscriptionExisted
	if !c.grants().Empty() {
		done, denied := c.shard.grants.Withdraw(c, string(name))
		if denied {
			return codec.NotAuthorized
		}
		if done {
			code = codec.Success
		}
	}
	if i, ok := c.lookup(name); ok {
		c.unsubscribe(i)
		if c.Durable() {
			c.shard.journal.Batch.DeleteSubscription(c.number, string(name))
		}
		code = codec.Success
	}
	return code
}

// unsubscribe removes the i-th subscription of a session.
func (c *client) unsubscribe(i int) {
	s := c.shard
	s.loop.MustBeHere()
	sub := c.subs[i]
	c.removeSub(i)
	c.dropReplay(sub.id) // [MQTT-3.10.4-2]
	if c.Durable() {
		s.journal.Leave(sub.id)
	}
	if sub.share != nil {
		c.shared--
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
func (c *client) dropSubscriptions() {
	s := c.shard
	if len(c.subs) <= endSlice {
		c.dropSome(len(c.subs))
		return
	}
	c.ready.End()
	s.leaving.Push(c)
	if s.leaving.Len() == 1 {
		s.loop.Again(leaveTask{})
	}
}

// dropSome removes the last n.
func (c *client) dropSome(n int) {
	for range n {
		c.unsubscribe(len(c.subs) - 1)
	}
	if len(c.subs) > 0 {
		return
	}
	c.subs = nil
	if c.rare != nil {
		c.rare.subIndex = nil
	}
}

// leaveTask goes on with the oldest session that has ended.
type leaveTask struct{}

// Run implements wsnet.Task.
func (t leaveTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	cl := *s.leaving.At(0)
	cl.dropSome(min(endSlice, len(cl.subs)))
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

// grants is what the client has been given, nil if nothing rare is there.
func (c *client) grants() *grants.List[*client] {
	if c.rare == nil {
		return nil
	}
	return &c.rare.grants
}

// Given implements grants.Client.
func (c *client) Given(add bool) *grants.List[*client] {
	if add {
		return &c.extra().grants
	}
	return c.grants()
}

// Own implements grants.Client.
func (c *client) Own(id topictree.FilterID) bool {
	_, ok := c.find(id)
	return ok
}

// About implements grants.Client.
func (c *client) About() grants.About {
	a := grants.About{
		Bounds: c.rights().bounds(), ID: c.id, Username: c.username(), Number: c.number,
		Subscriptions: len(c.subs), Durable: c.Durable(), Online: c.conn != nil,
	}
	if c.conn != nil {
		a.MaxQoS = c.listener().MaxQoS
	}
	return a
}

// PlacedIn implements fanout.Receiver.
func (c *client) PlacedIn(x *fanout.Set[*client], at int) { c.grants().PlacedIn(x, at) }

// masks reports whether a member of x must not get a message by x for a filter: it has subscribed itself, has
// unsubscribed, or gets it by an earlier grant.
func (c *client) masks(x *fanout.Set[*client], id topictree.FilterID) bool {
	if len(c.subs) > 0 && c.Own(id) {
		return true
	}
	return c.rare.grants.Masks(x, id.Filter())
}

// granted is as what a client gets a filter that it has been given and has not subscribed to itself.
func (c *client) granted(id topictree.FilterID) (member, bool) {
	if c.Own(id) {
		return member{}, false
	}
	t, ok := c.grants().Find(id)
	if !ok {
		return member{}, false
	}
	return member{C: c, SubID: t.SubID, Options: t.Options}, true
}

// rename notes the username of a session.
func (c *client) rename(name string) {
	before := c.username()
	if before == name {
		return
	}
	c.extra().username = name
	c.shard.grants.Rename(c, before, name)
}

// selfTopic is where a client hears what it is subscribed to on its behalf, if it has asked for it: by a
// subscription to this very filter, its own or one of its lists. Nobody can publish there.
const selfTopic = "$me/subscriptions"

// tell sends a client the list of what others have subscribed it to, if it wants to know.
func (c *client) tell() {
	s := c.shard
	s.loop.MustBeHere()
	if s.opts.Describe == nil || c.conn == nil || c.mount() != "" {
		return
	}
	o, ok := c.selfOptions()
	if !ok {
		return
	}
	l, n := c.grants().Told()
	l.ClientID, l.Connected = c.id, true
	behalf.ByWall(s.b.clock.Wall, l.Holdings, nil)
	m := message.New([]byte(selfTopic), s.opts.Describe(&l, n), o.QoS(), false)
	c.give(m, session.Grant{QoS: o.QoS()})
}

// selfOptions is with what options a client has subscribed to selfTopic.
func (c *client) selfOptions() (fanout.Options, bool) {
	id, ok := c.shard.b.index.Lookup([]byte(selfTopic))
	if !ok {
		return 0, false
	}
	if i, ok := c.find(id); ok {
		return c.subs[i].opts, true
	}
	mb, ok := c.granted(id)
	return mb.Options, ok
}

// tellSubscriber answers a SUBSCRIBE to selfTopic, as a retained message would.
func (c *client) tellSubscriber(filters []codec.Filter) {
	for i := range filters {
		if string(filters[i].Name) == selfTopic {
			c.tell()
			return
		}
	}
}
