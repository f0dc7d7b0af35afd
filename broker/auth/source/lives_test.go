package source

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/broker/auth"
	"noctule/broker/lookup"
	"noctule/internal/places"
)

// rows is a source of rules that a test changes.
type rows struct {
	answer atomic.Pointer[answer]
	asked  atomic.Int64
}

func (r *rows) Ask(context.Context, *lookup.Question) (*answer, error) {
	r.asked.Add(1)
	if a := r.answer.Load(); a != nil {
		return a, nil
	}
	return nil, errors.New("down")
}
func (r *rows) Uses() []int { return []int{0} }
func (r *rows) Close()      {}

func (r *rows) say(lines ...string) {
	a := &answer{verdict: auth.Allow, listed: true}
	for _, l := range lines {
		x, _ := parseLine(l)
		a.rules = append(a.rules, x)
	}
	r.answer.Store(a)
}

// TestRefresh has the rules of a client follow what its source says, behind its back; they stay while nobody
// answers, and nobody is asked for a client that has gone.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, "", "sources: [{name: s, http: {url: 'http://w/'}, cache: {ttl: 10s}, refresh: 1m}]")
		r, from := b.first(), &rows{}
		from.say("read a")
		r.rights = lookup.Over(&r.cfg.Settings, lookup.Source[*answer](from), 8, r.options("rules", rightNames()))
		w := who{"c", "u"}
		enter := func() auth.Rules {
			rules, _, err := r.entitle(t.Context(), w, &answer{verdict: auth.Allow}, places.Peer{})
			if err != nil {
				t.Fatal(err)
			}
			return rules
		}
		rules := enter()
		may(t, rules, "yes read a", "no read b")
		from.say("read b")
		time.Sleep(50 * time.Second)
		may(t, rules, "yes read a")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		may(t, rules, "no read a", "yes read b")
		from.answer.Store(nil)
		time.Sleep(2 * time.Minute)
		may(t, rules, "yes read b")
		from.say()
		time.Sleep(70 * time.Second)
		synctest.Wait()
		may(t, rules, "no read b")
		if again := enter(); again != rules {
			t.Error("who comes again has other rules")
		}
		topic := []byte("b")
		if n := testing.AllocsPerRun(100, func() { rules.Check(auth.Read, topic) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		runtime.KeepAlive(rules)
		rules = nil
		runtime.GC()
		runtime.GC()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n := from.asked.Load()
		time.Sleep(time.Hour)
		if from.asked.Load() != n {
			t.Error("asked about a client that has gone")
		}
	})
}

// TestRefreshOfMany asks for 5000 clients that came at once: no more of them at a time than there may be, and
// not all in one second.
func TestRefreshOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, "", "sources: [{name: s, http: {url: 'http://w/'}, cache: {ttl: 0s}, refresh: 1m}]")
		r, from := b.first(), &rows{}
		from.say("read a")
		r.rights = lookup.Over(&r.cfg.Settings, lookup.Source[*answer](from), 8, r.options("rules", rightNames()))
		var held []auth.Rules
		for i := range 5000 {
			w := who{string(rune('a' + i%7)), time.Duration(i).String()}
			rules, _, err := r.entitle(t.Context(), w, &answer{}, places.Peer{})
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, rules)
		}
		from.asked.Store(0)
		most := int64(0)
		for range 70 {
			before := from.asked.Load()
			time.Sleep(time.Second)
			synctest.Wait()
			most = max(most, from.asked.Load()-before)
		}
		if n := from.asked.Load(); n < 5000 || most > 1000 {
			t.Errorf("%d questions for 5000 clients, at most %d in a second", n, most)
		}
		runtime.KeepAlive(held)
	})
}
