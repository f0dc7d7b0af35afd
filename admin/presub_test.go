package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/presub"
	"noctule/codec"
)

const secret = "sesame-open-sesame"

// tokenFile writes a file of tokens.
func tokenFile(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTokens(t *testing.T) {
	const hash = "sha256:c2a1a1f1b1b8d1e2a0f4ecb0a4e9d2e14bfc45c9eac0dba35bbf4b1a4c6e2d11"
	for text, want := range map[string]string{
		"crm " + secret + "\n# comment\n\n": "",
		"crm " + hash:                       "",
		"crm":                               ":1: a name and a token",
		"a " + hash + "\ncrm a b":           ":2: behind the token",
		"a " + hash + "\ncrm":               ":2: a name and a token",
		"crm short":                         ":1: a token needs",
		"crm sha256:12":                     ":1: not a SHA-256",
		"crm " + hash + "00":                ":1: not a SHA-256",
		"crm " + strings.Repeat("x", 70) + "\nb sha256:" + strings.Repeat("x", 64): ":2: not a SHA-256",
		"# none": "no tokens",
		"crm " + secret + " read-only tenant=e1 tenant=e2\ncrm x" + secret + " tenant=e2 tenant=e1": "",
		"crm " + secret + " readonly":                       ":1: behind the token",
		"crm " + secret + " tenant=":                        ":1: behind the token",
		"crm " + secret + "\ncrm x" + secret + " tenant=e1": ":2: another token of crm is for other tenants",
	} {
		_, err := LoadTokens(tokenFile(t, 0o600, text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	if _, err := LoadTokens(tokenFile(t, 0o644, "crm "+secret)); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a file that everybody reads: %v", err)
	}
	if _, err := LoadTokens(tokenFile(t, 0o644, "crm "+hash)); err != nil {
		t.Error(err)
	}
}

// doorClient is a broker with the HTTP door.
type doorClient struct {
	t    *testing.T
	b    *broker.Broker
	addr *broker.Listener
	url  string
	door *Door
	log  auditLog
}

func newDoor(t *testing.T) *doorClient {
	t.Helper()
	return newDoorOf(t, "", "crm "+secret+"\nother another-"+secret)
}

// newDoorOf has a presub.yaml and tokens.
func newDoorOf(t *testing.T, yaml, lines string) *doorClient {
	t.Helper()
	x := &doorClient{t: t}
	cfg, err := presub.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	e, err := presub.New(cfg, slog.New(slog.NewTextHandler(&x.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	x.b, x.addr = brokertest.Start(t, func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Features = []broker.Feature{e}
	})
	tokens, err := LoadTokens(tokenFile(t, 0o600, lines))
	if err != nil {
		t.Fatal(err)
	}
	x.door = Presub(e, tokens)
	s, err := Start("127.0.0.1:0", nil, x.door)
	if err == nil {
		s.Use(x.b)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Close(ctx)
	})
	x.url = "http://" + s.Addr().String()
	return x
}

// do makes a request; pairs are headers.
func (x *doorClient) do(method, path, body string, pairs ...string) (*http.Response, string) {
	x.t.Helper()
	req, err := http.NewRequest(method, x.url+path, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	for i := 0; i < len(pairs); i += 2 {
		req.Header.Set(pairs[i], pairs[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return resp, strings.TrimSpace(string(raw))
}

func (x *doorClient) want(status int, part, method, path, body string, pairs ...string) *http.Response {
	x.t.Helper()
	resp, text := x.do(method, path, body, pairs...)
	if resp.StatusCode != status || !strings.Contains(text, part) {
		x.t.Errorf("%s %s: %d %s, want %d %s", method, path, resp.StatusCode, text, status, part)
	}
	return resp
}

func TestSubscriptionsOverHTTP(t *testing.T) {
	x := newDoor(t)
	const path = "/api/v1/sessions/c1/subscriptions"
	list := `{"topics":[{"topic":"a","qos":1},{"topic":"b/#/c"}]}`
	x.want(401, "token", "GET", path, "", "Authorization", "Bearer wrong-"+secret)
	x.want(401, "token", "PUT", path, list, "Authorization", "Basic "+secret)
	x.want(404, "no such session", "GET", path, "")
	x.want(202, `"state":"pending"`, "PUT", path, list)
	x.want(404, "no such session", "PUT", path, `{"topics":[{"topic":"a"}],"wait_seconds":0,"origin":"x"}`)
	c := brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	x.want(200, `"origins":[{"origin":"client","topics":[]},{"origin":"api:crm","revision":`, "GET", path, "")

	r := x.want(200, `{"topic":"a","code":1,"state":"existing"},{"topic":"d","code":0,"state":"new"}`,
		"PUT", path, `{"topics":[{"topic":"a","qos":1},{"topic":"d"}]}`)
	tag := r.Header.Get("ETag")
	x.want(412, "revision is another", "PUT", path, `{"topics":[]}`, "If-Match", `"1"`)
	x.want(400, "no revision", "PUT", path, `{"topics":[]}`, "If-Match", `x`)
	x.want(200, `"state":"removed"`, "DELETE", path+"?topic=d&topic=nothing", "", "If-Match", tag)
	x.want(200, `"topic":"a","code":0,"state":"removed"`, "DELETE", path, "")
	x.want(200, `{"topic":"s","code":0,"state":"new"}`, "PUT", path, `{"topics":[{"topic":"s"}],"origin":"sub"}`)
	x.want(200, `"api:crm/sub"`, "GET", path, "")
	x.want(403, "origin", "PUT", path, `{"topics":[],"origin":"presub:x"}`)
	x.want(400, "unknown field", "PUT", path, `{"topic":[]}`)
	for body, want := range map[string]string{
		``: "byte 0: cut off", `{"topics":[{"topic":"a",}]}`: "byte 25", `{}`: "no list of topics", `null`: "no list of topics",
		`{"topics":[]} x`: "something follows",
	} {
		x.want(400, want, "PUT", path, body)
	}
	x.want(404, "no such session", "PUT", "/api/v1/sessions/nobody/subscriptions", `{"topics":[{"topic":"a"}]}`, "If-Match", "*")
	x.want(413, "too long", "PUT", path, strings.Repeat(" ", bodyMax+1))
	x.want(200, `"copies":1,"matches":[{"origin":"api:crm/sub"`, "GET", "/api/v1/presub/explain?clientid=c1&topic=s", "")
	x.want(404, `"session":false`, "GET", "/api/v1/presub/explain?clientid=nobody&topic=s", "")
	x.want(400, "topic name", "GET", "/api/v1/presub/explain?clientid=c1&topic=%23", "")
	x.want(200, `[{"clientid":"c1","revision":`, "POST", "/api/v1/presub",
		`[{"clientid":"c1","action":"subscribe","topics":[{"topic":"e"}]},{"clientid":"c1","action":"unsubscribe","topics":[{"topic":"e"}]}]`)
	x.want(400, "byte", "POST", "/api/v1/presub", "[")
	x.want(403, "entry 2", "POST", "/api/v1/presub",
		`[{"clientid":"c1","action":"subscribe","topics":[{"topic":"f"}]},{"clientid":"c1","origin":"api:x","action":"replace","topics":[]}]`)
	x.want(200, `"copies":0`, "GET", "/api/v1/presub/explain?clientid=c1&topic=f", "") // nothing of it was done
	c.WantNothing()
	if resp, body := x.do("GET", "/metrics", ""); resp.StatusCode != 200 || !strings.Contains(body, `noctule_presub_requests_total{door="http",outcome="done"}`) {
		t.Error("no metrics of requests")
	}
}

func TestIdempotencyKey(t *testing.T) {
	x := newDoor(t)
	brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	const path = "/api/v1/sessions/c1/subscriptions"
	body := `{"topics":[{"topic":"a"}]}`
	x.want(200, `"state":"new"`, "PUT", path, body, "Idempotency-Key", "k1")
	r := x.want(200, `"state":"new"`, "PUT", path, body, "Idempotency-Key", "k1") // the first answer again
	if r.Header.Get("Idempotency-Replayed") != "true" || r.Header.Get("ETag") == "" {
		t.Errorf("headers %v", r.Header)
	}
	x.want(200, `"state":"existing"`, "PUT", path, body, "Idempotency-Key", "k2")
	x.want(422, "another request", "PUT", path, `{"topics":[]}`, "Idempotency-Key", "k1")
	x.want(200, `"state":"existing"`, "PUT", path, body, "Idempotency-Key", "k1", "Authorization", "Bearer another-"+secret,
		"X", "y")
	x.want(400, "too long", "PUT", path, body, "Idempotency-Key", strings.Repeat("k", 256))
}

// TestJob applies a set of topics to many clients and users.
func TestJob(t *testing.T) {
	x := newDoor(t)
	var ids []string
	var clients []*brokertest.Client
	for i := range 50 {
		id := fmt.Sprint("c", i)
		ids = append(ids, id)
		clients = append(clients, brokertest.Connect(t, x.addr, id, codec.V5, func(p *codec.Connect) {
			p.HasUsername, p.Username = true, fmt.Append(nil, "u", i%10)
		}))
	}
	targets, err := json.Marshal(append(ids, "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(body string) job {
		t.Helper()
		resp, text := x.do("POST", "/api/v1/presub/jobs", body)
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil || resp.StatusCode != 202 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		deadline := time.Now().Add(patience)
		for j.Ended == nil && time.Now().Before(deadline) {
			_, text = x.do("GET", resp.Header.Get("Location"), "")
			if err := json.Unmarshal([]byte(text), &j); err != nil {
				t.Fatal(err)
			}
		}
		return j
	}
	j := run(`{"clientids":` + string(targets) + `,"action":"replace","wait_seconds":0,"topics":[{"topic":"a"},{"topic":"b"}]}`)
	if j.State != "done" || j.Total != 51 || j.Done != 51 || j.Sessions != 50 || j.Failed != 1 || j.Results["new"] != 100 ||
		len(j.Failures) != 1 || j.Failures[0].ClientID != "nobody" {
		t.Errorf("%+v", j)
	}
	j = run(`{"usernames":["u1","u2"],"action":"subscribe","topics":[{"topic":"a"},{"topic":"c"}]}`)
	if j.Sessions != 10 || j.Results["new"] != 10 || j.Results["existing"] != 10 {
		t.Errorf("%+v", j)
	}
	for i := range clients {
		n := 2
		if i%10 == 1 || i%10 == 2 {
			n = 3
		}
		m := fmt.Sprint("m", i)
		clients[0].Publish("a", m, 0, 0)
		clients[0].WantPublish("a", m)
		_, text := x.do("GET", "/api/v1/sessions/"+ids[i]+"/subscriptions", "")
		if got := strings.Count(text, `"topic"`); got != n {
			t.Errorf("%s: %s", ids[i], text)
		}
	}
	x.want(200, `{"sessions":40}`, "POST", "/api/v1/presub/move",
		`{"origin":"","from":[{"topic":"a"},{"topic":"b"}],"to":[{"topic":"z"}]}`)
	x.want(403, "origin", "POST", "/api/v1/presub/move", `{"origin":"presub:none","from":[{"topic":"a"}],"to":[]}`)
	x.want(400, "", "POST", "/api/v1/presub/move", `{"from":[]}`)
	x.want(404, "no such job", "GET", "/api/v1/presub/jobs/"+j.ID, "", "Authorization", "Bearer another-"+secret)
	x.want(200, j.ID, "GET", "/api/v1/presub/jobs", "")
	x.want(200, `"done"`, "DELETE", "/api/v1/presub/jobs/"+j.ID, "")
	for _, body := range []string{`{}`, `{"clientids":["a"],"action":"x","topics":[]}`, `{"clientids":[""],"action":"replace"}`, `[`} {
		x.want(400, "", "POST", "/api/v1/presub/jobs", body)
	}
}

// TestSetTokens changes the tokens while the server runs, and takes them away.
func TestSetTokens(t *testing.T) {
	x := newDoor(t)
	list := func(text string) *Tokens {
		t.Helper()
		tokens, err := LoadTokens(tokenFile(t, 0o600, text))
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	_, body := x.do("POST", "/api/v1/presub/jobs", `{"clientids":["c1"],"action":"replace","topics":[{"topic":"a"}]}`)
	var j job
	if err := json.Unmarshal([]byte(body), &j); err != nil || j.ID == "" {
		t.Fatalf("%s %v", body, err)
	}
	for _, tt := range []struct {
		tokens *Tokens
		want   int
	}{
		{list("crm " + secret), http.StatusOK},
		{list("other " + secret), http.StatusOK},
		{list("crm another-" + secret), http.StatusUnauthorized},
		{nil, http.StatusNotFound},
		{list("crm " + secret), http.StatusOK},
	} {
		x.door.SetTokens(tt.tokens)
		if resp, body := x.do("GET", "/api/v1/presub/jobs", ""); resp.StatusCode != tt.want {
			t.Errorf("%d %s, want %d", resp.StatusCode, body, tt.want)
		}
	}
}

// TestSetTokensStopsJobs ends what a principal without a token had under way.
func TestSetTokensStopsJobs(t *testing.T) {
	x := newDoor(t)
	stopped := map[string]bool{}
	for _, name := range []string{"crm", "other"} {
		x.door.jobs.list = append(x.door.jobs.list, &job{Principal: name, cancel: func() { stopped[name] = true }})
	}
	tokens, err := LoadTokens(tokenFile(t, 0o600, "other another-"+secret))
	if err != nil {
		t.Fatal(err)
	}
	x.door.SetTokens(tokens)
	if !stopped["crm"] || stopped["other"] {
		t.Errorf("stopped: %v", stopped)
	}
	x.door.SetTokens(nil)
	if !stopped["other"] {
		t.Error("a job runs on without any tokens")
	}
}

// TestNoAnswerIsNotNoSession asks a broker that has ended: that is not to say that there is no such session.
func TestNoAnswerIsNotNoSession(t *testing.T) {
	x := newDoor(t)
	const path, why = "/api/v1/sessions/c1/subscriptions", "/api/v1/presub/explain?clientid=c1&topic=a"
	x.want(404, "no such session", "GET", path, "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := x.b.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	x.want(503, "no answer", "GET", path, "")
	x.want(503, "no answer", "GET", why, "")
}

// TestJobsAreShared: one principal cannot have all jobs.
func TestJobsAreShared(t *testing.T) {
	x := newDoor(t)
	for range jobsShare {
		x.door.jobs.list = append(x.door.jobs.list, &job{Principal: "crm", cancel: func() {}})
	}
	const order = `{"clientids":["a"],"action":"replace","topics":[]}`
	x.want(429, "75", "POST", "/api/v1/presub/jobs", order)
	x.want(202, "id", "POST", "/api/v1/presub/jobs", order, "Authorization", "Bearer another-"+secret)
	x.door.jobs.list[0].Ended = new(time.Time)
	x.want(202, "id", "POST", "/api/v1/presub/jobs", order)
}
