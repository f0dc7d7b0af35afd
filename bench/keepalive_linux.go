package bench

import (
	"container/heap"
	"errors"
	"time"

	"noctule/codec"
)

var errSilent = errors.New("no answer to PINGREQ within the Keep Alive")

// deadline is when a client is to be looked at.
type deadline struct {
	at     int64 // Unix ns
	client *client
	turn   int32 // of the client when it was made
}

// deadlines is a heap. A packet that is sent does not touch it: who has spoken meanwhile is found out when
// its old deadline comes.
type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deadlines) Push(x any) { *d = append(*d, x.(deadline)) }

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = deadline{}
	*d = (*d)[:last]
	return x
}

// silence is how long the client may be silent, ns: nine tenths of the Keep Alive, so that the packet is
// there in time [MQTT-3.1.2-20].
func (c *client) silence() int64 {
	return int64(c.keep) * int64(time.Second) * 9 / 10
}

// keepAlive begins to look after a client; what was agreed before is void.
func (l *loop) keepAlive(c *client) {
	c.keepTurn++
	c.pinged = false
	if s := c.silence(); s > 0 {
		heap.Push(&l.silent, deadline{l.now + s, c, c.keepTurn})
	}
}

// lookAfterSilent lets clients that were silent for too long send PINGREQ.
func (l *loop) lookAfterSilent() {
	for len(l.silent) > 0 && l.silent[0].at <= l.now {
		d := &l.silent[0]
		c := d.client
		s := c.silence()
		switch {
		case c.stage == closed || c.stage == idle || c.keepTurn != d.turn:
			heap.Pop(&l.silent)
			continue
		case l.now-c.spoke < s:
		case c.stage != ready: // the broker has to answer CONNECT or SUBSCRIBE first
			c.spoke = l.now
		case c.pinged && c.group.ReadMax == 0: // a slow reader may have the answer before it
			heap.Pop(&l.silent)
			l.fail(c, errSilent)
			continue
		default:
			c.touch()
			c.out = codec.AppendHeader(c.out, codec.PINGREQ, 0, 0)
			c.pinged = true
			l.count.pings++
		}
		d.at = max(c.spoke+s, l.now+1)
		heap.Fix(&l.silent, 0)
	}
}
