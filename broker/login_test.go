package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/brokertest"
	"noctule/broker/listener"
	"noctule/codec"
	"noctule/internal/testcert"
)

// passwordsOf makes a password file of "user password" lines.
func passwordsOf(t testing.TB, users ...string) *auth.Passwords {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		user, password, _ := strings.Cut(u, " ")
		line, err := hash.New(hash.PBKDF2, []byte(password), 10)
		if err == nil {
			_, err = auth.SetPassword(path, user, line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p, err := auth.LoadPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func withPassword(user, password string) connectFunc {
	return func(p *codec.Connect) {
		p.HasUsername, p.Username = true, []byte(user)
		p.HasPassword, p.Password = true, []byte(password)
	}
}

// connack is the reason with which a client is answered; what is refused is closed.
func (x *fixture) connack(id string, v codec.Version, change connectFunc) codec.Reason {
	x.t.Helper()
	c := brokertest.Dial(x.t, x.addr, v)
	ack := c.Connack(id, change)
	if ack.Reason != codec.Success {
		c.WantClosed()
	}
	return ack.Reason
}

// refusedAs is what a client of a version hears of a refusal.
func refusedAs(v codec.Version, three, five codec.Reason) codec.Reason {
	if v == codec.V5 {
		return five
	}
	return three
}

func TestPasswords(t *testing.T) {
	file := passwordsOf(t, "a pa", "b pb")
	for _, anonymous := range []bool{false, true} {
		policy := &auth.Policy{AllowAnonymous: anonymous, Authenticators: []auth.Authenticator{file}}
		onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = policy }, func(t *testing.T, x *fixture) {
			for _, v := range []codec.Version{codec.V31, codec.V311, codec.V5} {
				no := refusedAs(v, 5, codec.NotAuthorized)
				nameless := no
				if anonymous {
					nameless = codec.Success
				}
				for i, c := range []struct {
					change connectFunc
					want   codec.Reason
				}{
					{withPassword("a", "pa"), codec.Success},
					{withPassword("b", "pb"), codec.Success},
					{withPassword("a", "pb"), no},
					{withPassword("a", ""), no},
					{withPassword("unknown", "pa"), no},
					{withPassword("", "pa"), no},
					{as("a"), no},
					{nil, nameless},
				} {
					if got := x.connack(fmt.Sprint("c", i), v, c.change); got != c.want {
						t.Errorf("MQTT %d, case %d: %s, want %s", v, i, got, c.want)
					}
				}
			}
			c := brokertest.Dial(t, x.addr, codec.V311) // a password without a username [MQTT-3.1.2-22]
			c.Raw([]byte{0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x42, 0, 0, 0, 1, 'c', 0, 2, 'p', 'a'})
			c.WantClosed()
		})
	}
}

// locked is an Authenticator that hashes until it is let go.
type locked struct{ busy, free chan struct{} }

func (l *locked) Authenticate(login *auth.Login) auth.Verdict {
	if !login.HasPassword {
		return auth.Allow
	}
	l.busy <- struct{}{}
	<-l.free
	if string(login.Password) == "right" {
		return auth.Allow
	}
	return auth.Deny
}

func (l *locked) Slow(login *auth.Login) bool { return login.HasPassword }

// TestConnectedClientsGoOnWhilePasswordsAreChecked has every worker hash and hundreds of logins wait: pings and
// messages pass, others log in without a password, the pool's limits hold, and in the end each is answered.
func TestConnectedClientsGoOnWhilePasswordsAreChecked(t *testing.T) {
	const workers, queue = 2, 100
	onEachLocked(t, auth.PoolConfig{Workers: workers, Queue: queue}, func(t *testing.T, x *fixture, gate *locked) {
		before := x.connect("before", codec.V311, nil)
		before.Subscribe("a", 1)
		var waiting []*brokertest.Client
		for i := range workers + queue {
			c := brokertest.Dial(t, x.addr, codec.V311)
			p := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: fmt.Append(nil, "w", i)}
			withPassword("u", []string{"wrong", "right"}[i%2])(&p)
			c.Send(&p)
			waiting = append(waiting, c)
			if i < workers {
				<-gate.busy
			}
		}
		for settled := false; !settled; { // each waits, in the queue
			m := brokertest.Settle(t, x.b)
			settled = m.Hashing.Waiting == queue && m.Hashing.Running == workers
		}
		if r := x.connack("one more", codec.V5, withPassword("u", "right")); r != codec.ServerBusy {
			t.Errorf("one more than the queue holds: %s", r)
		}
		before.WantNothing() // it answers pings
		after := x.connect("after", codec.V5, as("no password"))
		exchange(t, after, "a", "m", 1)
		receive(t, before, "a", "m", 1)
		close(gate.free)
		go func() { // ends with the last
			for range queue {
				<-gate.busy
			}
		}()
		for i, c := range waiting {
			want := []codec.Reason{5, codec.Success}[i%2]
			var ack codec.Connack
			if c.Want(codec.CONNACK, &ack); ack.Reason != want {
				t.Errorf("client %d: %s, want %s", i, ack.Reason, want)
			}
		}
		h := brokertest.Settle(t, x.b).Hashing
		for h.Running > 0 { // the pool counts after it has answered
			h = brokertest.Settle(t, x.b).Hashing
		}
		if h.Checked != workers+queue || h.Failed != (workers+queue)/2 {
			t.Errorf("%+v", h)
		}
	})
}

