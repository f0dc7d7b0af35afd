//go:build linux

package bench

import "slices"

// stream judges what one receiver, or a group of receivers jointly, gets of one publisher.
type stream struct {
	next    uint32 // the number that is to come
	missing []gap  // numbers below next that did not come, ascending
}

// gap is a run of missing numbers, from included, to not.
type gap struct{ from, to uint32 }

// verdict is what stream says of one message.
type verdict uint8

const (
	inOrder   verdict = iota
	late              // after a later one
	duplicate         // came before
)

// take judges number seq.
func (s *stream) take(seq uint32) verdict {
	if seq == s.next {
		s.next++
		return inOrder
	}
	if seq > s.next {
		s.missing = append(s.missing, gap{s.next, seq})
		s.next = seq + 1
		return inOrder
	}
	for i, g := range slices.Backward(s.missing) {
		if seq >= g.to {
			break
		}
		if seq < g.from {
			continue
		}
		s.fill(i, seq)
		return late
	}
	return duplicate
}

// fill takes seq out of gap i.
func (s *stream) fill(i int, seq uint32) {
	g := s.missing[i]
	switch {
	case g.to-g.from == 1:
		s.missing = append(s.missing[:i], s.missing[i+1:]...)
	case seq == g.from:
		s.missing[i].from++
	case seq == g.to-1:
		s.missing[i].to--
	default:
		s.missing = append(s.missing, gap{})
		copy(s.missing[i+1:], s.missing[i:])
		s.missing[i].to, s.missing[i+1].from = seq, seq+1
	}
}

// lost is the number of messages that did not come when sent were sent.
func (s *stream) lost(sent uint32) int64 {
	n := int64(sent) - int64(s.next)
	for _, g := range s.missing {
		n += int64(g.to - g.from)
	}
	return n
}
