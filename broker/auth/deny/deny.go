// Package deny is the one table of who may not be here: users, client ids, addresses that are banned, tokens
// that were revoked, and kicks that last for a while. It is asked at each login, survives restarts through
// the store, and forgets what has expired.
//
// A denial that was taken is never lost for want of room: at the limit new ones are refused, and whoever adds
// them hears it. So that nobody can take the room of all others, one author has half of it at most.
package deny

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/store"
)

// Kind is what a denial names.
type Kind = store.DenialOf

// The kinds.
const (
	Token   = store.DenyToken   // the id of a token (jti)
	User    = store.DenyUser    // a username
	Client  = store.DenyClient  // a client id
	Address = store.DenyAddress // an address, or a prefix as in "10.0.0.0/8"
)

// Entry is one denial. Its times are those of the system's clock, as the times of tokens are, in whole
// seconds.
type Entry struct {
	Kind   Kind
	Name   string
	Since  time.Time // when it was added
	Until  time.Time // the zero Time: for ever
	By     string    // who added it: "api:x", "config"; it has a share of the places
	Reason string    // for operators; clients are not told
}

// Query is who wants in; what is empty, or the zero Addr, is denied by nothing.
type Query struct {
	Token, User, Client string
	Address             netip.Addr
}

// Limits of an Entry, in bytes.
const (
	nameMax   = 65535
	byMax     = 256
	reasonMax = 1024
	entryCost = 256 // what one takes beside its texts
)

// Config are the limits of a Table and where it is kept. Zero values mean the defaults named.
type Config struct {
	Entries int   // 65536
	Bytes   int64 // of texts and what is around them; 64 MB
	// Shared calls f with a batch that becomes durable: Committer.Shared. nil: nothing is kept. It is called
	// under the table's lock, and must not call the table.
	Shared func(f func(b *store.Batch))
	// Now is the time in Unix seconds by the system's clock. It must be set.
	Now func() int64
}

// ErrFull is the error of Add when the table, or what one author may have of it, is full. Nothing has
// changed.
var ErrFull = errors.New("deny: too many denials")

// Stats are counts since the start, except where noted.
type Stats struct {
	Entries int   // now
	Bytes   int64 // now
	Added   int64
	Removed int64 // by Remove
	Expired int64
	Refused int64 // not added: there was no room
	Denied  int64 // answers of Match that said no
}

// Table is the denials. Its methods may be called from any goroutine.
type Table struct {
	cfg Config // set by New, then read-only

	// Atomic:
	size   atomic.Int64 // number of entries: who asks an empty table takes no lock
	denied atomic.Int64

	mu struct { // Guarded by mu:
		sync.RWMutex
		names    [Address]map[string]*entry // by kind
		prefixes map[netip.Prefix]*entry
		lengths4 [33]int // how many prefixes there are of each length
		lengths6 [129]int
		due      dueHeap // those that end, the next one first
		authors  map[string]*share
		stats    Stats
	}
}

// entry is one in the table.
type entry struct {
	Entry
	prefix netip.Prefix // of an Address
	until  int64        // Unix seconds; 0: for ever
	at     int          // place among those that end; -1: it does not
}

// share is what one author has.
type share struct {
	entries int
	bytes   int64
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.Entries == 0 {
		cfg.Entries = 65536
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 20
	}
	if cfg.Shared == nil {
		cfg.Shared = func(func(*store.Batch)) {}
	}
	t := &Table{cfg: cfg}
	for i := range t.mu.names {
		t.mu.names[i] = map[string]*entry{}
	}
	t.mu.prefixes = map[netip.Prefix]*entry{}
	t.mu.authors = map[string]*share{}
	return t
}

