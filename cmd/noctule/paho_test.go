package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// patience is how long a test waits for something that should happen at once.
const patience = 20 * time.Second

// receive takes one value, or fails the test.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// done waits for a token of the MQTT 3 client.
func done(t *testing.T, what string, token mqtt3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: no answer", what)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// client3 connects Paho's client for MQTT 3.1.1; set may change its options.
func client3(t *testing.T, broker, id string, set func(*mqtt3.ClientOptions)) mqtt3.Client {
	t.Helper()
	o := mqtt3.NewClientOptions().AddBroker(broker).SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(patience)
	if set != nil {
		set(o)
	}
	c := mqtt3.NewClient(o)
	done(t, "CONNECT of "+id, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// subscribe3 returns what arrives for a filter.
func subscribe3(t *testing.T, c mqtt3.Client, filter string, qos byte) <-chan mqtt3.Message {
	t.Helper()
	ch := make(chan mqtt3.Message, 100)
	done(t, "SUBSCRIBE to "+filter, c.Subscribe(filter, qos, func(_ mqtt3.Client, m mqtt3.Message) { ch <- m }))
	return ch
}

// pahoBroker is a broker with a TCP and a WebSocket listener.
func pahoBroker(t *testing.T) (tcp, ws int) {
	t.Helper()
	tcp, ws = freePort(t), freePort(t)
	startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets",
		tcp, ws))
	return tcp, ws
}

func TestPahoMQTT3(t *testing.T) {
	tcp, ws := pahoBroker(t)
	for _, addr := range []string{fmt.Sprintf("tcp://127.0.0.1:%d", tcp), fmt.Sprintf("ws://127.0.0.1:%d/mqtt", ws)} {
		u, err := url.Parse(addr)
		if err != nil {
			t.Fatal(err)
		}
		root := u.Scheme + "/"
		t.Run(u.Scheme, func(t *testing.T) {
			a, b := client3(t, addr, root+"a", nil), client3(t, addr, root+"b", nil)
			t.Run("QoS", func(t *testing.T) { qosMQTT3(t, a, b, root) })
			t.Run("retained", func(t *testing.T) { retainedMQTT3(t, a, b, root) })
			t.Run("will", func(t *testing.T) { willMQTT3(t, a, addr, root) })
			t.Run("shared", func(t *testing.T) { sharedMQTT3(t, a, b, root) })
		})
	}
}

// qosMQTT3 publishes at each QoS to each other's subscription at each QoS, in both directions.
func qosMQTT3(t *testing.T, a, b mqtt3.Client, root string) {
	for sub := range byte(3) {
		for dir, pair := range [][2]mqtt3.Client{{a, b}, {b, a}} {
			topic := fmt.Sprintf("%sqos/%d/%d", root, dir, sub)
			got := subscribe3(t, pair[0], topic, sub)
			for pub := range byte(3) {
				text := fmt.Sprintf("published at %d", pub)
				done(t, "PUBLISH", pair[1].Publish(topic, pub, false, text))
				m := receive(t, "message", got)
				if string(m.Payload()) != text || m.Qos() != min(sub, pub) || m.Retained() || m.Topic() != topic {
					t.Errorf("%s published at %d: %s %q QoS %d retained %t", topic, pub, m.Topic(), m.Payload(), m.Qos(),
						m.Retained())
				}
			}
			done(t, "UNSUBSCRIBE", pair[0].Unsubscribe(topic))
		}
	}
}

func retainedMQTT3(t *testing.T, a, b mqtt3.Client, root string) {
	topic := root + "kept/x"
	done(t, "PUBLISH", a.Publish(topic, 1, true, "kept"))
	got := subscribe3(t, b, root+"kept/+", 1)
	if m := receive(t, "retained message", got); string(m.Payload()) != "kept" || !m.Retained() {
		t.Errorf("%q retained %t", m.Payload(), m.Retained())
	}
	done(t, "clearing", a.Publish(topic, 1, true, ""))
	if m := receive(t, "empty message", got); len(m.Payload()) > 0 || m.Retained() {
		t.Errorf("%q retained %t", m.Payload(), m.Retained())
	}
	done(t, "UNSUBSCRIBE", b.Unsubscribe(root+"kept/+"))
	got = subscribe3(t, b, root+"kept/+", 1)
	done(t, "PUBLISH", a.Publish(root+"kept/end", 1, false, "end"))
	if m := receive(t, "live message", got); m.Topic() != root+"kept/end" {
		t.Errorf("a cleared retained message arrives: %s %q", m.Topic(), m.Payload())
	}
}

// willMQTT3 cuts a client's connection under it; after a clean DISCONNECT there must be no will.
func willMQTT3(t *testing.T, watcher mqtt3.Client, addr, root string) {
	got := subscribe3(t, watcher, root+"will/+", 2)
	u, err := url.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, u.Host)
	u.Host = p.addr()
	will := func(id string) func(*mqtt3.ClientOptions) {
		return func(o *mqtt3.ClientOptions) { o.SetWill(root+"will/"+id, "gone "+id, 2, false) }
	}
	client3(t, u.String(), root+"polite", will("polite")).Disconnect(1000)
	client3(t, u.String(), root+"cut", will("cut"))
	p.cut()
	if m := receive(t, "will", got); string(m.Payload()) != "gone cut" || m.Qos() != 2 {
		t.Errorf("%s %q QoS %d", m.Topic(), m.Payload(), m.Qos())
	}
}

