package presub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/codec/im"
	"noctule/internal/testlog"
)

// system is a broker with an engine, as the program ties them.
type system struct {
	t    *testing.T
	e    *Engine
	b    *broker.Broker
	addr *broker.Listener
	log  *testlog.Lines
}

func newSystem(t *testing.T, yaml string) *system { return newSystemWith(t, yaml, nil) }

func newSystemWith(t *testing.T, yaml string, change func(o *broker.Options, l *broker.ListenerOptions)) *system {
	t.Helper()
	x := &system{t: t, log: &testlog.Lines{}}
	cfg, err := Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if x.e, err = New(cfg, slog.New(slog.NewTextHandler(x.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.e.Close)
	x.b, x.addr = brokertest.Start(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.Loops, o.Features = 2, []broker.Feature{x.e}
		if change != nil {
			change(o, l)
		}
	})
	return x
}

func (x *system) connect(id, username string) *brokertest.Client {
	x.t.Helper()
	return brokertest.Connect(x.t, x.addr, id, codec.V5, func(p *codec.Connect) {
		p.HasUsername, p.Username = username != "", []byte(username)
	})
}

// send publishes a request and returns the acknowledgement's reason.
func send(c *brokertest.Client, payload []byte, props codec.Properties) codec.Reason {
	c.Send(&codec.Publish{Topic: []byte(ControlTopic), Payload: payload, QoS: 1, PacketID: 5, Properties: props})
	var ack codec.Ack
	c.Want(codec.PUBACK, &ack)
	return ack.Reason
}

func TestEntriesOverMQTT(t *testing.T) {
	x := newSystem(t, "control: {usernames: [agent]}")
	agent := x.connect("a", "agent")
	agent.Subscribe(ControlTopic+"/response", 1)
	agent.Subscribe("my/answers", 1)
	c1 := x.connect("c1", "u1")
	c2 := x.connect("c2", "u1")

	answer := func() codec.Publish {
		t.Helper()
		var p codec.Publish
		agent.Want(codec.PUBLISH, &p)
		agent.Ack(codec.PUBACK, p.PacketID)
		return p
	}
	if r := send(agent, []byte(`{"clientid":"c1","action":"subscribe","topics":[{"topic":"a","qos":1},{"topic":"#/x"},{"topic":"a"}]}`), nil); r != 0 {
		t.Fatalf("PUBACK %s", r)
	}
	p := answer()
	want := `"results":[{"topic":"a","code":0,"state":"new"},{"topic":"#/x","code":143,"state":"absent"}]}`
	if string(p.Topic) != ControlTopic+"/response" || !strings.HasSuffix(string(p.Payload), want) {
		t.Errorf("%s: %s", p.Topic, p.Payload)
	}

	// To the Response Topic, with the Correlation Data, for all sessions of a user, in binary.
	props := codec.AppendBytesProperty(nil, codec.ResponseTopic, []byte("my/answers"))
	props = codec.AppendBytesProperty(props, codec.CorrelationData, []byte{1, 2})
	raw := (&im.Batch{Entries: []im.Entry{{
		Target: []byte("u1"), IsUsername: true, Action: im.Subscribe, Topics: []im.Subscription{{Filter: []byte("b"), QoS: 2}},
	}}}).Append(nil)
	if r := send(agent, raw, props); r != 0 {
		t.Fatalf("PUBACK %s", r)
	}
	p = answer()
	var list im.Answers
	if err := list.Parse(p.Payload); err != nil || len(list.List) != 2 || list.List[1].Results[0].State != im.New {
		t.Errorf("%+v, %v", list, err)
	}
	if data, _ := p.Properties.Bytes(codec.CorrelationData); string(p.Topic) != "my/answers" || !bytes.Equal(data, []byte{1, 2}) {
		t.Errorf("%s, correlation %v", p.Topic, data)
	}
	agent.Publish("b", "m", 0, 0)
	for _, c := range []*brokertest.Client{c1, c2} {
		c.WantPublish("b", "m")
	}
	// What cannot be worked on.
	for payload, part := range map[string]string{
		`{"clientid":`: `"code":153,"error":"entry: byte 12: cut off"`,
		`{"clientid":"c1","action":"replace","origin":"client","topics":[]}x`: `something follows`,
		`{"clientid":"c1","action":"replace","origin":"a/b","topics":[]}`:     `"code":135`,
	} {
		send(agent, []byte(payload), nil)
		if p := answer(); !strings.Contains(string(p.Payload), part) {
			t.Errorf("%s: %s, want %s", payload, p.Payload, part)
		}
	}
	if r := send(agent, []byte("\x01\x00"), nil); r != 0 {
		t.Fatal(r)
	}
	if p := answer(); list.Parse(p.Payload) != nil || list.List[0].Code != 0x99 {
		t.Errorf("% x", p.Payload)
	}
	bad := codec.AppendBytesProperty(nil, codec.ResponseTopic, []byte("$SYS/broker/uptime"))
	if r := send(agent, raw, bad); r != codec.TopicNameInvalid {
		t.Errorf("PUBACK %s", r)
	}
	if r := send(c1, []byte(`{"clientid":"c1","action":"subscribe","topics":[{"topic":"#"}]}`), nil); r != codec.NotAuthorized {
		t.Errorf("PUBACK %s", r)
	}
	for _, line := range []string{
		`Pre-subscription: subscribe by \"agent\" at mqtt, clientid \"c1\", origin \"api:agent\", topics 3, sessions 1, revision `,
		`Pre-subscription: denied by \"u1\" at mqtt`,
	} {
		if !strings.Contains(x.log.String(), line) {
			t.Errorf("no line %s in %s", line, x.log.String())
		}
	}
}

func TestPendingAnswersTwice(t *testing.T) {
	x := newSystem(t, "control: {usernames: [agent]}")
	agent := x.connect("a", "agent")
	agent.Subscribe(ControlTopic+"/response", 0)
	send(agent, []byte(`{"clientid":"late","action":"subscribe","topics":[{"topic":"a"}]}`), nil)
	agent.WantPublish(ControlTopic+"/response", `{"clientid":"late","revision":0,"results":[{"topic":"a","code":0,"state":"pending"}]}`)
	x.connect("late", "")
	agent.WantPublish(ControlTopic+"/response", `{"clientid":"late","revision":1,"results":[{"topic":"a","code":0,"state":"new"}]}`)
}

// TestAfterConnack has a list that comes when the client is in already; in between it keeps what it had.
func TestAfterConnack(t *testing.T) {
	s := newService(t)
	release := make(chan struct{})
	s.set(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = w.Write([]byte(`{"topics":[{"topic":"$me/subscriptions"},{"topic":"a"}]}`))
	})
	x := newSystem(t, "providers: [{name: ws, when: after_connack, budget: 20s, http: {timeout: 20s, url: '"+s.URL+"'}}]")
	c := x.connect("c", "")
	c.WantNothing()
	close(release)
	var p codec.Publish
	c.Want(codec.PUBLISH, &p)
	var got struct {
		Count  int
		Topics []struct{ Origin, Topic string }
	}
	if err := json.Unmarshal(p.Payload, &got); err != nil || got.Count != 2 || got.Topics[1].Origin != "presub:ws" {
		t.Errorf("%s, %v", p.Payload, err)
	}
	c.Publish("a", "m", 0, 0)
	c.WantPublish("a", "m")
}

