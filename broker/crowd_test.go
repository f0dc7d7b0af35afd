package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// proxied connects as a client of an address, which a proxy tells.
func (x *fixture) proxied(address string) *brokertest.Client {
	x.t.Helper()
	c := brokertest.Dial(x.t, x.addr, codec.V5)
	family, to := "TCP4", "127.0.0.1"
	if strings.Contains(address, ":") {
		family, to = "TCP6", "::1"
	}
	c.Raw(fmt.Appendf(nil, "PROXY %s %s %s 5000 1883\r\n", family, address, to))
	return c
}

// login sends CONNECT and does not wait.
func login(c *brokertest.Client, id, password string) {
	p := codec.Connect{Version: c.Version, CleanStart: true, ClientID: []byte(id)}
	withPassword("u", password)(&p)
	c.Send(&p)
}

func wantConnack(t *testing.T, c *brokertest.Client, want codec.Reason) {
	t.Helper()
	var ack codec.Connack
	if c.Want(codec.CONNACK, &ack); ack.Reason != want {
		t.Errorf("CONNACK %s, want %s", ack.Reason, want)
	}
}

// TestSlowedAddressesLockNobodyOut: ten addresses that have guessed and are slowed down send as many CONNECTs as
// they can. They keep few places, and whoever comes from elsewhere logs in at once. One of them claims to be a
// loopback address, which is slowed down like any other.
func TestSlowedAddressesLockNobodyOut(t *testing.T) {
	const slowed = 8
	onEach(t, func(o *broker.Options, l *broker.ListenerOptions) {
		o.MaxAdmissions = 64
		o.Hashing = auth.PoolConfig{FailureBurst: 1, FailureRate: 1e-3}
		l.Net.ProxyProtocol = 1
		l.Policy = &auth.Policy{Authenticators: []auth.Authenticator{passwordsOf(t, "u right")}}
	}, func(t *testing.T, x *fixture) {
		addresses := []string{"127.0.0.1"}
		for i := range 9 {
			addresses = append(addresses, fmt.Sprint("192.0.2.", i))
		}
		for i, a := range addresses {
			c := x.proxied(a)
			login(c, fmt.Sprint("guess", i), "wrong")
			wantConnack(t, c, codec.NotAuthorized)
			for k := range 20 {
				login(x.proxied(a), fmt.Sprint("crowd", i, "-", k), "wrong")
			}
		}
		brokertest.Until(t, x.b, "all others are refused", func(m *broker.Metrics) bool {
			return m.Connects == 210 && m.Admissions.Waiting <= 10*slowed &&
				int64(m.Hashing.Waiting)+m.Hashing.RefusedPeer+m.Admissions.Refused >= 200
		})
		for i := range 3 {
			c := x.proxied(fmt.Sprint("198.51.100.", i))
			login(c, fmt.Sprint("honest", i), "right")
			wantConnack(t, c, codec.Success)
		}
		if m := brokertest.Settle(t, x.b); m.Hashing.Checked != 13 || m.Admissions.Waiting > 64 {
			t.Errorf("%+v %+v", m.Hashing, m.Admissions)
		}
	})
}

// TestAdmissionsAreShared: providers of lists that do not answer leave places to those who hold few, by IPv4
// address, IPv6 /64, /56 and /48.
func TestAdmissionsAreShared(t *testing.T) {
	onEachWith(t, func(o *broker.Options, l *broker.ListenerOptions) *gate {
		g := newGate()
		o.Admitters = []broker.Admitter{g}
		o.MaxAdmissions = 64
		l.Net.ProxyProtocol = 1
		return g
	}, func(t *testing.T, x *fixture, g *gate) {
		crowd := func(n, room int, address func(i int) string) {
			t.Helper()
			for i := range n {
				c := x.proxied(address(i))
				login(c, "slow", "p")
				if i < room {
					<-g.asked
				} else {
					wantConnack(t, c, codec.ServerBusy)
				}
			}
		}
		crowd(9, 8, func(int) string { return "192.0.2.1" })
		crowd(9, 8, func(int) string { return "2001:db8:1:1::1" })
		crowd(9, 8, func(i int) string { return fmt.Sprintf("2001:db8:1:2::%d", i+1) })
		crowd(1, 0, func(int) string { return "2001:db8:1:3::1" })                          // the /56 has 16
		crowd(17, 16, func(i int) string { return fmt.Sprintf("2001:db8:1:%d00::1", i+1) }) // the /48 has 32
		for i := range 3 {
			crowd(8, 8, func(int) string { return fmt.Sprint("192.0.2.", 2+i) })
		}
		if m := brokertest.Settle(t, x.b); m.Admissions.Waiting != 64 || m.Admissions.Refused != 5 {
			t.Errorf("%+v", m.Admissions)
		}
		c := x.proxied("198.51.100.1")
		login(c, "honest", "p")
		if a := <-g.asked; a.ClientID != "honest" {
			t.Errorf("asked about %s", a.ClientID)
		}
		if id := <-g.left; id != "slow" {
			t.Errorf("%s gave way", id)
		}
		if m := brokertest.Settle(t, x.b); m.Admissions.GaveWay != 1 {
			t.Errorf("%+v", m.Admissions)
		}
		login(x.proxied("198.51.100.2"), "free", "p") // needs no answer, but a place
		brokertest.Until(t, x.b, "one more is in", func(m *broker.Metrics) bool { return m.Sessions == 1 })
	})
}

// TestInputOfAllIsBounded: clients that begin large packets and do not end them cannot take all memory. The one that
// holds most is told so, and the others go on.
func TestInputOfAllIsBounded(t *testing.T) {
	onEach(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.MaxInput = 2 << 20 },
		func(t *testing.T, x *fixture) {
			packet := func(size int) []byte {
				p := codec.Publish{QoS: 1, PacketID: 1, Topic: []byte("a"), Payload: make([]byte, size)}
				return p.Append(nil, codec.V5)
			}
			begin := func(id string, n int) *brokertest.Client {
				c := x.connect(id, codec.V5, nil)
				c.Raw(packet(1 << 20)[:n])
				return c
			}
			small, whole := x.connect("small", codec.V5, nil), packet(400<<10) // has room when big has gone
			small.Raw(whole[:200<<10])
			brokertest.Until(t, x.b, "it is held", func(m *broker.Metrics) bool { return m.Net.InputBytes > 0 })
			big := begin("big", 1000<<10)
			brokertest.Until(t, x.b, "that too", func(m *broker.Metrics) bool { return m.Net.InputBytes > 1000<<10 })
			begin("third", 700<<10)
			begin("fourth", 700<<10)
			wantDisconnect(t, big, codec.QuotaExceeded)
			small.Raw(whole[200<<10:])
			small.Want(codec.PUBACK, nil)
			if m := brokertest.Settle(t, x.b); m.Net.InputGaveWay == 0 || m.Net.InputBytes > 2<<20 {
				t.Errorf("%+v", m.Net)
			}
		})
}