// Load takes an entry that was stored, without storing it again; nothing else has been added yet. One that is
// no entry is an error, and one that has expired is left for Expire. There may be more than the limits say.
func (t *Table) Load(d *store.Denial) error {
	e := &entry{Entry: Entry{
		Kind: d.Of, Name: d.Name, Since: time.Unix(d.Since, 0), By: d.By, Reason: d.Reason,
	}, until: d.Until}
	if d.Until != 0 {
		e.Until = time.Unix(d.Until, 0)
	}
	if err := e.check(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.putLocked(e)
	return nil
}

// check reads an entry's name, and says what is wrong with it.
func (e *entry) check() error {
	switch {
	case e.Kind > Address:
		return fmt.Errorf("deny: kind %d", e.Kind)
	case e.Name == "" || len(e.Name) > nameMax || strings.Contains(e.Name, "\x00"):
		return fmt.Errorf("deny: not a name of a %s", e.Kind)
	case len(e.By) > byMax || len(e.Reason) > reasonMax:
		return fmt.Errorf("deny: an author has %d bytes at most, a reason %d", byMax, reasonMax)
	case e.Kind != Address:
		return nil
	}
	p, err := netip.ParsePrefix(e.Name)
	if err != nil {
		a, err := netip.ParseAddr(e.Name)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("deny: neither an address nor a prefix")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() { // an IPv4 address has one form here
		if p.Bits() < 96 {
			return fmt.Errorf("deny: a prefix of IPv6 that is none of IPv4 either")
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	e.prefix = p.Masked()
	e.Name = e.prefix.String()
	if e.prefix.IsSingleIP() {
		e.Name = e.prefix.Addr().String()
	}
	return nil
}

// cost is what an entry counts.
func (e *entry) cost() int64 { return entryCost + int64(len(e.Name)+len(e.By)+len(e.Reason)) }

// Add adds an entry, or takes the place of the one with its name; Since is set here. The result is as it is
// in the table. What it says is durable once what was posted is; see Config.Shared.
func (t *Table) Add(x Entry) (Entry, error) {
	now := t.cfg.Now()
	x.Since = time.Unix(now, 0)
	x.Name, x.By, x.Reason = strings.Clone(x.Name), strings.Clone(x.By), strings.Clone(x.Reason)
	e := &entry{Entry: x}
	if !x.Until.IsZero() {
		e.until = x.Until.Unix()
		if x.Until.Nanosecond() != 0 {
			e.until++ // never early
		}
		if e.until <= now {
			return Entry{}, errors.New("deny: it ends before it begins")
		}
		e.Until = time.Unix(e.until, 0)
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.expireOneLocked(now) {
	}
	if !t.roomLocked(e) {
		t.mu.stats.Refused++
		return Entry{}, ErrFull
	}
	t.putLocked(e)
	t.mu.stats.Added++
	t.cfg.Shared(func(b *store.Batch) {
		b.PutDenial(&store.Denial{
			Of: e.Kind, Name: e.Name, Since: now, Until: e.until, By: e.By, Reason: e.Reason,
		})
	})
	return e.Entry, nil
}

// roomLocked says whether an entry may be added, in the place of the one with its name. Half of all is the
// most that one author may have.
func (t *Table) roomLocked(e *entry) bool {
	m := &t.mu
	entries, bytes := m.stats.Entries+1, m.stats.Bytes+e.cost()
	own := share{entries: 1, bytes: e.cost()}
	if s := m.authors[e.By]; s != nil {
		own.entries += s.entries
		own.bytes += s.bytes
	}
	if old := t.atLocked(e); old != nil {
		entries, bytes = entries-1, bytes-old.cost()
		if old.By == e.By {
			own.entries, own.bytes = own.entries-1, own.bytes-old.cost()
		}
	}
	return entries <= t.cfg.Entries && bytes <= t.cfg.Bytes &&
		own.entries <= max(1, t.cfg.Entries/2) && own.bytes <= t.cfg.Bytes/2
}

// atLocked is the entry with the name of another.
func (t *Table) atLocked(e *entry) *entry {
	if e.Kind == Address {
		return t.mu.prefixes[e.prefix]
	}
	return t.mu.names[e.Kind][e.Name]
}

// putLocked puts an entry in the place of the one with its name.
func (t *Table) putLocked(e *entry) {
	m := &t.mu
	if old := t.atLocked(e); old != nil {
		t.takeLocked(old)
	}
	if e.Kind == Address {
		m.prefixes[e.prefix] = e
		*t.lengthLocked(e.prefix)++
	} else {
		m.names[e.Kind][e.Name] = e
	}
	e.at = -1
	if e.until != 0 {
		m.due.push(e)
	}
	s := m.authors[e.By]
	if s == nil {
		s = &share{}
		m.authors[e.By] = s
	}
	s.entries++
	s.bytes += e.cost()
	m.stats.Entries++
	m.stats.Bytes += e.cost()
	t.size.Store(int64(m.stats.Entries))
}

// takeLocked takes an entry out.
func (t *Table) takeLocked(e *entry) {
	m := &t.mu
	if e.Kind == Address {
		delete(m.prefixes, e.prefix)
		*t.lengthLocked(e.prefix)--
	} else {
		delete(m.names[e.Kind], e.Name)
	}
	if e.at >= 0 {
		m.due.remove(e.at)
	}
	s := m.authors[e.By]
	s.entries--
	s.bytes -= e.cost()
	if s.entries == 0 {
		delete(m.authors, e.By)
	}
	m.stats.Entries--
	m.stats.Bytes -= e.cost()
	t.size.Store(int64(m.stats.Entries))
}

// lengthLocked counts the prefixes of a length.
func (t *Table) lengthLocked(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &t.mu.lengths4[p.Bits()]
	}
	return &t.mu.lengths6[p.Bits()]
}

// Remove takes the entry with a name out; an Address may be written in any way.
func (t *Table) Remove(k Kind, name string) (Entry, bool) {
	e := &entry{Entry: Entry{Kind: k, Name: name}}
	if e.check() != nil {
		return Entry{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.atLocked(e)
	if old == nil {
		return Entry{}, false
	}
	t.takeLocked(old)
	t.mu.stats.Removed++
	t.forgetLocked(old)
	return old.Entry, true
}

func (t *Table) forgetLocked(e *entry) {
	t.cfg.Shared(func(b *store.Batch) { b.DeleteDenial(e.Kind, e.Name) })
}

// Expire takes out at most n entries that have ended, and says how many; it is to be called now and then, and
// again while the answer is n. An entry that has ended denies nobody before that, either.
func (t *Table) Expire(n int) int {
	if t.size.Load() == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, done := t.cfg.Now(), 0
	for done < n && t.expireOneLocked(now) {
		done++
	}
	return done
}

func (t *Table) expireOneLocked(now int64) bool {
	m := &t.mu
	if len(m.due.list) == 0 || m.due.list[0].until > now {
		return false
	}
	e := m.due.list[0]
	t.takeLocked(e)
	m.stats.Expired++
	t.forgetLocked(e)
	return true
}

// Empty reports that there is no entry, ended or not. It takes no lock.
func (t *Table) Empty() bool { return t.size.Load() == 0 }

// Match finds the entry that denies somebody; of several, the token's, then the user's, the client's, that of
// the longest prefix. It allocates nothing, and takes no lock while there is nothing in the table.
func (t *Table) Match(q *Query) (Entry, bool) {
	if t.Empty() {
		return Entry{}, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	now := t.cfg.Now()
	for k, name := range [...]string{Token: q.Token, User: q.User, Client: q.Client} {
		if name == "" {
			continue
		}
		if e := t.mu.names[k][name]; e.live(now) {
			t.denied.Add(1)
			return e.Entry, true
		}
	}
	if e := t.addressLocked(q.Address, now); e != nil {
		t.denied.Add(1)
		return e.Entry, true
	}
	return Entry{}, false
}

// live says that an entry is there and has not ended.
func (e *entry) live(now int64) bool { return e != nil && (e.until == 0 || e.until > now) }

// addressLocked goes through the lengths of which there are prefixes, the longest first.
func (t *Table) addressLocked(a netip.Addr, now int64) *entry {
	if !a.IsValid() || len(t.mu.prefixes) == 0 {
		return nil
	}
	a = a.Unmap().WithZone("")
	lengths := t.mu.lengths6[:]
	if a.Is4() {
		lengths = t.mu.lengths4[:]
	}
	for bits, n := range slices.Backward(lengths) {
		if n == 0 {
			continue
		}
		p, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		if e := t.mu.prefixes[p]; e.live(now) {
			return e
		}
	}
	return nil
}

// Covers reports whether an entry denies somebody, its end left out of account: who adds one ends by it those
// who are here.
func (e *Entry) Covers(q *Query) bool {
	switch e.Kind {
	case Token:
		return q.Token != "" && q.Token == e.Name
	case User:
		return q.User != "" && q.User == e.Name
	case Client:
		return q.Client != "" && q.Client == e.Name
	case Address:
		own, a := entry{Entry: *e}, q.Address.Unmap().WithZone("")
		return a.IsValid() && own.check() == nil && own.prefix.Contains(a)
	}
	return false
}

// Of is what a login is asked by; the id of its token is added by who has read it.
func Of(l *auth.Login) Query {
	q := Query{Client: l.ClientID, Address: l.Address}
	if l.HasUsername {
		q.User = l.Username
	}
	return q
}

// Denies reports whether the table denies who a login says that it is, with the id of its token.
func (t *Table) Denies(l *auth.Login, token string) bool {
	if t.Empty() {
		return false
	}
	q := Of(l)
	q.Token = token
	_, denied := t.Match(&q)
	return denied
}

// Cursor is a place in the list; the zero Cursor is its beginning.
type Cursor struct {
	Kind Kind
	Name string
}

// Page lists entries behind a place, by kind and name, at most n; next is the place of the last one, and more
// says that there are others behind it. What has ended is not there.
func (t *Table) Page(after Cursor, n int) (list []Entry, next Cursor, more bool) {
	t.mu.RLock()
	now := t.cfg.Now()
	add := func(e *entry) {
		if e.live(now) && compare(&e.Entry, after) > 0 {
			list = append(list, e.Entry)
		}
	}
	for k := range t.mu.names {
		for _, e := range t.mu.names[k] {
			add(e)
		}
	}
	for _, e := range t.mu.prefixes {
		add(e)
	}
	t.mu.RUnlock()
	slices.SortFunc(list, func(a, b Entry) int { return compare(&a, Cursor{b.Kind, b.Name}) })
	if more = len(list) > n; more {
		list = slices.Clone(list[:max(0, n)])
	}
	if next = after; len(list) > 0 {
		last := &list[len(list)-1]
		next = Cursor{last.Kind, last.Name}
	}
	return list, next, more
}

func compare(e *Entry, c Cursor) int {
	if e.Kind != c.Kind {
		return int(e.Kind) - int(c.Kind)
	}
	return strings.Compare(e.Name, c.Name)
}

// Stats returns the counts.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.mu.stats
	s.Denied = t.denied.Load()
	return s
}
