package presub

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec"
	"noctule/internal/testlog"
	"noctule/internal/testserver"
)

// engine makes one of a configuration.
func engine(t *testing.T, yaml string) *Engine {
	t.Helper()
	c, err := Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// filters is the topics of a set as a client would write them: "a:1 b:0".
func filters(x *behalf.Set) string {
	var out []string
	for _, t := range x.Topics() {
		out = append(out, fmt.Sprintf("%s:%d", t.Filter, t.QoS))
	}
	return strings.Join(out, " ")
}

func TestStaticTemplates(t *testing.T) {
	e := engine(t, `
tenant: {from: username, match: '@(.+)$'}
providers:
  - name: own
    static: {topics: [{topic: /e/%e/im/u/%u, qos: 1}, {topic: c/%c}, {topic: all}]}
  - name: common
    static: {topics: [{topic: news}]}
`)
	for _, tt := range []struct{ id, user, want string }{
		{"c1", "u1@e1", "/e/e1/im/u/u1@e1:1 all:0 c/c1:0"},
		{"c1", "", "all:0 c/c1:0"},
		{"c1", "nobody", "all:0 c/c1:0"},
		{"a/b", "u@e", "/e/e/im/u/u@e:1 all:0"}, // no name may reach beyond its level
		{"#", "+@e", "all:0"},
		{"%u", "x@e", "/e/e/im/u/x@e:1 all:0 c/%u:0"},
	} {
		grants, code := e.Grants(context.Background(), Client{ID: tt.id, Username: tt.user})
		if code != codec.Success || len(grants) != 2 {
			t.Fatalf("%d grants, %s", len(grants), code)
		}
		if got := filters(grants[0].Topics); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.id, tt.user, got, tt.want)
		}
		if got := filters(grants[1].Topics); got != "news:0" || grants[1].Topics != e.rules.Load().providers[1].fixed {
			t.Errorf("common: %q", got)
		}
	}
}

// service is a webservice whose answers the test gives.
type service struct {
	*httptest.Server
	calls  atomic.Int64
	answer atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func newService(t *testing.T) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) set(f func(w http.ResponseWriter, r *http.Request)) { s.answer.Store(&f) }

func (s *service) say(status int, body string) {
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// one asks the only provider.
func one(t *testing.T, e *Engine, id string) (behalf.Grant, codec.Reason) {
	t.Helper()
	list, code := e.Grants(context.Background(), Client{ID: id, Username: "u"})
	if code != codec.Success {
		return behalf.Grant{}, code
	}
	return list[0], code
}

func TestWebservice(t *testing.T) {
	s := newService(t)
	var seen atomic.Value
	s.set(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.Store(r.Method + " " + r.URL.String() + " " + r.Header.Get("Authorization") + " " + string(body))
		_, _ = io.WriteString(w, `{"topics":[{"topic":"a","qos":1},{"topic":"b/#"}]}`)
	})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]string{
		"{method: POST, token_file: " + token + ", url: '" + s.URL + "/x'}": `POST /x Bearer sesame {"clientid":"c 1","tenant":"","username":"u"}`,
		"{method: GET, url: '" + s.URL + "/l?a=1'}":                         `GET /l?a=1&clientid=c+1&tenant=&username=u  `,
		"{method: GET, url: '" + s.URL + "/l/%c/%u'}":                       `GET /l/c%201/u  `,
	} {
		e := engine(t, "providers: [{name: ws, budget: 10s, http: "+strings.Replace(method, "{", "{timeout: 10s, ", 1)+"}]")
		g, code := one(t, e, "c 1")
		if code != codec.Success || filters(g.Topics) != "a:1 b/#:0" || seen.Load() != want {
			t.Errorf("%s: %s, %q, asked %q, want %q", method, code, filters(g.Topics), seen.Load(), want)
		}
	}
}

