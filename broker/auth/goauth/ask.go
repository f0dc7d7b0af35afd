package goauth

import (
	"context"
	"math/rand/v2"
	"time"

	"noctule/broker/lookup"
	"noctule/internal/places"
)

// asking is how backends ask: a Lookup, with its cache, queue and circuit, over a function.
type asking[A any] struct {
	f func(ctx context.Context, values []string) (A, error)
	n int
}

// Ask implements lookup.Source.
func (s asking[A]) Ask(ctx context.Context, q *lookup.Question) (A, error) { return s.f(ctx, q.Values) }

// Uses implements lookup.Source.
func (s asking[A]) Uses() []int {
	list := make([]int, s.n)
	for i := range list {
		list[i] = i
	}
	return list
}

// Close implements lookup.Source: the backend closes what it holds.
func (asking[A]) Close() {}

// about says how something is asked.
type about struct {
	name   string                                   // of the backend, for its circuit
	about  string                                   // what it is asked about
	watch  func(source, about string) lookup.Events // nil: nobody
	names  []string                                 // of the values; password is secret
	budget time.Duration
	turns  int // questions at a time
	ttl    time.Duration
	jitter time.Duration
}

// connsMax is how many questions a backend is asked at a time, and how many connections it has.
const connsMax = 16

func newLookup[A any](
	a about, f func(ctx context.Context, values []string) (A, error), cost func(A) (int, any),
) *lookup.Lookup[A] {
	s := &lookup.Settings{Budget: lookup.Duration(a.budget)}
	s.Cache.TTL = lookup.Duration((a.ttl + a.jitter) * 2) // Lives says it
	s.Defaults(lookup.Given{})
	o := lookup.Options[A]{Name: a.name, Cost: cost}
	if a.watch != nil {
		o.Events = a.watch(a.name, a.about)
	}
	for _, n := range a.names {
		o.Names = append(o.Names, lookup.Name{Name: n, Secret: n == "password" || n == "token"})
	}
	o.Lives = func(A) time.Duration { return jittered(a.ttl, a.jitter) }
	return lookup.Over(s, lookup.Source[A](asking[A]{f, len(a.names)}), a.turns, o)
}

// ask asks, for who it is about.
func ask[A any](ctx context.Context, l *lookup.Lookup[A], from places.Peer, values ...string) (A, error) {
	return l.Ask(ctx, &lookup.Question{Values: values, From: from})
}

// texts is what an answer of texts takes.
func texts(list []string) (int, any) {
	n := 0
	for _, s := range list {
		n += len(s) + 16
	}
	return n, nil
}

// jittered is a time more or less.
func jittered(d, jitter time.Duration) time.Duration {
	if jitter > 0 {
		d += rand.N(2*jitter) - jitter
	}
	return max(d, time.Millisecond)
}
