package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// echo is a method that wants its challenge back: "user seconds topic" at first, then "again", so many times. A client is
// let in for so many seconds, to the topic.
type echo struct {
	start time.Time
	times int
}

func (echo) Name() string { return "echo" }

func (echo) Keeps(*auth.Stay, string) bool { return true }

func (m echo) Begin(_ context.Context, _ *auth.Login, data []byte) (auth.Exchange, auth.Step) {
	x := &echoing{m: m, left: m.times}
	if n, err := fmt.Sscan(string(data), &x.user, &x.seconds, &x.topic); n != 3 {
		return nil, auth.Step{Refused: codec.BadUserNameOrPassword, Why: fmt.Sprint("echo: ", err)}
	}
	return x, x.next()
}

type echoing struct {
	m       echo
	user    string
	seconds int
	topic   string
	left    int
}

func (x *echoing) Continue(_ context.Context, data []byte) auth.Step {
	if string(data) != "again" {
		return auth.Step{Refused: codec.NotAuthorized, Why: "echo: another word"}
	}
	x.left--
	return x.next()
}

func (x *echoing) next() auth.Step {
	if x.left > 0 {
		return auth.Step{Data: []byte("again")}
	}
	r, err := auth.ParseRule(x.topic)
	if err != nil {
		return auth.Step{Refused: codec.NotAuthorized}
	}
	rules, err := auth.NewRules([]auth.Rule{{Access: auth.Read | auth.Write, Filter: r.Filter}})
	if err != nil {
		return auth.Step{Refused: codec.NotAuthorized}
	}
	return auth.Step{Data: []byte("done"), Pass: &auth.Pass{
		Username: x.user, HasUsername: true, Rules: rules, TokenID: "t-" + x.user,
		Expires: x.m.start.Add(time.Duration(x.seconds) * time.Second),
	}}
}

// echoes lets clients in by method echo alone, with so many challenges.
func echoes(times int) changeFunc {
	return func(o *broker.Options, l *broker.ListenerOptions) {
		m := echo{time.UnixMilli(o.Clock.Wall()), times}
		l.Policy = &auth.Policy{Methods: auth.Methods{"echo": m}}
	}
}

// method puts Authentication Method and Data into a CONNECT.
func method(name, data string) connectFunc {
	return with(func(p codec.Properties) codec.Properties {
		return codec.AppendBytesProperty(codec.AppendBytesProperty(p, codec.AuthMethod, []byte(name)), codec.AuthData, []byte(data))
	})
}

func sendAuth(c *brokertest.Client, r codec.Reason, name, data string) {
	p := codec.AppendBytesProperty(nil, codec.AuthMethod, []byte(name))
	c.Send(&codec.Auth{Reason: r, Properties: codec.AppendBytesProperty(p, codec.AuthData, []byte(data))})
}

// wantAuth reads an AUTH, which has the method [MQTT-4.12.0-5].
func wantAuth(t testing.TB, c *brokertest.Client, r codec.Reason, data string) {
	t.Helper()
	var p codec.Auth
	c.Want(codec.AUTH, &p)
	name, _ := p.Properties.Bytes(codec.AuthMethod)
	got, _ := p.Properties.Bytes(codec.AuthData)
	if p.Reason != r || string(name) != "echo" || string(got) != data {
		t.Errorf("AUTH %s %q %q, want %s %q", p.Reason, name, got, r, data)
	}
}

// begin sends a CONNECT with method echo.
func begin(x *fixture, id, data string, more ...connectFunc) *brokertest.Client {
	c := brokertest.Dial(x.t, x.addr, codec.V5)
	p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte(id)}
	both(append(more, method("echo", data))...)(&p)
	c.Send(&p)
	return c
}

// enter answers all challenges of a fixture with two.
func enter(x *fixture, id, data string, more ...connectFunc) *brokertest.Client {
	x.t.Helper()
	c := begin(x, id, data, more...)
	for range 2 {
		wantAuth(x.t, c, codec.ContinueAuthentication, "again")
		sendAuth(c, codec.ContinueAuthentication, "echo", "again")
	}
	var ack codec.Connack
	c.Want(codec.CONNACK, &ack)
	name, _ := ack.Properties.Bytes(codec.AuthMethod)
	got, _ := ack.Properties.Bytes(codec.AuthData)
	if ack.Reason != codec.Success || string(name) != "echo" || string(got) != "done" {
		x.t.Errorf("CONNACK %s %q %q", ack.Reason, name, got)
	}
	return c
}

