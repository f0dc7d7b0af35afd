// Package listener is where clients come in: a listener with its settings, whom these let in and by what
// name, and how many are there. What becomes of who has come in is others' business.
package listener

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/wsnet"
)

// Listener is one listening socket of a broker, or a place for clients without one.
type Listener struct {
	// Set by Open, then read-only:
	net  *wsnet.Listener
	name string // network and address as configured: what stores know it by

	// Atomic:
	opts      atomic.Pointer[Options]
	connected [versions]atomic.Int64 // clients by version; written once a connection, not a packet
}

// Open opens a listener. OnRefuse of o's Net hears of connections that come to nothing; it may be nil.
func Open(server *wsnet.Server, o Options) (*Listener, error) {
	l := &Listener{name: strings.TrimSuffix(o.Net.Network+" "+o.Net.Address, " ")}
	l.opts.Store(&o)
	cfg := o.Net
	cfg.Tag = l
	n, err := server.Listen(cfg)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	l.net = n
	return l, nil
}

// Of is where a connection came in.
func Of(c *wsnet.Conn) *Listener { return c.Listener().Tag().(*Listener) }

// Options are its settings now, read-only. Any goroutine.
func (l *Listener) Options() *Options { return l.opts.Load() }

// Update replaces its settings, except where and with which transport it listens.
func (l *Listener) Update(o Options) {
	o.Net.Tag = l
	l.opts.Store(&o)
	l.net.Update(o.Net)
}

// Addr is the address it listens on.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }

// Close stops listening; connections stay.
func (l *Listener) Close() error { return l.net.Close() }

// Pipe connects a client of this process to the listener, without a socket: the result is its end, on which
// it speaks MQTT. To the broker it is a client like any other, of this machine and without an address, for
// whom the listener's options hold: who may log in and do what, mount point, limits. TLS, WebSocket and PROXY
// header are not on it, so options that take names from certificates refuse it. See wsnet.Listener.Pipe for
// how it waits and ends. Any goroutine.
func (l *Listener) Pipe() net.Conn { return l.net.Pipe() }

// Name is network and address as configured, such as "tcp 127.0.0.1:1883".
func (l *Listener) Name() string { return l.name }

// Count counts clients of a version that have come, or with a negative number gone.
func (l *Listener) Count(v codec.Version, by int64) { l.connected[v-codec.V31].Add(by) }

// Set is the listeners of a broker, in the order in which they were opened. Any goroutine may use it.
type Set struct {
	mu struct {
		sync.Mutex
		list []*Listener
	}
}

// Add takes one in.
func (s *Set) Add(l *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.list = append(s.mu.list, l)
}

// All are those that were opened, those that have been closed included.
func (s *Set) All() []*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.list)
}

// Named finds one by its name; nil if there is none.
func (s *Set) Named(name string) *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.list {
		if l.name == name {
			return l
		}
	}
	return nil
}

// MayStill reports whether who published a retained message might write to its topic now: by the policy of
// the listener where it came in, or of the one that is Near. src may be nil.
func (s *Set) MayStill(src *message.Source, topic []byte) bool {
	if src == nil {
		return true
	}
	l := s.Near(src.Listener)
	if l == nil {
		return true
	}
	p := l.Options().Policy
	return p == nil || p.Permissions(src.ClientID, src.Username, src.Named).Allows(auth.Write, topic)
}

// Near finds the listener of a name, or else one on the same port: addresses are changed more easily than
// ports. nil if there is none.
func (s *Set) Near(name string) (near *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port := portIn(name)
	for _, l := range s.mu.list {
		if l.name == name {
			return l
		}
		if near == nil && port != "" && portIn(l.name) == port {
			near = l
		}
	}
	return near
}

// portIn is the port in a listener's name; "" for unix sockets and pipes.
func portIn(name string) string {
	if strings.HasPrefix(name, "unix") || strings.HasPrefix(name, wsnet.PipeNetwork) {
		return ""
	}
	return name[strings.LastIndexByte(name, ':')+1:]
}
