//go:build unix

package broker_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// The tests of this file do some work for n, and with NOCTULE_TIMED set (`make timed`) compare the processor
// time for n with that for 4n: linear work gives about 4, quadratic work 16. Other work on the machine bends
// the ratio, so that CI does not look at it.

// cpu is the processor time that this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// linear runs work with n. With NOCTULE_TIMED it fails when the best of up to eight runs with 4n takes more
// than eleven times as long as that with n. Only what work does between start and stop counts.
func linear(t *testing.T, n int, work func(n int, start, stop func())) {
	t.Helper()
	if os.Getenv("NOCTULE_TIMED") == "" {
		work(n, func() {}, func() {})
		return
	}
	run := func(n int) (d time.Duration) {
		work(n, func() { d = -cpu(t) }, func() { d += cpu(t) })
		return d
	}
	run(n)
	one, four := run(n), run(4*n)
	for range 8 {
		ratio := float64(four) / float64(one)
		t.Logf("%d: %v, %d: %v, ratio %.1f", n, one, 4*n, four, ratio)
		if ratio <= 11 {
			return
		}
		one, four = min(one, run(n)), min(four, run(4*n))
	}
	t.Error("four times as much takes more than eleven times as long")
}

func TestSubscribersOfOneTopicAreLinear(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		const n = 500
		var clients []*brokertest.Client
		for i := range 4 * n {
			clients = append(clients, x.connect(fmt.Sprint(i), codec.V311, nil))
		}
		sub := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("one")}}}
		uns := codec.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte("one")}}
		pub := x.connect("pub", codec.V311, nil)
		linear(t, n, func(n int, start, stop func()) {
			start()
			for _, c := range clients[:n] {
				c.Send(&sub)
			}
			for _, c := range clients[:n] {
				c.Want(codec.SUBACK, nil)
			}
			pub.Publish("one", "x", 0, 0)
			for _, c := range clients[:n] {
				c.WantPublish("one", "x")
			}
			for _, c := range clients[:n] {
				c.Send(&uns)
			}
			for _, c := range clients[:n] {
				c.Want(codec.UNSUBACK, nil)
			}
			stop()
		})
	})
}

func TestSubscriptionsOfOneClientAreLinear(t *testing.T) {
	for _, filter := range []string{"a/%d", "a/+/%d", "$share/g%d/a"} {
		t.Run(filter, func(t *testing.T) {
			oneByOne(t, nil, func(t *testing.T, x *fixture) {
				c := x.connect("c", codec.V5, nil)
				linear(t, 8000, func(n int, start, stop func()) {
					start()
					for i := 0; i < n; i += 500 {
						sub := codec.Subscribe{PacketID: 1}
						for k := range 500 {
							f := codec.Filter{Name: fmt.Appendf(nil, filter, i+k)}
							sub.Filters = append(sub.Filters, f)
						}
						c.Send(&sub)
						c.Want(codec.SUBACK, nil)
					}
					for i := 0; i < n; i += 500 {
						uns := codec.Unsubscribe{PacketID: 1}
						for k := range 500 {
							uns.Filters = append(uns.Filters, fmt.Appendf(nil, filter, i+k))
						}
						c.Send(&uns)
						c.Want(codec.UNSUBACK, nil)
					}
					stop()
				})
			})
		})
	}
}

func TestUserPropertiesAreLinear(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("p", 0)
		pub := x.connect("pub", codec.V5, nil)
		linear(t, 5000, func(n int, start, stop func()) {
			p := codec.Publish{Topic: []byte("p")}
			p.Properties = props(uintProp(codec.MessageExpiry, 100)) // so that they are copied one by one
			for range n {
				p.Properties = codec.AppendUserProperty(p.Properties, []byte("name"), []byte("value"))
			}
			start()
			for range 10 {
				pub.Send(&p)
				if got := sub.WantPublish("p", ""); len(got.Properties) != len(p.Properties) {
					t.Fatalf("%d bytes of properties, want %d", len(got.Properties), len(p.Properties))
				}
			}
			stop()
		})
	})
}

// A session with a long queue comes back in one burst, and not slower for each message the more there are.
func TestResumeIsLinear(t *testing.T) {
	unlimited := func(o *broker.Options, _ *broker.ListenerOptions) {
		o.MaxQueuedMessages, o.MaxInflight = 0, 0
	}
	for _, window := range []uint32{0, 5} {
		t.Run(fmt.Sprint("Receive Maximum ", window), func(t *testing.T) {
			oneByOne(t, unlimited, func(t *testing.T, x *fixture) {
				connect := func(p *codec.Connect) {
					p.Properties = props(expiry(1000))
					if window > 0 {
						p.Properties = props(expiry(1000), uintProp(codec.ReceiveMaximum, window))
					}
				}
				sub := x.connect("sub", codec.V5, connect)
				sub.Subscribe("q", 2)
				sub.Disconnect()
				pub := x.connect("pub", codec.V311, nil)
				linear(t, 2500, func(n int, start, stop func()) {
					for i := 0; i < n; i += 100 {
						for k := range 100 {
							pub.Publish("q", numbered(i+k), 1, uint16(k+1))
						}
						for range 100 {
							pub.Want(codec.PUBACK, nil)
						}
					}
					start()
					sub, present := x.present("sub", codec.V5, connect)
					if !present {
						t.Fatal("no session")
					}
					for i := range n {
						receive(t, sub, "q", numbered(i), 1)
					}
					sub.WantNothing()
					stop()
					sub.Disconnect()
				})
			})
		})
	}
}

// Members of one share group that cannot take a message are passed over without looking at all of them each
// time there is a free one.
func TestShareGroupIsLinear(t *testing.T) {
	oneByOne(t, nil, func(t *testing.T, x *fixture) {
		pub := x.connect("pub", codec.V311, nil)
		linear(t, 250, func(n int, start, stop func()) {
			var members []*brokertest.Client
			for i := range n {
				c := x.connect(fmt.Sprint("m", i), codec.V311, nil)
				c.Subscribe("$share/g/s", 0)
				members = append(members, c)
			}
			start()
			for range n {
				pub.Publish("s", "x", 0, 0)
			}
			for _, c := range members { // strict round robin
				c.WantPublish("s", "x")
			}
			stop()
			for _, c := range members {
				c.Disconnect()
			}
		})
	})
}