func onEachLocked(t *testing.T, cfg auth.PoolConfig, f func(t *testing.T, x *fixture, gate *locked)) {
	t.Helper()
	onEachWith(t, func(o *broker.Options, l *broker.ListenerOptions) *locked {
		gate := &locked{busy: make(chan struct{}), free: make(chan struct{})}
		o.Hashing = cfg
		l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{gate}}
		return gate
	}, f)
}

// TestLoginsOfElsewhere are throttled with those of clients: they are given up with their context.
func TestLoginsOfElsewhere(t *testing.T) {
	policy := &auth.Policy{Authenticators: []auth.Authenticator{passwordsOf(t, "a pa")}}
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Hashing = auth.PoolConfig{FailureBurst: 1, FailureRate: 1e-3}
	})
	login := func(from, password string) auth.Login {
		return auth.Login{
			Username: "a", HasUsername: true, Password: []byte(password), HasPassword: true,
			Address: netip.MustParseAddr(from), Local: from == "127.0.0.1",
		}
	}
	for password, want := range map[string]codec.Reason{"pa": codec.Success, "pb": codec.NotAuthorized} {
		if r := x.b.CheckLogin(t.Context(), policy, login("127.0.0.1", password)); r != want {
			t.Errorf("%s: %s", password, r)
		}
	}
	if r := x.b.CheckLogin(t.Context(), policy, auth.Login{}); r != codec.NotAuthorized {
		t.Errorf("anonymous: %s", r)
	}
	if r := x.b.CheckLogin(t.Context(), policy, login("192.0.2.1", "pb")); r != codec.NotAuthorized {
		t.Errorf("first failure: %s", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan codec.Reason)
	go func() { answer <- x.b.CheckLogin(ctx, policy, login("192.0.2.1", "pa")) }()
	for brokertest.Settle(t, x.b).Hashing.Throttled == 0 {
		runtime.Gosched()
	}
	cancel()
	if r := <-answer; r != codec.ServerBusy {
		t.Errorf("after a failure: %s", r)
	}
	if r := x.b.CheckLogin(t.Context(), policy, login("192.0.2.2", "pa")); r != codec.Success {
		t.Errorf("another address: %s", r)
	}
}

// TestShutdownWhilePasswordsAreChecked: what waits is dropped, what is being hashed is waited for.
func TestShutdownWhilePasswordsAreChecked(t *testing.T) {
	onEachLocked(t, auth.PoolConfig{Workers: 1}, func(t *testing.T, x *fixture, gate *locked) {
		for i := range 3 {
			c := brokertest.Dial(t, x.addr, codec.V311)
			p := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: fmt.Append(nil, "w", i)}
			withPassword("u", "right")(&p)
			c.Send(&p)
			if i == 0 {
				<-gate.busy
			}
		}
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
			defer cancel()
			done <- x.b.Shutdown(ctx)
		}()
		close(gate.free)
		for { // a second one may have had its turn before the shutdown
			select {
			case <-gate.busy:
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return
			}
		}
	})
}

// TestReloadOfPasswords: who has the same line as before stays, others are disconnected.
func TestReloadOfPasswords(t *testing.T) {
	first := passwordsOf(t, "stays p", "changes p", "goes p")
	policy := &auth.Policy{AllowAnonymous: true, Authenticators: []auth.Authenticator{first}}
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = policy }, func(t *testing.T, x *fixture) {
		clients := map[string]*brokertest.Client{"": x.connect("anonymous", codec.V5, nil)}
		for _, u := range []string{"stays", "changes", "goes"} {
			clients[u] = x.connect(u, codec.V5, withPassword(u, "p"))
		}
		x.in(t).reload(func(l *broker.ListenerOptions) {
			l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{without{first, map[string]bool{
				"changes": true, "goes": true,
			}}}}
		})
		clients["stays"].WantNothing()
		for _, u := range []string{"changes", "goes", ""} {
			wantDisconnect(t, clients[u], codec.NotAuthorized)
		}
	})
}

// without is a password file in which the lines of some users have changed.
type without struct {
	*auth.Passwords
	changed map[string]bool
}

func (w without) Mark(user string) uint64 {
	if w.changed[user] {
		return 0
	}
	return w.Passwords.Mark(user)
}

func TestClientIDPrefixes(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.ClientIDPrefixes = "dev-" }, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			no := refusedAs(v, 5, codec.NotAuthorized)
			for id, want := range map[string]codec.Reason{"dev-1": 0, "dev-": 0, "dev": no, "x-dev-": no, "": no} {
				if got := x.connack(id, v, nil); got != want {
					t.Errorf("MQTT %d, %q: %s", v, id, got)
				}
			}
		}
	})
}