// TestWebserviceFails has it down, slow, wrong and talking nonsense, with each policy.
func TestWebserviceFails(t *testing.T) {
	s := newService(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	many := strings.TrimSuffix(strings.Repeat(`{"topic":"a"},`, 5), ",")
	for name, f := range map[string]func(){
		"status":      func() { s.say(500, "") },
		"not found":   func() { s.say(404, "") },
		"redirect":    func() { s.say(302, "") },
		"garbage":     func() { s.say(200, "<html>") },
		"no topics":   func() { s.say(200, "{}") },
		"bad topic":   func() { s.say(200, `{"topics":[{"topic":"a/#/b"}]}`) },
		"bad qos":     func() { s.say(200, `{"topics":[{"topic":"a","qos":3}]}`) },
		"too many":    func() { s.say(200, `{"topics":[`+many+`]}`) },
		"two answers": func() { s.say(200, `{"topics":[]}{"topics":[]}`) },
		"slow": func() {
			s.set(func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-release:
				case <-r.Context().Done():
				}
			})
		},
		"hangs up": func() { s.set(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, policy := range []string{"last_known", "refuse", "empty"} {
				e := engine(t, fmt.Sprintf("providers: [{name: ws, budget: 200ms, max_topics: 4, on_failure: %s, "+
					"http: {timeout: 150ms, url: '%s'}}]", policy, s.URL))
				s.say(200, `{"topics":[{"topic":"old"}]}`)
				if g, code := one(t, e, "known"); code != codec.Success || filters(g.Topics) != "old:0" {
					t.Fatalf("%s, %q", code, filters(g.Topics)) // a slow machine may need a second go
				}
				f()
				known, code1 := one(t, e, "known")
				fresh, code2 := one(t, e, "fresh")
				switch policy {
				case "last_known":
					if filters(known.Topics) != "old:0" || !fresh.Keep {
						t.Errorf("last known: %q, keep %v", filters(known.Topics), fresh.Keep)
					}
				case "empty":
					if known.Keep || known.Topics.Len() != 0 || fresh.Keep || code1 != codec.Success {
						t.Errorf("empty: %+v, %+v", known, fresh)
					}
				case "refuse":
					want := codec.ServerUnavailable
					if name == "too many" {
						want = codec.QuotaExceeded
					}
					if code1 != want || code2 != want {
						t.Errorf("refuse: %s, %s", code1, code2)
					}
				}
			}
		})
	}
}

// TestOneBadTopic is left out of its list and counted; fields that the broker does not know are somebody else's.
func TestOneBadTopic(t *testing.T) {
	s := newService(t)
	s.say(200, `{"total":6,"topics":[{"topic":"a","name":"x"},{"topic":"a/#/b"},{"topic":"c","qos":3},`+
		`{"topic":"d","qos":"1"},{"topic":"e","qos":1},7,{}]}`)
	e := engine(t, "providers: [{name: ws, budget: 20s, on_failure: refuse, http: {timeout: 20s, url: '"+s.URL+"'}}]")
	log := &testlog.Lines{}
	e.log = slog.New(slog.NewTextHandler(log, nil))
	if g, code := one(t, e, "c"); code != codec.Success || filters(g.Topics) != "a:0 e:1" {
		t.Errorf("%s, %q", code, filters(g.Topics))
	}
	if want := `provider ws: 5 of 7 topics of a list are left out: topic 2, \"a/#/b\": `; !strings.Contains(log.String(), want) {
		t.Errorf("%s is not in %s", want, log)
	}
	s.say(200, `{"topics":[{"topic":"a"}]} and more`)
	if _, code := one(t, e, "d"); code != codec.ServerUnavailable {
		t.Errorf("half an answer: %s", code)
	}
}

