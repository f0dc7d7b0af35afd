package lookup

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Key stands for what an answer depends on: a hash of the values.
type Key [16]byte

// keyOf is the key of values, of which those at some places count. The salt is for those with secrets.
func keyOf(values []string, at []int, salt []byte) Key {
	h := sha256.New()
	h.Write(salt)
	var size [8]byte
	for _, i := range at {
		binary.BigEndian.PutUint64(size[:], uint64(len(values[i])))
		h.Write(size[:])
		h.Write([]byte(values[i]))
	}
	var k Key
	copy(k[:], h.Sum(nil))
	return k
}

// entryBytes is what a cached answer takes beside itself: key, times, its places in the map and in the list.
const entryBytes = 256

// cache is the answers that are known, bounded in number and in bytes: who was not asked for longest goes
// first. Answers that share memory are counted once.
type cache[A any] struct {
	// Set by newCache, then read-only:
	ttl, stale time.Duration
	max        int64 // bytes
	cost       func(A) (bytes int, of any)
	evicted    func()
	saver      Saver[A]              // nil: nobody
	lives      func(A) time.Duration // nil: all as long as ttl

	mu struct { // Guarded by mu:
		sync.Mutex
		lru    *simplelru.LRU[Key, known[A]]
		bytes  int64
		shared map[any]int // answers by what they share
		moving bool        // what leaves the cache is put back at once
	}
}

// known is a cached answer.
type known[A any] struct {
	answer A
	fresh  time.Time // until then it is not asked for again
	stale  time.Time // until then it may be used if asking fails
}

// newCache makes one; nil if the settings keep nothing: a nil cache is empty.
func newCache[A any](s *Cache, last bool, cost func(A) (int, any), evicted func()) *cache[A] {
	if s.TTL == 0 && !last {
		return nil
	}
	c := &cache[A]{ttl: time.Duration(s.TTL), max: s.MaxBytes, cost: cost, evicted: evicted}
	if last {
		c.stale = time.Duration(s.Stale)
	}
	c.mu.shared = make(map[any]int)
	c.mu.lru, _ = simplelru.NewLRU(max(1, s.Max), c.leftLocked)
	return c
}

// leftLocked is told what leaves the cache.
func (c *cache[A]) leftLocked(k Key, x known[A]) {
	c.countLocked(x.answer, -1)
	if c.saver != nil && !c.mu.moving {
		c.saver.Drop(k)
	}
}

// countLocked adds an answer to what is held, or takes it off.
func (c *cache[A]) countLocked(a A, sign int) {
	bytes := entryBytes
	if c.cost != nil {
		if own, of := c.cost(a); of == nil || c.firstOrLastLocked(of, sign) {
			bytes += own
		}
	}
	c.mu.bytes += int64(sign * bytes)
}

// firstOrLastLocked counts who shares of, and reports whether it comes or goes with this one.
func (c *cache[A]) firstOrLastLocked(of any, sign int) bool {
	had := c.mu.shared[of]
	if had+sign == 0 {
		delete(c.mu.shared, of)
		return true
	}
	c.mu.shared[of] += sign
	return had == 0
}

// get is a cached answer that has not run out, and whether it is fresh.
func (c *cache[A]) get(k Key) (a A, fresh, ok bool) {
	if c == nil {
		return a, false, false
	}
	at := now()
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.mu.lru.Get(k)
	if !ok {
		return a, false, false
	}
	if !at.Before(x.stale) && !at.Before(x.fresh) {
		c.mu.lru.Remove(k)
		return a, false, false
	}
	return x.answer, at.Before(x.fresh), true
}

// put keeps an answer. Those that came together do not run out together.
func (c *cache[A]) put(k Key, a A) {
	if c == nil {
		return
	}
	at := now()
	ttl, stale := c.ttl, c.stale
	if c.lives != nil {
		if most := c.lives(a); most > 0 && most < ttl {
			ttl, stale = most, 0
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireLocked(at)
	c.addLocked(k, known[A]{
		answer: a, stale: at.Add(ttl + stale),
		fresh: at.Add(time.Duration(float64(ttl) * (0.9 + 0.2*rand.Float64()))),
	})
}

// expireLocked removes answers that have run out from the end at which the others are that nobody asks for.
func (c *cache[A]) expireLocked(at time.Time) {
	for range 2 { // more than come
		_, x, ok := c.mu.lru.GetOldest()
		if !ok || at.Before(x.stale) || at.Before(x.fresh) {
			return
		}
		c.mu.lru.RemoveOldest()
	}
}

func (c *cache[A]) addLocked(k Key, x known[A]) {
	m := &c.mu
	m.moving = true
	m.lru.Remove(k)
	m.moving = false
	c.countLocked(x.answer, 1)
	if c.saver != nil && c.stale > 0 {
		c.saver.Save(k, x.answer, x.stale)
	}
	gone := 0
	if m.lru.Add(k, x) {
		gone++
	}
	for m.bytes > c.max && m.lru.Len() > 0 { // an answer that is larger than all is not kept
		m.lru.RemoveOldest()
		gone++
	}
	for range gone {
		c.evicted()
	}
}

// edit puts answers in the place of others: f returns it, and false to leave one as it is.
func (c *cache[A]) edit(f func(A) (A, bool)) {
	if c == nil {
		return
	}
	c.mu.Lock()
	keys := c.mu.lru.Keys() // the oldest first
	c.mu.Unlock()
	for _, k := range keys {
		c.editOne(k, f)
	}
}

func (c *cache[A]) editOne(k Key, f func(A) (A, bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.mu.lru.Peek(k)
	if !ok {
		return
	}
	if x.answer, ok = f(x.answer); ok {
		c.addLocked(k, x)
	}
}

// Kept is an answer that may be used until a time if there is no better one.
type Kept[A any] struct {
	Key    Key
	Answer A
	Until  time.Time
}

// kept is what is held, what was not asked for longest first.
func (c *cache[A]) kept() (list []Kept[A]) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.mu.lru.Keys() {
		x, _ := c.mu.lru.Peek(k)
		list = append(list, Kept[A]{k, x.answer, x.stale})
	}
	return list
}

// restore takes answers that are not fresh.
func (c *cache[A]) restore(list []Kept[A]) {
	if c == nil {
		return
	}
	latest := now().Add(c.ttl + c.stale)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range list {
		if x.Until.After(latest) { // a clock was set, or the file says less now
			x.Until = latest
		}
		c.addLocked(x.Key, known[A]{answer: x.Answer, stale: x.Until})
	}
}

// size is how many answers are held, and their bytes.
func (c *cache[A]) size() (n int, bytes int64) {
	if c == nil {
		return 0, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.lru.Len(), c.mu.bytes
}
