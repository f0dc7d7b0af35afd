// Package broker routes MQTT messages between sessions: QoS, retained messages, wills, shared
// subscriptions, limits and the $SYS tree, for MQTT 3.1, 3.1.1 and 5.0.
//
// Each event loop of wsnet has one shard. A session lives on the shard that its client id hashes to, and a
// connection moves there with its CONNECT; so a session, its connection, its subscriptions and its queue
// are touched by one goroutine only, and takeover is single-threaded. What shards share is the topic index,
// the retained messages (both safe for concurrent use) and their mailboxes. ARCHITECTURE tells the life of a
// PUBLISH.
package broker

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"noctule/broker/admit"
	"noctule/broker/auth/deny"
	"noctule/broker/clock"
	"noctule/broker/crash"
	"noctule/broker/durable"
	"noctule/broker/grants"
	"noctule/broker/knock"
	"noctule/broker/listener"
	"noctule/broker/retained"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/store"
	"noctule/broker/view"
	"noctule/internal/memguard"
	"noctule/topictree"
	"noctule/wsnet"
)

// Broker is a running MQTT broker. Its methods may be called from any goroutine.
type Broker struct {
	// Set by New, then read-only:
	opts      Options // at the start; the shards have what is in force
	net       *wsnet.Server
	shards    []*shard
	index     *topictree.Index
	retained  *retained.Index
	grants    *grants.Doors[*client]
	seed      maphash.Seed
	hangAfter time.Duration
	started   time.Time
	clock     *clock.Clock
	inside    *listener.Listener // of Pipe

	// Set by New if there is a store, then read-only:
	committer *store.Committer
	homeSeed  uint64 // of the hash that says where a session lives, the same after a restart
	// Set by New, then read-only; nil if max_queued_memory sets no bound:
	queueMemory *session.Memory

	knocks *knock.Log      // connections that came to nothing
	crash  *crash.Reporter // of a panic

	// Atomic:
	lastNumber  atomic.Uint64 // session numbers given out
	lastMessage atomic.Uint64 // ids of stored messages given out
	routes      durable.Routes
	routers     route.Routers[*client]
	stopping    atomic.Bool
	storeError  atomic.Pointer[error] // of the last commit that failed; it stays when commits succeed again
	sessions    atomic.Int64          // of all shards
	maxSessions atomic.Int64          // highest number of sessions that a snapshot has seen
	sysWaiting  atomic.Int64          // calls of PublishSys that the loop has not handled
	sysDropped  atomic.Int64          // calls of PublishSys beyond that

	memory   memguard.Guard
	pages    view.Pages
	watching view.Watches[EndReason]
	asked    sync.WaitGroup // goroutines of admissions, and those that read queues
	desk     *admit.Desk    // what takes time to decide
	denials  *deny.Table    // who may not be here
	ended    chan struct{}  // closed when Shutdown has stopped the loops, or has given up

	listeners listener.Set
}

// Unreleased QoS 2 messages of one client are bounded although Mosquitto does not, since the client sets
// their number.
const unreleasedBytesMax = 64 << 20

// errEnded is the answer once Shutdown has stopped the loops.
var errEnded = errors.New("broker: it has ended")

// onEach runs f on every loop and waits for all.
func (b *Broker) onEach(ctx context.Context, f func(*shard)) error {
	done := make(chan struct{}, len(b.shards))
	for _, s := range b.shards {
		s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) {
			f(s)
			done <- struct{}{}
		}))
	}
	for range b.shards {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-b.ended: // loops that have stopped drop what is posted
			return errEnded
		}
	}
	return nil
}

// onLoop runs f on a shard's loop and waits for it; false when ctx has ended first, and f then may or may not
// still run.
func (b *Broker) onLoop(ctx context.Context, s *shard, f func()) bool {
	return b.await(ctx, s, func(done func()) {
		f()
		done()
	})
}

// await runs f on a shard's loop and waits until it has called done, at once or later; false when ctx has
// ended first.
func (b *Broker) await(ctx context.Context, s *shard, f func(done func())) bool {
	done := make(chan struct{})
	s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { // bounded by the callers, who wait
		f(func() { close(done) })
	}))
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	case <-b.ended:
		return false
	}
}

// durably returns when what a shard has changed so far is durable; false when ctx has ended before.
func (b *Broker) durably(ctx context.Context, s *shard) bool {
	return s.journal.Durably(func(f func(func())) bool { return b.await(ctx, s, f) })
}

// home is the shard that owns the session of a client id.
func (b *Broker) home(clientID []byte) *shard {
	if len(b.shards) == 1 {
		return b.shards[0]
	}
	if b.committer != nil {
		return b.shards[homeOf(b.homeSeed, clientID, uint64(len(b.shards)))]
	}
	return b.shards[maphash.Bytes(b.seed, clientID)%uint64(len(b.shards))]
}

// homeOf is the loop that a session lives on where that must be known after a restart.
func homeOf(seed uint64, clientID []byte, loops uint64) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.Write(clientID) // never fails
	return d.Sum64() % loops
}

// errNoAnswer says that a loop was not heard of in time, or has ended.
var errNoAnswer = errors.New("broker: no answer from the loop")

// unanswered is the error of a wait for a loop that has ended: the context's, if it is that.
func unanswered(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errNoAnswer
}
