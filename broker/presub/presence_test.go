package presub

import (
	"strings"
	"testing"
	"time"
)

// TestZeroIsNoDefault: a 0 that is written in the file counts where it means none, and is refused where it means
// nothing; what is not there, or has no value, has its default.
func TestZeroIsNoDefault(t *testing.T) {
	parse := func(yaml string) *Config {
		t.Helper()
		c, err := Parse([]byte(yaml))
		if err != nil {
			t.Fatalf("%s: %v", yaml, err)
		}
		return c
	}
	for _, yaml := range []string{
		"", "# nothing", "pending:\n", "pending: {default_wait: , max: null, max_bytes: ~}",
		"providers: [{name: a, cache: , static: {topics: [{topic: a}]}}]",
	} {
		c := parse(yaml)
		if p := c.Pending; time.Duration(p.DefaultWait) != 30*time.Second || p.Max != 10000 || p.MaxBytes != 16<<20 {
			t.Errorf("%q: %+v", yaml, p)
		}
		for _, p := range c.Providers {
			if time.Duration(p.Cache.Stale) != 24*time.Hour {
				t.Errorf("%q: %+v", yaml, p.Cache)
			}
		}
	}
	c := parse("pending: {default_wait: 0s, max: 0, max_bytes: 0}\n" +
		"providers:\n  - name: a\n    cache:\n      stale: 0s\n    static: {topics: [{topic: a}]}")
	if c.Pending != (Pending{}) || c.Providers[0].Cache.Stale != 0 {
		t.Errorf("%+v, %+v", c.Pending, c.Providers[0].Cache)
	}
	for _, bad := range []string{
		"budget: 0s", "max_topics: 0", "max_waiting: 0", "cache: {max: 0}", "http: {url: 'http://x', timeout: 0s}",
		"http: {url: 'http://x', max_conns: 0}", "sql: {driver: sqlite, dsn: x, query: y, max_conns: 0}",
	} {
		_, err := Parse([]byte("providers:\n  - name: a\n    " + bad))
		if err == nil || !strings.HasPrefix(err.Error(), "[3:") || !strings.Contains(err.Error(), "more than 0") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestNoWaitByDefault: with default_wait 0 a request for a client that is not there is answered that there is no
// session, unless it says how long it waits.
func TestNoWaitByDefault(t *testing.T) {
	x := newSystem(t, "pending: {default_wait: 0s}")
	answers, err := x.e.Subscribe(t.Context(), "shop", "nobody", []Topic{{Topic: "a"}})
	if err != nil || len(answers) != 1 || answers[0].Code != 0x92 {
		t.Errorf("%+v, %v", answers, err)
	}
}
