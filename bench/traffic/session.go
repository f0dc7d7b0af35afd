package traffic

import (
	"context"
	"errors"
	"time"
)

// session is a signed-in client. One goroutine uses it.
type session interface {
	// send sends "hello" to the peer: bare, or in the form that a real client gives it.
	send(ctx context.Context, full bool) error
	// ping exchanges a ping of the protocol.
	ping(ctx context.Context) error
	// idle spends one period of doing nothing: what keeps the session alive happens once.
	idle(ctx context.Context) error
	// rest does for d what the protocol asks of a client that has nothing to say.
	rest(ctx context.Context, d time.Duration) error
	close()
}

// receiver is whom the messages are for. It is not counted.
type receiver interface {
	// receive waits for n messages.
	receive(ctx context.Context, n int) error
	close()
}

// settings is what a session is opened with.
type settings struct {
	meter  *Meter
	period time.Duration // of keep-alives: how long the server may hold a poll, how long until the next ping
}

var errProtocol = errors.New("traffic: the server's answer is not understood")
