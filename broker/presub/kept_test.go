package presub

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/store"
	"noctule/codec"
	"noctule/internal/testlog"
)

// file is a broker's store: what is kept is in it at once.
type file struct {
	*store.Memory
	full   bool
	writes int
}

func (f *file) Keep(do func(b *store.Batch)) bool {
	if f.full {
		return false
	}
	var b store.Batch
	do(&b)
	f.writes += b.Len()
	return f.Commit(b.Bytes()) == nil
}

// count is how many answers and lists are in it.
func (f *file) count() (answers, lists int) {
	_ = f.Walk(store.Answers, func(key, _ []byte) error {
		if store.IsAnswerList(key) {
			lists++
		} else {
			answers++
		}
		return nil
	})
	return answers, lists
}

// begun is an engine on a store, as after a start.
func begun(t *testing.T, f *file, yaml string) (*Engine, *testlog.Lines) {
	t.Helper()
	c, err := Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	log := &testlog.Lines{}
	e, err := New(c, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	err = f.Walk(store.Answers, func(key, value []byte) error {
		e.kept.take(key, value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.attach(f)
	return e, log
}

// lists is a webservice that has a list of the user's own and common ones, two in all for most.
func lists(t *testing.T) *service {
	s := newService(t)
	s.set(func(w http.ResponseWriter, r *http.Request) {
		list := "common"
		if r.URL.Path == "/special" {
			list = "own"
		}
		_, _ = io.WriteString(w, `{"topics":[{"topic":"`+list+`","qos":1,"nl":true,"rh":1,"id":7}]}`)
	})
	return s
}

func listOf(t *testing.T, e *Engine, name string) (topics string, keep bool) {
	t.Helper()
	g, code := e.Grants(context.Background(), Client{ID: "mqttjs_" + fmt.Sprint(time.Now().UnixNano()), Username: name})
	if code != codec.Success {
		t.Fatal(code)
	}
	if g[0].Topics == nil {
		return "", g[0].Keep
	}
	return filters(g[0].Topics), g[0].Keep
}

// TestLastKnownSurvives has an engine end without a word: the next one has the lists when nobody can be asked.
func TestLastKnownSurvives(t *testing.T) {
	s := lists(t)
	f := &file{Memory: store.NewMemory()}
	const settings = "{name: ws, budget: 20s, %s http: {timeout: 20s, method: GET, url: '%s/%%u'}}"
	yaml := "providers: [" + fmt.Sprintf(settings, "", s.URL) + "]"
	e, _ := begun(t, f, yaml)
	for _, name := range []string{"u1", "u2", "special", "u1", "u1"} {
		listOf(t, e, name)
	}
	if a, l := f.count(); a != 3 || l != 2 || f.writes != 5 {
		t.Fatalf("%d answers, %d lists, %d writes", a, l, f.writes)
	}
	s.say(503, "")
	e, log := begun(t, f, yaml)
	for name, want := range map[string]string{"u1": "common:1", "special": "own:1", "stranger": ""} {
		if got, keep := listOf(t, e, name); got != want || keep != (want == "") {
			t.Errorf("%s: %q, keep %v", name, got, keep)
		}
	}
	one, _ := e.rules.Load().providers[0].ask.Last((&Client{Username: "u1"}).question())
	if x, _ := one.Find("common"); !x.NoLocal || x.RetainHandling != 1 || x.ID != 7 {
		t.Errorf("%+v", x)
	}
	if strings.Contains(log.String(), "cannot be read") {
		t.Error(log)
	}
	for _, other := range []string{ // another question, another policy, nobody
		strings.Replace(yaml, "/%u", "/v2/%u", 1), strings.Replace(yaml, "budget", "on_failure: empty, budget", 1), "",
	} {
		e, _ := begun(t, &file{Memory: f.Memory}, other)
		if other == "" {
			continue
		}
		if got, _ := listOf(t, e, "u1"); got != "" {
			t.Errorf("%s: %q", other, got)
		}
	}
	if a, l := f.count(); a != 0 || l != 0 {
		t.Errorf("%d answers and %d lists of no provider", a, l)
	}
}

// TestKeptIsWhatIsCached: what leaves the cache, or runs out, leaves the store; a move, and another list, change it.
func TestKeptIsWhatIsCached(t *testing.T) {
	s := lists(t)
	f := &file{Memory: store.NewMemory()}
	yaml := "providers: [{name: ws, budget: 20s, cache: {max: 2}, http: {timeout: 20s, method: GET, url: '" + s.URL + "/%u'}}]"
	e, _ := begun(t, f, yaml)
	for i := range 10 {
		listOf(t, e, fmt.Sprint("u", i))
		listOf(t, e, "special")
		if a, l := f.count(); a > 2 || l > 2 {
			t.Fatalf("%d answers, %d lists", a, l)
		}
	}
	p := e.rules.Load().providers[0]
	set := func(topics ...string) *behalf.Set {
		var list []behalf.Topic
		for _, x := range topics {
			list = append(list, behalf.Topic{Filter: x, QoS: 1, NoLocal: true, RetainHandling: 1, ID: 7})
		}
		return e.sets.intern(behalf.NewSet(list))
	}
	p.replaceCached(set("own"), set("moved"))
	s.say(200, `{"topics":[]}`)
	listOf(t, e, "u9")
	s.say(503, "")
	e, _ = begun(t, f, yaml)
	if got, _ := listOf(t, e, "special"); got != "moved:1" {
		t.Errorf("after a move: %q", got)
	}
	if got, keep := listOf(t, e, "u9"); got != "" || keep {
		t.Errorf("an empty list: %q, keep %v", got, keep)
	}
	if a, l := f.count(); a != 2 || l != 2 {
		t.Errorf("%d answers, %d lists", a, l)
	}
	e, _ = begun(t, f, strings.Replace(yaml, "max: 2", "max: 1", 1))
	if a, l := f.count(); a != 1 || l != 1 {
		t.Errorf("with less room: %d answers, %d lists", a, l)
	}
	change(t, e, "providers: []")
	if a, l := f.count(); a != 0 || l != 0 {
		t.Errorf("of a provider that was removed: %d answers, %d lists", a, l)
	}
}

// TestReloadKeepsLastKnown: another setting is another cache, but what the same question was answered with last is
// of use still.
func TestReloadKeepsLastKnown(t *testing.T) {
	s := lists(t)
	f := &file{Memory: store.NewMemory()}
	yaml := "providers: [{name: ws, budget: 20s, http: {timeout: 20s, method: GET, url: '" + s.URL + "/%u'}}]"
	e, _ := begun(t, f, yaml)
	listOf(t, e, "u1")
	s.say(503, "")
	change(t, e, strings.Replace(yaml, "budget: 20s", "budget: 21s", 1))
	if got, _ := listOf(t, e, "u1"); got != "common:1" {
		t.Errorf("another budget: %q", got)
	}
	if a, l := f.count(); a != 1 || l != 1 {
		t.Errorf("%d answers, %d lists", a, l)
	}
	change(t, e, strings.Replace(yaml, "/%u", "/%c/%u", 1))
	if got, _ := listOf(t, e, "u1"); got != "" {
		t.Errorf("another question: %q", got)
	}
	if a, l := f.count(); a != 0 || l != 0 {
		t.Errorf("%d answers, %d lists", a, l)
	}
}

// TestDamagedRecordIsLeftOut, is told and removed; those beside it are of use.
func TestDamagedRecordIsLeftOut(t *testing.T) {
	s := lists(t)
	f := &file{Memory: store.NewMemory()}
	yaml := "providers: [{name: ws, budget: 20s, http: {timeout: 20s, method: GET, url: '" + s.URL + "/%u'}}]"
	e, _ := begun(t, f, yaml)
	listOf(t, e, "u1")
	listOf(t, e, "special")
	var b store.Batch
	other := &store.Set{Key: store.SetKey{1}, Topics: []store.SetTopic{{Filter: "a"}}} // not the key of this list
	b.PutAnswerList(other)
	b.PutAnswer(&store.Answer{Source: "ws", Key: [16]byte{1}, List: store.SetKey{1}, Until: time.Now().Unix() + 1000})
	b.PutAnswer(&store.Answer{Source: "ws", Key: [16]byte{2}, List: store.SetKey{2}, Until: time.Now().Unix() + 1000})
	b.PutAnswer(&store.Answer{Source: "ws", Key: [16]byte{3}, List: store.SetKey{3}, Until: time.Now().Unix() - 1})
	if err := f.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	s.say(503, "")
	e, log := begun(t, f, yaml)
	if got, _ := listOf(t, e, "special"); got != "own:1" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(log.String(), "4 records of last known lists cannot be read: they are left out.") {
		t.Error(log)
	}
	if a, l := f.count(); a != 2 || l != 2 {
		t.Errorf("%d answers, %d lists", a, l)
	}
}

// TestKeptWaitsForNobody: while the disk has no time lists are not stored, and are once it has.
func TestKeptWaitsForNobody(t *testing.T) {
	s := lists(t)
	f := &file{Memory: store.NewMemory(), full: true}
	yaml := "providers: [{name: ws, budget: 20s, http: {timeout: 20s, method: GET, url: '" + s.URL + "/%u'}}]"
	e, _ := begun(t, f, yaml)
	listOf(t, e, "u1")
	if got, _ := listOf(t, e, "u1"); got != "common:1" || f.writes != 0 {
		t.Errorf("%q, %d writes", got, f.writes)
	}
	f.full = false
	listOf(t, e, "u1")
	if a, l := f.count(); a != 1 || l != 1 {
		t.Errorf("%d answers, %d lists", a, l)
	}
}
