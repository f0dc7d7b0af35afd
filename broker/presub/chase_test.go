package presub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// sessions is a broker that notes what is applied.
type sessions struct {
	mu    sync.Mutex
	lists map[string]*behalf.Set
	gone  map[string]bool
	calls int
}

func (s *sessions) Apply(_ context.Context, r *behalf.Request) []behalf.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.gone[r.ClientID] {
		return []behalf.Answer{{ClientID: r.ClientID, Code: behalf.NoSession}}
	}
	s.lists[r.ClientID] = r.Topics
	return []behalf.Answer{{ClientID: r.ClientID}}
}

func (s *sessions) List(_ context.Context, id string) (behalf.Listing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[id] {
		return behalf.Listing{}, behalf.ErrNoSession
	}
	return behalf.Listing{ClientID: id}, nil
}

func (s *sessions) Move(context.Context, *behalf.Origin, *behalf.Set, *behalf.Set) (int, error) {
	return 0, nil
}

// end has a session end.
func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = true
}

// applied is how often something was.
func (s *sessions) applied() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lists)
}

// chased is an engine in a bubble whose webservice is down.
func chased(t *testing.T, settings string) (*Engine, *sessions, *timed, func()) {
	e := engine(t, "providers: [{name: ws, "+settings+", http: {url: 'http://lists'}}]")
	b := &sessions{lists: map[string]*behalf.Set{}, gone: map[string]bool{}}
	e.broker = b
	s := &timed{takes: 20 * time.Millisecond}
	s.down.Store(true)
	return e, b, s, serve(e, s)
}

// in lets a client in as the broker does.
func in(t *testing.T, e *Engine, id string) behalf.Grant {
	t.Helper()
	g, code := one(t, e, id)
	if code != codec.Success {
		t.Errorf("%s: %s", id, code)
	}
	if g.Late != nil {
		g.Late()
	}
	return g
}

// TestOutageOfTheWeak has a webservice come back that can answer 20 requests at a time, where 64 are allowed: it is
// asked carefully, so that all have their lists soon.
func TestOutageOfTheWeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b, s, end := chased(t, "on_failure: empty")
		defer end()
		for i := range 2000 {
			in(t, e, fmt.Sprint("c", i))
		}
		time.Sleep(10 * time.Second) // of the bubble
		s.can = 20
		s.down.Store(false)
		time.Sleep(20 * time.Second)
		if n := b.len(); n != 2000 {
			t.Errorf("%d of 2000 have their lists", n)
		}
	})
}

// TestOutage has a webservice down for ten seconds in which 3000 clients connect: all have their lists within 15
// seconds of its return, those that have gone are forgotten, and nobody is asked for twice.
func TestOutage(t *testing.T) {
	for _, policy := range []string{"empty", "last_known"} {
		synctest.Test(t, func(t *testing.T) {
			e, b, s, end := chased(t, "on_failure: "+policy)
			defer end()
			p := e.rules.Load().providers[0]
			for i := range 3000 {
				if g := in(t, e, fmt.Sprint("c", i)); g.Late == nil || g.Topics.Len() > 0 {
					t.Fatal("a list from nowhere")
				}
				if i%10 == 0 {
					b.end(fmt.Sprint("c", i))
				}
				time.Sleep(10 * time.Second / 3000) // of the bubble
			}
			if n := p.chase.len(); n < 2000 || b.applied() != 0 {
				t.Errorf("%d without their list, %d calls", n, b.applied())
			}
			if n := s.calls.Load(); n > 40 {
				t.Errorf("a service that is down was asked %d times", n)
			}
			s.down.Store(false)
			before := s.calls.Load()
			back := time.Now()
			for p.chase.len() > 0 {
				time.Sleep(100 * time.Millisecond) // of the bubble
				if time.Since(back) > time.Minute {
					t.Fatalf("%d without their list after a minute", p.chase.len())
				}
			}
			if d := time.Since(back); d > 15*time.Second || b.len() != 2700 {
				t.Errorf("%d have theirs after %v", b.len(), d)
			}
			if n := s.calls.Load() - before; n > 3001 {
				t.Errorf("asked %d times", n)
			}
			synctest.Wait()
			if p.chase.mu.running {
				t.Error("a goroutine for nothing")
			}
		})
	}
}

