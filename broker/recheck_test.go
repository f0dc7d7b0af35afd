package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/internal/testcert"
)

// TestRecheckInSlices takes the right to read away from more subscriptions than a turn looks at, of one client
// and of many, and gives it back.
func TestRecheckInSlices(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		const many, clients = 2000, 600
		big := x.connect("big", codec.V5, nil)
		for i := 0; i < many; i += 100 {
			sub := codec.Subscribe{PacketID: 1}
			for j := range 100 {
				sub.Filters = append(sub.Filters, codec.Filter{Name: fmt.Appendf(nil, "t/%d", i+j)})
			}
			big.Send(&sub)
			big.Want(codec.SUBACK, nil)
		}
		small := make([]*brokertest.Client, clients)
		for i := range small {
			small[i] = x.connect(fmt.Sprint("small", i), codec.V311, nil)
			small[i].Subscribe("all", 0)
		}
		pub := x.connect("pub", codec.V311, nil)
		for _, tt := range []struct {
			acl  []string
			want bool
		}{{[]string{"topic write #"}, false}, {[]string{"topic #"}, true}} {
			acl := aclOf(t, tt.acl...)
			x.in(t).reload(func(l *broker.ListenerOptions) {
				l.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{acl}}
			})
			for i := range many {
				pub.Publish(fmt.Sprint("t/", i), "m", 0, 0)
			}
			pub.Publish("all", "m", 0, 0)
			pub.WantNothing()
			if tt.want {
				for i := range many {
					big.WantPublish(fmt.Sprint("t/", i), "m")
				}
			}
			big.WantNothing()
			for _, c := range small {
				if tt.want {
					c.WantPublish("all", "m")
				}
			}
			small[0].WantNothing()
			small[clients-1].WantNothing()
		}
	})
}

// TestRecheckAndChanges subscribes, unsubscribes, connects and disconnects while sessions are looked at again
// and again: at the end everybody has the rights of the last settings.
func TestRecheckAndChanges(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		stop, stopped := make(chan struct{}), make(chan error, 1)
		l := x.b.Listeners()[0]
		deny, allow := aclOf(t, "topic write #"), aclOf(t, "topic #")
		set := func(acl *auth.ACL) error {
			lo := *l.Options()
			lo.Policy = &auth.Policy{AllowAnonymous: true, Authorizers: []auth.Authorizer{acl}}
			o := broker.DefaultOptions()
			o.SysInterval = 0
			ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
			defer cancel()
			return x.b.Reload(ctx, o, map[*broker.Listener]broker.ListenerOptions{l: lo})
		}
		go func() {
			for {
				for _, acl := range []*auth.ACL{deny, allow} {
					if err := set(acl); err != nil {
						stopped <- err
						return
					}
				}
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
			}
		}()
		c := x.connect("c", codec.V5, nil)
		for i := range 3000 {
			c.Subscribe(fmt.Sprint("t/", i), 0)
			if i%3 == 0 {
				c.Send(&codec.Unsubscribe{PacketID: 2, Filters: [][]byte{fmt.Appendf(nil, "t/%d", i/2)}})
				c.Want(codec.UNSUBACK, nil)
			}
			if i%10 == 0 {
				x.connect(fmt.Sprint("x", i), codec.V311, nil).Disconnect()
			}
		}
		close(stop)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		c.Subscribe("end", 0)
		pub := x.connect("pub", codec.V311, nil)
		publish := func() {
			for i := range 3000 {
				pub.Publish(fmt.Sprint("t/", i), "", 0, 0)
			}
			pub.Publish("end", "", 0, 0)
			pub.WantNothing()
		}
		publish()
		got := 0
		for {
			var p codec.Publish
			c.Want(codec.PUBLISH, &p)
			if string(p.Topic) == "end" {
				break
			}
			got++
		}
		if got != 2000 {
			t.Errorf("%d messages, want 2000", got)
		}
		if err := set(deny); err != nil {
			t.Fatal(err)
		}
		publish()
		c.WantNothing()
	})
}

