package presub

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec"
)

// change puts another configuration in force.
func change(t *testing.T, e *Engine, yaml string) {
	t.Helper()
	c, err := Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	next, err := e.Prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	e.Use(next)
}

// TestChangeKeepsWhatIsTheSame looks at the cache of a provider across changes.
func TestChangeKeepsWhatIsTheSame(t *testing.T) {
	s := newService(t)
	s.say(200, `{"topics":[{"topic":"a"}]}`)
	token := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sesame")
	ws := "{name: ws, budget: 10s, cache: {ttl: 1h}, http: {timeout: 10s, token_file: " + token + ", url: '" + s.URL + "'}}"
	own := "{name: own, static: {topics: [{topic: own}]}}"
	e := engine(t, "providers: ["+ws+"]")
	for _, tt := range []struct {
		name, yaml string
		change     func()
		calls      int64
	}{
		{"the first", "providers: [" + ws + "]", nil, 1},
		{"the same", "providers: [" + ws + "]", nil, 1},
		{"another is added", "providers: [" + own + ", " + ws + "]", nil, 1},
		{"what is not the provider's", "control: {usernames: [x]}\ntenant: {value: ''}\nproviders: [" + ws + "]", nil, 1},
		{"a setting", "providers: [" + strings.Replace(ws, "10s", "11s", 1) + "]", nil, 2},
		{"the setting is back", "providers: [" + ws + "]", nil, 3},
		{"its file", "providers: [" + ws + "]", func() { write("open sesame") }, 4},
		{"it is not there", "providers: []", nil, 4},
		{"it is there again", "providers: [" + ws + "]", nil, 5},
	} {
		if tt.change != nil {
			tt.change()
		}
		change(t, e, tt.yaml)
		if list, code := e.Grants(context.Background(), Client{ID: "c", Username: "u"}); code != codec.Success {
			t.Fatalf("%s: %s, %v", tt.name, code, list)
		}
		if n := s.calls.Load(); n != tt.calls {
			t.Errorf("%s: the webservice was asked %d times, want %d", tt.name, n, tt.calls)
		}
	}
}

// TestChangeKeepsTheCircuit leaves a webservice alone that was left alone before the change.
func TestChangeKeepsTheCircuit(t *testing.T) {
	s := newService(t)
	s.say(503, "")
	ws := "providers: [{name: ws, budget: 10s, on_failure: refuse, http: {timeout: 10s, url: '" + s.URL + "'}}]"
	e := engine(t, ws)
	for range lookup.Trips + 5 {
		one(t, e, "c")
	}
	change(t, e, ws)
	one(t, e, "c")
	if n := s.calls.Load(); n != lookup.Trips {
		t.Errorf("asked %d times, want %d", n, lookup.Trips)
	}
	change(t, e, strings.Replace(ws, "10s", "11s", 1))
	one(t, e, "c")
	if n := s.calls.Load(); n != lookup.Trips+1 {
		t.Errorf("the new one was asked %d times, want once", n-lookup.Trips)
	}
}

// closing tells when a provider is closed.
type closing struct{ closed chan struct{} }

func newClosing(p *provider) *closing {
	c := &closing{make(chan struct{})}
	shut := p.close
	p.close = func() {
		shut()
		close(c.closed)
	}
	return c
}

func (c *closing) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// TestOldProviderEndsAfterItsLookups changes a provider while it is asked.
func TestOldProviderEndsAfterItsLookups(t *testing.T) {
	s := newService(t)
	asked, release := make(chan struct{}), make(chan struct{})
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = io.WriteString(w, `{"topics":[{"topic":"old"}]}`)
	})
	e := engine(t, "providers: [{name: ws, budget: 1m, http: {timeout: 1m, url: '"+s.URL+"'}}]")
	p := e.rules.Load().providers[0]
	old := newClosing(p)
	got := make(chan string)
	go func() { // ends with release
		list, _ := e.Grants(context.Background(), Client{ID: "c"})
		got <- list[0].Origin.Name + " " + filters(list[0].Topics)
	}()
	<-asked
	change(t, e, "providers: [{name: ws, static: {topics: [{topic: new}]}}]")
	if g, _ := one(t, e, "c"); filters(g.Topics) != "new:0" {
		t.Errorf("after the change: %q", filters(g.Topics))
	}
	if old.isClosed() {
		t.Error("closed under a lookup")
	}
	close(release)
	if s := <-got; s != "presub:ws old:0" {
		t.Errorf("the lookup under way: %q", s)
	}
	if !old.isClosed() {
		t.Error("not closed after its last lookup")
	}
}