// A method and its client talk before CONNACK, which has the method's last word; the client is who the method says, and may
// do what it says [MQTT-4.12.0-2], [MQTT-4.12.0-5]. Others go on meanwhile.
func TestEnhancedAuthentication(t *testing.T) {
	onEach(t, echoes(2), func(t *testing.T, x *fixture) {
		slow := begin(x, "slow", "u 1000 a/#")
		wantAuth(t, slow, codec.ContinueAuthentication, "again")
		for i := range 8 {
			c := enter(x, fmt.Sprint("c", i), fmt.Sprintf("u%d 1000 a/#", i), as("of CONNECT"))
			d, ok, err := x.b.Find(t.Context(), fmt.Sprint("c", i))
			if !ok || err != nil || d.Username != fmt.Sprint("u", i) {
				t.Errorf("%+v %v", d, err)
			}
			c.Subscribe("#", 0)
			c.Publish("b", "denied", 0, 0)
			exchange(t, c, "a/x", "allowed", 0)
			c.WantPublish("a/x", "allowed")
			c.Disconnect()
		}
		sendAuth(slow, codec.ContinueAuthentication, "echo", "again")
		wantAuth(t, slow, codec.ContinueAuthentication, "again")
		slow.Hangup()
		brokertest.Until(t, x.b, "the end of the exchange", func(m *broker.Metrics) bool { return m.Admissions.Waiting == 0 })
	})
}

// What is out of turn is refused with its code, unknown methods with 0x8C [MQTT-4.12.0-1], [MQTT-3.1.2-30].
func TestEnhancedAuthenticationRefused(t *testing.T) {
	auth := func(r codec.Reason, name, data string) func(*brokertest.Client) {
		return func(c *brokertest.Client) { sendAuth(c, r, name, data) }
	}
	onEach(t, echoes(2), func(t *testing.T, x *fixture) {
		for _, tt := range []struct {
			name string
			then func(*brokertest.Client)
			want codec.Reason
		}{
			{"another word", auth(codec.ContinueAuthentication, "echo", "no"), codec.NotAuthorized},
			{"another method", auth(codec.ContinueAuthentication, "other", "again"), codec.ProtocolError},
			{"too early to renew", auth(codec.ReAuthenticate, "echo", "again"), codec.ProtocolError},
			{"no method", func(c *brokertest.Client) { c.Raw([]byte{0xF0, 0}) }, codec.ProtocolError},
			{"malformed", func(c *brokertest.Client) { c.Raw([]byte{0xF0, 3, 0x18, 9, 1}) }, codec.MalformedPacket},
			{"another CONNECT", func(c *brokertest.Client) { c.Send(&codec.Connect{Version: codec.V5, ClientID: []byte("x")}) }, codec.ProtocolError},
			{"PUBLISH", func(c *brokertest.Client) { c.Publish("a", "b", 0, 0) }, codec.ProtocolError},
			{"nothing", func(*brokertest.Client) {}, 0},
			{"DISCONNECT", func(c *brokertest.Client) { c.Send(&codec.Disconnect{}) }, 0},
		} {
			c := begin(x, "c", "u 1000 a/#")
			wantAuth(t, c, codec.ContinueAuthentication, "again")
			tt.then(c)
			if tt.want != 0 {
				wantConnack(t, c, tt.want)
				c.WantClosed()
			} else {
				c.Hangup()
			}
		}
		for data, want := range map[string]codec.Reason{"u": codec.BadUserNameOrPassword, "u 0 a": codec.NotAuthorized} {
			c := begin(x, "c", data)
			if data != "u" {
				for range 2 {
					wantAuth(t, c, codec.ContinueAuthentication, "again")
					sendAuth(c, codec.ContinueAuthentication, "echo", "again")
				}
			}
			wantConnack(t, c, want)
		}
		if got := x.connack("c", codec.V5, method("other", "")); got != codec.BadAuthenticationMethod {
			t.Errorf("an unknown method: %s", got)
		}
		if got := x.connack("c", codec.V5, as("u")); got != codec.NotAuthorized {
			t.Errorf("without a method: %s", got)
		}
		brokertest.Until(t, x.b, "the end of all", func(m *broker.Metrics) bool { return m.Admissions.Waiting == 0 && m.Connections == 0 })
	})
}

