package admin

import (
	"net"
	"net/netip"
	"sync"

	"noctule/internal/places"
)

// fair is a listener whose connections are bounded and shared by address: a new one always gets in, and when
// there are too many, of all or of its address, the oldest of the address with most is closed for it.
type fair struct {
	net.Listener

	mu struct {
		sync.Mutex
		table *places.Table[*fairConn]
	}
}

// fairConn is a connection of a fair listener.
type fairConn struct {
	net.Conn
	ln    *fair
	place places.Place[*fairConn] // the listener's mutex guards it
}

// newFair lets ln have so many connections, and one address a quarter of them, unless it is of this machine.
func newFair(ln net.Listener, total int) *fair {
	f := &fair{Listener: ln}
	f.mu.table = places.New[*fairConn](places.Shares(int64(total), 4), places.Oldest)
	return f
}

// Accept implements net.Listener.
func (f *fair) Accept() (net.Conn, error) {
	nc, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &fairConn{Conn: nc, ln: f}
	c.place.Value = c
	for _, o := range f.enter(c) {
		_ = o.Conn.Close() // its handler notices, and closes it once more
	}
	return c, nil
}

// enter gives c a place, and returns those that lose theirs.
func (f *fair) enter(c *fairConn) (gone []*fairConn) {
	from := places.Peer{Trusted: true} // a unix socket's
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		from = places.Peer{Addr: a.Addr(), Trusted: a.Addr().Unmap().IsLoopback()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.mu.table
	for p := t.Blocking(from, 1); p != nil; p = t.Blocking(from, 1) {
		t.Leave(p)
		gone = append(gone, p.Value)
	}
	t.Put(&c.place, from, 1)
	for t.Over() {
		p := t.Most()
		t.Leave(p)
		gone = append(gone, p.Value)
	}
	return gone
}

// Close implements net.Conn.
func (c *fairConn) Close() error {
	c.ln.mu.Lock()
	c.ln.mu.table.Leave(&c.place)
	c.ln.mu.Unlock()
	return c.Conn.Close()
}