// TestReloadKeepsAnonymousClients as long as they may come in.
func TestReloadKeepsAnonymousClients(t *testing.T) {
	policy := &auth.Policy{AllowAnonymous: true, Authenticators: []auth.Authenticator{passwordsOf(t, "u p")}}
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.Policy = policy }, func(t *testing.T, x *fixture) {
		c := x.connect("nobody", codec.V5, nil)
		x.in(t).reload(func(*broker.ListenerOptions) {})
		c.WantNothing()
		x.in(t).reload(func(l *broker.ListenerOptions) { l.Policy = &auth.Policy{Authenticators: policy.Authenticators} })
		wantDisconnect(t, c, codec.NotAuthorized)
	})
}

// TestReloadWithoutPasswords: where nobody checks usernames, they are worth as much as none.
func TestReloadWithoutPasswords(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		clients := []*brokertest.Client{x.connect("named", codec.V5, as("u")), x.connect("nobody", codec.V5, nil)}
		x.in(t).reload(func(l *broker.ListenerOptions) { l.AllowAnonymous = false })
		for _, c := range clients {
			wantDisconnect(t, c, codec.NotAuthorized)
		}
	})
}

// TestReloadWhilePasswordsAreChecked: a password that was right when it was asked for lets nobody in whose
// line has changed since.
func TestReloadWhilePasswordsAreChecked(t *testing.T) {
	onEachLocked(t, auth.PoolConfig{Workers: 1}, func(t *testing.T, x *fixture, gate *locked) {
		c := brokertest.Dial(t, x.addr, codec.V5)
		p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("late")}
		withPassword("u", "right")(&p)
		c.Send(&p)
		<-gate.busy
		x.in(t).reload(func(l *broker.ListenerOptions) {
			l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{passwordsOf(t, "u other")}}
		})
		close(gate.free)
		var ack codec.Connack
		if c.Want(codec.CONNACK, &ack); ack.Reason != codec.NotAuthorized {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		c.WantClosed()
	})
}

// TestReloadOfRevokedCertificates: who is connected with one is disconnected, and who has only made the handshake
// does not come in.
func TestReloadOfRevokedCertificates(t *testing.T) {
	ca := testcert.NewAuthority(t, "CA")
	pool := ca.Pool()
	server := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}})
	good := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "good"}})
	bad := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "bad"}})
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) {
		l.UseIdentityAsUsername = true
		l.Net.TLS = &tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		}
	}, func(t *testing.T, x *fixture) {
		dial := func(cert tls.Certificate) *brokertest.Client {
			cl := brokertest.Dial(t, x.addr, codec.V5)
			c := tls.Client(cl.Conn, &tls.Config{
				RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{cert},
				MaxVersion: tls.VersionTLS12, // whose handshake ends with the server's word
			})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			cl.Conn = c
			return cl
		}
		clients, late := map[string]*brokertest.Client{}, map[string]*brokertest.Client{}
		for name, cert := range map[string]tls.Certificate{"good": good, "bad": bad} {
			clients[name], late[name] = dial(cert), dial(cert)
			if ack := clients[name].Connack(name, nil); ack.Reason != codec.Success {
				t.Fatal(name, ack.Reason)
			}
		}
		x.in(t).reload(func(l *broker.ListenerOptions) {
			l.Revoked = func(st *tls.ConnectionState) bool {
				return st.PeerCertificates[0].Equal(bad.Leaf)
			}
		})
		wantDisconnect(t, clients["bad"], codec.NotAuthorized)
		clients["good"].WantNothing()
		for name, want := range map[string]codec.Reason{"good": codec.Success, "bad": codec.NotAuthorized} {
			if ack := late[name].Connack(name+" late", nil); ack.Reason != want {
				t.Errorf("%s connects: %s", name, ack.Reason)
			}
		}
	})
}
