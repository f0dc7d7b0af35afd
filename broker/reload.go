package broker

import (
	"context"
	"maps"
	"reflect"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// Reload replaces the settings of a running broker that can change: of o the Reloadable ones, and the
// whole of the options of the listeners named, except where and with which transport they listen. What
// clients may do is worked out again, and those that could not connect any more are disconnected. It
// returns when that has been done, or ctx is done; any goroutine but a loop's may call it. Calls must not
// overlap. Features have their say in o before.
func (b *Broker) Reload(ctx context.Context, o Options, listeners map[*Listener]ListenerOptions) error {
	o.Features = b.opts.Features
	o.settle()
	for l, lo := range listeners {
		lo.Net.OnRefuse = b.knocks.Refused
		l.Update(lo)
	}
	done := make(chan struct{}, len(b.shards))
	for _, s := range b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) {
			s.reload(o)
			s.recheck(func() { done <- struct{}{} })
		}))
	}
	for range b.shards {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Reloadable are the fields of Options that Reload takes over; they are marked there. The others keep
// their values for as long as the broker runs.
func Reloadable() (names []string) {
	for f := range reflect.TypeFor[Options]().Fields() {
		if f.Tag.Get("reload") == "yes" {
			names = append(names, f.Name)
		}
	}
	return names
}

// reload takes new settings over, on the shard's loop.
func (s *shard) reload(o Options) {
	s.loop.MustBeHere()
	next := *s.opts
	to, from := reflect.ValueOf(&next).Elem(), reflect.ValueOf(&o).Elem()
	for _, name := range Reloadable() {
		to.FieldByName(name).Set(from.FieldByName(name))
	}
	s.opts = &next
	s.limits.QueueQoS0 = o.QueueQoS0
	s.router.Once = !o.AllowDuplicates
	s.grants.Limit(next.grantLimits())
	s.watchLevels()
	if s.index == 0 {
		s.b.memory.SetLimit(o.MemoryLimit)
		s.b.net.SetMaxInput(o.maxInput())
		s.reloadSys()
	}
}

// After a reload every session is looked at again: may its client stay, what may it do. Each loop does it in
// slices (auth.Review) and serves its clients in between. Who connects meanwhile is held against the new
// settings from the start.

// recheck is the work under way on one loop, which looks at sessions in slices.
type recheck struct {
	*auth.Review[*client]
	current **recheck // the one for all sessions that is under way; nil of one for some only
	done    func()
}

// recheck starts to look at all sessions, in place of what is under way; done is called at its end.
func (s *shard) recheck(done func()) {
	s.checking.end()
	r := s.newRecheck(nil, done)
	r.current, s.checking = &s.checking, r
	r.Run(s.loop)
}

// newRecheck makes one of the sessions that match, all with nil; done is called at its end.
func (s *shard) newRecheck(match func(*client) bool, done func()) *recheck {
	s.loop.MustBeHere()
	look := func(cl *client) int {
		if match != nil && !match(cl) {
			return 0
		}
		if !cl.renew() {
			cl.kick(codec.NotAuthorized)
		}
		return len(cl.subs)
	}
	return &recheck{Review: auth.NewReview(maps.Values(s.sessions), look, (*client).cover), done: done}
}

// Run implements wsnet.Task: one slice.
func (r *recheck) Run(l *wsnet.Loop) {
	switch {
	case r.current != nil && *r.current != r: // given up
	case r.Step():
		r.end()
	default:
		l.Again(r)
	}
}

// end is the end of all slices, or gives up what is left; r may be nil.
func (r *recheck) end() {
	if r == nil {
		return
	}
	if r.current != nil {
		*r.current = nil
	}
	r.End()
	r.done()
}