// A client renews what runs out, and loses and repeats nothing: what it may do and for how long is what its new pass says
// [MQTT-4.12.1-1], and all packets flow meanwhile.
func TestReauthentication(t *testing.T) {
	onEach(t, echoes(2), func(t *testing.T, x *fixture) {
		const n = 40
		c := enter(x, "c", "u 100 a/#", with(expiry(1000)))
		pub := enter(x, "pub", "p 100000 #")
		c.Subscribe("#", 2)
		seq, got := 0, 0
		say := func() { // a message to the client, one from it
			pub.Publish("a/x", fmt.Sprint(seq), 1, uint16(seq+1))
			wantAck(t, pub, codec.PUBACK, uint16(seq+1), codec.Success)
			seq++
		}
		hear := func() {
			p := receive(t, c, "a/x", fmt.Sprint(got), 1)
			c.Ack(codec.PUBACK, p.PacketID)
			got++
		}
		for round := range n / 4 {
			say()
			sendAuth(c, codec.ReAuthenticate, "echo", fmt.Sprintf("u %d a/#", 100*(round+2)))
			hear()
			wantAuth(t, c, codec.ContinueAuthentication, "again")
			say()
			hear()
			sendAuth(c, codec.ContinueAuthentication, "echo", "again")
			wantAuth(t, c, codec.ContinueAuthentication, "again")
			say()
			hear()
			sendAuth(c, codec.ContinueAuthentication, "echo", "again")
			wantAuth(t, c, codec.Success, "done")
			say()
			hear()
			x.advance(100)
		}
		if seq != n || got != n {
			t.Errorf("%d sent, %d received", seq, got)
		}
		c.WantNothing()
		x.advance(100)
		wantExpired(t, c)
	})
}

// By another pass rights change at once; by what is no pass, or another's, the connection ends.
func TestReauthenticationDecides(t *testing.T) {
	onEach(t, echoes(0), func(t *testing.T, x *fixture) {
		come := func(data string) *brokertest.Client {
			t.Helper()
			c := begin(x, "c", data)
			wantConnack(t, c, codec.Success)
			return c
		}
		c := come("u 100 a/#")
		c.Subscribe("#", 0)
		sendAuth(c, codec.ReAuthenticate, "echo", "u 100 b/#")
		wantAuth(t, c, codec.Success, "done")
		exchange(t, c, "b/x", "now", 0)
		c.WantPublish("b/x", "now")
		c.Publish("a/x", "denied", 1, 7)
		wantAck(t, c, codec.PUBACK, 7, codec.NotAuthorized)
		for _, tt := range []struct {
			name string
			do   func(*brokertest.Client)
			want codec.Reason
		}{
			{"another user", func(c *brokertest.Client) { sendAuth(c, codec.ReAuthenticate, "echo", "v 100 a") }, codec.NotAuthorized},
			{"expired", func(c *brokertest.Client) { sendAuth(c, codec.ReAuthenticate, "echo", "u 0 a") }, codec.NotAuthorized},
			{"refused", func(c *brokertest.Client) { sendAuth(c, codec.ReAuthenticate, "echo", "u") }, codec.NotAuthorized},
			{"another method", func(c *brokertest.Client) { sendAuth(c, codec.ReAuthenticate, "other", "u 100 a") }, codec.BadAuthenticationMethod},
			{"out of turn", func(c *brokertest.Client) { sendAuth(c, codec.ContinueAuthentication, "echo", "u 100 a") }, codec.ProtocolError},
			{"no reason", func(c *brokertest.Client) { sendAuth(c, codec.Success, "echo", "u 100 a") }, codec.ProtocolError},
		} {
			c := come("u 100 a/#")
			tt.do(c)
			t.Log(tt.name)
			wantDisconnect(t, c, tt.want)
		}
		banned := come("u 100 a/#")
		x.ban(broker.BanToken, "t-v", 0)
		x.ban(broker.BanToken, "t-u", 0)
		wantDisconnect(t, banned, codec.AdministrativeAction)
		c = begin(x, "c", "u 100 a")
		wantConnack(t, c, codec.Banned)
	})
	// Who has come without a method cannot use one later.
	x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
		echoes(0)(o, l)
		l.Policy.AllowAnonymous = true
	})
	c := x.connect("c", codec.V5, nil)
	sendAuth(c, codec.ReAuthenticate, "echo", "u 100 a")
	wantDisconnect(t, c, codec.ProtocolError)
	three := x.connect("c", codec.V311, nil)
	three.Raw([]byte{0xF0, 0})
	three.WantClosed()
	if strings.Contains(fmt.Sprint(brokertest.Settle(t, x.b).Admissions), "-") {
		t.Error("a place is given up twice")
	}
}
