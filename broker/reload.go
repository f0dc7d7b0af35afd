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
			takeOver(s, o)
			recheckAll(s, func() { done <- struct{}{} })
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

// takeOver takes new settings over, on the shard's loop.
func takeOver(s *shard, o Options) {
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
		reloadSys(s)
	}
}

// After a reload every session is looked at again: may its client stay, what may it do. Each loop does it in
// slices (auth.Review) and serves its clients in between. Who connects meanwhile is held against the new
// settings from the start.

// recheckAll starts to look at all sessions, in place of what is under way; done is called at its end.
func recheckAll(s *shard, done func()) {
	s.checking.End()
	r := newRecheck(s, nil, done)
	s.checking = r.Review
	r.Run(s.loop)
}

// newRecheck looks at the sessions of a loop that match, all with nil; done is called at its end.
func newRecheck(s *shard, match func(*client) bool, done func()) reviewTask {
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
	return reviewTask{auth.NewReview(maps.Values(s.sessions), look, (*client).cover, done)}
}
