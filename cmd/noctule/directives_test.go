package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// Each directive's effect, seen from outside: the binary runs with it and a client looks at the wire.

// withConf runs the binary with one listener that admits everybody, and more configuration.
func withConf(t *testing.T, conf string) (p *process, addr string) {
	t.Helper()
	port := freePort(t)
	p = startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n%s", port, conf))
	return p, fmt.Sprintf("127.0.0.1:%d", port)
}

// greeted connects and returns the CONNACK too.
func greeted(t *testing.T, addr, id string, v codec.Version, change func(*codec.Connect)) (
	*brokertest.Client, codec.Connack,
) {
	t.Helper()
	c := brokertest.Dial(t, addr, v)
	return c, c.Connack(id, change)
}

// property is a number in a CONNACK, -1 if it is not there.
func property(ack codec.Connack, id codec.PropertyID) int {
	if n, ok := ack.Properties.Uint(id); ok {
		return int(n)
	}
	return -1
}

// wantDisconnect reads the DISCONNECT that an MQTT 5 client gets, and the end.
func wantDisconnect(t *testing.T, c *brokertest.Client, r codec.Reason) {
	t.Helper()
	var d codec.Disconnect
	c.Want(codec.DISCONNECT, &d)
	if d.Reason != r {
		t.Errorf("DISCONNECT %s, want %s", d.Reason, r)
	}
	c.WantClosed()
}

func TestAllowAnonymous(t *testing.T) {
	on, off := freePort(t), freePort(t)
	p := startBroker(t, fmt.Sprintf("per_listener_settings true\nlistener %d 127.0.0.1\nallow_anonymous true\n"+
		"listener %d 127.0.0.1", on, off))
	login := func(c *codec.Connect) {
		c.HasUsername, c.HasPassword, c.Username, c.Password = true, true, []byte("alice"), []byte("secret")
	}
	for name, change := range map[string]func(*codec.Connect){"nobody": nil, "alice": login} {
		for v, want := range map[codec.Version]codec.Reason{codec.V31: 5, codec.V311: 5, codec.V5: codec.NotAuthorized} {
			c, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", off), name, v, change)
			if ack.Reason != want {
				t.Errorf("%s of version %d is answered %s, want %s", name, v, ack.Reason, want)
			}
			c.WantClosed()
			if _, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", on), name, v, change); ack.Reason != codec.Success {
				t.Errorf("%s of version %d, anonymous allowed: %s", name, v, ack.Reason)
			}
		}
	}
	p.await(t, `^\d+: Client nobody \[127\.0\.0\.1:\d+\] disconnected: not authorised\.$`)
	p.await(t, fmt.Sprintf(`^\d+: New connection from 127\.0\.0\.1:\d+ on port %d\.$`, off))
	p.await(t, `^\d+: New client connected from 127\.0\.0\.1:\d+ as alice \(p4, c1, k0, u'alice'\)\.$`)
}

func TestEmptyClientIDs(t *testing.T) {
	yes, no := freePort(t), freePort(t)
	startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\nlistener_auto_id_prefix made-\n"+
		"listener %d 127.0.0.1\nauto_id_prefix dev-", yes, no))
	made := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$`)
	for port, prefix := range map[int]string{yes: "made-", no: "dev-"} {
		_, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", port), "", codec.V5, nil)
		id, _ := ack.Properties.Bytes(codec.AssignedClientID)
		if rest, ok := strings.CutPrefix(string(id), prefix); !ok || !made.MatchString(rest) {
			t.Errorf("client id %q, want %s and an UUID", id, prefix)
		}
		if _, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", port), "", codec.V311, nil); ack.Reason != codec.Success {
			t.Errorf("MQTT 3.1.1: %s", ack.Reason)
		}
	}
	_, addr := withConf(t, "allow_zero_length_clientid false")
	for v, want := range map[codec.Version]codec.Reason{codec.V311: 2, codec.V5: codec.UnspecifiedError} {
		c, ack := greeted(t, addr, "", v, nil)
		if ack.Reason != want {
			t.Errorf("version %d is answered %s", v, ack.Reason)
		}
		c.WantClosed()
	}
}

func TestMaxConnections(t *testing.T) {
	p, addr := withConf(t, "max_connections 2")
	a := brokertest.Connect(t, addr, "a", codec.V5, nil)
	brokertest.Connect(t, addr, "b", codec.V311, nil)
	brokertest.Dial(t, addr, codec.V311).WantClosed()
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 denied: max_connections exceeded\.$`)
	a.Disconnect()
	eventually(t, "a free place", func() bool { return answers("tcp", addr) })
}