// TestLookupAfterConnackHoldsItsProvider changes the rules while a list is looked up that is late.
func TestLookupAfterConnackHoldsItsProvider(t *testing.T) {
	s := newService(t)
	asked, release := make(chan struct{}), make(chan struct{})
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = io.WriteString(w, `{"topics":[{"topic":"old"}]}`)
	})
	e := engine(t, "providers: [{name: late, when: after_connack, budget: 1m, http: {timeout: 1m, url: '"+s.URL+"'}}]")
	e.broker = &sessions{lists: map[string]*behalf.Set{}}
	p := e.rules.Load().providers[0]
	old := newClosing(p)
	g, _ := one(t, e, "c")
	if !g.Keep || g.Late == nil {
		t.Fatal("looked up before CONNACK")
	}
	g.Late()
	<-asked
	change(t, e, "")
	if old.isClosed() {
		t.Error("closed under a lookup")
	}
	close(release)
	e.Close()
	if !old.isClosed() {
		t.Error("not closed with the engine")
	}
}

// TestPrepareChangesNothing has files that cannot be used: the error names the line, the rules stay.
func TestPrepareChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "presub.yaml"), filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := engine(t, "providers: [{name: own, static: {topics: [{topic: own}]}}]")
	before := e.rules.Load()
	for text, want := range map[string]string{
		"providers:\n- name: a\n  static: {topics: [{topic: a}]}\n- name: ws\n  http:\n    url: http://x\n    token_file: none\n": "[7:17] provider ws: open none",
		"providers:\n- name: ws\n  http: {url: 'http://x', ca_file: " + empty + "}\n":                                             "[3:36] provider ws: ",
		"providers:\n- name: db\n  sql:\n    driver: mysql\n    dsn_file: none\n    query: SELECT 1\n":                            "[5:15] provider db: open none",
		"providers:\n- name: j\n  jwt:\n    algorithms: [HS256]\n    secret_file: " + empty + "\n":                                "[5:18] provider j: ",
		"providers:\n- name: j\n  jwt:\n    algorithms: [ES256]\n    public_key_file: " + empty + "\n":                            "[5:22] provider j: ",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = e.Prepare(c); err == nil || !strings.HasPrefix(err.Error(), file+": "+want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	c, err := Parse([]byte("providers: [{name: own, static: {topics: [{topic: own}]}}, {name: b, static: {topics: [{topic: b}]}}]"))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := e.Prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	plan.Discard()
	if e.rules.Load() != before {
		t.Error("the rules are others")
	}
	if g, _ := one(t, e, "c"); filters(g.Topics) != "own:0" {
		t.Errorf("own: %q", filters(g.Topics))
	}
}

// TestChangesAreNamed is the line that an operator reads.
func TestChangesAreNamed(t *testing.T) {
	s := func(names ...string) *rules {
		r := &rules{}
		for _, n := range names {
			r.providers = append(r.providers, &provider{cfg: &ProviderConfig{Name: n}})
		}
		return r
	}
	old, next := s("a", "b", "c"), s("b", "d")
	next.providers = append(next.providers, old.providers[2])
	want := "provider b replaced, provider d added, provider c kept, provider a removed"
	if got := changes(old, next); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := changes(s(), s()); got != "no providers" {
		t.Errorf("%q", got)
	}
}

// TestChangeUnderLoad asks and changes at once; the race detector watches.
func TestChangeUnderLoad(t *testing.T) {
	x := newSystem(t, "providers: [{name: own, static: {topics: [{topic: t/%c}]}}]")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			if _, code := x.e.Grants(ctx, Client{ID: "c", Username: "u"}); code != codec.Success {
				t.Errorf("%d: %s", i, code)
			}
			x.e.MayPublish("u", []byte("t"), nil)
			if _, err := x.e.Subscribe(ctx, "crm", "c1", []Topic{{Topic: "x"}}); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range 100 {
		yaml := "providers: [{name: own, static: {topics: [{topic: t/%c}]}}]"
		if i%2 == 1 {
			yaml = "acl: bypass\nproviders: [{name: own, when: after_connack, static: {topics: [{topic: u/%c}]}}]"
		}
		change(t, x.e, yaml)
	}
	<-done
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	if p := x.e.rules.Load().providers[0]; x.e.mu.uses[p] < 1 {
		t.Errorf("the provider in force has %d uses", x.e.mu.uses[p])
	}
}
