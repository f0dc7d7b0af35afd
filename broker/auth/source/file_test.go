package source

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/lookup"
	"noctule/codec"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func itoa(n int) string { return strconv.Itoa(n) }

// TestFile is a password file as a source, whose line a reload changes.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	line := func(user, password string) string {
		h, err := hash.New(hash.PBKDF2, []byte(password), 101)
		if err != nil {
			t.Fatal(err)
		}
		return user + ":" + h + "\n"
	}
	bob := line("bob", "secret")
	write(t, dir, "pw", line("alice", "secret")+bob)
	text := "sources: [{name: f, file: $/pw, topics: ['readwrite home/%u/#']}]"
	b := begin(t, dir, text)
	p := b.want("alice", "secret", auth.Allow)
	may(t, p.Rules, "yes read home/alice/x", "no read x")
	b.want("alice", "wrong", auth.Deny)
	b.want("carol", "secret", auth.Defer)
	other := b.want("bob", "secret", auth.Allow)
	write(t, dir, "pw", line("alice", "another")+bob)
	if err := b.reload(dir, text); err != nil {
		t.Fatal(err)
	}
	b.want("alice", "secret", auth.Deny)
	b.want("alice", "another", auth.Allow)
	pol := b.policy()
	if pol.Keeps(p.Stay(""), "alice") || !pol.Keeps(other.Stay(""), "bob") {
		t.Error("who has another line stays, or who has the same does not")
	}
}

// users is a source that has one stored password for each user whose name begins with "u".
type users struct {
	rows
	stored *hash.Hash
}

func (u *users) Ask(_ context.Context, q *lookup.Question) (*answer, error) {
	u.asked.Add(1)
	if q.Values[nameUser][0] != 'u' {
		return &answer{verdict: auth.Defer}, nil
	}
	return &answer{verdict: auth.Allow, hash: u.stored, listed: true, rules: []rule{{auth.Read, "a/%u/#"}}}, nil
}

// storing is an engine with users behind a source of a database.
func storing(t testing.TB, iterations int) (e *Engine, s auth.PassSource, from *users) {
	t.Helper()
	text, err := hash.New(hash.PBKDF2, []byte("secret"), iterations)
	if err != nil {
		t.Fatal(err)
	}
	from = &users{}
	if from.stored, err = hash.Parse(text); err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse([]byte("sources: [{name: s, sql: {driver: sqlite, dsn: x, query: y}, cache: {ttl: 1h}, refused_ttl: 1h}]"))
	if err != nil {
		t.Fatal(err)
	}
	e = New(quiet())
	t.Cleanup(e.Close)
	p, err := e.Prepare([]*Config{cfg})
	if err != nil {
		t.Fatal(err)
	}
	e.Use(p)
	s = p.Sets[0].Authenticators[0].(auth.PassSource)
	r := (*e.current.Load())[s.(*Source).key]
	r.users.Close()
	r.users = lookup.Over(&r.cfg.Settings, lookup.Source[*answer](from), 8, r.options("login", names(false)))
	return e, s, from
}

// counting is a context in which comparisons are counted.
func counting(ctx context.Context, n, failed *atomic.Int64) context.Context {
	return auth.WithComputer(ctx, func(_ context.Context, _ *auth.Login, work func() bool) codec.Reason {
		n.Add(1)
		if work() {
			failed.Add(1)
		}
		return codec.Success
	})
}

