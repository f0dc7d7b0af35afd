package auth

import (
	"context"

	"noctule/codec"
)

// Enhanced authentication of MQTT 5 (4.12): a client names a method in CONNECT, and data go to and fro in
// AUTH packets until it is let in or refused; later it may begin again with AUTH 0x19, to renew what is
// running out.
//
// The contract with who has the connection: one Exchange belongs to one connection, and its calls come one
// after another, on any goroutine, since each may take long (Begin may wait for keys). Between two calls the
// client's packets wait. An Exchange that is not gone on with needs no end. Data are the caller's and are not
// kept. What is running out is told by Pass.Expires; whoever holds the connection ends it then.

// Method is one authentication method. It is immutable.
type Method interface {
	// Name is the Authentication Method, as CONNECT has it.
	Name() string
	// Begin takes the Authentication Data of CONNECT, or of an AUTH with 0x19; nil if there are none. The
	// login says who the client is so far: by CONNECT, or when it renews itself by its session. The Exchange
	// is nil unless the step is a Challenge.
	Begin(ctx context.Context, l *Login, data []byte) (Exchange, Step)
}

// Exchange is one that has begun.
type Exchange interface {
	// Continue takes the Authentication Data of an AUTH with 0x18, after a Challenge.
	Continue(ctx context.Context, data []byte) Step
}

// Step is what the broker does next: exactly one of Pass and Refused is set, or neither, for a challenge.
type Step struct {
	Data    []byte       // Authentication Data for AUTH 0x18, or with success for CONNACK or AUTH; nil: none
	Pass    *Pass        // not nil: the client is who this says
	Refused codec.Reason // not Success: it is not let in, or, if it renews itself, it is disconnected
	Why     string       // for the log, with Refused: nothing of what the client sent
}

// Challenge reports that the client is to answer.
func (s *Step) Challenge() bool { return s.Pass == nil && s.Refused == codec.Success }

// Methods are those of a listener, by their names. nil has none.
type Methods map[string]Method

// exchangeSteps bounds the steps of an exchange: the client chooses how often it goes on.
const exchangeSteps = 8

// Begin starts an exchange by a method's name: a method that is not there is refused with 0x8C
// [MQTT-4.12.0-1]. The Exchange that comes back refuses more than 8 steps.
func (m Methods) Begin(ctx context.Context, name string, l *Login, data []byte) (Exchange, Step) {
	method := m[name]
	if method == nil {
		return nil, Step{Refused: codec.BadAuthenticationMethod, Why: "an unknown authentication method"}
	}
	x, s := method.Begin(ctx, l, data)
	if !s.Challenge() || x == nil {
		return nil, s.orRefused().named(l.HasUsername)
	}
	return &boundedExchange{x, exchangeSteps - 1, l.HasUsername}, s
}

// named refuses a Pass that does not say who the client is, where CONNECT does: nobody has proved that.
func (s Step) named(has bool) Step {
	if s.Pass != nil && has && !s.Pass.HasUsername {
		return Step{Refused: codec.NotAuthorized, Why: "the authentication method has not found the username"}
	}
	return s
}

// orRefused makes a challenge without an exchange a refusal.
func (s Step) orRefused() Step {
	if s.Challenge() {
		return Step{Refused: codec.NotAuthorized, Why: "the authentication method has no next step"}
	}
	return s
}

// boundedExchange is an Exchange that ends.
type boundedExchange struct {
	x     Exchange
	left  int
	named bool // CONNECT has a username
}

// Continue implements Exchange.
func (b *boundedExchange) Continue(ctx context.Context, data []byte) Step {
	if b.left--; b.left < 0 {
		return Step{Refused: codec.NotAuthorized, Why: "the authentication takes too many steps"}
	}
	s := b.x.Continue(ctx, data)
	if !s.Challenge() {
		b.left = 0
	}
	return s.named(b.named)
}

// Renews reports whether a pass is for the client that is here: who renews itself stays who it is.
func (p *Pass) Renews(clientID, username string, hasUsername bool) bool {
	return (p.ClientID == "" || p.ClientID == clientID) &&
		p.HasUsername == hasUsername && p.Username == username
}
