package broker

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"noctule/broker/admit"
	"noctule/broker/clock"
	"noctule/broker/crash"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/knock"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/retained"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/internal/wheel"
	"noctule/topictree"
	"noctule/wsnet"
)

// How a broker and its loops are made, and how they end. Nothing here is called by what they do in between.

// New starts a broker's event loops. It listens nowhere yet: see Listen.
func New(o Options) (*Broker, error) {
	if o.Log == nil {
		return nil, errors.New("broker: no log")
	}
	o.settle()
	b := &Broker{
		opts:      o,
		seed:      maphash.MakeSeed(),
		started:   now(),
		hangAfter: hangLimit,
		ended:     make(chan struct{}),
		knocks:    knock.New(o.Log, now),
		crash:     &crash.Reporter{Log: o.Log, Flush: o.FlushLog},
	}
	b.crash.Stop = b.stopLoops
	b.openTables()
	b.openMemory()
	if err := b.openAway(); err != nil {
		return nil, err
	}
	var err error
	if b.clock, err = clock.Open(o.Clock, o.Store); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	r, err := b.openStore()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.openDesk()
	server, err := wsnet.New(wsnet.Config{
		Loops:          o.Loops,
		Portable:       o.Portable,
		MaxConnections: o.MaxConnections,
		MaxInput:       o.maxInput(),
		Clock:          &b.clock.Source,
		Log:            o.Log,
		OnCrash:        b.crashed,
		NewHandler: func(l *wsnet.Loop) wsnet.Handler {
			s := newShard(b, l)
			b.shards = append(b.shards, s)
			return s
		},
	})
	if err != nil {
		if b.committer != nil {
			err = errors.Join(err, b.committer.Close())
		}
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.net, b.pages.Loops = server, (*loops)(b)
	if err := b.openInside(); err != nil {
		return nil, err
	}
	if r != nil {
		if err := r.restore(); err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return nil, errors.Join(fmt.Errorf("broker: %w", err), b.Shutdown(ctx))
		}
	}
	b.begin()
	if err := b.attach(); err != nil {
		return nil, err
	}
	return b, nil
}

// openStore reads what the store holds, nil without one, and makes what writes it and the table of denials.
func (b *Broker) openStore() (r *restoring, err error) {
	if b.opts.Store != nil {
		if r, err = b.readStore(); err != nil {
			return nil, err
		}
		b.openCommitter()
	}
	if err := b.openDenials(); err != nil {
		return nil, errors.Join(err, b.committer.Close())
	}
	return r, nil
}

// openTables makes what the loops share of filters, retained messages and what servers give sessions.
func (b *Broker) openTables() {
	b.index, b.retained = topictree.New(topictree.Options{}), retained.New()
	b.grants = grants.NewDoors[*client](b.index, b.retained, (*grantLoops)(b), b.memory.Short)
}

// openDesk makes where it is decided what takes time.
func (b *Broker) openDesk() {
	b.desk = admit.New(admit.Config{
		Max: b.opts.MaxAdmissions, Hashing: b.opts.Hashing, Go: b.asked.Go, Guard: b.crash.Guard,
		Now: func() int64 { return now().Sub(b.started).Milliseconds() },
	})
}

// openMemory begins to watch.
func (b *Broker) openMemory() {
	b.memory.Measure, b.memory.Go = b.opts.MemoryUsed, b.asked.Go // Shutdown waits
	b.memory.SetLimit(b.opts.MemoryLimit)
}

// begin starts what the first loop does by itself.
func (b *Broker) begin() {
	s := b.shards[0]
	s.post(func() {
		s.sampleMemory()
		if b.opts.SysInterval > 0 {
			startSys(s)
		}
	})
}

// Vacant reports whether Listen could have an address, as wsnet.Vacant does.
func Vacant(network, address string) error { return wsnet.Vacant(network, address) }

// Listen opens one listener.
func (b *Broker) Listen(o ListenerOptions) (*Listener, error) {
	o.Net.OnRefuse = b.knocks.Refused
	l, err := listener.Open(b.net, o)
	if err != nil {
		return nil, err
	}
	b.listeners.Add(l)
	return l, nil
}

