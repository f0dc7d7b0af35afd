package broker_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// Budgets of the hot path. Nothing runs beside them: they count the allocations of the whole process.

// rounds makes one round of PUBLISH and delivery, without an allocation of its own.
func rounds(t *testing.T, pub *brokertest.Client, raw []byte, subs []*brokertest.Client, want int) func() {
	t.Helper()
	buf := make([]byte, want)
	return func() {
		if _, err := pub.Conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		for _, c := range subs {
			if _, err := io.ReadFull(c.Conn, buf); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDeliveryOfQoS0DoesNotAllocate(t *testing.T) {
	aliases := with(uintProp(codec.TopicAliasMaximum, 10))
	user := codec.AppendUserProperty(nil, []byte("k"), []byte("v"))
	for _, tt := range []struct {
		name    string
		filter  string
		payload int
		in, out codec.Version
		props   codec.Properties
		change  func(*codec.Connect)
	}{
		{"exact filter", "a/topic", 64, codec.V311, codec.V311, nil, nil},
		{"wildcard", "a/+", 64, codec.V311, codec.V311, nil, nil},
		{"from 3 to 5", "#", 64, codec.V311, codec.V5, nil, nil},
		{"from 5 to 3", "a/#", 64, codec.V5, codec.V311, nil, nil},
		{"user property", "a/#", 64, codec.V5, codec.V5, user, nil},
		{"expiry", "a/#", 64, codec.V5, codec.V5, props(uintProp(codec.MessageExpiry, 60)), nil},
		{"expiry and user property", "a/#", 64, codec.V5, codec.V5, append(props(uintProp(codec.MessageExpiry, 60)), user...), nil},
		{"topic alias out", "a/#", 64, codec.V5, codec.V5, nil, aliases},
		{"topic alias in", "a/#", 64, codec.V5, codec.V5, props(uintProp(codec.TopicAlias, 1)), nil},
		{"empty", "a/#", 0, codec.V311, codec.V311, nil, nil},
		{"1000 bytes", "a/#", 1000, codec.V311, codec.V311, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newFixture(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 1 }))
			var subs []*brokertest.Client
			for i := range 5 {
				c := x.connect(fmt.Sprint("s", i), tt.out, tt.change)
				c.Subscribe(tt.filter, uint8(i%2))
				subs = append(subs, c)
			}
			pub := x.connect("pub", tt.in, nil)
			p := codec.Publish{Topic: []byte("a/topic"), Properties: tt.props}
			p.Payload = make([]byte, tt.payload)
			want := 0
			for range 3 { // first messages may set up what stays
				pub.Send(&p)
				for _, c := range subs {
					h, body, err := c.Next()
					if err != nil {
						t.Fatal(err)
					}
					want = h.Size + len(body)
				}
			}
			round := rounds(t, pub, p.Append(nil, tt.in), subs, want)
			if n := testing.AllocsPerRun(500, round); n > 0 {
				t.Errorf("%v allocations for a message and its delivery to %d clients", n, len(subs))
			}
		})
	}
}

// Between loops a batch is allocated per turn, not per message or receiver.
func TestDeliveryBetweenLoopsHardlyAllocates(t *testing.T) {
	for _, v := range []struct {
		name     string
		portable bool
		most     float64 // allocations a round of 20 messages to 20 receivers
	}{{"four loops", false, 90}, {"portable", true, 150}} {
		t.Run(v.name, func(t *testing.T) {
			x := newFixture(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) {
				o.Loops, o.Portable = 4, v.portable
			}))
			var subs []*brokertest.Client
			for i := range 20 {
				c := x.connect(fmt.Sprint("s", i), codec.V311, nil)
				c.Subscribe("a/+", 0)
				subs = append(subs, c)
			}
			pub := x.connect("pub", codec.V311, nil)
			p := codec.Publish{Topic: []byte("a/topic"), Payload: make([]byte, 64)}
			var raw []byte
			for range 20 {
				raw = p.Append(raw, codec.V311)
			}
			n := testing.AllocsPerRun(200, rounds(t, pub, raw, subs, len(raw)))
			t.Logf("%v allocations for 400 deliveries", n)
			if n > v.most {
				t.Errorf("%v allocations for 400 deliveries, at most %v", n, v.most)
			}
		})
	}
}

// bareConn is a client's end of a connection that takes no memory in this process: a file descriptor.
func bareConn(t *testing.T, addr string) int {
	t.Helper()
	ap := netip.MustParseAddrPort(addr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// ask writes b to a bareConn and reads the answers, n bytes in all.
func ask(t *testing.T, fd int, b []byte, n int) {
	t.Helper()
	if _, err := unix.Write(fd, b); err != nil {
		t.Fatal(err)
	}
	var buf [256]byte
	for n > 0 {
		k, err := unix.Read(fd, buf[:min(n, len(buf))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || k == 0 {
			t.Fatalf("%d %v", k, err)
		}
		n -= k
	}
}

// An idle client is the connection, the session and one subscription. The map of sessions and the table of
// filters count as well, at a random point between two doublings.
func TestHeapPerIdleClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		v      codec.Version
		filter string
		change func(*codec.Connect)
		most   int64 // bytes
	}{
		{"MQTT 3.1.1, a filter of its own", codec.V311, "device/%05d", nil, 950},
		{"MQTT 3.1.1, one filter for all", codec.V311, "device/all", nil, 800},
		{"MQTT 3.1.1, a wildcard of its own", codec.V311, "device/%05d/+", nil, 1150},
		{"MQTT 5, keep alive and expiry", codec.V5, "device/%05d", func(p *codec.Connect) {
			p.KeepAlive, p.Properties = 60, props(expiry(100))
		}, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newFixture(t, onSockets(func(o *broker.Options, _ *broker.ListenerOptions) { o.Loops = 1 }))
			const n = 4000
			fds := make([]int, n)
			before := heap()
			for i := range fds {
				id := fmt.Appendf(nil, "client-%05d", i)
				p := codec.Connect{Version: tt.v, CleanStart: true, ClientID: id}
				if tt.change != nil {
					tt.change(&p)
				}
				filter := tt.filter
				if filter != "device/all" {
					filter = fmt.Sprintf(filter, i)
				}
				s := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte(filter)}}}
				fds[i] = bareConn(t, x.socket())
				answer := 4 + 5
				if tt.v == codec.V5 {
					answer = 16 + 6
				}
				ask(t, fds[i], s.Append(p.Append(nil, tt.v), tt.v), answer)
			}
			x.advance(30) // what is held for new connections goes
			per := (heap() - before) / n
			t.Logf("%d bytes", per)
			if per > tt.most {
				t.Errorf("%d bytes for an idle client, at most %d", per, tt.most)
			}
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		})
	}
}