// TestRefusalAtConnect is told with a code that the client's version has.
func TestRefusalAtConnect(t *testing.T) {
	s := newService(t)
	s.say(500, "")
	x := newSystem(t, "providers: [{name: ws, on_failure: refuse, http: {url: '"+s.URL+"'}}]")
	for v, want := range map[codec.Version]codec.Reason{codec.V311: 3, codec.V5: codec.ServerUnavailable} {
		if ack := brokertest.Dial(t, x.addr, v).Connack("c", nil); ack.Reason != want {
			t.Errorf("MQTT %d: CONNACK %d, want %d", v, ack.Reason, want)
		}
	}
}

// TestEditMovesMembers changes the list of many clients by one edit at the source: their next CONNECTs share
// the new set.
func TestEditMovesMembers(t *testing.T) {
	s := newService(t)
	s.say(200, `{"topics":[{"topic":"a"}]}`)
	x := newSystem(t, "providers: [{name: ws, budget: 20s, http: {timeout: 10s, url: '"+s.URL+"'}}]")
	for i := range 20 {
		x.connect(fmt.Sprint(i), "")
	}
	s.say(200, `{"topics":[{"topic":"a"},{"topic":"b"}]}`)
	for i := range 20 {
		x.connect(fmt.Sprint(i), "")
	}
	m := brokertest.Settle(t, x.b)
	if m.Granted != 40 || m.Sets > 2 { // one a loop
		t.Errorf("%d granted, %d sets", m.Granted, m.Sets)
	}
	if n := x.e.sets.len(); n > 2 {
		t.Errorf("%d different lists", n)
	}
}

func TestGoDoor(t *testing.T) {
	x := newSystem(t, "")
	c := x.connect("c", "")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := x.e.Subscribe(ctx, "shop", "c", []Topic{{Topic: "a", QoS: 1}})
	if err != nil || list[0].Results[0].State != "new" {
		t.Errorf("%+v, %v", list, err)
	}
	c.Publish("a", "m", 0, 0)
	c.WantPublish("a", "m")
	if _, err := x.e.Subscribe(ctx, "shop", "", nil); err == nil {
		t.Error("a request for nobody")
	}
	if _, err := x.e.Do(ctx, Caller{Door: Go, Principal: "x"}, nil, nil); !errors.Is(err, ErrNotAllowed) {
		t.Error(err)
	}
	ex, err := x.e.Explain(ctx, "c", "a")
	if err != nil {
		t.Fatal(err)
	}
	if ex.Copies != 1 || len(ex.Matches) != 1 || ex.Matches[0].Origin != "api:shop" {
		t.Errorf("%+v", ex)
	}
}