// TestComparisons counts: a user is asked for once, a password is compared once, whoever comes how often; an
// unknown user takes a comparison as a known one does, and both are failures.
func TestComparisons(t *testing.T) {
	_, s, from := storing(t, 10)
	var compared, failed atomic.Int64
	ctx := counting(t.Context(), &compared, &failed)
	for range 3 {
		for i := range 50 {
			l := login(fmt.Sprint("u", i), "secret")
			if v, p := s.Admit(ctx, l); v != auth.Allow || p == nil {
				t.Fatal(v)
			}
		}
	}
	if from.asked.Load() != 50 || compared.Load() != 1 { // all have the same hash and password
		t.Errorf("%d questions, %d comparisons", from.asked.Load(), compared.Load())
	}
	for _, user := range []string{"u1", "nobody", "nobody2"} {
		before, was := compared.Load(), failed.Load()
		v, _ := s.Admit(ctx, login(user, "guess "+user))
		if compared.Load() != before+1 || failed.Load() != was+1 {
			t.Errorf("%s: %d comparisons, %d failures", user, compared.Load()-before, failed.Load()-was)
		}
		if want := map[bool]auth.Verdict{true: auth.Deny, false: auth.Defer}[user == "u1"]; v != want {
			t.Errorf("%s: %v", user, v)
		}
	}
	busy := auth.WithComputer(t.Context(), func(context.Context, *auth.Login, func() bool) codec.Reason {
		return codec.ServerBusy
	})
	if v, _ := s.Admit(busy, login("u1", "new")); v != auth.Ask {
		t.Errorf("without a turn: %v", v)
	}
}

// TestProofs keeps a comparison for a while, a no shortly, and no more of them than there may be.
func TestProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProofs(&lookup.Cache{TTL: lookup.Duration(time.Minute), Max: 10, MaxBytes: 1 << 20}, time.Second)
		h, err := hash.Parse("$7$101$AAAAAAAAAAAAAAAA$" + zeros)
		if err != nil {
			t.Fatal(err)
		}
		yes, no := p.keyOf(h, []byte("yes")), p.keyOf(h, []byte("no"))
		p.put(yes, true)
		p.put(no, false)
		known := func(want1, want2 bool) {
			t.Helper()
			_, k1 := p.get(yes)
			_, k2 := p.get(no)
			if k1 != want1 || k2 != want2 {
				t.Errorf("%v and %v are known", k1, k2)
			}
		}
		known(true, true)
		time.Sleep(2 * time.Second)
		known(true, false)
		time.Sleep(70 * time.Second)
		known(false, false)
		for i := range 100 {
			p.put(p.keyOf(h, []byte{byte(i)}), true)
		}
		if n := p.mu.lru.Len(); n != 10 {
			t.Errorf("%d are kept", n)
		}
		if q := newProofs(&lookup.Cache{TTL: lookup.Duration(time.Minute), Max: 10, MaxBytes: 1 << 20}, 0); q.keyOf(h, []byte("yes")) == yes {
			t.Error("another process has the same keys")
		}
	})
}

const zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="

// TestReloadKeeps goes on with a source, its cache too, whose settings and files are as they were, and closes
// one that has gone.
func TestReloadKeeps(t *testing.T) {
	url, asked := answers(t, func(http.ResponseWriter, *http.Request) {})
	one := "{name: a, http: {url: '" + url + "/%u'}, cache: {ttl: 1h}}"
	two := "{name: b, http: {url: '" + url + "/b'}}"
	b := begin(t, "", "sources: ["+one+","+two+"]")
	b.want("u", "p", auth.Allow)
	first := b.first()
	if err := b.reload("", "sources: ["+one+"]"); err != nil {
		t.Fatal(err)
	}
	b.want("u", "p", auth.Allow)
	if b.first() != first || asked.Load() != 1 {
		t.Errorf("%d questions", asked.Load())
	}
	if err := b.reload("", "sources: ["+one+", {name: c, file: /no/where}]"); err == nil || b.first() != first {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := b.reload("", "sources: ["+one[:len(one)-1]+", budget: 2s}]"); err != nil {
		t.Fatal(err)
	}
	if b.first() == first || first.uses.Load() != 0 {
		t.Error("a source with other settings goes on")
	}
	b.want("u", "p", auth.Allow)
}

// BenchmarkCachedLogin is a login of a user who is known already.
func BenchmarkCachedLogin(b *testing.B) {
	_, s, _ := storing(b, 1000)
	logins := make([]*auth.Login, 1000)
	for i := range logins {
		logins[i] = login(fmt.Sprint("u", i), "secret")
		s.Admit(b.Context(), logins[i])
	}
	b.ReportAllocs()
	for i := range b.N {
		if v, _ := s.Admit(b.Context(), logins[i%len(logins)]); v != auth.Allow {
			b.Fatal(v)
		}
	}
}