func TestUseUsernameAsClientID(t *testing.T) {
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.UseUsernameAsClientID = true }, func(t *testing.T, x *fixture) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			if got := x.connack("c", v, nil); got != refusedAs(v, 5, codec.NotAuthorized) {
				t.Errorf("MQTT %d without a username: %s", v, got)
			}
			c := x.connect("one", codec.V5, as("u"))
			d := brokertest.Dial(t, x.addr, v)
			if ack := d.Connack("", as("u")); ack.Reason != codec.Success || len(ack.Properties) > 0 &&
				strings.Contains(string(ack.Properties), "auto-") {
				t.Errorf("MQTT %d: %s, properties %q", v, ack.Reason, ack.Properties)
			}
			wantDisconnect(t, c, codec.SessionTakenOver) // both are "u"
		}
	})
}

func TestAcceptProtocolVersions(t *testing.T) {
	all := []codec.Version{codec.V31, codec.V311, codec.V5}
	for _, only := range all {
		t.Run(fmt.Sprint(only), func(t *testing.T) {
			x := newFixture(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.AcceptVersions = listener.VersionsOf(only) })
			for _, v := range all {
				want := codec.Success
				if v != only {
					want = refusedAs(v, 1, codec.UnsupportedProtocolVersion)
				}
				if got := x.connack("c", v, nil); got != want {
					t.Errorf("MQTT %d: %s, want %s", v, got, want)
				}
			}
		})
	}
}

// TestGlobalMaxClients counts sessions, those that are offline included, on all loops together.
func TestGlobalMaxClients(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.GlobalMaxClients = 3 }, func(t *testing.T, x *fixture) {
		offline, _ := x.present("offline", codec.V311, nil)
		offline.Disconnect()
		x.connect("a", codec.V311, nil)
		b := x.connect("b", codec.V5, nil)
		if r := x.connack("c", codec.V5, nil); r != codec.ServerBusy {
			t.Errorf("%s", r)
		}
		c := brokertest.Dial(t, x.addr, codec.V311)
		c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("c")})
		c.WantClosed()                  // without a word
		x.connect("a", codec.V311, nil) // has its place
		if _, present := x.present("offline", codec.V311, nil); !present {
			t.Error("a session that is there does not go on")
		}
		b.Disconnect()
		x.connect("c", codec.V5, nil)
	})
}

// TestCertificateAsUsername: the common name or the subject of a certificate is the username, and no password
// is asked for.
func TestCertificateAsUsername(t *testing.T) {
	ca := testcert.NewAuthority(t, "CA")
	pool := ca.Pool()
	server := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}})
	named := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{
		CommonName: "device 1", Organization: []string{"Bats, Inc."}, Country: []string{"DE"},
	}})
	nameless := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{Organization: []string{"x"}}})
	odd := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "nul\x00"}})
	file := passwordsOf(t, "device 1 secret", "u secret")
	for _, c := range []struct {
		name    string
		subject bool
		cert    *tls.Certificate
		want    string // the username; empty: refused
	}{
		{"common name", false, &named, "device 1"},
		{"subject", true, &named, `CN=device 1,O=Bats\, Inc.,C=DE`},
		{"no common name", false, &nameless, ""},
		{"subject without common name", true, &nameless, "O=x"},
		{"not a username", false, &odd, ""},
		{"no certificate", false, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &lines{Handler: slog.DiscardHandler}
			x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
				o.Loops, o.Log = 2, slog.New(log)
				l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{file}}
				l.UseIdentityAsUsername, l.UseSubjectAsUsername = !c.subject, c.subject
				l.Net.TLS = &tls.Config{
					Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
				}
			})
			for _, v := range []codec.Version{codec.V311, codec.V5} {
				cfg := &tls.Config{RootCAs: pool, ServerName: "localhost"}
				if c.cert != nil {
					cfg.Certificates = []tls.Certificate{*c.cert}
				}
				cl := brokertest.Dial(t, x.addr, v)
				cl.Conn = tls.Client(cl.Conn, cfg)
				ack := cl.Connack("c", withPassword("u", "wrong"))
				want := codec.Success
				if c.want == "" {
					want = refusedAs(v, 4, codec.BadUserNameOrPassword)
				}
				if ack.Reason != want {
					t.Errorf("MQTT %d: %s, want %s", v, ack.Reason, want)
				}
			}
			brokertest.Settle(t, x.b)
			if c.want != "" && !log.has("u'"+c.want+"'") {
				t.Errorf("no user %s in %q", c.want, log.text)
			}
		})
	}
}

// TestIdentityWithoutTLS: the options mean nothing there.
func TestIdentityWithoutTLS(t *testing.T) {
	x := newFixture(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.UseIdentityAsUsername = true })
	x.connect("c", codec.V311, as("u"))
}
