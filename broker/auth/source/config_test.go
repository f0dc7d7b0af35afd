package source

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"noctule/broker/auth"
)

// TestWrong is what cannot be in the file, with its line.
func TestWrong(t *testing.T) {
	const http = "http: {url: 'http://w/'}"
	for _, tt := range []struct{ text, want string }{
		{"sorces: []", `[1:1] unknown field`},
		{"sources:\n  - name: a\n    " + http + "\n    color: red", "[4:5] unknown field"},
		{"sources:\n  - name: a", "[2:9] source a needs exactly one of jwt, http, sql, redis, ldap, file"},
		{"sources:\n  - name: a\n    file: x\n    " + http, "needs exactly one"},
		{"sources: [{file: x}]", `the name "" is not`},
		{"sources: [{name: 'a b', file: x}]", `the name "a b" is not`},
		{"sources: [{name: a, file: x}, {name: a, file: y}]", "[1:38] source a is there twice"},
		{"sources: [{name: a, file: x, on_failure: maybe}]", `"maybe" is not one of closed, open, last_known`},
		{"sources: [{name: a, http: {url: 'ftp://w/'}}]", "is not an http or https URL"},
		{"sources: [{name: a, http: {url: 'http://w/%{password}'}}]", "is a secret, which no URL may have"},
		{"sources: [{name: a, http: {url: 'http://w/', batch: 5}}]", "one login is asked about at a time"},
		{"sources: [{name: a, http: {url: 'http://w/'}, key: [username]}]", "[1:52] without the password one client"},
		{"sources: [{name: a, http: {url: 'http://w/'}, key: [password]}]", "without the username one client"},
		{"sources: [{name: a, " + http + ", budget: 0s}]", "it has to be more than 0"},
		{"sources: [{name: a, " + http + ", refresh: 0s}]", "it has to be more than 0"},
		{"sources: [{name: a, " + http + ", acl: {http: {url: 'http://w/'}, budget: 0s}}]", "more than 0"},
		{"sources: [{name: a, " + http + ", answer: xml}]", `"xml" is not one of status, json, text`},
		{"sources: [{name: a, file: x, answer: json}]", "answer is for http"},
		{"sources: [{name: a, " + http + ", rules_query: x}]", "rules_query is for sql"},
		{"sources: [{name: a, " + http + ", topics: ['fly a']}]", `[1:56] "fly" is no access`},
		{"sources: [{name: a, " + http + ", topics: ['read a/#/b']}]", "is no filter"},
		{"sources: [{name: a, " + http + ", group_topics: {g: ['read +x']}}]", "is no filter"},
		{"sources: [{name: a, " + http + ", for: {username: []}}]", "1 to 1000 are allowed"},
		{"sources: [{name: a, " + http + ", for: {}}]", "a selector needs one of"},
		{"sources: [{name: a, " + http + ", acl: {budget: 1s}}]", "acl is for webservices"},
		{"sources: [{name: a, " + http + ", acl: {http: {url: 'http://%c/'}}}]", "cannot say which server"},
		{"sources: [{name: a, sql: {driver: oracle, dsn: x, query: y}}]", `"oracle" is not one of`},
		{"sources: [{name: a, sql: {driver: sqlite, dsn: x, query: 'SELECT %{password}'}}]", "is not one of %{username}"},
		{"sources: [{name: a, sql: {driver: sqlite, dsn: x, query: y}, rules_query: '%{topic}'}]", "is not one of"},
		{"sources: [{name: a, jwt: {algorithms: [HS256]}}]", "exactly one of secret_file"},
		{"sources: [{name: a, jwt: {secret_file: x}}]", "algorithms must be named"},
		{"sources: [{name: a, jwt: {secret_file: x, algorithms: [HS256], topics: ['fly a']}}]", "is no access"},
		{"sources: [{name: a, redis: {address: 'x:1'}}]", "no key"},
		{"sources: [{name: a, redis: {key: x}}]", "no address"},
		{"sources: [{name: a, redis: {address: 'x:1', key: x, rules: [{key: y, access: fly}]}}]", "is no access"},
		{"sources: [{name: a, ldap: {url: 'ldap://there', dn: 'uid=%u'}}]", "cross the network as they are"},
		{"sources: [{name: a, ldap: {url: 'ldaps://there'}}]", "either dn or search"},
		{"sources: [{name: a, ldap: {url: 'http://there', dn: x}}]", "is not ldap://"},
		{"sources: [{name: a, ldap: {url: 'ldaps://there', search: {base: x, filter: '(uid=%u'}}}]", "is no filter"},
		{"sources: [{name: a, ldap: {url: 'ldaps://x', dn: y, bind_dn: z}}]", "belong together"},
	} {
		_, err := Parse([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s:\n%v, want %s", tt.text, err, tt.want)
		}
	}
}

// TestWrongFiles is what is found out only by opening what a file names: the line is told, and a secret never.
func TestWrongFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "short", "short")
	write(t, dir, "hash", "# users\nalice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
	for _, tt := range []struct{ text, want string }{
		{"sources:\n  - name: a\n    http: {url: 'http://w/', token_file: $/none}", ":3: source a: open $/none: no such file"},
		{"sources:\n  - name: a\n    http: {url: 'http://w/'}\n    acl:\n      http: {url: 'http://w/', ca_file: $/short}", ":5: source a: $/short has no certificate"},
		{"sources:\n  - name: a\n    jwt:\n      algorithms: [HS256]\n      secret_file: $/short", ":5: source a: $/short: a secret of less"},
		{"sources:\n  - name: a\n    redis: {address: 'x:1', key: y, password_file: $/none}", ":3: source a: open $/none"},
		{"sources:\n  - name: a\n    ldap: {url: 'ldaps://x', dn: y, ca_file: $/none}", ":3: source a: open $/none"},
		{"sources:\n  - name: a\n    file: $/hash", "$/hash:2: Unable to decode line"},
		{"sources:\n  - name: a\n    sql: {driver: mysql, dsn: 'root:sesame@@(', query: x}", ":2: source a: mysql: "},
		{"sources:\n  - name: a\n    sql: {driver: postgres, dsn: 'postgres://u:sesame@h:x/', query: y}", ""},
	} {
		path := write(t, dir, "auth.yaml", strings.ReplaceAll(tt.text, "$", dir))
		cfg, err := Load(path)
		if err == nil {
			e := New(quiet())
			var p *Plan
			if p, err = e.Prepare([]*Config{cfg}); err == nil {
				p.Discard()
			}
			e.Close()
		}
		if err == nil && tt.want == "" {
			continue
		}
		f, ok := err.(*auth.FileError)
		if !ok {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got := strings.ReplaceAll(f.Path+":"+itoa(f.Line)+": "+f.Text, dir, "$")
		if !strings.Contains(got, tt.want) || strings.Contains(got, "sesame") {
			t.Errorf("%s:\n%s, want %s", tt.text, got, tt.want)
		}
	}
	if _, err := Load(dir + "/nowhere"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}

// TestExamples reads the examples of the documents.
func TestExamples(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(sources:.*?)```").FindAllSubmatch(raw, -1)
	kinds := map[string]bool{}
	for _, b := range blocks {
		c, err := Parse(b[1])
		if err != nil {
			t.Errorf("%v in\n%s", err, b[1])
			continue
		}
		for i := range c.Sources {
			s := &c.Sources[i]
			for kind, there := range map[string]bool{
				"jwt": s.JWT != nil, "http": s.HTTP != nil, "sql": s.SQL != nil, "redis": s.Redis != nil,
				"ldap": s.LDAP != nil, "file": s.File != "",
			} {
				kinds[kind] = kinds[kind] || there
			}
		}
	}
	if len(blocks) < 6 {
		t.Errorf("%d examples", len(blocks))
	}
	for kind, there := range kinds {
		if !there {
			t.Errorf("no example has %s", kind)
		}
	}
}
