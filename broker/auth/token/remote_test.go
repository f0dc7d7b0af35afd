package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// endpoint answers with what it is told, on a loopback port of its own.
type endpoint struct {
	*httptest.Server
	answer   atomic.Pointer[http.HandlerFunc]
	requests atomic.Int64
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	e := &endpoint{}
	e.answer.Store(&answer)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.requests.Add(1)
		(*e.answer.Load())(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) say(answer http.HandlerFunc) { e.answer.Store(&answer) }

func text(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

// hands is a clock that the test moves.
type hands struct{ at atomic.Int64 }

func (c *hands) now() time.Time          { return noon().Add(time.Duration(c.at.Load())) }
func (c *hands) forward(d time.Duration) { c.at.Add(int64(d)) }
func (r *Remote) quiet() (stats RemoteStats) { // once nothing is on its way
	r.mu.Lock()
	running := r.mu.running
	r.mu.Unlock()
	if running != nil {
		<-running
	}
	return r.Stats()
}

func mustRemote(t *testing.T, cfg RemoteConfig) *Remote {
	t.Helper()
	r, err := NewRemote(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Keys come and go, and an unknown kid has them fetched again, once in Retry whatever comes.
func TestRotation(t *testing.T) {
	k, next := newKeyring(t), newKeyring(t)
	e := newEndpoint(t, text(jwks(t, rsaJWK("1", &k.rsa.PublicKey, nil))))
	c := &hands{}
	r := mustRemote(t, RemoteConfig{URL: e.URL, Now: c.now})
	v := mustNew(t, Config{Algorithms: []string{"RS256"}, WithoutExp: true}, r)
	old := sign(t, jwt.SigningMethodRS256, k.rsa, "1", claims(map[string]any{"exp": nil}))
	rotated := sign(t, jwt.SigningMethodRS256, next.rsa, "2", claims(map[string]any{"exp": nil}))
	if _, err := v.Verify(t.Context(), old); err != nil { // waits for the first request
		t.Fatal(err)
	}
	e.say(text(jwks(t, rsaJWK("2", &next.rsa.PublicKey, nil))))
	for i := range 100 {
		checkReason(t, "a new kid, just after a request", v, sign(t, jwt.SigningMethodRS256, k.rsa, fmt.Sprint("made up", i),
			claims(nil)), UnknownKey)
	}
	checkReason(t, "the rotated kid, just after a request", v, rotated, UnknownKey)
	if n := e.requests.Load(); n != 1 {
		t.Errorf("%d requests in no time", n)
	}
	c.forward(10 * time.Second)
	if _, err := v.Verify(t.Context(), rotated); err != nil {
		t.Errorf("rotated: %v", err)
	}
	checkReason(t, "the kid that has gone", v, old, UnknownKey)
	if s := r.quiet(); s.Requests != 2 || s.Failed != 0 || s.Keys != 1 || !s.Fetched.Equal(c.now()) {
		t.Errorf("%+v", s)
	}
	c.forward(15 * time.Minute)
	for range 10 { // found at once, and fetched again behind their back
		if _, err := v.Verify(t.Context(), rotated); err != nil {
			t.Error(err)
		}
	}
	if s := r.quiet(); s.Requests != 3 {
		t.Errorf("%+v", s)
	}
}

// An endpoint that is down, slow, redirects or answers garbage takes no key away, for as long as Keep.
func TestBadEndpoints(t *testing.T) {
	k := newKeyring(t)
	good := jwks(t, rsaJWK("1", &k.rsa.PublicKey, nil))
	elsewhere := newEndpoint(t, text(good))
	release := make(chan struct{})
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		told   string
	}{
		"500":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write(good) }, "status 500"},
		"204":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "status 204"},
		"redirects": {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, "a redirect (302)"},
		"garbage":   {text([]byte("<html>secret")), "not a JSON Web Key Set"},
		"empty":     {text([]byte(`{"keys":[]}`)), "without a key"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				_, _ = w.Write([]byte(strings.Repeat(" ", 1024)))
			}
		}, "more than 262144 bytes"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(good[:10])
		}, "unexpected EOF"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}, "deadline"},
		"closes": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, text(good))
			clock := &hands{}
			var told struct {
				sync.Mutex
				err error
			}
			r := mustRemote(t, RemoteConfig{
				URL: e.URL, Now: clock.now, Timeout: 200 * time.Millisecond, Tell: func(err error) {
					told.Lock()
					told.err = err
					told.Unlock()
				},
			})
			v := mustNew(t, Config{Algorithms: []string{"RS256"}, WithoutExp: true}, r)
			known := sign(t, jwt.SigningMethodRS256, k.rsa, "1", claims(map[string]any{"exp": nil}))
			if _, err := v.Verify(t.Context(), known); err != nil {
				t.Fatal(err)
			}
			e.say(c.answer)
			clock.forward(time.Hour)
			checkReason(t, "an unknown kid", v, sign(t, jwt.SigningMethodRS256, k.rsa, "2", claims(nil)), UnknownKey)
			s := r.quiet()
			told.Lock()
			if s.Failed != 1 || s.Keys != 1 || told.err == nil || !strings.Contains(told.err.Error(), c.told) ||
				strings.Contains(told.err.Error(), "secret") || strings.Contains(told.err.Error(), e.URL) {
				t.Errorf("%+v, %v", s, told.err)
			}
			told.Unlock()
			clock.forward(22 * time.Hour)
			if _, err := v.Verify(t.Context(), known); err != nil {
				t.Errorf("within Keep: %v", err)
			}
			r.quiet()
			clock.forward(2 * time.Hour)
			checkReason(t, "beyond Keep", v, known, KeysUnavailable)
			r.quiet()
			e.say(text(good))
			clock.forward(time.Minute)
			if _, err := v.Verify(t.Context(), known); err != nil {
				t.Errorf("once it is back: %v", err)
			}
		})
	}
	close(release)
	if n := elsewhere.requests.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// A start with the endpoint down is a start, and its logins are refused with a reason of their own.
