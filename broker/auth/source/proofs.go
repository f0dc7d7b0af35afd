package source

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/lookup"
	"noctule/codec"
)

// What a password comes to, compared with a stored one, is always the same; so it is kept for a while, by a
// keyed hash of both: what is in memory is of no use to who finds it, and a stored password that is another
// one is compared anew.

// proofs are the comparisons of a source, the last ones. nil has none.
type proofs struct {
	ttl, refused time.Duration
	key          [32]byte

	mu struct { // Guarded by mu:
		sync.Mutex
		lru *simplelru.LRU[[sha256.Size]byte, proof]
	}
}

type proof struct {
	ok    bool
	until time.Time
}

// proofBytes is what one takes.
const proofBytes = 192

func newProofs(c *lookup.Cache, refused time.Duration) *proofs {
	if c.TTL <= 0 || c.Max < 1 {
		return nil
	}
	p := &proofs{ttl: time.Duration(c.TTL), refused: min(refused, time.Duration(c.TTL))}
	_, _ = rand.Read(p.key[:]) // never fails
	most := min(int64(c.Max), max(1, c.MaxBytes/proofBytes))
	p.mu.lru, _ = simplelru.NewLRU[[sha256.Size]byte, proof](int(most), nil)
	return p
}

// keyOf is the place of a password and a stored one.
func (p *proofs) keyOf(h *hash.Hash, password []byte) (k [sha256.Size]byte) {
	m := hmac.New(sha256.New, p.key[:])
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], h.Mark())
	m.Write(mark[:])
	m.Write(password)
	copy(k[:], m.Sum(nil))
	return k
}

func (p *proofs) get(k [sha256.Size]byte) (ok, known bool) {
	at := now()
	p.mu.Lock()
	defer p.mu.Unlock()
	x, known := p.mu.lru.Get(k)
	if known && !at.Before(x.until) {
		p.mu.lru.Remove(k)
		return false, false
	}
	return x.ok, known
}

func (p *proofs) put(k [sha256.Size]byte, ok bool) {
	ttl := p.ttl
	if !ok {
		ttl = p.refused
	}
	ttl = time.Duration(float64(ttl) * (0.9 + 0.2*mrand.Float64()))
	x := proof{ok, now().Add(ttl)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.lru.Add(k, x)
}

// prove compares a login's password with a stored one, which known says is its own. told is false if there
// was no turn for that.
func (r *running) prove(ctx context.Context, l *auth.Login, h *hash.Hash, known bool) (ok, told bool) {
	var k [sha256.Size]byte
	if h == nil { // there is no decoy, with limits that a FIPS mode sets
		return false, true
	}
	if r.proofs != nil {
		k = r.proofs.keyOf(h, l.Password)
		if ok, told = r.proofs.get(k); told {
			return ok, true
		}
	}
	if auth.Compute(ctx, l, func() (failed bool) {
		ok = h.Matches(l.Password)
		return !ok || !known
	}) != codec.Success {
		return false, false
	}
	if r.proofs != nil {
		r.proofs.put(k, ok)
	}
	return ok, true
}

// decoys are what the passwords of unknown users are compared with, so that they take as long as those of
// known ones: stored passwords that there have been. The same unknown name has the same one for long.
type decoys struct {
	once  sync.Once
	seed  maphash.Seed
	first *hash.Hash
	list  [64]atomic.Pointer[hash.Hash]
}

func (d *decoys) place(username string) uint64 {
	d.once.Do(func() {
		d.seed = maphash.MakeSeed()
		if text, err := hash.New(hash.PBKDF2, []byte("noctule"), 0); err == nil {
			d.first, _ = hash.Parse(text)
		}
	})
	return maphash.String(d.seed, username) % uint64(len(d.list))
}

// note keeps a stored password in mind, if there is none yet in its place.
func (d *decoys) note(username string, h *hash.Hash) {
	d.list[d.place(username)].CompareAndSwap(nil, h)
}

// of is that of an unknown user.
func (d *decoys) of(username string) *hash.Hash {
	at := d.place(username)
	for i := range uint64(len(d.list)) {
		if h := d.list[(at+i)%uint64(len(d.list))].Load(); h != nil {
			return h
		}
	}
	return d.first
}
