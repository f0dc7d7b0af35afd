package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// RemoteConfig is where a JSON Web Key Set is fetched from, and how often. Zero values mean the defaults
// named.
type RemoteConfig struct {
	URL string `yaml:"url"`
	// PlainHTTP takes http:// from elsewhere than this machine: whoever is on the way can then log in as
	// anybody.
	PlainHTTP bool `yaml:"plain_http"`
	// Refresh is how old the keys may be before they are fetched again, behind the back of who asks; 15
	// minutes.
	Refresh time.Duration `yaml:"refresh"`
	// Retry is how long after a request the next one may be, whatever kids come; 10 seconds.
	Retry time.Duration `yaml:"retry"`
	// Keep is how long the last keys are used while no new ones can be had; 24 hours.
	Keep time.Duration `yaml:"keep"`
	// Timeout bounds a request, and how long Find waits; 5 seconds.
	Timeout time.Duration `yaml:"timeout"`
	// Transport carries the requests; nil means one with the system's certificates.
	Transport http.RoundTripper `yaml:"-"`
	// Tell is called with the error of a request that failed, and with nil after one that did not, one call
	// at a time. nil: nobody is told.
	Tell func(error) `yaml:"-"`
	// Now is the time; nil means the system's clock.
	Now func() time.Time `yaml:"-"`
}

func (c *RemoteConfig) defaults() {
	set := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.Refresh, 15*time.Minute)
	set(&c.Retry, 10*time.Second)
	set(&c.Keep, 24*time.Hour)
	set(&c.Timeout, 5*time.Second)
	c.Keep = max(c.Keep, c.Refresh)
	if c.Now == nil {
		c.Now = now
	}
	if c.Tell == nil {
		c.Tell = func(error) {}
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: c.Timeout}).DialContext,
			TLSHandshakeTimeout: c.Timeout, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
			ForceAttemptHTTP2: true,
		}
	}
}

// Bounds of what is fetched, and of who waits for it.
const (
	setBytesMax = 256 << 10
	waitersMax  = 256
)

// Remote are keys of a URL. A key that is known is found at once; for one that is not, the set is fetched
// again, but not more often than Retry, and Find waits for that: at most Timeout, and 256 of them at a time.
// A request is one goroutine, one at a time; Close waits for it. Redirects are refused, since the keys are
// trusted by their address. What is no set of keys, or has none that is of use, changes nothing.
type Remote struct {
	// Set by NewRemote, then read-only:
	cfg    RemoteConfig
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc

	// Atomic:
	current atomic.Pointer[fetched]
	waiting atomic.Int64

	mu struct { // Guarded by mu:
		sync.Mutex
		running chan struct{} // closed when the request is done; nil: there is none
		last    time.Time     // when the last one began
		closed  bool
		stats   RemoteStats
	}
}

// fetched is a set and its age.
type fetched struct {
	set *Set
	at  time.Time
}

// RemoteStats are counts since the start, except where noted.
type RemoteStats struct {
	Requests int64
	Failed   int64
	Keys     int       // now
	Fetched  time.Time // when the keys of now came; zero: never
}

// NewRemote begins to fetch. That this fails is no error of a start: logins wait, and try again.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("the URL of the keys cannot be read")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, errors.New("the URL of the keys must be https://HOST and a path")
	case u.Scheme == "http" && !cfg.PlainHTTP && !loopback(u.Hostname()):
		return nil, errors.New("the URL of the keys is http: whoever is on the way could log in as " +
			"anybody; plain_http: true takes it")
	}
	cfg.defaults()
	r := &Remote{cfg: cfg}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client = &http.Client{
		Transport:     cfg.Transport,
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.start()
	return r, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Fits implements Keys: a set that anybody can fetch holds no secrets.
func (r *Remote) Fits(algorithm string) bool { return !strings.HasPrefix(algorithm, "HS") }

// Find implements Keys.
func (r *Remote) Find(ctx context.Context, kid, algorithm string) ([]any, error) {
	keys, usable, age := r.look(kid, algorithm)
	if len(keys) > 0 {
		if age >= r.cfg.Refresh {
			r.start()
		}
		return keys, nil
	}
	done := r.start()
	if done == nil {
		return nil, missing(usable)
	}
	if r.waiting.Add(1) > waitersMax {
		r.waiting.Add(-1)
		return nil, because(KeysUnavailable)
	}
	defer r.waiting.Add(-1)
	select {
	case <-done:
	case <-ctx.Done():
		return nil, because(KeysUnavailable)
	}
	if keys, usable, _ = r.look(kid, algorithm); len(keys) > 0 {
		return keys, nil
	}
	return nil, missing(usable)
}

// missing is why there is no key: there are others, or none at all.
func missing(usable bool) error {
	if usable {
		return because(UnknownKey)
	}
	return because(KeysUnavailable)
}

// look finds keys in what was fetched last; usable says that this is not too old.
func (r *Remote) look(kid, algorithm string) (keys []any, usable bool, age time.Duration) {
	f := r.current.Load()
	if f == nil {
		return nil, false, 0
	}
	if age = r.cfg.Now().Sub(f.at); age > r.cfg.Keep {
		return nil, false, age
	}
	return f.set.find(kid, algorithm), true, age
}

// start has a request made, if none is on its way and the last one was not just now. The channel is closed
// when it is done; nil means that none may be made.
func (r *Remote) start() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	if m.running != nil {
		return m.running
	}
	at := r.cfg.Now()
	if m.closed || m.stats.Requests > 0 && at.Sub(m.last) < r.cfg.Retry {
		return nil
	}
	m.running, m.last = make(chan struct{}), at
	m.stats.Requests++
	go r.run(at) // Close waits for it
	return m.running
}

// run makes one request.
func (r *Remote) run(at time.Time) {
	set, err := r.fetch()
	if err == nil {
		r.current.Store(&fetched{set, at})
	}
	r.cfg.Tell(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.mu
	if err != nil {
		m.stats.Failed++
	} else {
		m.stats.Keys, m.stats.Fetched = len(set.list), at
	}
	close(m.running)
	m.running = nil
}

// fetch is one request. Its errors hold nothing of the answer.
func (r *Remote) fetch() (*Set, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.cfg.URL, nil)
	if err != nil {
		return nil, errors.New("the URL of the keys cannot be asked")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("keys for tokens: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("keys for tokens: a redirect (%d), which is not followed", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("keys for tokens: status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, setBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("keys for tokens: %w", withoutURL(err))
	case len(text) > setBytesMax:
		return nil, fmt.Errorf("keys for tokens: more than %d bytes", setBytesMax)
	}
	set, err := readSet(text, false)
	if err != nil {
		return nil, fmt.Errorf("keys for tokens: %w", err)
	}
	return set, nil
}

// withoutURL is an error without the URL, which may hold a password.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Stats returns the counts.
func (r *Remote) Stats() RemoteStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.stats
}

// Close ends what is being fetched and waits for it. Keys that are there go on being found.
func (r *Remote) Close() {
	r.cancel()
	r.mu.Lock()
	r.mu.closed = true
	running := r.mu.running
	r.mu.Unlock()
	if running != nil {
		<-running
	}
}
