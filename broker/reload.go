package broker

import (
	"context"
	"slices"

	"noctule/codec"
)

// Reload replaces the settings of a running broker that can change: of o AllowDuplicates, ConnectionMessages,
// ClientIDPrefixes, PersistentClientExpiration, QueueQoS0, UpgradeOutgoingQoS and SysInterval, and the whole
// of the options of the listeners named, except where and with which transport they listen. What clients may
// do is worked out again, and those that could not connect any more are disconnected. It returns when every
// loop has taken the change over, or ctx is done; any goroutine but a loop's may call it.
func (b *Broker) Reload(ctx context.Context, o Options, listeners map[*Listener]ListenerOptions) error {
	for l, lo := range listeners {
		lo.Net.Tag, lo.Net.OnRefuse = l, b.logRefused
		l.opts.Store(&lo)
		l.net.Update(lo.Net)
	}
	return b.onEach(ctx, func(s *shard) { s.reload(o) })
}

// reload takes new settings over, on the shard's loop.
func (s *shard) reload(o Options) {
	next := *s.opts
	next.AllowDuplicates = o.AllowDuplicates
	next.ConnectionMessages = o.ConnectionMessages
	next.ClientIDPrefixes = o.ClientIDPrefixes
	next.PersistentClientExpiration = o.PersistentClientExpiration
	next.QueueQoS0 = o.QueueQoS0
	next.UpgradeOutgoingQoS = o.UpgradeOutgoingQoS
	next.SysInterval = o.SysInterval
	s.opts = &next
	s.limits.QueueQoS0 = o.QueueQoS0
	s.watchLevels()
	if s.index == 0 {
		s.reloadSys()
	}
	for _, cl := range s.sessions {
		if !s.renew(cl) && cl.conn != nil {
			s.kick(cl, codec.NotAuthorized, true)
		}
	}
}

// Listeners are those that were opened, in their order. Any goroutine.
func (b *Broker) Listeners() []*Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mu.listeners)
}