// sharedMQTT3 has two members of a group share what is published.
func sharedMQTT3(t *testing.T, a, b mqtt3.Client, root string) {
	filter := "$share/g/" + root + "shared/#"
	ga, gb := subscribe3(t, a, filter, 1), subscribe3(t, b, filter, 1)
	seen := map[string]int{}
	for i := range 10 {
		done(t, "PUBLISH", a.Publish(fmt.Sprintf("%sshared/%d", root, i), 1, false, "x"))
	}
	na, nb := 0, 0
	for na+nb < 10 {
		select {
		case m := <-ga:
			na++
			seen[m.Topic()]++
		case m := <-gb:
			nb++
			seen[m.Topic()]++
		case <-time.After(patience):
			t.Fatalf("messages are missing: %v", seen)
		}
	}
	if len(seen) != 10 || na < 4 || nb < 4 { // the first may pass before all loops know the second member
		t.Errorf("members got %d and %d, topics %v", na, nb, seen)
	}
}

// client5 is a connected MQTT 5 client of Paho and what it receives.
type client5 struct {
	*paho.Client
	connack *paho.Connack
	got     chan *paho.Publish
}

func connect5(t *testing.T, addr string, cp *paho.Connect) *client5 {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &client5{got: make(chan *paho.Publish, 100)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn: conn, ClientID: cp.ClientID, PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.got <- r.Packet
			return true, nil
		}},
	})
	if c.connack, err = c.Connect(t.Context(), cp); err != nil {
		t.Fatalf("CONNECT of %s: %v", cp.ClientID, err)
	}
	return c
}

func (c *client5) subscribe(t *testing.T, o paho.SubscribeOptions, props *paho.SubscribeProperties) {
	t.Helper()
	ack, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{o}, Properties: props})
	if err != nil || len(ack.Reasons) != 1 || ack.Reasons[0] != o.QoS {
		t.Fatalf("SUBSCRIBE to %s: %v %v", o.Topic, ack, err)
	}
}

func (c *client5) publish(t *testing.T, p *paho.Publish) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Publish(ctx, p); err != nil {
		t.Fatalf("PUBLISH to %s: %v", p.Topic, err)
	}
}