func TestMaxInflightMessages(t *testing.T) {
	_, addr := withConf(t, "max_inflight_messages 3")
	c, ack := greeted(t, addr, "c", codec.V5, nil)
	if n := property(ack, codec.ReceiveMaximum); n != 3 {
		t.Errorf("Receive Maximum %d", n)
	}
	c.Subscribe("x", 1)
	for i := range 5 {
		c.Publish("x", fmt.Sprint(i), 1, uint16(i+1))
	}
	got, acks := 0, 0
	for acks < 5 {
		h, _, err := c.Next()
		switch {
		case err != nil:
			t.Fatal(err)
		case h.Type == codec.PUBLISH:
			got++
		case h.Type == codec.PUBACK:
			acks++
		}
	}
	c.WantNothing()
	if got != 3 {
		t.Errorf("%d messages in flight", got)
	}
	c.Ack(codec.PUBACK, 1)
	c.WantPublish("x", "3")
	c.WantNothing()
	_, addr = withConf(t, "max_inflight_messages 0")
	if _, ack := greeted(t, addr, "c", codec.V5, nil); property(ack, codec.ReceiveMaximum) != -1 {
		t.Error("Receive Maximum is told though there is no limit")
	}
}

// queued publishes n messages of 10 bytes for an offline session and returns how many it gets.
func queued(t *testing.T, conf string, qos uint8, n int) (count int, p *process) {
	t.Helper()
	p, addr := withConf(t, conf)
	persistent := func(c *codec.Connect) { c.CleanStart = false }
	c := brokertest.Connect(t, addr, "sleeper", codec.V311, persistent)
	c.Subscribe("x", 1)
	c.Disconnect()
	other := brokertest.Connect(t, addr, "other", codec.V311, nil)
	for i := range n {
		other.Publish("x", fmt.Sprintf("message %02d", i), qos, uint16(i+1))
		if qos > 0 {
			other.Want(codec.PUBACK, nil)
		}
	}
	other.WantNothing()
	c, ack := greeted(t, addr, "sleeper", codec.V311, persistent)
	if !ack.SessionPresent {
		t.Fatal("no session")
	}
	other.Publish("x", "end", 0, 0)
	for {
		var m codec.Publish
		c.Want(codec.PUBLISH, &m)
		if string(m.Payload) == "end" {
			return count, p
		}
		if want := fmt.Sprintf("message %02d", count); string(m.Payload) != want {
			t.Errorf("got %s, want %s", m.Payload, want)
		}
		count++
	}
}

func TestQueueLimits(t *testing.T) {
	n, p := queued(t, "max_queued_messages 5", 1, 30)
	if n != 5 {
		t.Errorf("max_queued_messages 5: %d messages", n)
	}
	p.await(t, `^\d+: Outgoing messages are being dropped for client sleeper\.$`)
	for _, tt := range []struct {
		conf string
		qos  uint8
		want int
	}{
		{"max_queued_messages 0\nmax_inflight_messages 0", 1, 30},
		{"max_queued_bytes 75", 1, 8}, // one message may exceed it
		{"max_queued_bytes 75\nmax_queued_messages 6", 1, 6},
		{"", 0, 0},
		{"queue_qos0_messages true", 0, 30},
		{"queue_qos0_messages true\nmax_queued_messages 4", 0, 4},
	} {
		if n, _ := queued(t, tt.conf, tt.qos, 30); n != tt.want {
			t.Errorf("%q, QoS %d: %d messages, want %d", tt.conf, tt.qos, n, tt.want)
		}
	}
}

