package broker_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	xdg "github.com/xdg-go/scram"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/auth/scram"
	"noctule/broker/brokertest"
)

// conversing is SCRAM for paho's client, both from elsewhere.
type conversing struct {
	t    testing.TB
	conv *xdg.ClientConversation
}

func newConversing(t testing.TB, user, password string) *conversing {
	c, err := xdg.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return &conversing{t, c.NewConversation()}
}

func (c *conversing) step(in []byte) []byte {
	out, err := c.conv.Step(string(in))
	if err != nil {
		c.t.Error(err)
	}
	return []byte(out)
}

// Authenticate implements paho.Auther.
func (c *conversing) Authenticate(a *paho.Auth) *paho.Auth {
	return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{
		AuthMethod: a.Properties.AuthMethod, AuthData: c.step(a.Properties.AuthData),
	}}
}

// Authenticated implements paho.Auther.
func (c *conversing) Authenticated() {}

// TestScramOfOthers: a client and a SCRAM that nobody here wrote log in, are sure of whom they talk to, renew that while
// messages flow, and are refused with a wrong password.
func TestScramOfOthers(t *testing.T) {
	line, err := hash.New(hash.Scram, []byte("secret"), 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte("ann:"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := auth.LoadPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := scram.New(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	onEach(t, onSockets(func(_ *broker.Options, l *broker.ListenerOptions) {
		l.Policy = &auth.Policy{Methods: auth.Methods{m.Name(): m}}
	}), func(t *testing.T, x *fixture) {
		ctx, cancel := context.WithTimeout(t.Context(), brokertest.Timeout)
		defer cancel()
		come := func(password string) (*paho.Client, *conversing, *paho.Connack, error) {
			conn, err := net.Dial("tcp", x.socket())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			talk := newConversing(t, "ann", password)
			c := paho.NewClient(paho.ClientConfig{Conn: conn, AuthHandler: talk})
			ack, err := c.Connect(ctx, &paho.Connect{ClientID: "c", CleanStart: true, KeepAlive: 60, Properties: &paho.ConnectProperties{
				AuthMethod: scram.Name, AuthData: talk.step(nil),
			}})
			return c, talk, ack, err
		}
		if _, _, ack, err := come("wrong"); err == nil || ack == nil || ack.ReasonCode != 0x87 {
			t.Errorf("a wrong password: %+v %v", ack, err)
		}
		c, talk, ack, err := come("secret")
		if err != nil || ack.Properties.AuthMethod != scram.Name {
			t.Fatal(ack, err)
		}
		talk.step(ack.Properties.AuthData)
		if !talk.conv.Valid() {
			t.Error("the broker has not proved that it knows the user")
		}
		for range 3 {
			again := newConversing(t, "ann", "secret")
			talk.conv = again.conv
			done := make(chan error, 1)
			go func() {
				_, err := c.Publish(ctx, &paho.Publish{Topic: "t", QoS: 1, Payload: []byte("p")})
				done <- err
			}()
			answer, err := c.Authenticate(ctx, &paho.Auth{ReasonCode: 0x19, Properties: &paho.AuthProperties{
				AuthMethod: scram.Name, AuthData: talk.step(nil),
			}})
			if err != nil || !answer.Success {
				t.Fatal(answer, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		d, ok, err := x.b.Find(ctx, "c")
		if !ok || err != nil || d.Username != "ann" {
			t.Errorf("%+v %v", d, err)
		}
		_ = c.Disconnect(&paho.Disconnect{})
	})
}