// Shutdown publishes the pending wills, closes every connection without DISCONNECT, as Mosquitto does, and
// stops the loops. It returns when everything has stopped or ctx is done; a second call does nothing.
func (b *Broker) Shutdown(ctx context.Context) error {
	if b.stopping.Swap(true) {
		return nil
	}
	defer close(b.ended)
	if err := b.onEach(ctx, windUp); err != nil {
		return err
	}
	if err := b.net.Shutdown(ctx); err != nil {
		return err
	}
	if err := b.desk.Close(ctx); err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() { // ends with the admissions, which the end of their connections has cancelled
		b.asked.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.committer != nil {
		return b.committer.Close()
	}
	return nil
}

// windUp is the last that a loop does before its connections end: it publishes all wills that are still due,
// delayed ones too, as Mosquitto does. A recheck under way is given up.
func windUp(s *shard) {
	s.loop.MustBeHere()
	s.checking.End()
	for _, cl := range s.sessions {
		if cl.will() != nil {
			cl.sendWill()
		}
	}
	if s.index == 0 {
		s.noteClock()
	}
}

// Save returns when everything that has been acknowledged, and all else that had changed persistent state by
// then, is on disk.
func (b *Broker) Save(ctx context.Context) error {
	if b.committer == nil {
		return errNoStore
	}
	if err := b.onEach(ctx, (*shard).postJournal); err != nil {
		return err
	}
	return b.committer.Sync(ctx)
}

func newShard(b *Broker, l *wsnet.Loop) *shard {
	o := &b.opts
	s := &shard{
		b: b, loop: l, index: l.Index(), opts: o,
		limits: session.Limits{
			Inflight: o.MaxInflight, InflightBytes: o.MaxInflightBytes,
			Queued: o.MaxQueuedMessages, QueuedBytes: o.MaxQueuedBytes, QueueQoS0: o.QueueQoS0,
			UnreleasedBytes: unreleasedBytesMax, Memory: b.queueMemory,
		},
		sessions:  make(map[string]*client),
		receivers: fanout.New[*client](b.index, l.Index(), slice),
		timers:    wheel.New[*alarm](512),
		journal:   b.newJournal(l.Index()),
		away:      b.newFetcher(),
	}
	s.limits.Totals = &s.totals
	s.router = newRouter(s)
	openGrants(s)
	s.watchLevels()
	return s
}

// newRouter is the Router of a loop.
func newRouter(s *shard) *route.Router[*client] {
	return s.b.routers.New(route.Options[*client]{
		Index: s.b.index, Table: s.receivers, Journal: s.journal, Loop: s.loop, Number: s.index, Slice: slice,
		Once: !s.opts.AllowDuplicates, Only: deliverOnly, Deliver: deliverHit,
		Halt: s.halt, Hold: s.holdPublisher, Lost: func() { s.drop(DropOffline) },
	})
}

// Times and sizes of commits.
const (
	intervalLinger = time.Second
	groupFull      = 1 << 20
)

// maxLoops is the highest number of event loops.
const maxLoops = 64

// openCommitter makes the committer for the store in the options. It is there before the loops are, and
// commits nothing before the start has succeeded.
func (b *Broker) openCommitter() {
	o := store.CommitterOptions{
		Sources:   maxLoops,
		FullBytes: groupFull,
		Failed:    b.commitFailed,
		Done: func(source int, post uint64) {
			s := b.shards[source]
			s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { s.reached(post) })) // one a commit
		},
	}
	if b.opts.PersistenceSync == SyncInterval {
		o.Linger, o.FullBytes = intervalLinger, 0
	}
	b.committer = store.NewCommitter(b.opts.Store, o)
}

// newJournal is the journal of one loop; nil without a store.
func (b *Broker) newJournal(loop int) *durable.Journal {
	if b.committer == nil {
		return nil
	}
	return durable.New(loop, durable.Options{
		Committer: b.committer, Gates: b.opts.PersistenceSync != SyncInterval, Routes: &b.routes,
		NextID: func() uint64 { return b.lastMessage.Add(1) },
	})
}

func (b *Broker) commitFailed(err error) {
	if err == nil {
		line.Write(b.opts.Log, LevelNotice, "Persistent state can be written again.")
		return
	}
	b.storeError.Store(&err)
	line.Write(b.opts.Log, LevelError,
		"Error: Persistent state cannot be written, what needs it is refused until it can: %v", err)
	for _, s := range b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(l *wsnet.Loop) { // once a failure
			s.resume()
			s.answerLate(0, l.Now())
		}))
	}
}

// openAway sets up what the bound in the options needs.
func (b *Broker) openAway() error {
	if b.opts.MaxQueuedMemory <= 0 || b.opts.Store == nil {
		return nil
	}
	if _, ok := b.opts.Store.(store.Reader); !ok {
		return fmt.Errorf("broker: MaxQueuedMemory needs a store.Reader, %T is none", b.opts.Store)
	}
	b.queueMemory = &session.Memory{Bound: b.opts.MaxQueuedMemory}
	return nil
}

// newFetcher is that of one loop; nil without a bound.
func (b *Broker) newFetcher() *durable.Fetcher[*client] {
	if b.queueMemory == nil {
		return nil
	}
	return durable.NewFetcher[*client](b.opts.Store.(store.Reader), b.committer)
}

// openInside opens the listener of Broker.Pipe, which is none of Listeners: no reload reaches it.
func (b *Broker) openInside() (err error) {
	o := DefaultListenerOptions()
	o.AllowAnonymous = true
	o.Net.Network = wsnet.PipeNetwork
	b.inside, err = listener.Open(b.net, o)
	return err
}
