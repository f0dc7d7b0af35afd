package presub

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/broker/store"
)

// kept is what the broker's store has of the lists that providers have answered with, so that last_known
// helps after a restart too. It is what is in the caches, no more; what the store has no time for is left
// out, and comes with the next answer.
type kept struct {
	mu struct { // Guarded by mu:
		sync.Mutex
		to    recorder           // nil: there is no store
		lists map[behalf.Key]int // answers that refer to a stored list

		// Read by the start, until attach:
		found   map[behalf.Key]*behalf.Set
		answers []store.Answer
		bad     int // records that nobody can use
		broken  []store.SetKey
	}
}

// recorder is a broker with a store.
type recorder interface {
	Keep(f func(b *store.Batch)) bool
}

func newKept() *kept {
	k := &kept{}
	k.mu.lists, k.mu.found = make(map[behalf.Key]int), make(map[behalf.Key]*behalf.Set)
	return k
}

// take is shown a record by the start.
func (k *kept) take(key, value []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &k.mu
	if store.IsAnswerList(key) {
		x, err := store.ReadAnswerList(key, value)
		set := setOfRecord(&x)
		if err != nil || behalf.Key(x.Key) != set.Key() {
			m.bad++
			m.broken = append(m.broken, x.Key)
			return
		}
		m.found[set.Key()] = set
		return
	}
	a, err := store.ReadAnswer(key, value)
	if err != nil {
		m.bad++
		return
	}
	m.answers = append(m.answers, a)
}

// setOfRecord is the list of a record.
func setOfRecord(x *store.Set) *behalf.Set {
	topics := make([]behalf.Topic, len(x.Topics))
	for i, t := range x.Topics {
		topics[i] = behalf.Topic{
			Filter: t.Filter, ID: t.ID, QoS: t.Options & 3, NoLocal: t.Options&4 != 0,
			RetainAsPublished: t.Options&8 != 0, RetainHandling: t.Options >> 4 & 3,
		}
	}
	return behalf.NewSet(topics)
}

// recordOf is the record of a list.
func recordOf(x *behalf.Set) *store.Set {
	r := &store.Set{Key: store.SetKey(x.Key()), Topics: make([]store.SetTopic, x.Len())}
	for i, t := range x.Topics() {
		options := t.QoS | t.RetainHandling<<4
		if t.NoLocal {
			options |= 4
		}
		if t.RetainAsPublished {
			options |= 8
		}
		r.Topics[i] = store.SetTopic{Filter: t.Filter, Options: options, ID: t.ID}
	}
	return r
}

// attach gives what was read to the providers, and removes what is of no use: what has run out, what is of a
// provider that is not there, what cannot be read.
func (e *Engine) attach(to recorder) {
	k := e.kept
	k.mu.Lock()
	k.mu.to = to
	answers, found, bad, broken := k.mu.answers, k.mu.found, k.mu.bad, k.mu.broken
	k.mu.answers, k.mu.found, k.mu.broken = nil, make(map[behalf.Key]*behalf.Set), nil
	byName := map[string]*provider{}
	for _, p := range e.rules.Load().providers {
		if p.shelf != nil {
			byName[p.cfg.Name] = p
		}
	}
	for i := range answers {
		if found[behalf.Key(answers[i].List)] != nil {
			k.mu.lists[behalf.Key(answers[i].List)]++
		} else {
			bad++
		}
	}
	k.mu.Unlock()
	slices.SortStableFunc(answers, func(a, b store.Answer) int { return int(a.Until - b.Until) })
	restored := map[*provider][]lookup.Kept[*behalf.Set]{}
	at := now()
	stray := &shelf{k: k, written: map[lookup.Key]written{}}
	for i := range answers {
		a := &answers[i]
		set, p := found[behalf.Key(a.List)], byName[a.Source]
		s := stray
		if p != nil {
			s = p.shelf
		}
		s.source = a.Source
		k.mu.Lock()
		s.written[a.Key] = written{behalf.Key(a.List), time.Unix(a.Until, 0)}
		k.mu.Unlock()
		left := time.Unix(a.Until, 0).Sub(at.Round(0))
		if p == nil || set == nil || left <= 0 {
			s.Drop(a.Key)
			continue
		}
		restored[p] = append(restored[p], lookup.Kept[*behalf.Set]{
			Key: a.Key, Answer: e.sets.intern(set), Until: at.Add(left),
		})
	}
	for p, list := range restored {
		p.ask.Restore(list)
	}
	k.tidy(found, broken)
	if bad > 0 {
		const text = "Pre-subscription: %d records of last known lists cannot be read: they are left out."
		e.log.Warn(fmt.Sprintf(text, bad))
	}
}