func TestMaxPacketSize(t *testing.T) {
	p, addr := withConf(t, "max_packet_size 100")
	c, ack := greeted(t, addr, "five", codec.V5, nil)
	if n := property(ack, codec.MaximumPacketSize); n != 100 {
		t.Errorf("Maximum Packet Size %d", n)
	}
	c.Publish("x", strings.Repeat("x", 94), 0, 0) // 2 + 2 + 1 + 1 + 94
	c.WantNothing()
	c.Publish("x", strings.Repeat("x", 95), 0, 0)
	wantDisconnect(t, c, codec.PacketTooLarge)
	c = brokertest.Connect(t, addr, "four", codec.V311, nil)
	c.Publish("x", strings.Repeat("x", 95), 0, 0)
	c.WantNothing()
	c.Publish("x", strings.Repeat("x", 96), 0, 0)
	c.WantClosed()
	p.await(t, `^\d+: Client five \[127\.0\.0\.1:\d+\] disconnected: oversize packet\.$`)
	p.await(t, `^\d+: Client four \[127\.0\.0\.1:\d+\] disconnected: oversize packet\.$`)
	// It is the limit of all packets, not only of PUBLISH [MQTT-3.2.2-15].
	long := []byte(strings.Repeat("x", 95))
	c = brokertest.Connect(t, addr, "six", codec.V5, nil)
	c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: long}}})
	wantDisconnect(t, c, codec.PacketTooLarge)
	c = brokertest.Dial(t, addr, codec.V311)
	c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: long})
	c.WantClosed()
	p.await(t, `^\d+: Client 127\.0\.0\.1 \[127\.0\.0\.1:\d+\] disconnected: oversize packet\.$`)
}

func TestMaxKeepAlive(t *testing.T) {
	_, addr := withConf(t, "max_keepalive 60")
	for _, tt := range []struct {
		version   codec.Version
		keepAlive uint16
		reason    codec.Reason
		told      int
	}{
		{codec.V5, 60, 0, -1},
		{codec.V5, 61, 0, 60},
		{codec.V5, 0, 0, 60},
		{codec.V311, 60, 0, -1},
		{codec.V311, 61, 2, -1},
		{codec.V31, 0, 2, -1},
	} {
		_, ack := greeted(t, addr, "c", tt.version, func(c *codec.Connect) { c.KeepAlive = tt.keepAlive })
		if ack.Reason != tt.reason || property(ack, codec.ServerKeepAlive) != tt.told {
			t.Errorf("version %d, keep alive %d: %s, told %d", tt.version, tt.keepAlive, ack.Reason,
				property(ack, codec.ServerKeepAlive))
		}
	}
}

func TestMaxQoS(t *testing.T) {
	for _, name := range []string{"max_qos", "maximum_qos"} {
		_, addr := withConf(t, name+" 1")
		c, ack := greeted(t, addr, "c", codec.V5, nil)
		if n := property(ack, codec.MaximumQoS); n != 1 {
			t.Errorf("Maximum QoS %d", n)
		}
		if r := c.Subscribe("x", 2); r != 1 {
			t.Errorf("granted %s", r)
		}
		c.Publish("y", "", 1, 1)
		c.Want(codec.PUBACK, nil)
		c.Publish("y", "", 2, 2)
		wantDisconnect(t, c, codec.QoSNotSupported)
		c = brokertest.Connect(t, addr, "c", codec.V311, nil)
		c.Publish("y", "", 2, 2)
		c.WantClosed()
	}
}

func TestTopicAliasLimits(t *testing.T) {
	_, addr := withConf(t, "max_topic_alias 3\nmax_topic_alias_broker 1")
	offer := func(c *codec.Connect) {
		c.Properties = codec.AppendUintProperty(nil, codec.TopicAliasMaximum, 20)
	}
	c, ack := greeted(t, addr, "c", codec.V5, offer)
	if n := property(ack, codec.TopicAliasMaximum); n != 3 {
		t.Errorf("Topic Alias Maximum %d", n)
	}
	c.Subscribe("#", 0)
	var aliases []string
	for _, topic := range []string{"a", "a", "b", "b"} {
		c.Publish(topic, "", 0, 0)
		var m codec.Publish
		c.Want(codec.PUBLISH, &m)
		n, _ := m.Properties.Uint(codec.TopicAlias)
		aliases = append(aliases, fmt.Sprintf("%s=%d", m.Topic, n))
	}
	if want := []string{"a=1", "=1", "b=0", "b=0"}; !slices.Equal(aliases, want) {
		t.Errorf("aliases of the broker: %v", aliases)
	}
	with := func(n uint32) *codec.Publish {
		return &codec.Publish{Topic: []byte("a"), Properties: codec.AppendUintProperty(nil, codec.TopicAlias, n)}
	}
	c.Send(with(3))
	c.Want(codec.PUBLISH, nil)
	c.Send(with(4))
	wantDisconnect(t, c, codec.TopicAliasInvalid)
	_, addr = withConf(t, "max_topic_alias 0")
	if _, ack = greeted(t, addr, "c", codec.V5, nil); property(ack, codec.TopicAliasMaximum) != -1 {
		t.Error("max_topic_alias 0 is told")
	}
}