func TestEndpointDownAtStart(t *testing.T) {
	e := newEndpoint(t, nil)
	e.Close()
	k := newKeyring(t)
	c := &hands{}
	r := mustRemote(t, RemoteConfig{URL: e.URL, Now: c.now})
	v := mustNew(t, Config{Algorithms: []string{"RS256"}}, r)
	raw := sign(t, jwt.SigningMethodRS256, k.rsa, "1", claims(nil))
	checkReason(t, "down", v, raw, KeysUnavailable)
	r.quiet()
	checkReason(t, "down still, not asked again", v, raw, KeysUnavailable)
	if s := r.quiet(); s.Requests != 1 || s.Failed != 1 || s.Keys != 0 || !s.Fetched.IsZero() {
		t.Errorf("%+v", s)
	}
}

// Who waits is bounded, by number and by time, and all of them wait for one request.
func TestWaitersAreBounded(t *testing.T) {
	k := newKeyring(t)
	release := make(chan struct{})
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		text(jwks(t, rsaJWK("1", &k.rsa.PublicKey, nil)))(w, r)
	})
	r := mustRemote(t, RemoteConfig{URL: e.URL, Timeout: time.Minute})
	var wg sync.WaitGroup
	var found, refused atomic.Int64
	for range waitersMax + 20 {
		wg.Go(func() {
			_, err := r.Find(context.Background(), "1", "RS256")
			if err == nil {
				found.Add(1)
			} else if reason, _ := ReasonOf(err); reason == KeysUnavailable {
				if refused.Add(1) == 20 {
					close(release)
				}
			}
		})
	}
	wg.Wait()
	if found.Load() != waitersMax || refused.Load() != 20 || e.requests.Load() != 1 || r.waiting.Load() != 0 {
		t.Errorf("%d found, %d refused, %d requests, %d wait", found.Load(), refused.Load(), e.requests.Load(), r.waiting.Load())
	}
}

// The end of the question, and of the keys, ends a wait.
func TestWaitEnds(t *testing.T) {
	e := newEndpoint(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := mustRemote(t, RemoteConfig{URL: e.URL, Timeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Find(ctx, "1", "RS256"); err == nil {
		t.Error("found")
	}
	done := make(chan error)
	go func() { // the receive below waits for it
		_, err := r.Find(context.Background(), "1", "RS256")
		done <- err
	}()
	r.Close()
	if reason, ok := ReasonOf(<-done); !ok || reason != KeysUnavailable {
		t.Error(reason)
	}
	if _, err := r.Find(t.Context(), "1", "RS256"); !errors.As(err, new(*Error)) {
		t.Error("found after Close")
	}
}

// Which addresses are taken: whoever is on the way of plain HTTP could log in as anybody.
func TestRemoteURLs(t *testing.T) {
	for url, good := range map[string]bool{
		"https://127.0.0.1:1/jwks": true, "http://127.0.0.1:1": true, "http://[::1]:1": true, "http://localhost:1": true,
		"http://id.example:1": false, "file:///etc/passwd": false, "ftp://x": false, "": false, "https:///x": false, "::": false,
		"http://127.0.0.1.example:1": false,
	} {
		r, err := NewRemote(RemoteConfig{URL: url, Transport: deaf{}})
		if (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
		if err == nil {
			if r.Fits("HS256") || !r.Fits("ES256") {
				t.Error("a set that anybody can fetch fits secrets")
			}
			r.Close()
		}
	}
	r, err := NewRemote(RemoteConfig{URL: "http://id.example:1", PlainHTTP: true, Transport: deaf{}})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// deaf is a network that nothing comes through.
type deaf struct{}

func (deaf) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }
