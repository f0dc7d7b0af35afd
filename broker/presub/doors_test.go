package presub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// slowService answers for none of the clients c... until the gate opens; begun hears of the first.
func slowService(t *testing.T) (url string, begun chan struct{}, open func()) {
	s := newService(t)
	gate := make(chan struct{})
	begun = make(chan struct{}, 1)
	s.set(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), `"clientid":"c`) {
			select {
			case begun <- struct{}{}:
			default:
			}
			<-gate
		}
		_, _ = io.WriteString(w, `{"topics":[{"topic":"a"}]}`)
	})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open) // before the service's Close, which waits
	return s.URL, begun, open
}

// answersOf counts the answers to logins that come to a client, by client id.
func answersOf(t *testing.T, c *brokertest.Client, n int) map[string][]Answer {
	t.Helper()
	got := make(map[string][]Answer)
	for range n {
		var p codec.Publish
		c.Want(codec.PUBLISH, &p)
		var a Answer
		if err := json.Unmarshal(p.Payload, &a); err != nil {
			t.Fatal(err)
		}
		got[a.ClientID] = append(got[a.ClientID], a)
	}
	return got
}

const slowYAML = `
connect: {topic: 'e/+/new', usernames: [agent]}
control: {usernames: [agent]}
pending: {default_wait: 0s}
providers: [{name: ws, budget: 50s, http: {timeout: 50s, url: '%s'}}]`

// TestEveryLoginIsAnswered: what the connect topic has acknowledged gets its answer, though the webservice is so
// slow that all of it waits; entries on the control topic do not wait behind it.
func TestEveryLoginIsAnswered(t *testing.T) {
	const logins = 6000
	url, _, open := slowService(t)
	x := newSystem(t, fmt.Sprintf(slowYAML, url))
	acks := x.connect("acks", "agent")
	acks.Subscribe("e/e1/new/ack", 0)
	agent := x.connect("agent", "agent")
	agent.Subscribe(ControlTopic+"/response", 0)
	go func() {
		for i := range logins {
			agent.Publish("e/e1/new", fmt.Sprint("c", i), 1, uint16(i+1))
		}
	}()
	for range logins {
		var ack codec.Ack
		if agent.Want(codec.PUBACK, &ack); ack.Reason != codec.Success {
			t.Fatalf("PUBACK %s", ack.Reason)
		}
	}
	// Nobody has a list yet, and an entry is answered at once.
	send(agent, []byte(`{"clientid":"acks","action":"subscribe","topics":[{"topic":"b"}]}`), nil)
	var p codec.Publish
	agent.Want(codec.PUBLISH, &p)
	if !strings.Contains(string(p.Payload), `"state":"new"`) {
		t.Errorf("%s", p.Payload)
	}
	open()
	if got := answersOf(t, acks, logins); len(got) != logins {
		t.Errorf("%d of %d logins answered", len(got), logins)
	}
}