// TestOutageIsNotALineEach: the first client without its list has a line, then one line in ten seconds counts them.
func TestOutageIsNotALineEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, _, end := chased(t, "on_failure: empty")
		log := &testlog.Lines{}
		e.log = slog.New(slog.NewTextHandler(log, nil))
		for i := range 3000 { // 30 s
			one(t, e, fmt.Sprint("c", i))
			time.Sleep(10 * time.Millisecond) // of the bubble
		}
		end()
		n, told := 0, 0
		for line := range strings.SplitSeq(log.String(), "\n") {
			if !strings.Contains(line, "provider ws has no list for client c") {
				continue
			}
			more := 0
			if _, rest, ok := strings.Cut(line, " (and "); ok {
				_, _ = fmt.Sscanf(rest, "%d more in 10s).", &more)
			}
			n++
			told += 1 + more
		}
		if n < 3 || n > 5 || told != 3000 {
			t.Errorf("%d lines about %d clients: %s", n, told, log)
		}
	})
}

// TestKeyIsWhatTheRequestUses: a browser that comes back with another client id has the list of its user, in an
// outage too, if the request or the file says that it is the user's.
func TestKeyIsWhatTheRequestUses(t *testing.T) {
	for _, tt := range []struct {
		settings string
		byUser   bool
	}{
		{"http: {timeout: 20s, method: GET, url: '%s/lists/%%u'}", true},
		{"http: {timeout: 20s, method: GET, url: '%s/lists?e=%%e&u=%%u'}", true},
		{"http: {timeout: 20s, url: '%s'}, key: [username, tenant]", true},
		{"http: {timeout: 20s, url: '%s', body: '{\"u\":\"%%{username}\"}'}", true},
		{"http: {timeout: 20s, url: '%s'}", false},
		{"http: {timeout: 20s, method: GET, url: '%s/lists/%%u/%%c'}", false},
	} {
		for _, ttl := range []string{"0s", "1h"} {
			s := newService(t)
			s.say(200, `{"topics":[{"topic":"a"}]}`)
			e := engine(t, "providers: [{name: ws, budget: 20s, cache: {ttl: "+ttl+"}, "+fmt.Sprintf(tt.settings, s.URL)+"}]")
			if g, _ := one(t, e, "mqttjs_1"); filters(g.Topics) != "a:0" {
				t.Fatalf("%s: %q", tt.settings, filters(g.Topics))
			}
			s.say(503, "")
			if g, _ := one(t, e, "mqttjs_2"); (filters(g.Topics) == "a:0") != tt.byUser {
				t.Errorf("%s, ttl %s: %q", tt.settings, ttl, filters(g.Topics))
			}
			if n := s.calls.Load(); (n == 1) != (tt.byUser && ttl != "0s") {
				t.Errorf("%s, ttl %s: %d calls", tt.settings, ttl, n)
			}
		}
	}
}

func TestWebserviceIsTriedAgain(t *testing.T) {
	s := newService(t)
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		if s.calls.Load() < 3 {
			w.WriteHeader(503)
			return
		}
		_, _ = io.WriteString(w, `{"topics":[{"topic":"a"}]}`)
	})
	e := engine(t, "providers: [{name: ws, budget: 10s, http: {timeout: 5s, retries: 2, url: '"+s.URL+"'}}]")
	if g, code := one(t, e, "c"); code != codec.Success || filters(g.Topics) != "a:0" || s.calls.Load() != 3 {
		t.Errorf("%s, %q after %d calls", code, filters(g.Topics), s.calls.Load())
	}
	s.say(400, "")
	if _, _ = one(t, e, "d"); s.calls.Load() != 4 {
		t.Errorf("%d calls: 400 is final", s.calls.Load())
	}
}

