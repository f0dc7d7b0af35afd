package presub

import (
	"context"
	"errors"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/behalf"
)

// broken is a source that panics.
type broken struct{}

func (broken) topics(context.Context, *Client) ([]Topic, error) { panic("a source's fault") }

// A panic of a source that is asked beside others reaches the goroutine of the client's CONNECT, which knows
// whose it is, with the stack of where it came.
func TestSourcePanicReachesAdmission(t *testing.T) {
	e := engine(t, `
providers:
  - name: own
    static: {topics: [{topic: c/%c}]}
  - name: other
    static: {topics: [{topic: d/%c}]}
`)
	e.rules.Load().providers[1].src = broken{}
	defer func() {
		err, ok := recover().(error)
		if !ok || !strings.Contains(err.Error(), "a source's fault") || !strings.Contains(err.Error(), "crash_test.go") {
			t.Errorf("panic %v", err)
		}
	}()
	_, r := e.Grants(context.Background(), Client{ID: "c"})
	t.Errorf("it goes on with %s", r)
}

// reporter is a broker that hears of a panic.
type reporter struct {
	behalf.Broker
	what string
}

// Crashed implements crasher.
func (r *reporter) Crashed(what string, _ any, _ []byte) { r.what = what }

// What the workers do for one client names it before its panic goes on.
func TestWorkerPanicNamesClient(t *testing.T) {
	e := engine(t, "providers: []")
	b := &reporter{}
	fault := errors.New("a fault")
	e.broker, e.out = b, panicky{fault}
	defer func() {
		if v := recover(); v != fault {
			t.Errorf("panic %v", v)
		}
		if want := `while answering on the control topic client "asker"`; b.what != want {
			t.Errorf("told %q, want %q", b.what, want)
		}
	}()
	e.control(e.ctx, Caller{Door: MQTT, Allowed: true}, &Message{ClientID: "asker", Payload: []byte("{}")}, "x")
}

// panicky is a publisher that panics.
type panicky struct{ err error }

// Publish implements publisher.
func (p panicky) Publish(context.Context, broker.Publication) (broker.Result, error) { panic(p.err) }