// TestAnotherCONNECTForgets: what was owed to an earlier connection is nobody's when a client connects anew.
func TestAnotherCONNECTForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b, s, end := chased(t, "on_failure: empty")
		defer end()
		in(t, e, "c")
		s.down.Store(false)
		if g := in(t, e, "c"); g.Topics.Len() != 1 || g.Late != nil {
			t.Errorf("%+v", g)
		}
		time.Sleep(time.Minute) // of the bubble
		if b.applied() != 0 || e.rules.Load().providers[0].chase.len() != 0 {
			t.Errorf("applied %d times", b.applied())
		}
	})
}

// TestOneThatIsUnknownWaitsAlone: a client that the webservice does not know keeps nobody else waiting.
func TestOneThatIsUnknownWaitsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, "providers: [{name: ws, on_failure: empty, http: {url: 'http://lists/%c', method: GET}}]")
		b := &sessions{lists: map[string]*behalf.Set{}}
		e.broker = b
		var unknown atomic.Int64
		var down atomic.Bool
		defer serve(e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/nobody":
				unknown.Add(1)
				w.WriteHeader(http.StatusNotFound)
			case down.Load():
				w.WriteHeader(http.StatusBadGateway)
			default:
				_, _ = w.Write([]byte(`{"topics":[]}`))
			}
		}))()
		in(t, e, "nobody")
		time.Sleep(time.Hour) // of the bubble
		if n := unknown.Load(); n < 12 || n > 40 {
			t.Errorf("asked %d times in an hour", n)
		}
		down.Store(true)
		in(t, e, "c")
		down.Store(false)
		time.Sleep(5 * time.Second) // of the bubble
		if b.len() != 1 {
			t.Errorf("%d lists", b.len())
		}
	})
}

// TestReloadGoesOnAsking: the provider that takes the place of another owes what that did.
func TestReloadGoesOnAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b, _, end := chased(t, "on_failure: empty")
		defer end()
		in(t, e, "c")
		change(t, e, "providers: [{name: ws, static: {topics: [{topic: x}]}}]")
		time.Sleep(10 * time.Second) // of the bubble
		synctest.Wait()
		if b.len() != 1 || filters(b.lists["c"]) != "x:0" {
			t.Errorf("%v", b.lists)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.mu.uses[e.rules.Load().providers[0]] != 1 || len(e.mu.uses) != 1 {
			t.Errorf("%v", e.mu.uses)
		}
	})
}

// TestIncompleteIsTold: CONNACK says whose list is missing, $me/subscriptions when it has come.
func TestIncompleteIsTold(t *testing.T) {
	for _, when := range []string{"before_connack", "after_connack"} {
		s := newService(t)
		s.say(503, "")
		x := newSystem(t, "providers: [{name: own, static: {topics: [{topic: $me/subscriptions}]}}, {name: ws, when: "+
			when+", budget: 20s, http: {timeout: 20s, url: '"+s.URL+"'}}]")
		c := brokertest.Dial(t, x.addr, codec.V5)
		// Whose session it is goes with the request: the list is for this user's.
		ack := c.Connack("c", func(p *codec.Connect) { p.HasUsername, p.Username = true, []byte("ann") })
		said := map[string]string{}
		for id, v := range ack.Properties.All() {
			if id == codec.UserProperty {
				said[string(v.Bytes)] = string(v.Pair)
			}
		}
		if said["presub-incomplete"] != "presub:ws" || said["presub-count"] != "1" {
			t.Errorf("%s: %v", when, said)
		}
		next := func() (got struct {
			Count      int
			Incomplete []string
		},
		) {
			t.Helper()
			var p codec.Publish
			c.Want(codec.PUBLISH, &p)
			if err := json.Unmarshal(p.Payload, &got); err != nil {
				t.Errorf("%s: %v", p.Payload, err)
			}
			return got
		}
		if got := next(); got.Count != 1 || len(got.Incomplete) != 1 || got.Incomplete[0] != "presub:ws" {
			t.Errorf("%s: %+v", when, got)
		}
		if n := x.e.rules.Load().providers[1].chase.len(); n != 1 {
			t.Errorf("%s: %d without their list", when, n)
		}
		s.say(200, `{"topics":[{"topic":"a"}]}`)
		if got := next(); got.Count != 2 || len(got.Incomplete) != 0 {
			t.Errorf("%s: %+v", when, got)
		}
		c.Publish("a", "m", 0, 0)
		c.WantPublish("a", "m")
	}
}
