package admit

import (
	"context"

	"noctule/broker/auth"
	"noctule/codec"
)

// Talk is enhanced authentication of MQTT 5 (4.12) on its way: of a Case with a method. A goroutine waits
// for its client at a challenge, in the case's place and for as long as a Case may take.
type Talk struct {
	// Set by the caller of Decide:
	Method string // the Authentication Method
	Data   []byte // what came with it; nil: none
	// Challenge sends a challenge to the client, whose answer is for Reply; on another goroutine.
	Challenge func(data []byte)

	// Set when the case is answered:
	Final []byte // Authentication Data that go with success; nil: none
	Why   string // of a refusal, for the log

	replies chan reply
}

// reply is what has come of a challenge.
type reply struct {
	data []byte
	r    codec.Reason
}

// NewTalk begins one.
func NewTalk(method string, data []byte, challenge func(data []byte)) *Talk {
	return &Talk{Method: method, Data: data, Challenge: challenge, replies: make(chan reply, 1)}
}

// Reply passes on what the client has answered to a challenge: Authentication Data, or with a reason that is
// not Success something that ends the exchange. It is to be called once for each challenge, and does not
// wait.
func (t *Talk) Reply(data []byte, r codec.Reason) { t.replies <- reply{data, r} }

// talk has a method find out who the client is. It begins when the login's address has its turn among those
// whose passwords are checked, and failures of the address slow it down as those do.
func (d *Desk) talk(ctx context.Context, c *Case) (*auth.Pass, codec.Reason) {
	t := c.Talk
	if r := d.hash(ctx, &c.Login, 2*c.Size, func() bool { return true }); r != codec.Success {
		return nil, r
	}
	var methods auth.Methods
	if c.Policy != nil {
		methods = c.Policy.Methods
	}
	x, step := methods.Begin(ctx, t.Method, &c.Login, t.Data)
	for step.Challenge() {
		t.Challenge(step.Data)
		select {
		case a := <-t.replies:
			if a.r != codec.Success {
				return nil, a.r
			}
			step = x.Continue(ctx, a.data)
		case <-ctx.Done():
			t.Why = "the client has not answered in time"
			return nil, codec.NotAuthorized
		}
	}
	if step.Pass != nil {
		t.Final = step.Data
		return step.Pass, codec.Success
	}
	t.Why = step.Why
	if step.Refused == codec.NotAuthorized {
		d.hash(ctx, &c.Login, 0, func() bool { return false })
	}
	return nil, step.Refused
}
