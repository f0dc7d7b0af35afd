package session

import "fmt"

// Check is what of the session's invariants does not hold, nil mostly: those of flight and kept; who is in
// the window; and the order of messages [MQTT-4.6.0-1], which their numbers have in the flight and behind it
// in the queue. It walks through everything: for tests, and builds with the tag invariants.
func (s *Session) Check() error {
	o := s.out
	if o == nil {
		return nil
	}
	if err := o.flight.fault(); err != nil {
		return err
	}
	last, err := s.faultOfWindow(&o.flight)
	if err != nil {
		return err
	}
	return o.faultOfQueue(last)
}

// faultOfWindow looks at who is in the window, and returns the number of the last message in flight.
func (s *Session) faultOfWindow(f *flight) (last uint64, err error) {
	used := 0
	for i := range f.list.Len() {
		e := f.list.At(i)
		if e.state == done {
			continue
		}
		if i < int(f.resent) {
			used++
		}
		if e.seq != 0 && e.seq <= last {
			return last, fmt.Errorf("session: message %d is in flight behind %d", e.seq, last)
		}
		last = max(last, e.seq)
	}
	if used != int(f.used) || s.online && used > int(s.window) {
		return last, fmt.Errorf("session: %d in flight, %d counted, window %d", used, f.used, s.window)
	}
	return last, nil
}

// faultOfQueue looks at what waits behind the message of a number.
func (o *outbound) faultOfQueue(last uint64) error {
	bytes, loaded := int64(0), o.loaded()
	for i := range o.queue.Len() {
		e := o.queue.At(i)
		if (e.m != nil) != (i < loaded) || e.state != Waiting || e.id != 0 {
			return fmt.Errorf("session: %d of %d that wait (%d loaded) is %+v", i, o.queue.Len(), loaded, *e)
		}
		if e.m != nil {
			bytes += e.m.Size()
		} else {
			bytes += (*o.kept.away.At(i - loaded)).Size
		}
		if e.seq != 0 && e.seq <= last {
			return fmt.Errorf("session: message %d waits behind %d", e.seq, last)
		}
		last = max(last, e.seq)
	}
	if bytes != o.queueBytes || o.kept != nil && last > o.kept.seq {
		return fmt.Errorf("session: %d bytes wait, %d counted; last message %d", bytes, o.queueBytes, last)
	}
	return nil
}

// fault is what of the invariants does not hold.
func (f *flight) fault() error {
	n, gaps, young := f.list.Len(), 0, 0
	if f.old != nil {
		if young = f.old.young; young == 0 {
			return fmt.Errorf("session: old without entries")
		}
	}
	seen := make(map[uint16]struct{}, n)
	for i := range n {
		e := f.list.At(i)
		_, twice := seen[e.id]
		switch {
		case e.state == done && (i == 0 || e.m != nil):
			return fmt.Errorf("session: gap %d of %d, message %v", i, n, e.m)
		case e.state == done:
			gaps++
		case e.id == 0 || twice:
			return fmt.Errorf("session: packet id %d at %d of %d, or twice", e.id, i, n)
		default:
			seen[e.id] = struct{}{}
		}
		if i > young && e.id <= f.list.At(i-1).id || i >= young && e.id > f.last {
			return fmt.Errorf("session: packet id %d at %d of %d, %d old, last %d", e.id, i, n, young, f.last)
		}
	}
	if gaps != int(f.gaps) || gaps > max(gapsMin, n/2) || int(f.resent) > n {
		return fmt.Errorf("session: %d gaps of %d, %d counted, %d resent", gaps, n, f.gaps, f.resent)
	}
	return nil
}
