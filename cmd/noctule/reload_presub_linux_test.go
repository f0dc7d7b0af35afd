package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// listsService is a webservice that gives everybody the same list and counts.
func listsService(t *testing.T) (url string, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(w, `{"topics":[{"topic":"group"}]}`)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

// presubSite starts a broker with a presub.yaml and tokens.
func presubSite(t *testing.T, yaml string) (s *site, addr string) {
	t.Helper()
	s = newSite(t)
	port := freePort(t)
	s.write(t, "presub.yaml", yaml)
	s.write(t, "tokens", "crm sesame-open-sesame\n")
	s.conf(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nadmin_listener 127.0.0.1:0\n"+
		"presub_file DIR/presub.yaml\nadmin_token_file DIR/tokens\nlog_type all\n", port))
	s.start(t)
	return s, fmt.Sprintf("127.0.0.1:%d", port)
}

// admin is the URL of the admin listener.
func (s *site) admin(t *testing.T) string {
	t.Helper()
	line := s.p.await(t, "Opening admin listen socket on .*$")
	return "http://" + strings.TrimSuffix(line[strings.LastIndex(line, " ")+1:], ".")
}

// has is what a session has, "origin topic,topic; ..." without the client's own.
func has(t *testing.T, url, id string) string {
	t.Helper()
	text := request(t, "GET", url+"/api/v1/sessions/"+id+"/subscriptions", "")
	var out []string
	for _, m := range regexp.MustCompile(`"origin":"([^"]*)"(?:,"revision":\d+)?,"topics":\[([^\]]*)\]`).FindAllStringSubmatch(text, -1) {
		var topics []string
		for _, x := range regexp.MustCompile(`"topic":"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			topics = append(topics, x[1])
		}
		if topics != nil {
			out = append(out, m[1]+" "+strings.Join(topics, ","))
		}
	}
	return strings.Join(out, "; ")
}

// status is what a request with a token is answered.
func status(t *testing.T, url, token string) int {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func keepSession(c *codec.Connect) {
	c.CleanStart = false
	c.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 1000)
}

// TestReloadOfPresub keeps, replaces, adds and removes providers, and replaces the tokens.
func TestReloadOfPresub(t *testing.T) {
	ws, calls := listsService(t)
	groups := "- {name: groups, budget: 20s, on_failure: refuse, cache: {ttl: 1h}, http: {timeout: 20s, url: '" + ws + "'}}\n"
	s, addr := presubSite(t, "providers:\n"+groups+"- {name: own, static: {topics: [{topic: own/%c}]}}\n"+
		"- {name: extra, static: {topics: [{topic: extra}]}}\n")
	url := s.admin(t)
	c1 := brokertest.Connect(t, addr, "c1", codec.V5, keepSession)
	const before = "presub:groups group; presub:own own/c1; presub:extra extra"
	if got := has(t, url, "c1"); got != before || calls.Load() != 1 {
		t.Fatalf("%q, %d calls", got, calls.Load())
	}
	list := url + "/api/v1/sessions/c1/subscriptions"
	if a, b := status(t, list, "sesame-open-sesame"), status(t, list, "another-open-sesame"); a != 200 || b != 401 {
		t.Errorf("before: %d %d", a, b)
	}

	s.write(t, "presub.yaml", "providers:\n"+groups+"- {name: own, static: {topics: [{topic: mine/%c}]}}\n"+
		"- {name: more, static: {topics: [{topic: more}]}}\n")
	s.write(t, "tokens", "other another-open-sesame\n")
	log, ok := s.hup(t)
	want := "Pre-subscription: provider groups kept, provider own replaced, provider more added, provider extra removed."
	if !ok || !strings.Contains(log, want) || strings.Contains(log, "sesame") {
		t.Fatalf("the log is\n%s", log)
	}
	if a, b := status(t, list, "sesame-open-sesame"), status(t, list, "another-open-sesame"); a != 401 || b != 200 {
		t.Errorf("after: %d %d", a, b)
	}
	s.write(t, "tokens", "crm sesame-open-sesame\n") // has needs it
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}

	// What a session has, it has until its next CONNECT.
	if got := has(t, url, "c1"); got != before {
		t.Errorf("a session that stays connected has %q", got)
	}
	c1.Publish("extra", "still", 0, 0)
	c1.WantPublish("extra", "still")
	c1.Disconnect()
	c1 = brokertest.Connect(t, addr, "c1", codec.V5, keepSession)
	if got := has(t, url, "c1"); got != "presub:groups group; presub:own mine/c1; presub:more more" || calls.Load() != 1 {
		t.Errorf("after CONNECT: %q, %d calls", got, calls.Load())
	}
	c1.Publish("extra", "no", 0, 0)
	c1.Publish("group", "yes", 0, 0)
	c1.WantPublish("group", "yes")

	// No providers: the next CONNECT revokes all; then some again.
	s.write(t, "presub.yaml", "")
	if log, ok := s.hup(t); !ok || !strings.Contains(log, "provider groups removed") {
		t.Fatalf("the log is\n%s", log)
	}
	c1.Disconnect()
	c1 = brokertest.Connect(t, addr, "c1", codec.V5, keepSession)
	if got := has(t, url, "c1"); got != "" {
		t.Errorf("without providers: %q", got)
	}
	s.write(t, "presub.yaml", "providers:\n"+groups)
	if log, ok := s.hup(t); !ok || !strings.Contains(log, "provider groups added") {
		t.Fatalf("the log is\n%s", log)
	}
	c1.Disconnect()
	brokertest.Connect(t, addr, "c1", codec.V5, keepSession)
	if got := has(t, url, "c1"); got != "presub:groups group" || calls.Load() != 2 {
		t.Errorf("with a provider again: %q, %d calls", got, calls.Load())
	}
}

// TestReloadOfBadPresub breaks one file after another: each is named with its line, nothing changes, also of
// the other files.
func TestReloadOfBadPresub(t *testing.T) {
	const good, tokens = "providers:\n- {name: own, static: {topics: [{topic: own}]}}\n", "crm sesame-open-sesame\n"
	s, addr := presubSite(t, good)
	url := s.admin(t)
	changed := "providers:\n- {name: own, static: {topics: [{topic: changed}]}}\n"
	for _, tt := range []struct{ yaml, tokens, want string }{
		{changed + "  - what\n", "other another-open-sesame\n", "presub.yaml: [3:"},
		{changed + "- {name: x, statc: {}}\n", "other another-open-sesame\n", "presub.yaml: [3:13] unknown field"},
		{changed + "- {name: own, static: {topics: [{topic: a}]}}\n", tokens, "presub.yaml: [3:10] provider own is there twice"},
		{changed + "- name: x\n  http: {url: 'http://x', token_file: DIR/none}\n", tokens, "presub.yaml: [4:39] provider x: open none"},
		{changed, "# who\nother short\n", "tokens:2: a token needs"},
	} {
		s.write(t, "presub.yaml", strings.ReplaceAll(tt.yaml, "DIR", s.dir))
		s.write(t, "tokens", tt.tokens)
		log, ok := s.hup(t)
		if log = strings.ReplaceAll(log, s.dir+"/", ""); ok || !strings.Contains(log, tt.want) {
			t.Errorf("%t, want %s in\n%s", ok, tt.want, log)
		}
		c := brokertest.Connect(t, addr, "c", codec.V5, nil)
		if got := has(t, url, "c"); got != "presub:own own" {
			t.Errorf("%s: a session has %q", tt.want, got)
		}
		c.Disconnect()
	}
	s.write(t, "presub.yaml", changed)
	s.write(t, "tokens", tokens)
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}
	brokertest.Connect(t, addr, "c", codec.V5, nil)
	if got := has(t, url, "c"); got != "presub:own changed" {
		t.Errorf("in the end a session has %q", got)
	}
}

// TestReloadOfConnectTopic moves the connect topic: the old one is anybody's and does nothing, the new one is
// heard and guarded.
func TestReloadOfConnectTopic(t *testing.T) {
	const own = "providers: [{name: own, static: {topics: [{topic: '%e/%c'}]}}]\n"
	s, addr := presubSite(t, "connect: {topic: old/+/new, usernames: [agent]}\n"+own)
	url := s.admin(t)
	agent := brokertest.Connect(t, addr, "a", codec.V5, withLogin("agent", ""))
	agent.Subscribe("old/+/new/ack", 0)
	agent.Subscribe("next/+/new/ack", 0)
	agent.Subscribe("old/+/new", 0)
	ann := brokertest.Connect(t, addr, "ann", codec.V5, withLogin("ann", ""))
	login := func(c *brokertest.Client, topic string) codec.Reason {
		c.Send(&codec.Publish{Topic: []byte(topic), Payload: []byte("ann"), QoS: 1, PacketID: 7})
		var ack codec.Ack
		c.Want(codec.PUBACK, &ack)
		return ack.Reason
	}
	if r := login(ann, "old/e1/new"); r != codec.NotAuthorized {
		t.Errorf("ann is answered %s", r)
	}
	ack := func(c *brokertest.Client, topic string) {
		t.Helper()
		var p codec.Publish
		c.Want(codec.PUBLISH, &p)
		if string(p.Topic) != topic {
			t.Errorf("on %s, want %s", p.Topic, topic)
		}
	}
	agent.Send(&codec.Publish{Topic: []byte("old/e1/new"), Payload: []byte("ann")})
	ack(agent, "old/e1/new")
	ack(agent, "old/e1/new/ack")
	if got := has(t, url, "ann"); got != "presub:own e1/ann" {
		t.Errorf("ann has %q", got)
	}

	s.write(t, "presub.yaml", "connect: {topic: next/+/new, usernames: [agent]}\n"+own)
	if log, ok := s.hup(t); !ok || !strings.Contains(log, "provider own kept") {
		t.Fatal(log)
	}
	if r := login(ann, "old/e2/new"); r != codec.Success {
		t.Errorf("the old topic: ann is answered %s", r)
	}
	ack(agent, "old/e2/new")
	if r := login(ann, "next/e3/new"); r != codec.NotAuthorized {
		t.Errorf("the new topic: ann is answered %s", r)
	}
	agent.Send(&codec.Publish{Topic: []byte("next/e4/new"), Payload: []byte("ann")})
	ack(agent, "next/e4/new/ack") // and none before
	if got := has(t, url, "ann"); got != "presub:own e4/ann" {
		t.Errorf("ann has %q", got)
	}

	s.write(t, "presub.yaml", own)
	if log, ok := s.hup(t); !ok {
		t.Fatal(log)
	}
	if r := login(ann, "next/e5/new"); r != codec.Success && r != codec.NoMatchingSubscribers {
		t.Errorf("without a connect topic ann is answered %s", r)
	}
	agent.Send(&codec.Publish{Topic: []byte("old/x/new"), Payload: []byte("end")})
	ack(agent, "old/x/new") // no acknowledgement before
}

// TestReloadBringsPresub has nothing configured at the start.
func TestReloadBringsPresub(t *testing.T) {
	s, port := newSite(t), freePort(t)
	base := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n", port)
	s.conf(t, base)
	s.start(t)
	s.write(t, "presub.yaml", "providers: [{name: own, static: {topics: [{topic: own}]}}]\n")
	s.conf(t, base+"presub_file DIR/presub.yaml\n")
	if log, ok := s.hup(t); !ok || !strings.Contains(log, "The new value of presub_file takes effect after a restart.") {
		t.Errorf("the log is\n%s", log)
	}
}

// TestConfigTestReadsPresub has --test-config and check look into presub.yaml and what it names.
func TestConfigTestReadsPresub(t *testing.T) {
	s := newSite(t)
	s.conf(t, "listener 0 DIR/sock\npresub_file DIR/presub.yaml\nadmin_token_file DIR/tokens\n")
	for _, tt := range []struct{ yaml, tokens, want string }{
		{"providers: [{name: own, static: {topics: [{topic: own}]}}]\n", "crm sesame-open-sesame\n", ""},
		{"providers:\n- name: own\n  when: never\n", "crm sesame-open-sesame\n", "presub.yaml: [3:9] \"never\" is not one of"},
		{"providers:\n- name: x\n  http: {url: 'http://x', token_file: DIR/none}\n", "crm sesame-open-sesame\n", "presub.yaml: [3:39] provider x: open none"},
		{"", "crm short\n", "tokens:1: a token needs"},
	} {
		s.write(t, "presub.yaml", strings.ReplaceAll(tt.yaml, "DIR", s.dir))
		s.write(t, "tokens", tt.tokens)
		for _, args := range [][]string{{"-c", s.path("x.conf"), "--test-config"}, {"check", s.path("x.conf")}} {
			code, text := outcome(t, args...)
			text = strings.ReplaceAll(text, s.dir+"/", "")
			if good := tt.want == ""; (code == exitOK) != good || !strings.Contains(text, tt.want) ||
				strings.Contains(text, "Configuration file is OK.") != good {
				t.Errorf("%q: %d %s, want %s", args, code, text, tt.want)
			}
		}
	}
}
