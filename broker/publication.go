package broker

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"noctule/broker/message"
	"noctule/broker/route"
	"noctule/codec"
	"noctule/wsnet"
)

// Publication is a message of the program's own. What it refers to must not change any more.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     uint8
	Retain  bool
	// Expiry is the Message Expiry Interval, in seconds on the wire, parts of one counted as one; 0 means
	// none.
	Expiry time.Duration
	// Properties are those of MQTT 5 that go to receivers as they are: Payload Format Indicator, Content
	// Type, Response Topic, Correlation Data, User Properties.
	Properties codec.Properties
	// Durable has Publish wait until what the broker keeps of the message is on disk: for sessions that
	// outlive their connection, and as retained. With a store that syncs in intervals, or none, it does not
	// wait.
	Durable bool
	// Local keeps it from those who have asked by Forward: it has come from another node.
	Local bool
}

// Result is what became of a Publication.
type Result struct {
	// Accepted says that it is on its way to all who get it. It is so, too, where an error is only that the
	// context has ended while Publish waited for more.
	Accepted bool
	// Receivers is how many subscriptions match: a client with two that do counts twice, a shared
	// subscription once. Whether a client has room for it, or may read it, is not known here.
	Receivers int
}

// PublishError is why a Publication is refused: nobody gets it, and it is not kept. It is an error.
type PublishError uint8

// The reasons.
const (
	ErrPublishTopic      PublishError = iota + 1 // not a Topic Name
	ErrPublishQoS                                // above 2
	ErrPublishProperties                         // not of a PUBLISH, or the broker's to set
	ErrPublishSize                               // larger than MessageSizeLimit
	ErrPublishRetain                             // retained messages are not available
	ErrPublishMemory                             // memory_limit: it would have to be kept
	ErrPublishStore                              // it would have to be on disk, which cannot be written
	ErrPublishEnd                                // the broker shuts down
)

// Error implements error.
func (r PublishError) Error() string { return "broker: publication refused: " + r.String() }

// String names the reason in a few words.
func (r PublishError) String() string {
	names := [...]string{
		"", "not a topic name", "not a QoS", "not properties of a message", "too large",
		"retained messages are not available", "memory is short",
		"persistent state cannot be written", "the broker shuts down",
	}
	if int(r) >= len(names) {
		return "unknown"
	}
	return names[r]
}

// Publish publishes a message of the program's own, which no policy applies to, and returns when it has been
// passed on: subscribers of all loops have it before what a client sends later. The error is a
// PublishError, or the context's; then Result.Accepted says whether it was too late. While the loop that
// publishes reads no sockets, since others, or the disk, do not keep up, it waits, as clients do. Order holds
// between calls of one goroutine with one topic. Any goroutine but a loop's may call it.
func (b *Broker) Publish(ctx context.Context, p Publication) (Result, error) {
	if err := b.checkPublication(&p); err != nil {
		return Result{}, err
	}
	m := message.New([]byte(p.Topic), p.Payload, p.QoS, p.Retain)
	m.Properties = p.Properties
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

// checkPublication holds a publication against what no loop needs to be asked about.
func (b *Broker) checkPublication(p *Publication) error {
	switch {
	case len(p.Topic) > topicMax || codec.CheckTopicName([]byte(p.Topic)) != nil:
		return ErrPublishTopic
	case p.QoS > 2:
		return ErrPublishQoS
	case !forwardable(p.Properties):
		return ErrPublishProperties
	case len(p.Topic)+len(p.Properties)+len(p.Payload) > codec.MaxRemaining-publicationHead:
		return ErrPublishSize
	case b.stopping.Load():
		return ErrPublishEnd
	}
	return nil
}

// publicationHead is what a PUBLISH may have in front of topic, properties and payload, in bytes: lengths,
// packet id, expiry, alias and a Subscription Identifier.
const publicationHead = 32

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
func (j *publishing) Run(*wsnet.Loop) {
	s := j.s
	if s.halted > 0 || s.pubs.Len() > 0 {
		s.pubs.Push(j)
		return
	}
	j.publish()
}

// publicationsTask publishes those that have waited.
type publicationsTask struct{}

// Run implements wsnet.Task.
func (publicationsTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	for n := s.pubs.Len(); n > 0 && s.halted == 0; n-- {
		s.pubs.Pop().publish()
	}
	if s.pubs.Len() > 0 && s.halted == 0 {
		l.Again(publicationsTask{})
	}
}

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
	if j.refused = s.refuses(m); j.refused != 0 {
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

// refuses says why the program's own message cannot be passed on.
func (s *shard) refuses(m *message.Message) PublishError {
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

// forwardable says that properties are well formed and go to receivers as they are.
func forwardable(p codec.Properties) bool {
	if len(p) == 0 {
		return true
	}
	whole := codec.Publish{Topic: []byte("t"), Properties: p}
	raw := whole.Append(nil, codec.V5)
	h, err := codec.ParseHeader(raw)
	if err != nil || new(codec.Publish).Parse(h.Flags, raw[h.Size:], codec.V5) != nil {
		return false
	}
	for id := range p.All() {
		if !id.Forwarded() {
			return false
		}
	}
	return true
}
