package presub

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// boundedSystem is a system whose clients may read yes/# only, and have two messages wait.
func boundedSystem(t *testing.T, yaml string) *system {
	t.Helper()
	file := filepath.Join(t.TempDir(), "acl")
	rules := "user bob\ntopic readwrite yes/#\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	acl, err := auth.LoadACL(file)
	if err != nil {
		t.Fatal(err)
	}
	return newSystemWith(t, yaml, func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxQueuedMessages = 2
		l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{acl}}
	})
}

func (x *system) notes(id, topic string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	ex, err := x.e.Explain(ctx, id, topic)
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.Join(ex.Notes, "\n")
}

// TestExplainTruths tells what has gone wrong unasked: a provider that fails, a list that is not there, a filter
// that was refused at CONNECT, and a queue that is full.
func TestExplainTruths(t *testing.T) {
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer down.Close()
	x := boundedSystem(t, "providers: [{name: ws, http: {url: '"+down.URL+"'}}, {name: own, static: {topics: ["+
		"{topic: 'yes/a', qos: 1}, {topic: 'no/%u'}]}}]")
	c := brokertest.Connect(t, x.addr, "c", codec.V5, func(p *codec.Connect) {
		p.HasUsername, p.Username = true, []byte("bob")
		p.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 600)
	})
	got := x.notes("c", "no/bob")
	for _, want := range []string{
		"the list of presub:ws has not come yet, the provider goes on being asked", "the list of presub:ws is incomplete",
		"provider ws has failed since ", "503 Service Unavailable", "no/bob of presub:own was refused at its CONNECT of ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got := x.notes("c", "yes/a"); strings.Contains(got, "no/bob") || strings.Contains(got, "queue") {
		t.Errorf("of another topic, with an empty queue:\n%s", got)
	}
	log := x.log.String()
	if !strings.Contains(log, `refused by \"presub:own\" at admission, clientid \"c\", username \"bob\", topics 1, first \"no/bob\"`) {
		t.Errorf("no audit line in\n%s", log)
	}
	c.Disconnect()
	brokertest.Settle(t, x.b)
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	for range 3 {
		_, _ = x.b.Publish(ctx, broker.Publication{Topic: "yes/a", QoS: 1}) // whether it is queued is seen below
	}
	if got := x.notes("c", "yes/a"); !strings.Contains(got, "its queue is full, with 2 messages") {
		t.Errorf("a full queue:\n%s", got)
	}
}

// eventually waits for the log.
func eventually(t *testing.T, x *system, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(brokertest.Timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log has not what it should:\n%s", x.log.String())
		}
	}
}

// TestPendingEndIsTold has a line and a count for requests that take effect when their client comes, and for those
// that run out, at every door.
func TestPendingEndIsTold(t *testing.T) {
	x := newSystem(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	one := 1
	caller := Caller{Door: Go, Principal: "shop", Allowed: true}
	for id, wait := range map[string]*int{"soon": nil, "never": &one} {
		e := Entry{ClientID: id, Action: "subscribe", Topics: []Topic{{Topic: "a"}}, Wait: wait}
		if _, err := x.e.Do(ctx, caller, []Entry{e}, nil); err != nil {
			t.Fatal(err)
		}
	}
	x.connect("soon", "")
	eventually(t, x, func() bool {
		log := x.log.String()
		return strings.Contains(log, `took effect by \"shop\" at go, clientid \"soon\"`) &&
			strings.Contains(log, `ran out by \"shop\" at go, clientid \"never\"`)
	})
}

// TestConnectTopicNamesWho has the line of a login say who published it, and what came of each provider.
func TestConnectTopicNamesWho(t *testing.T) {
	x := newSystem(t, "connect: {topic: /e/+/new, usernames: [door]}\n"+
		"providers: [{name: one, static: {topics: [{topic: a}]}}, {name: two, static: {topics: [{topic: 'u/%u'}]}}]")
	x.connect("c", "bob")
	door := x.connect("d", "door")
	door.Subscribe("/e/x/new/ack", 1)
	door.Publish("/e/x/new", "c", 1, 7)
	eventually(t, x, func() bool {
		log := x.log.String()
		return strings.Contains(log, `replace by \"door\" at connect, topic \"/e/x/new\", clientid \"c\", username \"bob\"`) &&
			strings.Contains(log, `one: 1 existing; two: 1 existing`)
	})
}
