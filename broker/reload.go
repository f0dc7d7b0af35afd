package broker

import (
	"context"
	"reflect"

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
		lo.Net.OnRefuse = b.logRefused
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
	s.grants.Limit(next.grantLimits())
	s.watchLevels()
	if s.index == 0 {
		s.b.memory.SetLimit(o.MemoryLimit)
		s.b.net.SetMaxInput(o.maxInput())
		s.reloadSys()
	}
}
