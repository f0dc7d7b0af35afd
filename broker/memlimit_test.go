package broker_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

func TestMemoryLimit(t *testing.T) {
	for _, loops := range []int{1, 4} {
		var used atomic.Int64
		h := &lines{}
		x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) {
			o.MemoryLimit, o.MemoryUsed, o.Loops = 1000, used.Load, loops
			o.Log = slog.New(h)
		})
		offline, _ := x.present("offline", codec.V311, nil)
		offline.Subscribe("q/#", 1)
		offline.Disconnect()
		sub := x.connect("sub", codec.V5, nil)
		sub.Subscribe("#", 1)
		v5, v3 := x.connect("v5", codec.V5, nil), x.connect("v3", codec.V311, nil)
		retain(v3, "kept", "old")
		sub.Want(codec.PUBLISH, nil)
		sub.Ack(codec.PUBACK, 1)

		used.Store(900)
		x.advance(1)
		if !h.has("Warning: memory_limit: 900 of 1000 bytes are used.") {
			t.Errorf("%q", h.text)
		}
		stranger := brokertest.Dial(t, x.addr, codec.V5)
		if ack := stranger.Connack("stranger", nil); ack.Reason != codec.QuotaExceeded {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		stranger.WantClosed()
		if _, there := x.present("offline", codec.V311, nil); !there { // it may fetch what waits for it
			t.Error("the session of a client that comes back has gone")
		}
		v5.Publish("q/a", "refused", 1, 1)
		var ack codec.Ack
		v5.Want(codec.PUBACK, &ack)
		if ack.Reason != codec.QuotaExceeded {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		v5.Publish("q/a", "refused", 2, 2)
		v5.Want(codec.PUBREC, &ack)
		if ack.Reason != codec.QuotaExceeded {
			t.Errorf("PUBREC %s", ack.Reason)
		}
		retain(v3, "kept", "new") // acknowledged and dropped
		v3.Publish("q/a", "hello", 0, 0)
		sub.WantPublish("q/a", "hello") // QoS 0 goes on
		retain(v3, "kept", "")          // what frees memory goes on
		sub.WantPublish("kept", "")
		m := brokertest.Settle(t, x.b)
		if m.Dropped[broker.DropMemory] != 3 || m.MemoryRefused != 1 || !m.MemoryShort || m.Retained != 0 ||
			m.MemoryUsed != 900 || m.MemoryLimit != 1000 || m.QueuedMessages != 0 || m.RetainedBytes != 0 {
			t.Errorf("%+v", m)
		}
		used.Store(850) // between the marks nothing changes
		x.advance(1)
		old := brokertest.Dial(t, x.addr, codec.V311)
		old.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("stranger")})
		old.WantClosed()
		used.Store(799)
		x.advance(1)
		x.connect("late", codec.V5, nil)
		if m := brokertest.Settle(t, x.b); m.MemoryShort || m.MemoryRefused != 2 {
			t.Errorf("%+v", m)
		}
	}
}

// TestMemoryIsMeasured has a limit that the process exceeds by itself.
func TestMemoryIsMeasured(t *testing.T) {
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.MemoryLimit = 1 })
	x.advance(1)
	m := brokertest.Settle(t, x.b)
	if m.MemoryUsed < 1<<20 || m.MemoryUsed > 4<<30 || !m.MemoryShort || m.Heap <= 0 || m.HeapMaximum < m.Heap {
		t.Errorf("%+v", m)
	}
}

func TestPublishSys(t *testing.T) {
	onEach(t, nil, func(t *testing.T, x *fixture) {
		sub, five := x.connect("sub", codec.V311, nil), x.connect("five", codec.V5, nil)
		sub.Subscribe("$SYS/broker/log/#", 2)
		five.Subscribe("$SYS/broker/log/#", 2)
		for _, text := range []string{"1", "2", "3"} {
			x.b.PublishSys("$SYS/broker/log/N", []byte(text), 20*time.Second)
		}
		for _, text := range []string{"1", "2", "3"} {
			if m := sub.WantPublish("$SYS/broker/log/N", text); m.QoS != 2 || m.Retain {
				t.Errorf("%+v", m)
			}
			m := five.WantPublish("$SYS/broker/log/N", text)
			if e, ok := m.Properties.Uint(codec.MessageExpiry); !ok || e != 20 {
				t.Errorf("Message Expiry Interval %d", e)
			}
		}
		if m := brokertest.Settle(t, x.b); m.SysDropped != 0 || m.Retained != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestPublishSysDoesNotBlock calls it when nobody takes anything any more.
func TestPublishSysDoesNotBlock(t *testing.T) {
	x := newFixture(t, nil)
	if err := x.b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		x.b.PublishSys("$SYS/broker/log/N", []byte("x"), time.Second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := x.b.Metrics(ctx)
	if m.SysDropped != 5000-1024 {
		t.Errorf("%d dropped", m.SysDropped)
	}
}
