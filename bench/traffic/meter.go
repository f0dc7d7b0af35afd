package traffic

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// quiet is how long nothing may come or go before a count is taken: longer than any delayed ACK (200 ms).
	quiet = 250 * time.Millisecond
	// look is how often that is asked.
	look = 10 * time.Millisecond
)

// Meter counts the traffic of the sockets it opens. Its methods may be called from any goroutine.
type Meter struct {
	probe time.Duration // idle time before a TCP keep-alive; 0: none
	mu    struct {
		sync.Mutex
		open   map[*socket]struct{}
		closed Count
	}
}

// NewMeter returns a meter whose sockets send a TCP keep-alive after being idle for probe, as Chromium's do
// after 45 s; 0 means never.
func NewMeter(probe time.Duration) *Meter {
	m := &Meter{probe: probe}
	m.mu.open = map[*socket]struct{}{}
	return m
}

// socket is a connection that is counted. The FIN that Close sends is not.
type socket struct {
	*net.TCPConn
	meter *Meter
}

// Close takes the last reading and closes.
func (s *socket) Close() error {
	m := s.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.open[s]; ok {
		delete(m.mu.open, s)
		if c, err := countOf(s.TCPConn); err == nil { // the kernel may have let go of it already
			m.mu.closed = m.mu.closed.Add(c)
		}
	}
	return s.TCPConn.Close()
}

// Dial opens a counted TCP connection; its handshake is part of the count.
func (m *Meter) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if m.probe > 0 {
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: m.probe, Interval: m.probe, Count: 9}
	}
	c, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	s := &socket{TCPConn: c.(*net.TCPConn), meter: m} // tcp4 gives nothing else
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.open[s] = struct{}{}
	return s, nil
}

// hangUp closes all sockets.
func (m *Meter) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.mu.open {
		_ = s.TCPConn.Close()
	}
	clear(m.mu.open)
}

// ports lists the local ports of the open sockets.
func (m *Meter) ports() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []int
	for s := range m.mu.open {
		if a, ok := s.LocalAddr().(*net.TCPAddr); ok {
			list = append(list, a.Port)
		}
	}
	slices.Sort(list)
	return list
}

// Count reads the counters as they are.
func (m *Meter) Count() (Count, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.mu.closed
	for s := range m.mu.open {
		c, err := countOf(s.TCPConn)
		if err != nil {
			return Count{}, err
		}
		sum = sum.Add(c)
	}
	return sum, nil
}

// Settled waits until delayed ACKs have come and gone, then reads the counters.
func (m *Meter) Settled(ctx context.Context) (Count, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	last, err := m.Count()
	for same := time.Duration(0); err == nil && same < quiet; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Count{}, fmt.Errorf("traffic: the line does not become quiet: %w", ctx.Err())
		}
		var now Count
		now, err = m.Count()
		if same += look; now != last {
			last, same = now, 0
		}
	}
	return last, err
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("traffic: %w", ctx.Err())
	}
}