func TestPahoMQTT5(t *testing.T) {
	tcp, _ := pahoBroker(t)
	addr := fmt.Sprintf("127.0.0.1:%d", tcp)
	a := connect5(t, addr, &paho.Connect{ClientID: "a", CleanStart: true, KeepAlive: 30})
	b := connect5(t, addr, &paho.Connect{ClientID: "b", CleanStart: true, KeepAlive: 30})
	t.Run("QoS", func(t *testing.T) { qosMQTT5(t, a, b) })
	t.Run("properties", func(t *testing.T) { propertiesMQTT5(t, a, b) })
	t.Run("retained", func(t *testing.T) { retainedMQTT5(t, a, b) })
	t.Run("will", func(t *testing.T) { willMQTT5(t, a, addr) })
	t.Run("shared", func(t *testing.T) { sharedMQTT5(t, a, b) })
	t.Run("assigned client id", func(t *testing.T) {
		c := connect5(t, addr, &paho.Connect{CleanStart: true})
		if p := c.connack.Properties; p.AssignedClientID == "" || p.ReceiveMaximum == nil || *p.ReceiveMaximum != 20 {
			t.Errorf("CONNACK %+v", p)
		}
	})
}

func qosMQTT5(t *testing.T, a, b *client5) {
	for sub := range byte(3) {
		for dir, pair := range [][2]*client5{{a, b}, {b, a}} {
			topic := fmt.Sprintf("qos/%d/%d", dir, sub)
			pair[0].subscribe(t, paho.SubscribeOptions{Topic: topic, QoS: sub}, nil)
			for pub := range byte(3) {
				text := fmt.Sprintf("published at %d", pub)
				pair[1].publish(t, &paho.Publish{Topic: topic, QoS: pub, Payload: []byte(text)})
				m := receive(t, "message", pair[0].got)
				if string(m.Payload) != text || m.QoS != min(sub, pub) || m.Retain || m.Topic != topic {
					t.Errorf("%s published at %d: %v", topic, pub, m)
				}
			}
		}
	}
}

// propertiesMQTT5 is one publication with every property that passes a broker, and a subscription identifier.
func propertiesMQTT5(t *testing.T, a, b *client5) {
	id, format, expiry := 7, byte(1), uint32(60)
	a.subscribe(t, paho.SubscribeOptions{Topic: "props", QoS: 1}, &paho.SubscribeProperties{SubscriptionIdentifier: &id})
	sent := &paho.PublishProperties{
		CorrelationData: []byte{1, 2}, ContentType: "text/plain", ResponseTopic: "answers", PayloadFormat: &format,
		MessageExpiry: &expiry, User: paho.UserProperties{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}},
	}
	b.publish(t, &paho.Publish{Topic: "props", QoS: 1, Payload: []byte("x"), Properties: sent})
	p := receive(t, "message", a.got).Properties
	if string(p.CorrelationData) != "\x01\x02" || p.ContentType != "text/plain" || p.ResponseTopic != "answers" ||
		p.PayloadFormat == nil || *p.PayloadFormat != 1 || p.MessageExpiry == nil || *p.MessageExpiry > 60 ||
		!slices.Equal(p.User, sent.User) || p.SubscriptionIdentifier == nil || *p.SubscriptionIdentifier != 7 {
		t.Errorf("arrives as %+v", p)
	}
}

func retainedMQTT5(t *testing.T, a, b *client5) {
	a.publish(t, &paho.Publish{Topic: "kept/x", QoS: 2, Retain: true, Payload: []byte("kept")})
	b.subscribe(t, paho.SubscribeOptions{Topic: "kept/#", QoS: 2}, nil)
	if m := receive(t, "retained message", b.got); string(m.Payload) != "kept" || !m.Retain || m.QoS != 2 {
		t.Errorf("%v", m)
	}
	// Retain handling 2 asks for none; what comes next is live, and keeps its flag.
	a.subscribe(t, paho.SubscribeOptions{Topic: "kept/#", QoS: 1, RetainHandling: 2, RetainAsPublished: true}, nil)
	b.publish(t, &paho.Publish{Topic: "kept/y", QoS: 1, Retain: true, Payload: []byte("live")})
	if m := receive(t, "live message", a.got); m.Topic != "kept/y" || !m.Retain {
		t.Errorf("%v", m)
	}
	if m := receive(t, "live message", b.got); m.Topic != "kept/y" || m.Retain {
		t.Errorf("%v", m)
	}
}

