package bench

import "time"

// readSlices are the parts of a second at whose beginning a slow reader gets its allowance. With fewer its
// reading would come in bursts.
const readSlices = 10

// allowance is how many bytes the client may read now; 0 means that it is on the list of those that wait.
func (l *loop) allowance(c *client) int {
	number := l.now / (int64(time.Second) / readSlices)
	limit := c.group.ReadMax
	// The shares of the parts add up to the limit, also when it is less than a byte a part.
	share := int(int64(limit)*(number%readSlices+1)/readSlices - int64(limit)*(number%readSlices)/readSlices)
	if c.slice != number {
		c.slice, c.read = number, 0
	}
	if c.read < share {
		return share - c.read
	}
	if !c.paused {
		c.paused = true
		l.throttled = append(l.throttled, c)
	}
	return 0
}

// unthrottle lets slow readers read on when a slice begins. The socket's event does not come again for what
// is already there.
func (l *loop) unthrottle() {
	number := l.now / (int64(time.Second) / readSlices)
	if number == l.slice || len(l.throttled) == 0 {
		return
	}
	l.slice = number
	list := l.throttled
	l.throttled = nil
	for _, c := range list {
		c.paused = false
		if c.stage == ready {
			l.read(c)
		}
	}
}
