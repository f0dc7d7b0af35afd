package broker_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/broker/store/bolt"
	"noctule/codec"
	"noctule/internal/testcrash"
)

// The tests below run themselves in a process of their own, which is what crashes. There a log that panics at
// certain words stands for a fault anywhere in a loop.

// trap is a log that panics at a line with certain words, and writes the others to a file.
type trap struct {
	slog.Handler
	words string
}

// Handle implements slog.Handler.
func (h trap) Handle(ctx context.Context, r slog.Record) error {
	if h.words != "" && strings.Contains(r.Message, h.words) && !strings.HasPrefix(r.Message, "Error:") &&
		!strings.HasPrefix(r.Message, " ") {
		panic("trapped: " + h.words)
	}
	return h.Handler.Handle(ctx, r)
}

// crashing runs child in a process of its own, which must crash, and returns its stderr and its log. Its
// broker's log panics at a line with the words.
func crashing(t *testing.T, words string, change changeFunc, child func(x *fixture)) (stderr, log, dir string) {
	t.Helper()
	if testcrash.Child() != "" {
		x := newFixture(t, func(o *broker.Options, l *broker.ListenerOptions) {
			brokertest.Loopback(&l.Net) // whose address is told
			h := slog.NewTextHandler(testcrash.Log(t), &slog.HandlerOptions{Level: broker.LevelInternal})
			o.Log = slog.New(trap{h, words})
			change(o, l)
		})
		child(x)
		t.Fatal("nothing has crashed")
	}
	stderr, dir = testcrash.Run(t)
	return stderr, testcrash.ReadLog(t, dir), dir
}

// wantTold holds both reports of a crash against what must be in them.
func wantTold(t *testing.T, stderr, log string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("stderr does not tell %s:\n%s", w, stderr)
		}
		if !strings.Contains(strings.ReplaceAll(log, `\"`, `"`), w) {
			t.Errorf("the log does not tell %s:\n%s", w, log)
		}
	}
}

func wantUntold(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		hex := strings.TrimSpace(strings.Join(strings.Split(hexOf(s), ""), ""))
		if strings.Contains(text, s) || strings.Contains(text, hex) {
			t.Errorf("%q is told:\n%s", s, text)
		}
	}
}

// hexOf is s as a dump shows it.
func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(s) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(digits[s[i]>>4])
		b.WriteByte(digits[s[i]&15])
	}
	return b.String()
}

// A panic while a client's packet is handled ends the process, not before log and stderr have named client,
// address, packet, and stack; what was acknowledged with persistence is there afterwards.
func TestCrashNamesClientAndPacket(t *testing.T) {
	t.Parallel()
	stderr, log, dir := crashing(t, "", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 2
		s, err := bolt.Open(filepath.Join(testcrash.Child(), "db"), bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Store = s
		o.Guard = func(_ string, topic, _ []byte) codec.Reason {
			if string(topic) == "boom" {
				panic("a fault")
			}
			return codec.Success
		}
	}, func(x *fixture) {
		sub, _ := x.present("sleeper", codec.V311, nil)
		sub.Subscribe("safe", 1)
		sub.Disconnect()
		c := x.connect("the culprit", codec.V311, nil)
		c.Publish("safe", "acknowledged", 1, 7)
		c.Want(codec.PUBACK, nil)
		c.Publish("boom", strings.Repeat("x", 400), 1, 8)
		c.WantClosed()
	})
	wantTold(t, stderr, log, `"a fault"`, "panic on loop ",
		`while handling PUBLISH (411 bytes) of client "the culprit" [127.0.0.1:`,
		"0000: 32 98 03 00 04 62 6f 6f 6d 00 08 78 78", "and 155 bytes more")
	wantTold(t, stderr, log, "crash_test.go") // the stack is of the place that panicked

	s, err := bolt.Open(filepath.Join(dir, "db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := newFixture(t, func(o *broker.Options, _ *broker.ListenerOptions) { o.Store = s })
	c, present := x.present("sleeper", codec.V311, nil)
	if !present {
		t.Error("the session is lost")
	}
	c.WantPublish("safe", "acknowledged")
}

// What a panic tells of CONNECT is its client id and length: not its password, nor the will.
func TestCrashInConnectKeepsPassword(t *testing.T) {
	t.Parallel()
	stderr, log, _ := crashing(t, "New client connected", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 4
	}, func(x *fixture) {
		c := brokertest.Dial(x.t, x.addr, codec.V5)
		c.Send(&codec.Connect{
			Version: codec.V5, ClientID: []byte("nosy"), CleanStart: true,
			HasUsername: true, Username: []byte("joe"), HasPassword: true, Password: []byte("hunter2secret"),
			HasWill: true, Will: codec.Will{Topic: []byte("w"), Payload: []byte("lastwords")},
		})
		c.WantClosed()
	})
	wantTold(t, stderr, log, "while handling CONNECT (", `of client "nosy" [127.0.0.1:`)
	wantUntold(t, stderr+log, "hunter2secret", "lastwords")
}

// So it is when an Admitter panics, which is off the loops.
func TestCrashInAdmission(t *testing.T) {
	t.Parallel()
	stderr, log, _ := crashing(t, "", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Admitters = []broker.Admitter{faulty{}}
	}, func(x *fixture) {
		c := brokertest.Dial(x.t, x.addr, codec.V311)
		c.Send(&codec.Connect{
			Version: codec.V311, ClientID: []byte("asker"), CleanStart: true,
			HasUsername: true, Username: []byte("joe"), HasPassword: true, Password: []byte("hunter2secret"),
		})
		c.WantClosed()
	})
	wantTold(t, stderr, log, "panic off the loops", `deciding about CONNECT of client "asker" [127.0.0.1:`)
	wantUntold(t, stderr+log, "hunter2secret")
}

