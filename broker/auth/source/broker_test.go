package source

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// as is the change of a CONNECT by a user.
func as(user, password string) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.HasUsername, c.HasPassword, c.Username, c.Password = true, true, []byte(user), []byte(password)
	}
}

// TestHangingBroker has 200 clients log in by a webservice that hangs. The connected client is served as
// before and others log in by another source, while all of them wait; then each hears what it is told, or,
// if nothing comes within the budget, that nobody answers.
func TestHangingBroker(t *testing.T) {
	for _, answered := range []bool{true, false} {
		t.Run(fmt.Sprint("answered ", answered), func(t *testing.T) {
			release := make(chan struct{})
			var asked atomic.Int64
			url, _ := answers(t, func(_ http.ResponseWriter, r *http.Request) {
				_ = body(r) // else the server does not see that it ends
				asked.Add(1)
				select {
				case <-release:
				case <-r.Context().Done():
				}
			})
			dir := t.TempDir()
			write(t, dir, "secret", secret)
			budget := "budget: 60s, max_waiting: 10000"
			timeout := "60s"
			if !answered {
				budget, timeout = "budget: 300ms, max_waiting: 50", "300ms"
			}
			b := begin(t, dir, fmt.Sprintf(`
sources:
  - {name: tokens, jwt: {algorithms: [HS256], secret_file: $/secret}, for: {username: 't*'}}
  - {name: web, http: {url: '%s', max_conns: 8, timeout: %s}, %s}`, url, timeout, budget))
			_, at := brokertest.Start(t, func(_ *broker.Options, l *broker.ListenerOptions) {
				l.AllowAnonymous = false
				l.Policy = b.policy()
			})
			enter := func(user, password string) codec.Reason {
				return brokertest.Dial(t, at, codec.V5).Connack("c-"+user, as(user, password)).Reason
			}
			token := sign(t, jwt.SigningMethodHS256, []byte(secret), "", nil)
			here := brokertest.Dial(t, at, codec.V5)
			if r := here.Connack("here", as("t0", token)).Reason; r != codec.Success {
				t.Fatal(r)
			}
			const clients = 200
			ends := make(chan codec.Reason, clients)
			for i := range clients {
				c := brokertest.Dial(t, at, codec.V5)
				p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: fmt.Append(nil, "w", i)}
				as(fmt.Sprint("w", i), "x")(&p)
				c.Send(&p)
				go func() {
					var ack codec.Connack
					c.Want(codec.CONNACK, &ack)
					ends <- ack.Reason
				}()
			}
			for deadline := time.Now().Add(brokertest.Timeout); asked.Load() < 8; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nobody is asked")
				}
			}
			if answered {
				for i := range 300 {
					here.Publish("x", "y", 1, uint16(i+1))
					here.Want(codec.PUBACK, nil)
				}
				for i := range 20 {
					if r := enter(fmt.Sprint("t", i+1), token); r != codec.Success {
						t.Errorf("a token while the webservice hangs: %v", r)
					}
				}
				if n := asked.Load(); n != 8 || len(ends) > 0 {
					t.Errorf("%d are asked at a time, %d clients have been answered", n, len(ends))
				}
			} else if n := b.web().users.Waiting(); n > 50 {
				t.Errorf("%d wait", n)
			}
			if answered {
				close(release)
			}
			for range clients {
				select {
				case r := <-ends:
					if want := map[bool]codec.Reason{true: codec.Success, false: codec.ServerUnavailable}[answered]; r != want {
						t.Errorf("%v, want %v", r, want)
					}
				case <-time.After(brokertest.Timeout):
					t.Fatal("a client is not answered")
				}
			}
		})
	}
}

// web is the source of that name, at work.
func (b *bench) web() *running { return (*b.current.Load())[keyOf("", "web")] }

// TestACLHolds has a webservice decide about topics: what waits is the connection that asks, nobody else, in the
// order of its packets; a no and no answer are what MQTT 5 has for them.
func TestACLHolds(t *testing.T) {
	release := make(chan struct{})
	url, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			return
		}
		switch q := body(r); {
		case strings.HasPrefix(q["topic"], "slow"):
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case strings.HasPrefix(q["topic"], "down"):
			w.WriteHeader(503)
		case strings.HasPrefix(q["topic"], "no"), q["access"] == "read" && q["topic"] == "#":
			w.WriteHeader(403)
		}
	})
	b := begin(t, "", strings.ReplaceAll("sources: [{name: web, http: {url: 'U/login'}, "+
		"acl: {budget: 30s, http: {url: 'U/acl', timeout: 30s}}}]", "U", url))
	_, at := brokertest.Start(t, func(_ *broker.Options, l *broker.ListenerOptions) {
		l.AllowAnonymous, l.Policy = false, b.policy()
	})
	enter := func(user string) *brokertest.Client {
		c := brokertest.Dial(t, at, codec.V5)
		if r := c.Connack("c-"+user, as(user, "x")).Reason; r != codec.Success {
			t.Fatal(r)
		}
		return c
	}
	reader, writer, other := enter("reader"), enter("writer"), enter("other")
	for filter, want := range map[string]codec.Reason{
		"yes/#": codec.GrantedQoS0, "#": codec.NotAuthorized, "no": codec.NotAuthorized,
	} {
		if r := reader.Subscribe(filter, 0); r != want {
			t.Errorf("%s: %v, want %v", filter, r, want)
		}
	}
	ack := func(c *brokertest.Client, id uint16, want codec.Reason) {
		t.Helper()
		var a codec.Ack
		if c.Want(codec.PUBACK, &a); a.PacketID != id || a.Reason != want {
			t.Errorf("PUBACK %d %v, want %d %v", a.PacketID, a.Reason, id, want)
		}
	}
	writer.Publish("slow", "1", 1, 1)
	writer.Publish("yes/2", "2", 1, 2)
	other.Publish("yes/3", "3", 1, 1)
	ack(other, 1, codec.Success)
	reader.WantPublish("yes/3", "3")
	close(release)
	ack(writer, 1, codec.NoMatchingSubscribers)
	ack(writer, 2, codec.Success)
	reader.WantPublish("yes/2", "2")
	writer.Publish("no", "4", 1, 3)
	ack(writer, 3, codec.NotAuthorized)
	writer.Publish("down", "5", 1, 4)
	var d codec.Disconnect
	if writer.Want(codec.DISCONNECT, &d); d.Reason != codec.ServerBusy {
		t.Errorf("without an answer: %v", d.Reason)
	}
}

// TestEveryGrants has an ACL file beside a source, and neither switches the other off.
func TestEveryGrants(t *testing.T) {
	url, _ := answers(t, text(`{"rules":["readwrite a","readwrite b"],"superuser":false}`))
	b := begin(t, "", "sources: [{name: web, http: {url: '"+url+"'}}]")
	acl, err := auth.LoadACL(write(t, t.TempDir(), "acl", "pattern readwrite b\npattern readwrite c\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, at := brokertest.Start(t, func(_ *broker.Options, l *broker.ListenerOptions) {
		l.AllowAnonymous, l.Policy = false, b.policy(acl)
	})
	c := brokertest.Dial(t, at, codec.V5)
	c.Connack("c", as("u", "x"))
	for topic, want := range map[string]codec.Reason{
		"a": codec.NotAuthorized, "b": codec.NoMatchingSubscribers, "c": codec.NotAuthorized,
	} {
		c.Publish(topic, "x", 1, 7)
		var a codec.Ack
		if c.Want(codec.PUBACK, &a); a.Reason != want {
			t.Errorf("%s: %v, want %v", topic, a.Reason, want)
		}
	}
}