// TestFullLanes: what finds no room is told so, by PUBACK in MQTT 5 and by the answer in all versions; where not
// even the answer has room, it is not acknowledged with Success. Logins and entries alike.
func TestFullLanes(t *testing.T) {
	url, begun, open := slowService(t)
	x := newSystem(t, fmt.Sprintf(slowYAML, url))
	acks := x.connect("acks", "agent")
	acks.Subscribe("e/e1/new/ack", 0)
	acks.Subscribe(ControlTopic+"/response", 0)
	x.e.logins.limits = laneLimits{workers: 1, waiting: 4, bytes: 1 << 20}
	x.e.entries.limits = laneLimits{}
	as := func(v codec.Version) *brokertest.Client {
		return brokertest.Connect(t, x.addr, fmt.Sprint("v", v), v, func(p *codec.Connect) {
			p.HasUsername, p.Username = true, []byte("agent")
		})
	}
	v5, v3 := as(codec.V5), as(codec.V311)
	said := func(c *brokertest.Client, topic, payload string, want codec.Reason) {
		t.Helper()
		c.Publish(topic, payload, 1, 7)
		var ack codec.Ack
		if c.Want(codec.PUBACK, &ack); ack.Reason != want {
			t.Errorf("%s: PUBACK %s, want %s", payload, ack.Reason, want)
		}
	}
	// One is under way, and two of four may wait before clients are told.
	for i := range 3 {
		said(v5, "e/e1/new", fmt.Sprint("c", i), codec.Success)
		brokertest.Settle(t, x.b) // the tap has heard it
		if i == 0 {
			<-begun
		}
	}
	said(v5, "e/e1/new", "late5", codec.QuotaExceeded)
	acks.WantPublish("e/e1/new/ack", `{"clientid":"late5","revision":0,"code":151,"error":"too much","results":[]}`)
	said(v3, "e/e1/new", "late3", codec.Success)
	acks.WantPublish("e/e1/new/ack", `{"clientid":"late3","revision":0,"code":151,"error":"too much","results":[]}`)
	entry := `{"clientid":"acks","action":"subscribe","topics":[{"topic":"b"}]}`
	busy := `{"revision":0,"code":151,"error":"presub: too many requests wait","results":[]}`
	said(v5, ControlTopic, entry, codec.QuotaExceeded)
	acks.WantPublish(ControlTopic+"/response", busy)
	said(v3, ControlTopic, entry, codec.Success)
	acks.WantPublish(ControlTopic+"/response", busy)

	x.e.answers.mu.Lock()
	x.e.answers.limits = laneLimits{}
	x.e.answers.mu.Unlock()
	said(v5, "e/e1/new", "later5", codec.QuotaExceeded)
	said(v5, ControlTopic, entry, codec.QuotaExceeded)
	v3.Publish("e/e1/new", "later3", 1, 8)
	v3.WantClosed()
	again := as(codec.V311)
	again.Publish(ControlTopic, entry, 1, 8)
	again.WantClosed()
	for _, line := range []string{
		`Pre-subscription: refused by \"e/e1/new\" at connect, reason \"presub: too many requests wait\"`,
		`Pre-subscription: too much waits, the answer about client later5 for \"e/e1/new\" at connect is not sent.`,
	} {
		if !strings.Contains(x.log.String(), line) {
			t.Errorf("no line %s in %s", line, x.log.String())
		}
	}
	open()
	if got := answersOf(t, acks, 3); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// TestRequestID: the id of a request comes back in all its answers, refusals and second answers too.
func TestRequestID(t *testing.T) {
	x := newSystem(t, "control: {usernames: [agent]}")
	agent := x.connect("a", "agent")
	agent.Subscribe(ControlTopic+"/response", 0)
	for _, c := range []struct{ payload, want string }{
		{`{"clientid":"c","request_id":"r1","action":"subscribe","topics":[{"topic":"a"}]}`, `"state":"pending"`},
		{`{"clientid":"c","request_id":"r2","action":"unknown","topics":[]}`, `"code":153`},
		{`{"clientid":"c","request_id":"r3","origin":"a/b","action":"replace","topics":[]}`, `"code":135`},
		{`{"username":"u","request_id":"r4","wait_seconds":0,"action":"replace","topics":[]}`, `"code":146`},
	} {
		send(agent, []byte(c.payload), nil)
		var p codec.Publish
		agent.Want(codec.PUBLISH, &p)
		var asked struct {
			ID string `json:"request_id"`
		}
		_ = json.Unmarshal([]byte(c.payload), &asked)
		if got := string(p.Payload); !strings.Contains(got, c.want) ||
			!strings.Contains(got, `"request_id":"`+asked.ID+`"`) {
			t.Errorf("%s: %s", c.payload, got)
		}
	}
	x.connect("c", "")
	var p codec.Publish
	agent.Want(codec.PUBLISH, &p)
	if !strings.Contains(string(p.Payload), `"request_id":"r1"`) {
		t.Errorf("the second answer: %s", p.Payload)
	}
	long := Entry{ClientID: "c", Action: "replace", Topics: []Topic{}, RequestID: strings.Repeat("x", 129)}
	if CheckEntries([]Entry{long}) == nil {
		t.Error("129 bytes")
	}
}

// TestResponseTopicIsTheAskersToWrite: the broker publishes no answer where its asker may not publish, which is
// what the Response Topic of a request [MQTT-4.10] could otherwise have it do.
func TestResponseTopicIsTheAskersToWrite(t *testing.T) {
	x := newSystem(t, "control: {usernames: [agent]}\nconnect: {topic: new, usernames: [other]}")
	agent := x.connect("a", "agent")
	entry := []byte(`{"clientid":"c","action":"subscribe","topics":[{"topic":"a"}]}`)
	for topic, want := range map[string]codec.Reason{
		"mine": codec.Success, "new": codec.NotAuthorized, ControlTopic + "/response": codec.Success,
	} {
		r := send(agent, entry, codec.AppendBytesProperty(nil, codec.ResponseTopic, []byte(topic)))
		if r != want {
			t.Errorf("%s: PUBACK %s, want %s", topic, r, want)
		}
	}
}

// TestNamesInPaths: no name leaves its place in the path of a webservice; in a query it may be anything.
func TestNamesInPaths(t *testing.T) {
	s := newService(t)
	s.say(200, `{"topics":[]}`)
	for _, url := range []string{"/users/%u/clients/%c/topics", "/x%u/%c", "/q?c=%c&u=%u"} {
		e := engine(t, "providers: [{name: ws, on_failure: refuse, http: {url: '"+s.URL+url+"'}}]")
		for _, name := range []string{".", "..", "a/b", `a\b`, "/", "../x", ""} {
			before := s.calls.Load()
			_, r := e.Grants(t.Context(), Client{ID: name, Username: "u1"})
			inPath := !strings.Contains(url, "?")
			if sent := s.calls.Load() > before; sent == inPath || (r == codec.Success) == inPath {
				t.Errorf("%s, %q: sent %t, %s", url, name, sent, r)
			}
		}
		if _, r := e.Grants(t.Context(), Client{ID: "..a", Username: "%2e"}); r != codec.Success {
			t.Errorf("%s: an honest name: %s", url, r)
		}
	}
	for _, url := range []string{"http://%e.example/", "http://%u@example/", "http://example:%c", "", "x"} {
		if _, err := Parse([]byte("providers: [{name: ws, http: {url: '" + url + "'}}]")); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}

// TestUnprovedUsername: a list by token that binds no name is warned of at the start and at a reload.
func TestUnprovedUsername(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	const warning = "provider tok: the token does not prove the client's username"
	yaml := "providers: [{name: tok, jwt: {algorithms: [HS256], secret_file: " + secret + "%s}}]"
	x := newSystem(t, fmt.Sprintf(yaml, ""))
	if n := strings.Count(x.log.String(), warning); n != 1 {
		t.Errorf("at the start: %d in %s", n, x.log.String())
	}
	change(t, x.e, fmt.Sprintf(yaml, ", subject_is: clientid"))
	if n := strings.Count(x.log.String(), warning); n != 1 {
		t.Errorf("bound: %d in %s", n, x.log.String())
	}
	change(t, x.e, fmt.Sprintf(yaml, ", leeway: 1s"))
	if n := strings.Count(x.log.String(), warning); n != 2 {
		t.Errorf("at a reload: %d in %s", n, x.log.String())
	}
}

// TestOnlyWritersRead: without any access rules, logins and answers come to those only who may ask, by whatever
// filter; what is published elsewhere comes as ever.
func TestOnlyWritersRead(t *testing.T) {
	x := newSystem(t, "connect: {topic: 'e/+/new', usernames: [agent]}\ncontrol: {usernames: [agent]}\npending: {default_wait: 0s}")
	agent, spy := x.connect("a", "agent"), x.connect("spy", "spy")
	filters := []string{
		"#", "+/+/new", "e/e1/new", "e/e1/new/ack", "$share/g/e/#", "$CONTROL/#", ControlTopic + "/response",
	}
	for _, f := range filters {
		spy.Subscribe(f, 0)
	}
	agent.Subscribe("e/+/new/#", 0)
	agent.Subscribe(ControlTopic+"/response", 0)
	agent.Publish("e/e1/new", "c", 0, 0)
	agent.WantPublish("e/e1/new", "c")
	agent.WantPublish("e/e1/new/ack", `{"clientid":"c","revision":0,"results":[]}`)
	entry := `{"clientid":"c","wait_seconds":0,"action":"subscribe","topics":[{"topic":"a"}]}`
	agent.Publish(ControlTopic, entry, 0, 0)
	agent.WantPublish(ControlTopic+"/response", `{"clientid":"c","revision":0,"code":146,"error":"no such session","results":[]}`)
	brokertest.Settle(t, x.b)
	agent.Publish("other/e1/sign", "m", 0, 0)
	if p := spy.WantPublish("other/e1/sign", "m"); p.Retain {
		t.Error("retained")
	}
	spy.WantNothing()
}

// TestClientIDAndUsername: an entry or login that names both takes effect for that client of that user only, at
// once or when it comes.
func TestClientIDAndUsername(t *testing.T) {
	x := newSystem(t, "control: {usernames: [agent]}\nconnect: {topic: new, usernames: [agent]}\n"+
		"providers: [{name: own, static: {topics: [{topic: own/%u}]}}]")
	agent := x.connect("a", "agent")
	agent.Subscribe(ControlTopic+"/response", 0)
	agent.Subscribe("new/ack", 0)
	mallory := x.connect("c", "mallory")
	said := func(topic, payload, want string) {
		t.Helper()
		if payload != "" {
			agent.Publish(topic, payload, 0, 0)
		}
		var p codec.Publish
		if agent.Want(codec.PUBLISH, &p); !strings.Contains(string(p.Payload), want) {
			t.Errorf("%s: %s, want %s", payload, p.Payload, want)
		}
	}
	said(ControlTopic, `{"clientid":"c","username":"ann","action":"subscribe","topics":[{"topic":"secret"}]}`, `"code":135`)
	said("new", `{"clientid":"c","username":"ann"}`, `"code":135`)
	said(ControlTopic, `{"clientid":"d","username":"ann","action":"subscribe","topics":[{"topic":"secret"}]}`, `"state":"pending"`)
	other := x.connect("d", "mallory")
	agent.Publish("secret", "m", 0, 0)
	mallory.WantNothing()
	other.WantNothing()
	other.Disconnect()
	ann := x.connect("d", "ann")
	said("", "", `"state":"new"`)
	agent.Publish("secret", "m", 0, 0)
	ann.WantPublish("secret", "m")
}
