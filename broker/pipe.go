package broker

import (
	"fmt"
	"net"

	"noctule/wsnet"
)

// Pipe connects a client of this process to the listener, without a socket: the result is its end, on which
// it speaks MQTT. To the broker it is a client like any other, of this machine and without an address, for
// whom the listener's options hold: who may log in and do what, mount point, limits. TLS, WebSocket and PROXY
// header are not on it, so options that take names from certificates refuse it. See wsnet.Listener.Pipe for
// how it waits and ends. Any goroutine.
func (l *Listener) Pipe() net.Conn { return l.net.Pipe() }

// Name is network and address as configured, such as "tcp 127.0.0.1:1883".
func (l *Listener) Name() string { return l.name }

// Listener finds one of Listeners by its name; nil if there is none. Any goroutine.
func (b *Broker) Listener(name string) *Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.mu.listeners {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Pipe connects a client of this process that is the program's own: it is on no listener, may do everything,
// and needs no password. What holds for all clients holds for it (Options), Admitters, Guard and Controls
// too. Programs whose own clients are to have a policy or a mount point of theirs open a listener for them,
// with wsnet.PipeNetwork as its network, and use Listener.Pipe. Any goroutine.
func (b *Broker) Pipe() net.Conn { return b.inside.Pipe() }

// openInside opens the listener of Broker.Pipe, which is none of Listeners: no reload reaches it.
func (b *Broker) openInside() error {
	o := DefaultListenerOptions()
	o.AllowAnonymous = true
	o.Net.Network = wsnet.PipeNetwork
	l := &Listener{name: wsnet.PipeNetwork}
	l.opts.Store(&o)
	cfg := o.Net
	cfg.Tag = l
	n, err := b.net.Listen(cfg)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	l.net = n
	b.inside = l
	return nil
}