func willMQTT5(t *testing.T, watcher *client5, addr string) {
	watcher.subscribe(t, paho.SubscribeOptions{Topic: "will/+", QoS: 1}, nil)
	will := func(id string) *paho.Connect {
		return &paho.Connect{
			ClientID: id, CleanStart: true,
			WillMessage:    &paho.WillMessage{Topic: "will/" + id, QoS: 1, Payload: []byte("gone")},
			WillProperties: &paho.WillProperties{User: paho.UserProperties{{Key: "from", Value: id}}},
		}
	}
	p := newProxy(t, addr)
	polite := connect5(t, p.addr(), will("polite"))
	if err := polite.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	asking := connect5(t, p.addr(), will("asking"))
	if err := asking.Disconnect(&paho.Disconnect{ReasonCode: 4}); err != nil { // with will message
		t.Fatal(err)
	}
	if m := receive(t, "will after DISCONNECT 4", watcher.got); m.Topic != "will/asking" {
		t.Errorf("%v", m)
	}
	connect5(t, p.addr(), will("cut"))
	p.cut()
	if m := receive(t, "will", watcher.got); m.Topic != "will/cut" || m.Properties.User.Get("from") != "cut" {
		t.Errorf("%v %+v", m, m.Properties)
	}
}

func sharedMQTT5(t *testing.T, a, b *client5) {
	for _, c := range []*client5{a, b} {
		c.subscribe(t, paho.SubscribeOptions{Topic: "$share/g/shared/#", QoS: 2}, nil)
	}
	for i := range 10 {
		a.publish(t, &paho.Publish{Topic: fmt.Sprintf("shared/%d", i), QoS: 2, Payload: []byte("x")})
	}
	seen := map[string]int{}
	na, nb := 0, 0
	for na+nb < 10 {
		select {
		case m := <-a.got:
			na++
			seen[m.Topic]++
		case m := <-b.got:
			nb++
			seen[m.Topic]++
		case <-time.After(patience):
			t.Fatalf("messages are missing: %v", seen)
		}
	}
	if len(seen) != 10 || na < 4 || nb < 4 { // the first may pass before all loops know the second member
		t.Errorf("members got %d and %d, topics %v", na, nb, seen)
	}
}

// auto5 starts autopaho with a session that outlives its connections. It reports each CONNACK's session
// present flag and each lost connection.
func auto5(t *testing.T, addr, id string) (
	cm *autopaho.ConnectionManager, up chan bool, down chan bool, got chan *paho.Publish,
) {
	t.Helper()
	u, err := url.Parse(addr)
	if err != nil {
		t.Fatal(err)
	}
	up, down, got = make(chan bool, 100), make(chan bool, 100), make(chan *paho.Publish, 100)
	ctx, cancel := context.WithCancel(context.Background())
	cm, err = autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 30, SessionExpiryInterval: 600, CleanStartOnInitialConnection: true,
		ReconnectBackoff: autopaho.NewConstantBackoff(10 * time.Millisecond), ConnectTimeout: patience,
		OnConnectionUp:   func(_ *autopaho.ConnectionManager, ack *paho.Connack) { up <- ack.SessionPresent },
		OnConnectionDown: func() bool { down <- true; return true },
		ClientConfig: paho.ClientConfig{
			ClientID: id, PacketTimeout: patience, Session: state.NewInMemory(),
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				got <- r.Packet
				return true, nil
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-cm.Done()
	})
	return cm, up, down, got
}

