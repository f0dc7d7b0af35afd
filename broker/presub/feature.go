package presub

import (
	"context"
	"fmt"
	"strings"
	"time"

	"noctule/broker"
	"noctule/broker/store"
	"noctule/codec"
)

// An Engine is a broker.Feature: a program puts it into broker.Options.Features, and closes it after the
// broker.
var _ broker.Feature = (*Engine)(nil)

// Options implements broker.Feature: it puts the engine's hooks into a broker's options, and the limits of
// the rules in force.
func (e *Engine) Options(o *broker.Options) {
	rules := e.config()
	o.RequestsByUsername = true
	o.Describe, o.Guard, o.Ended = Describe, e.MayPublish, e.topicsEnded
	o.Private = append(o.Private, broker.Private{
		Filter: ControlTopic + "/response", Usernames: rules.Control.Usernames, Writers: ControlTopic,
	})
	if topic := rules.Connect.Topic; topic != "" {
		o.Private = append(o.Private, broker.Private{Filter: topic, Usernames: rules.Connect.Usernames})
		if !strings.HasSuffix(topic, "#") { // else it matches the answers too
			answers := broker.Private{Filter: topic + "/ack", Usernames: rules.Connect.Usernames}
			o.Private = append(o.Private, answers)
		}
	}
	if o.Controls == nil {
		o.Controls = make(map[string]broker.ControlFunc)
	}
	o.Controls[ControlTopic] = func(c *broker.Control) codec.Reason {
		return e.Control(&Message{
			ClientID: c.ClientID, Username: c.Username, Allowed: c.Allowed, Payload: c.Payload,
			ResponseTopic: c.ResponseTopic, MayAnswer: c.MayAnswer, Correlation: c.Correlation,
		})
	}
	o.Stored = append(o.Stored, broker.Stored{Table: store.Answers, Take: e.kept.take})
	o.MaxPending, o.MaxPendingBytes = rules.Pending.Max, rules.Pending.MaxBytes
	if len(rules.Providers) > 0 {
		o.Admitters = append(o.Admitters, admitter{e})
	}
}

// admitter asks the providers about a CONNECT.
type admitter struct{ e *Engine }

// Admit implements broker.Admitter.
func (a admitter) Admit(ctx context.Context, x *broker.Admission) codec.Reason {
	grants, r := a.e.Grants(ctx, Client{
		ID: x.ClientID, Username: x.Username, Password: x.Password, Address: x.Address.Addr(),
		Listener: x.Listener.Name(),
	})
	x.Grants = append(x.Grants, grants...)
	return r
}

// Attach implements broker.Feature: it gives the engine its broker, and hears the connect
// topic.
func (e *Engine) Attach(b *broker.Broker) error {
	e.b, e.broker, e.out = b, b, b
	e.attach(b)
	return e.Listen()
}

// listenPatience is how long a loop may take to have its ear on a topic.
const listenPatience = 10 * time.Second

// silence ends the hearing of the connect topic at once, also of what is under way.
func (e *Engine) silence() {
	e.tapped.Store(new(string))
	if e.tap != nil {
		e.tap.Close()
		e.tap = nil
	}
}

// Listen hears what is published on the connect topic that is in force, and on no other. Attach does, and the
// program behind Use once the broker's Reload has returned, with which it was settled who may publish there.
// It is for the goroutine of Use.
func (e *Engine) Listen() error {
	filter := e.ConnectTopic()
	if e.b == nil || *e.tapped.Load() == filter {
		return nil
	}
	e.silence()
	if filter == "" {
		return nil
	}
	e.tapped.Store(&filter)
	ctx, cancel := context.WithTimeout(context.Background(), listenPatience)
	defer cancel()
	tap, err := e.b.Tap(ctx, filter, func(topic, payload []byte) {
		if *e.tapped.Load() == filter {
			e.Connected(topic, payload)
		}
	})
	if err != nil {
		e.tapped.Store(new(string))
		return fmt.Errorf("the connect topic %q is not heard: %w", filter, err)
	}
	e.tap = tap
	return nil
}