// tidy removes lists that no answer refers to.
func (k *kept) tidy(found map[behalf.Key]*behalf.Set, broken []store.SetKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.to == nil {
		return
	}
	k.mu.to.Keep(func(b *store.Batch) {
		for key := range found {
			if k.mu.lists[key] == 0 {
				b.DeleteAnswerList(store.SetKey(key))
			}
		}
		for _, key := range broken {
			b.DeleteAnswerList(key)
		}
	})
}

// shelf is what is kept of one provider; it implements lookup.Saver.
type shelf struct {
	k      *kept
	source string
	stale  time.Duration

	// Guarded by k.mu:
	retired bool
	written map[lookup.Key]written
}

// written is what the store has of an answer.
type written struct {
	list  behalf.Key
	until time.Time
}

var _ lookup.Saver[*behalf.Set] = (*shelf)(nil)

// Save implements lookup.Saver. An answer that is the same is written again when a tenth of its time has
// gone.
func (s *shelf) Save(key lookup.Key, x *behalf.Set, until time.Time) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	m := &s.k.mu
	if m.to == nil || s.retired {
		return
	}
	until = until.Round(0) // it is stored
	was, had := s.written[key]
	same := had && was.list == x.Key()
	if same && until.Sub(was.until) < s.stale/10 && !until.Before(was.until) {
		return
	}
	done := m.to.Keep(func(b *store.Batch) {
		if m.lists[x.Key()] == 0 {
			b.PutAnswerList(recordOf(x))
		}
		b.PutAnswer(&store.Answer{
			Source: s.source, Key: key, List: store.SetKey(x.Key()), Until: until.Unix(),
		})
		if had && !same && m.lists[was.list] == 1 {
			b.DeleteAnswerList(store.SetKey(was.list))
		}
	})
	if !done {
		return
	}
	m.lists[x.Key()]++
	if had {
		s.k.releaseLocked(was.list)
	}
	s.written[key] = written{x.Key(), until}
}

// Drop implements lookup.Saver.
func (s *shelf) Drop(key lookup.Key) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if !s.retired {
		s.dropLocked(key)
	}
}

// dropLocked removes an answer, and its list with the last one.
func (s *shelf) dropLocked(key lookup.Key) {
	m := &s.k.mu
	was, had := s.written[key]
	if !had || m.to == nil {
		return
	}
	m.to.Keep(func(b *store.Batch) { // else the next start removes it
		b.DeleteAnswer(s.source, key)
		if m.lists[was.list] == 1 {
			b.DeleteAnswerList(store.SetKey(was.list))
		}
	})
	delete(s.written, key)
	s.k.releaseLocked(was.list)
}

// releaseLocked takes an answer off those that refer to a list.
func (k *kept) releaseLocked(list behalf.Key) {
	if n := k.mu.lists[list]; n > 1 {
		k.mu.lists[list] = n - 1
	} else {
		delete(k.mu.lists, list)
	}
}

// bequeath gives the last known lists of a provider that is in force no longer to the one in its place, if
// that asks the same, and removes them from the store else. next may be nil.
func (p *provider) bequeath(next *provider) {
	if p.ask == nil || p == next {
		return
	}
	heir := next != nil && next.ask != nil && next.cfg.OnFailure == "last_known"
	heir = heir && next.ask.SameRequest(p.ask)
	list := p.ask.Kept()
	if s := p.shelf; s != nil {
		s.k.mu.Lock()
		s.retired = true
		if heir && next.shelf != nil {
			maps.Copy(next.shelf.written, s.written)
		} else {
			for key := range s.written {
				s.dropLocked(key)
			}
		}
		s.k.mu.Unlock()
	}
	if heir {
		next.ask.Restore(list)
	}
}

var _ recorder = (*broker.Broker)(nil)
