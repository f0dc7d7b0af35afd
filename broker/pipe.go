package broker

import (
	"net"

	"noctule/broker/listener"
)

// Listener is where clients come in.
type Listener = listener.Listener

// Versions is a set of protocol levels that may connect.
type Versions = listener.Versions

// Listener finds one of Listeners by its name; nil if there is none. Any goroutine.
func (b *Broker) Listener(name string) *Listener { return b.listeners.Named(name) }

// Listeners are those that were opened, in their order. Any goroutine.
func (b *Broker) Listeners() []*Listener { return b.listeners.All() }

// Pipe connects a client of this process that is the program's own: it is on no listener, may do everything,
// and needs no password. What holds for all clients holds for it (Options), Admitters, Guard and Controls
// too. Programs whose own clients are to have a policy or a mount point of theirs open a listener for them,
// with wsnet.PipeNetwork as its network, and use Listener.Pipe. Any goroutine.
func (b *Broker) Pipe() net.Conn { return b.inside.Pipe() }
