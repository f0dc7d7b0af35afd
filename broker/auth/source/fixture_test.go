package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker/auth"
	"noctule/internal/testlog"
)

// bench is an engine with the sources of one file.
type bench struct {
	*Engine
	t   *testing.T
	log *testlog.Lines
	set *Set
}

// begin makes the engine of a file. Every $ is a directory of the test.
func begin(t *testing.T, dir, text string) *bench {
	t.Helper()
	return start(t, dir, text, nil)
}

// dialing is begin with webservices that are reached in another way.
func dialing(t *testing.T, dial dialer, text string) *bench {
	t.Helper()
	return start(t, "", text, dial)
}

func start(t *testing.T, dir, text string, dial dialer) *bench {
	t.Helper()
	b := &bench{t: t, log: &testlog.Lines{}}
	b.Engine = New(slog.New(slog.NewTextHandler(b.log, nil)))
	b.dial = dial
	t.Cleanup(b.Close)
	if err := b.reload(dir, text); err != nil {
		t.Fatal(err)
	}
	return b
}

// reload puts another file in force.
func (b *bench) reload(dir, text string) error {
	cfg, err := Parse([]byte(strings.ReplaceAll(text, "$", dir)))
	if err != nil {
		return err
	}
	p, err := b.Prepare([]*Config{cfg})
	if err != nil {
		return err
	}
	b.Use(p)
	b.set = p.Sets[0]
	return nil
}

// first is the first source, at work.
func (b *bench) first() *running {
	return (*b.current.Load())[b.set.Authenticators[0].(*Source).key]
}

// policy is that of a listener with the sources.
func (b *bench) policy(more ...auth.Authorizer) *auth.Policy {
	return &auth.Policy{Authenticators: b.set.Authenticators, Authorizers: more}
}

// admit asks the first source.
func (b *bench) admit(user, password string) (auth.Verdict, *auth.Pass) {
	b.t.Helper()
	return b.set.Authenticators[0].(auth.PassSource).Admit(b.t.Context(), login(user, password))
}

// want checks what the first source says.
func (b *bench) want(user, password string, want auth.Verdict) *auth.Pass {
	b.t.Helper()
	v, p := b.admit(user, password)
	if v != want {
		b.t.Errorf("%s with %q: %v, want %v\n%s", user, password, v, want, b.log)
	}
	if (p != nil) != (v == auth.Allow) {
		b.t.Errorf("%s: %v with the pass %+v", user, v, p)
	}
	return p
}

func login(user, password string) *auth.Login {
	return &auth.Login{
		ClientID: "c-" + user, Username: user, HasUsername: true, Password: []byte(password), HasPassword: true,
	}
}

// write makes a file in a directory.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// may checks rules: lines "yes read a/b".
func may(t *testing.T, r auth.Rules, list ...string) {
	t.Helper()
	words := map[string]auth.Access{"read": auth.Read, "write": auth.Write, "subscribe": auth.Subscribe}
	for _, line := range list {
		f := strings.Fields(line)
		want := auth.Deny
		if f[0] == "yes" {
			want = auth.Allow
		}
		got := r.Check(words[f[1]], []byte(f[2]))
		if a, ok := r.(auth.Asker); ok && got == auth.Ask {
			got = a.Ask(context.Background(), words[f[1]], []byte(f[2]))
		}
		if got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