func TestCacheAndCircuit(t *testing.T) {
	s := newService(t)
	s.say(200, `{"topics":[{"topic":"a"}]}`)
	e := engine(t, "providers: [{name: ws, budget: 10s, cache: {ttl: 1h, max: 2}, http: {timeout: 5s, url: '"+s.URL+"'}}]")
	var first *behalf.Set
	for i := range 6 {
		g, _ := one(t, e, fmt.Sprint("c", i%2))
		if first == nil {
			first = g.Topics
		}
		if g.Topics != first {
			t.Error("the same list is not the same set")
		}
	}
	if s.calls.Load() != 2 {
		t.Errorf("%d calls for 2 clients", s.calls.Load())
	}
	one(t, e, "c2") // pushes c0 out
	one(t, e, "c0")
	if s.calls.Load() != 4 {
		t.Errorf("%d calls: the cache is not bounded", s.calls.Load())
	}
	s.say(500, "")
	for i := range 30 {
		one(t, e, fmt.Sprint("d", i))
	}
	if n := s.calls.Load() - 4; n != lookup.Trips {
		t.Errorf("%d calls to a service that is down, want %d", n, lookup.Trips)
	}
}

// TestCircuitIsNotForOneClient has a webservice that does not know some clients, whose ids anybody may choose.
func TestCircuitIsNotForOneClient(t *testing.T) {
	s := newService(t)
	s.say(404, "")
	e := engine(t, "providers: [{name: ws, budget: 10s, on_failure: refuse, http: {timeout: 5s, url: '"+s.URL+"'}}]")
	for i := range 2 * lookup.Trips {
		if _, code := one(t, e, fmt.Sprint("c", i)); code != codec.ServerUnavailable {
			t.Fatal(code)
		}
	}
	s.say(200, `{"topics":[]}`)
	if _, code := one(t, e, "known"); code != codec.Success {
		t.Error(code)
	}
	s.say(200, `{"topics":[`+strings.Repeat(" ", lookup.AnswerMax)+`]}`)
	if _, code := one(t, e, "long"); code != codec.QuotaExceeded {
		t.Errorf("an answer that is too long: %s", code)
	}
}

func TestInternForgets(t *testing.T) {
	n := newInterner()
	for i := range 100 {
		n.intern(behalf.NewSet([]behalf.Topic{{Filter: strconv.Itoa(i)}}))
	}
	deadline := time.Now().Add(10 * time.Second)
	for n.len() > 0 && time.Now().Before(deadline) {
		runtime.GC()
		runtime.Gosched()
	}
	if n.len() > 0 {
		t.Errorf("%d sets that nobody holds", n.len())
	}
}

const schema = `CREATE TABLE sub (client VARCHAR(100), usr VARCHAR(100), topic VARCHAR(100), qos INT, nl BOOLEAN, id INT);
INSERT INTO sub VALUES ('c1', 'u', 'a', 1, true, 7);
INSERT INTO sub VALUES ('c1', 'u', 'b/#', NULL, NULL, NULL);
INSERT INTO sub VALUES ('c2', 'u', '%c', 2, false, NULL);
INSERT INTO sub VALUES ('c3', 'u', 'a', 9, false, NULL);`

// sqlTest runs the same queries against a database with the schema.
func sqlTest(t *testing.T, driver, dsn string) {
	t.Helper()
	query := `SELECT topic, qos, nl, id FROM sub WHERE client = %c AND usr = %u AND topic <> '%e' ORDER BY topic`
	dsn = strings.ReplaceAll(dsn, "'", "''")
	e := engine(t, fmt.Sprintf("providers: [{name: db, budget: 20s, on_failure: refuse, sql: {driver: %s, dsn: '%s', query: \"%s\"}}]",
		driver, dsn, query))
	for id, want := range map[string]string{
		"c1": "a:1 b/#:0", "c2": "%c:2", "nobody": "", "c1' OR '1'='1": "",
	} {
		g, code := one(t, e, id)
		if code != codec.Success || filters(g.Topics) != want {
			t.Errorf("%s: %s, %q, want %q", id, code, filters(g.Topics), want)
		}
		if id == "c1" {
			if x, _ := g.Topics.Find("a"); !x.NoLocal || x.ID != 7 {
				t.Errorf("%+v", x)
			}
		}
	}
	if _, code := one(t, e, "c3"); code != codec.ServerUnavailable { // QoS 9
		t.Errorf("c3: %s", code)
	}
}

