package lookup

import (
	"strings"
	"testing"
	"time"
)

// room is a file of settings of somebody's.
type room struct {
	Sources []struct {
		Name     string `yaml:"name"`
		Settings `yaml:",inline"`
	} `yaml:"sources"`
}

func parse(raw string) (*room, error) {
	r := &room{}
	if err := ParseYAML([]byte(raw), r); err != nil {
		return nil, err
	}
	for i := range r.Sources {
		g := GivenIn([]byte(raw)).Item("sources", i)
		if err := r.Sources[i].CheckZeros("$.sources[0]", g); err != nil {
			return nil, WithLine([]byte(raw), err)
		}
		r.Sources[i].Defaults(g)
		if err := r.Sources[i].Check("$.sources[0]", threeNames()); err != nil {
			return nil, WithLine([]byte(raw), err)
		}
	}
	return r, nil
}

func TestSettings(t *testing.T) {
	r, err := parse(`sources: [{name: a, budget: 1s, key: [username], cache: {ttl: 60s, max_bytes: 1000}, http: {url: 'http://x/%c', retries: 2}}]`)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Sources[0].Settings
	if time.Duration(s.Budget) != time.Second || s.MaxWaiting != 10000 || s.HTTP.MaxConns != 64 || s.HTTP.Method != "POST" ||
		time.Duration(s.HTTP.Timeout) != 500*time.Millisecond || s.Cache.MaxBytes != 1000 || s.Cache.Max != 100000 ||
		time.Duration(s.Cache.Stale) != 24*time.Hour || s.Key[0] != "username" || s.Slots() != 64 {
		t.Errorf("%+v", s)
	}
	if r, err = parse("sources: [{sql: {driver: mysql, dsn: x, query: SELECT 1}}]"); err != nil || r.Sources[0].Slots() != 8 {
		t.Error(err)
	}
}

// TestSettingsNameTheLine has one wrong value each.
func TestSettingsNameTheLine(t *testing.T) {
	for line, want := range map[string]string{
		"budget: soon":                                                     `[3:13] "soon" is not a time`,
		"budget: -1s":                                                      "[3:13] ",
		"max_waiting: -1":                                                  "[3:18] max_waiting -1 is not",
		"budget: 0s":                                                       "[3:13] it has to be more than 0",
		"cache: {max_bytes: 0}":                                            "[3:24] it has to be more than 0",
		"http: {url: 'http://x', max_conns: 0}":                            "[3:40] it has to be more than 0",
		"key: [clientid, user]":                                            `[3:21] "user" is not one of clientid, username, tenant`,
		"cache: {max: -1}":                                                 "[3:18] max -1 is not",
		"cache: {max_bytes: -1}":                                           "[3:24] max_bytes -1 is not",
		"http: {url: 'x'}":                                                 `[3:17] "x" is not an http or https URL`,
		"http: {url: 'http://%c/'}":                                        "[3:17] ",
		"http: {url: 'http://x/%{user}'}":                                  `[3:17] "%{user}" is not one of %{clientid}, %{username}, %{tenant}`,
		"http: {url: 'http://x', body: '%{a}'}":                            "[3:35] ",
		"http: {url: 'http://x', method: GET, body: 'a'}":                  "[3:48] only POST has a body",
		"http: {url: 'http://x', method: PUT}":                             "[3:37] ",
		"http: {url: 'http://x', content_type: text/plain}":                "[3:43] ",
		"http: {url: 'http://x', headers: {X: '%{a}'}}":                    "[3:38] X: ",
		"http: {url: 'http://x', retries: 11}":                             "[3:38] ",
		"http: {url: 'http://x', max_conns: -1}":                           "[3:40] ",
		"http: {url: 'http://x', batch: 1001}":                             "[3:36] ",
		"http: {url: 'http://x/%c', batch: 2}":                             "[3:39] a batch is sent by POST",
		"http: {url: 'http://x', batch: 2, body: a}":                       "[3:36] a batch has a body of its own",
		"http: {url: 'http://x', batch: 2, headers: {X: '%c'}}":            "[3:48] X: a batch has one header",
		"http: {url: 'http://x', path: 2}":                                 "[3:29] unknown field",
		"sql: {driver: oracle, dsn: x, query: x}":                          "[3:19] ",
		"sql: {driver: mysql, query: x}":                                   "[3:10] either dsn or dsn_file",
		"sql: {driver: mysql, dsn: x, dsn_file: x, query: x}":              "[3:10] either dsn or dsn_file",
		"sql: {driver: mysql, dsn: x}":                                     "[3:10] no query",
		"sql: {driver: mysql, dsn: x, query: 'SELECT %{a}'}":               "[3:41] ",
		"sql: {driver: mysql, dsn: x, query: 'SELECT %{a', max_conns: -1}": "[3:66] at least 1",
	} {
		_, err := parse("sources:\n  - name: a\n    " + line + "\n")
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