func TestRetainAvailable(t *testing.T) {
	_, addr := withConf(t, "retain_available false")
	c, ack := greeted(t, addr, "c", codec.V5, nil)
	if n := property(ack, codec.RetainAvailable); n != 0 {
		t.Errorf("Retain Available %d", n)
	}
	c.Send(&codec.Publish{Topic: []byte("x"), Retain: true})
	wantDisconnect(t, c, codec.RetainNotSupported)
	c = brokertest.Connect(t, addr, "c", codec.V311, nil)
	c.Send(&codec.Publish{Topic: []byte("x"), Retain: true})
	c.WantClosed()
	_, ack = greeted(t, addr, "c", codec.V5, func(c *codec.Connect) {
		c.HasWill, c.Will = true, codec.Will{Topic: []byte("x"), Retain: true}
	})
	if ack.Reason != codec.RetainNotSupported {
		t.Errorf("retained will: %s", ack.Reason)
	}
	_, addr = withConf(t, "retain_available false\nmax_qos 1")
	for _, w := range []codec.Will{{Topic: []byte("x"), Retain: true}, {Topic: []byte("x"), QoS: 2}} {
		c := brokertest.Dial(t, addr, codec.V311) // MQTT 3 has no code for it [MQTT-3.2.2-6]
		c.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("c"), HasWill: true, Will: w})
		c.WantClosed()
	}
}

func TestPersistentClientExpiration(t *testing.T) {
	p, addr := withConf(t, "persistent_client_expiration 1s")
	forever := func(c *codec.Connect) {
		c.CleanStart = false
		if c.Version == codec.V5 {
			c.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 0xFFFFFFFF)
		}
	}
	for v, id := range map[codec.Version]string{codec.V5: "five", codec.V311: "four"} {
		brokertest.Connect(t, addr, id, v, forever).Disconnect()
		if _, ack := greeted(t, addr, id, v, forever); !ack.SessionPresent {
			t.Errorf("%s: no session", id)
		}
	}
	// The connections are open, so the sessions stay; they end when the clients have gone.
	brokertest.Connect(t, addr, "five", codec.V5, forever).Disconnect()
	brokertest.Connect(t, addr, "four", codec.V311, forever).Disconnect()
	p.await(t, `^\d+: Expiring client five due to timeout\.$`)
	p.await(t, `^\d+: Expiring client four due to timeout\.$`)
	if _, ack := greeted(t, addr, "four", codec.V311, forever); ack.SessionPresent {
		t.Error("the session is still there")
	}
}

func TestSysInterval(t *testing.T) {
	_, addr := withConf(t, "sys_interval 1")
	c := brokertest.Connect(t, addr, "c", codec.V311, nil)
	c.Subscribe("$SYS/broker/uptime", 0)
	seen := map[string]bool{}
	for len(seen) < 3 {
		var m codec.Publish
		c.Want(codec.PUBLISH, &m)
		if !strings.HasSuffix(string(m.Payload), " seconds") || seen[string(m.Payload)] {
			t.Errorf("uptime %q, seen %v", m.Payload, seen)
		}
		seen[string(m.Payload)] = true
	}
	_, addr = withConf(t, "sys_interval 0")
	c = brokertest.Connect(t, addr, "c", codec.V311, nil)
	c.Subscribe("$SYS/#", 0)
	c.WantNothing()
}

func TestOtherMessageOptions(t *testing.T) {
	_, addr := withConf(t, "message_size_limit 5\nupgrade_outgoing_qos true\nallow_duplicate_messages false")
	c := brokertest.Connect(t, addr, "c", codec.V311, nil)
	c.Subscribe("x/#", 1)
	c.Subscribe("x/+", 1)
	c.Publish("x/y", "123456", 0, 0)
	c.Publish("x/y", "12345", 0, 0)
	if m := c.WantPublish("x/y", "12345"); m.QoS != 1 {
		t.Errorf("upgrade_outgoing_qos: QoS %d", m.QoS)
	}
	c.WantNothing()
	five := brokertest.Connect(t, addr, "d", codec.V5, nil)
	five.Publish("x/y", "123456", 1, 1)
	var ack codec.Ack
	five.Want(codec.PUBACK, &ack)
	if ack.Reason != codec.PacketTooLarge {
		t.Errorf("message_size_limit: %s", ack.Reason)
	}
}
