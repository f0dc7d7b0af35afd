package broker

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"noctule/broker/message"
	"noctule/broker/publication"
	"noctule/broker/route"
	"noctule/wsnet"
)

// What a message of the program's own is; the types are publication's.
type (
	Publication  = publication.Publication
	Result       = publication.Result
	PublishError = publication.Error
)

// Why a Publication is refused.
const (
	ErrPublishTopic      = publication.ErrTopic      // not a Topic Name
	ErrPublishQoS        = publication.ErrQoS        // above 2
	ErrPublishProperties = publication.ErrProperties // not of a PUBLISH, or the broker's to set
	ErrPublishSize       = publication.ErrSize       // larger than MessageSizeLimit
	ErrPublishRetain     = publication.ErrRetain     // retained messages are not available
	ErrPublishMemory     = publication.ErrMemory     // memory_limit: it would have to be kept
	ErrPublishStore      = publication.ErrStore      // it would have to be on disk, which cannot be written
	ErrPublishEnd        = publication.ErrEnd        // the broker shuts down
)

// Publish publishes a message of the program's own, which no policy applies to, and returns when it has been
// passed on: subscribers of all loops have it before what a client sends later. The error is a
// PublishError, or the context's; then Result.Accepted says whether it was too late. While the loop that
// publishes reads no sockets, since others, or the disk, do not keep up, it waits, as clients do. Order holds
// between calls of one goroutine with one topic. Any goroutine but a loop's may call it.
func (b *Broker) Publish(ctx context.Context, p Publication) (Result, error) {
	err := p.Check()
	if err == 0 && b.stopping.Load() {
		err = ErrPublishEnd
	}
	if err != 0 {
		return Result{}, err
	}
	m := p.Message()
	j := &publishing{s: b.home(m.Topic), m: m, expiry: p.Expiry, local: p.Local, done: make(chan struct{})}
	j.s.loop.MustPost(j) // bounded by the callers, who wait
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return Result{}, ctx.Err()
		}
		<-j.done // it is being passed on
	case <-b.ended:
		return Result{}, ErrPublishEnd
	}
	if j.refused != 0 {
		return Result{}, j.refused
	}
	r := Result{Accepted: true, Receivers: j.receivers}
	for _, x := range j.far {
		s := b.shards[x.Loop]
		if !b.onLoop(ctx, s, func() { r.Receivers += s.router.Sizes(x.IDs) }) {
			return Result{Accepted: true, Receivers: j.receivers}, noAnswer(ctx)
		}
	}
	if p.Durable && !b.durably(ctx, j.s) {
		return r, noAnswer(ctx)
	}
	return r, nil
}

// noAnswer is the error of a wait that has ended: the context's, if it is that.
func noAnswer(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrPublishEnd
}

// publishing is a publication on its way to the loop that its topic belongs to.
type publishing struct {
	s      *shard
	m      *message.Message
	expiry time.Duration
	local  bool

	taken atomic.Bool // by the loop, or given up by who waits
	done  chan struct{}

	// Of the loop, until done is closed:
	refused   PublishError
	receivers int         // on this loop, and shared subscriptions
	far       []route.Far // whom to ask about the others
}

// Run implements wsnet.Task.
func (j *publishing) Run(*wsnet.Loop) { j.s.reading(j.publish) }

// publish does it, unless nobody waits for it any more.
func (j *publishing) publish() {
	if !j.taken.CompareAndSwap(false, true) {
		return
	}
	defer close(j.done)
	s, m := j.s, j.m
	if j.expiry > 0 {
		m.Expire(s.loop.Now(), uint32(min(wholeSeconds(j.expiry), math.MaxUint32)))
	}
	if j.refused = j.refuses(); j.refused != 0 {
		return
	}
	j.receivers, j.far = s.router.Count(m.Topic)
	s.journal.Begin()
	if j.local {
		s.routeMessage(m)
	} else {
		s.publishMessage(m)
	}
	s.postJournal() // before others see it, as at the end of a turn
	s.router.Post()
}

// refuses says why the loop cannot pass it on.
func (j *publishing) refuses() PublishError {
	s, m := j.s, j.m
	limit := int(s.opts.MessageSizeLimit)
	switch {
	case limit > 0 && len(m.Payload) > limit:
		return ErrPublishSize
	case m.Retain && !s.opts.RetainAvailable:
		return ErrPublishRetain
	case s.tooMuch(m):
		return ErrPublishMemory
	case !s.journal.Failing():
	case m.Retain && s.retainLog(m.Topic) != nil, m.QoS > 0 && s.router.ForDurable(m.Topic):
		return ErrPublishStore
	}
	return 0
}