// faulty is an Admitter that panics.
type faulty struct{}

// Admit implements broker.Admitter.
func (faulty) Admit(context.Context, *broker.Admission) codec.Reason { panic("an admitter's fault") }

// A message can do its harm on another loop than its publisher's, and after its publisher has gone: who it
// was is told all the same.
func TestCrashOnAnotherLoopNamesPublisher(t *testing.T) {
	t.Parallel()
	stderr, log, _ := crashing(t, "Sending PUBLISH to victim", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 16 // so that the two are hardly ever on the same
	}, func(x *fixture) {
		sub := x.connect("victim", codec.V311, nil)
		sub.Subscribe("harm", 0)
		c := x.connect("publisher far away", codec.V311, nil)
		c.Publish("harm", "payload", 0, 0)
		c.Disconnect()
		sub.WantClosed()
	})
	wantTold(t, stderr, log, `client "publisher far away" [127.0.0.1:`, "70 61 79 6c 6f 61 64")
}

// What is asked of the server on $CONTROL may hold passwords, and is left out, by whatever name it goes.
func TestCrashInControlKeepsRequest(t *testing.T) {
	t.Parallel()
	const topic = "$CONTROL/test/v1"
	stderr, log, _ := crashing(t, "", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Controls = map[string]broker.ControlFunc{topic: func(c *broker.Control) codec.Reason {
			if string(c.Payload) == "harmless" {
				return codec.Success
			}
			panic("a control's fault")
		}}
	}, func(x *fixture) {
		c := x.connect("operator", codec.V5, nil)
		alias := codec.AppendUintProperty(nil, codec.TopicAlias, 1)
		c.Send(&codec.Publish{Topic: []byte(topic), Payload: []byte("harmless"), Properties: alias})
		c.Send(&codec.Publish{Payload: []byte("hunter2secret"), Properties: alias})
		c.WantClosed()
	})
	wantTold(t, stderr, log, `while handling PUBLISH (21 bytes) of client "operator" [127.0.0.1:`, "a control's fault")
	wantUntold(t, stderr+log, "hunter2secret")
}

// A client whose DISCONNECT does it has been taken off its connection by then.
func TestCrashInWillNamesClient(t *testing.T) {
	t.Parallel()
	stderr, log, _ := crashing(t, "Sending PUBLISH to victim", func(o *broker.Options, _ *broker.ListenerOptions) {
		o.Loops = 1
	}, func(x *fixture) {
		sub := x.connect("victim", codec.V311, nil)
		sub.Subscribe("harm", 0)
		c := x.connect("testator", codec.V5, func(p *codec.Connect) {
			p.HasWill, p.Will = true, codec.Will{Topic: []byte("harm"), Payload: []byte("last")}
		})
		c.Send(&codec.Disconnect{Reason: codec.DisconnectWithWill})
		sub.WantClosed()
	})
	wantTold(t, stderr, log, "DISCONNECT (", `client "testator" [127.0.0.1:`)
}