// TestAutopahoResumesItsSession cuts the connection of an autopaho client, publishes for it meanwhile, and
// lets it come back.
func TestAutopahoResumesItsSession(t *testing.T) {
	tcp, ws := pahoBroker(t)
	for scheme, port := range map[string]int{"mqtt": tcp, "ws": ws} {
		t.Run(scheme, func(t *testing.T) {
			p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", port))
			cm, up, down, got := auto5(t, scheme+"://"+p.addr(), "auto-"+scheme)
			if receive(t, "connection", up) {
				t.Error("a session is present at the first connection")
			}
			_, err := cm.Subscribe(t.Context(), &paho.Subscribe{
				Subscriptions: []paho.SubscribeOptions{{Topic: scheme + "/#", QoS: 2}},
			})
			if err != nil {
				t.Fatal(err)
			}
			other := client3(t, fmt.Sprintf("tcp://127.0.0.1:%d", tcp), "publisher of "+scheme, nil)
			first, seen := []string{}, map[string]bool{}
			for round := range 3 {
				p.setDown(true)
				receive(t, "loss of the connection", down)
				for i := range 5 {
					done(t, "PUBLISH", other.Publish(fmt.Sprintf("%s/%d/%d", scheme, round, i), byte(1+i%2), false, "x"))
				}
				p.setDown(false)
				if !receive(t, "reconnection", up) {
					t.Error("the session is gone")
				}
				first = append(first, firsts(t, got, seen, 5)...)
			}
			want := []string{}
			for i := range 15 {
				want = append(want, fmt.Sprintf("%s/%d/%d", scheme, i/5, i%5))
			}
			if !slices.Equal(first, want) {
				t.Errorf("topics arrive as %v", first)
			}
		})
	}
}

// firsts waits for n topics that seen does not hold yet. A cut may make messages of QoS 1 come again, but
// not those of QoS 2.
func firsts(t *testing.T, got <-chan *paho.Publish, seen map[string]bool, n int) (topics []string) {
	t.Helper()
	for len(topics) < n {
		m := receive(t, "queued message", got)
		switch {
		case !seen[m.Topic]:
			topics = append(topics, m.Topic)
		case m.QoS != 1:
			t.Errorf("%s of QoS %d comes again", m.Topic, m.QoS)
		}
		seen[m.Topic] = true
	}
	return topics
}

// TestAutopahoPublishesAcrossCuts publishes at QoS 2 and cuts the connection before and after each step of
// the handshake; each message must arrive exactly once.
func TestAutopahoPublishesAcrossCuts(t *testing.T) {
	tcp, _ := pahoBroker(t)
	p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", tcp))
	cm, up, _, _ := auto5(t, "mqtt://"+p.addr(), "cutter")
	receive(t, "connection", up)
	watcher := client3(t, fmt.Sprintf("tcp://127.0.0.1:%d", tcp), "watcher", nil)
	got := subscribe3(t, watcher, "once/#", 2)
	const n = 60
	for i := range n {
		cuts := i%2 == 0
		if cuts {
			p.cutAt([]byte{publishType, pubrelType}[i/2%2], i/4%2 == 0)
		}
		_, err := cm.Publish(t.Context(), &paho.Publish{Topic: fmt.Sprintf("once/%d", i), QoS: 2, Payload: []byte("x")})
		if err != nil && (!cuts || !errors.Is(err, paho.ErrNetworkErrorAfterStored)) {
			t.Fatal(err)
		}
		if cuts && !receive(t, "reconnection", up) {
			t.Fatal("the session is gone")
		}
	}
	seen := map[string]int{}
	for len(seen) < n {
		seen[receive(t, "message", got).Topic()]++
	}
	done(t, "PUBLISH", watcher.Publish("once/end", 2, false, "x"))
	for seen["once/end"] == 0 {
		seen[receive(t, "message", got).Topic()]++
	}
	for topic, times := range seen {
		if times != 1 {
			t.Errorf("%s arrives %d times", topic, times)
		}
	}
}
