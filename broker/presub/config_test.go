package presub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const full = `
tenant: {from: username, match: '@(.+)$'}
pending: {default_wait: 10s, max: 5, max_bytes: 1000}
control: {usernames: [agent]}
connect: {topic: /e/+/connect/new, usernames: [agent]}
client_unsubscribe: deny
acl: bypass
providers:
  - name: own
    static:
      topics:
        - {topic: /e/%e/im/u/%u, qos: 1}
        - {topic: /e/%e/notice/u/%u, rh: 1, nl: true, rap: true, id: 7}
  - name: groups
    when: after_connack
    budget: 2s
    on_failure: empty
    cache: {ttl: 60s, stale: 1h, max: 10}
    http: {url: 'https://api.example/%c', method: GET, timeout: 1s, retries: 2, headers: {X-Key: a}}
  - name: db
    acl: bypass
    client_unsubscribe: sticky
    sql: {driver: sqlite, dsn: 'file::memory:', query: "SELECT topic FROM t WHERE c = %c"}
  - name: token
    on_failure: refuse
    jwt: {algorithms: [HS256], secret_file: secret, subject_is: username}
`

func TestConfig(t *testing.T) {
	c, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if c.Tenant.of("c", "u@e1") != "e1" || c.Tenant.of("c", "u") != "" {
		t.Error("tenant")
	}
	own, groups := c.Providers[0], c.Providers[1]
	if own.When != "before_connack" || time.Duration(own.Budget) != time.Second || own.OnFailure != "last_known" ||
		own.MaxTopics != 10000 || own.Static.Topics[1].ID != 7 || !own.Static.Topics[1].RAP {
		t.Errorf("%+v", own)
	}
	if groups.HTTP.Retries != 2 || time.Duration(groups.Cache.TTL) != time.Minute || groups.HTTP.Headers["X-Key"] != "a" {
		t.Errorf("%+v", groups)
	}
	if empty, err := Parse(nil); err != nil || time.Duration(empty.Pending.DefaultWait) != 30*time.Second {
		t.Errorf("empty file: %v", err)
	}
}

func TestConfigErrorsNameTheLine(t *testing.T) {
	for _, tt := range []struct{ change, to, want string }{
		{"qos: 1", "qos: 3", "[12:"},
		{"qos: 1", "qs: 1", "[12:"},
		{"qos: 1", "qos: many", "[12:"},
		{"client_unsubscribe: deny", "client_unsubscribe: never", `[6:21] "never" is not one of allow, sticky, deny`},
		{"acl: bypass\nproviders", "acl: maybe\nproviders", "[7:"},
		{"default_wait: 10s", "default_wait: soon", "[3:"},
		{"default_wait: 10s", "default_wait: -10s", "[3:"},
		{"on_failure: empty", "on_failure: refuse", "[17:"},
		{"url: 'https://api.example/%c'", "url: 'ftp://x'", "[19:"},
		{"name: db", "name: own", "[20:"},
		{"driver: sqlite", "driver: oracle", "[23:"},
		{"algorithms: [HS256]", "algorithms: [none]", "[26:"},
		{"algorithms: [HS256]", "algorithms: [RS256]", "[26:"},
		{"from: username", "from: password", "[2:"},
		{"match: '@(.+)$'", "match: '('", "[2:"},
		{"topic: /e/+/connect/new", "topic: /e/+x", "[5:"},
		{"  - name: own\n    static:", "  - name: own\n    sql: {driver: sqlite, dsn: x, query: y}\n    static:", "[9:"},
		{"topic: /e/%e/im/u/%u", "topic: '#/%u'", "[12:"},
		{"tenant:", "tenant: {}\ntenat:", "[3:"},
		{"- name: groups", "- name: 'gr ups'", "[14:"},
		{"retries: 2", "retries: 99", "[19:"},
	} {
		raw := strings.Replace(full, tt.change, tt.to, 1)
		if raw == full {
			t.Fatalf("%q is not there", tt.change)
		}
		_, err := Parse([]byte(raw))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", tt.to, err, tt.want)
		}
	}
	name := filepath.Join(t.TempDir(), "presub.yaml")
	if err := os.WriteFile(name, []byte("providers: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || !strings.HasPrefix(err.Error(), name+": [1:") {
		t.Errorf("%v", err)
	}
	if _, err := Load(name + "x"); err == nil {
		t.Error("a missing file is taken")
	}
}