func TestSQLite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "presub.db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sqlTest(t, "sqlite", "file:"+name+"?mode=ro")
}

// TestPostgreSQL starts Debian's server in a directory of its own.
func TestPostgreSQL(t *testing.T) {
	dir := testserver.Postgres(t)
	dsn := "host=" + dir + " user=postgres dbname=postgres"
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	for q := range strings.SplitSeq(schema, ";\n") {
		if _, err := db.Exec(strings.TrimSuffix(q, ";")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sqlTest(t, "postgres", dsn)
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	secret := []byte("0123456789abcdef0123456789abcdef")
	if err := os.WriteFile(filepath.Join(dir, "secret"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "public"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	hmac := engine(t, "providers: [{name: jwt, on_failure: refuse, jwt: {algorithms: [HS256], secret_file: "+
		filepath.Join(dir, "secret")+", subject_is: username, issuer: me}}]")
	ec := engine(t, "providers: [{name: jwt, on_failure: refuse, jwt: {algorithms: [ES256], public_key_file: "+
		filepath.Join(dir, "public")+", claim: topics, without_exp: true}}]")
	hour := time.Now().Add(time.Hour).Unix()
	var claim any
	_ = json.Unmarshal([]byte(`["a",{"topic":"b","qos":1}]`), &claim)
	sign := func(m jwt.SigningMethod, k any, c jwt.MapClaims) []byte {
		s, err := jwt.NewWithClaims(m, c).SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(s)
	}
	good := jwt.MapClaims{"sub": "u", "iss": "me", "exp": hour, "presub": claim}
	with := func(k string, v any) jwt.MapClaims {
		c := jwt.MapClaims{}
		maps.Copy(c, good)
		c[k] = v
		return c
	}
	for _, tt := range []struct {
		name     string
		e        *Engine
		password []byte
		want     string // "" refused
	}{
		{"good", hmac, sign(jwt.SigningMethodHS256, secret, good), "a:0 b:1"},
		{"no claim", hmac, sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "u", "iss": "me", "exp": hour}), "none"},
		{"for ever", hmac, sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "u", "iss": "me", "presub": claim}), ""},
		{"other key", hmac, sign(jwt.SigningMethodHS256, []byte("another secret of 32 bytes......"), good), ""},
		{"other algorithm", hmac, sign(jwt.SigningMethodHS512, secret, good), ""},
		{"unsigned", hmac, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), ""},
		{"expired", hmac, sign(jwt.SigningMethodHS256, secret, with("exp", 1)), ""},
		{"not yet", hmac, sign(jwt.SigningMethodHS256, secret, with("nbf", hour)), ""},
		{"other subject", hmac, sign(jwt.SigningMethodHS256, secret, with("sub", "v")), ""},
		{"other issuer", hmac, sign(jwt.SigningMethodHS256, secret, with("iss", "you")), ""},
		{"bad claim", hmac, sign(jwt.SigningMethodHS256, secret, with("presub", "a")), ""},
		{"bad item", hmac, sign(jwt.SigningMethodHS256, secret, with("presub", []any{7})), ""},
		{"no token", hmac, nil, ""},
		{"plain password", hmac, []byte("secret"), ""},
		{"elliptic", ec, sign(jwt.SigningMethodES256, key, jwt.MapClaims{"topics": claim}), "a:0 b:1"},
		{"public key as secret", ec, sign(jwt.SigningMethodHS256, public, jwt.MapClaims{"topics": claim}), ""},
	} {
		grants, code := tt.e.Grants(context.Background(), Client{ID: "c", Username: "u", Password: tt.password})
		switch {
		case tt.want == "" && code == codec.ServerUnavailable:
		case tt.want == "none" && code == codec.Success && grants[0].Topics.Len() == 0:
		case code == codec.Success && filters(grants[0].Topics) == tt.want:
		default:
			t.Errorf("%s: %s, %+v", tt.name, code, grants)
		}
	}
}
