package session

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
)

// Narratives: each file in testdata tells a story, a command a line, then what the machine must do, a line
// each that begins with "> ". Lines that begin with "#" are comments. Commands:
//
//	limits inflight=N queued=N queuedbytes=N inflightbytes=N qos0 unreleased=N   (first line; starts a new session)
//	resume [RECEIVE-MAXIMUM] | suspend | time MS
//	deliver NAME QOS [retain] [expiry=MS] [sub=N]    answers "> sent|queued|dropped-full|dropped-qos0"
//	puback ID | pubrec ID [REASON] | pubcomp ID      answers "> error TEXT" when the connection must end
//	receive ID NAME [REASON] | deny ID NAME | release ID    release answers "> route NAME" and the PUBCOMP reason
//	maxpacket N                                      payloads longer than N are not accepted by the client
func TestNarratives(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no narratives: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { tell(t, f) })
	}
}

type teller struct {
	s    Session
	now  int64
	max  int
	said []string
}

func (w *teller) say(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *teller) SendPublish(m *message.Message, d message.Delivery) bool {
	if w.max > 0 && len(m.Payload) > w.max {
		return false
	}
	line := fmt.Sprintf("PUBLISH %s q%d", m.Payload, d.QoS)
	if d.QoS > 0 {
		line += fmt.Sprintf(" m%d", d.PacketID)
	}
	if d.Dup {
		line += " dup"
	}
	if d.Retain {
		line += " retain"
	}
	if d.SubscriptionID != 0 {
		line += fmt.Sprintf(" sub=%d", d.SubscriptionID)
	}
	w.say("%s", line)
	return true
}

func (w *teller) SendAck(t codec.Type, id uint16, r codec.Reason) {
	if r == 0 {
		w.say("%s m%d", t, id)
		return
	}
	w.say("%s m%d 0x%02x", t, id, byte(r))
}

func (w *teller) Changed(c Change) {
	if c.Kind == Expired {
		w.say("expired %s", c.Message.Payload)
	}
	if c.Kind == Superseded {
		w.say("superseded m%d %s", c.ID, c.Message.Payload)
	}
}

func tell(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var w teller
	sc := bufio.NewScanner(f)
	line := 0
	check := func() {
		if len(w.said) > 0 {
			t.Errorf("%s:%d: unexpected: %s", file, line, strings.Join(w.said, "; "))
			w.said = nil
		}
	}
	for sc.Scan() {
		line++
		text := strings.TrimSpace(sc.Text())
		switch {
		case text == "" || text[0] == '#':
		case strings.HasPrefix(text, "> "):
			if len(w.said) == 0 {
				t.Errorf("%s:%d: nothing happened, want %s", file, line, text[2:])
				continue
			}
			if w.said[0] != text[2:] {
				t.Errorf("%s:%d: got %s, want %s", file, line, w.said[0], text[2:])
			}
			w.said = w.said[1:]
		default:
			check()
			w.command(t, strings.Fields(text))
		}
	}
	check()
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		t.Fatalf("%q is not a number", s)
	}
	return int(n)
}

func (w *teller) command(t *testing.T, f []string) {
	arg := func(i int) int {
		if i >= len(f) {
			return 0
		}
		return number(t, f[i])
	}
	var err error
	switch f[0] {
	case "limits":
		*w = teller{s: New(limits(t, f[1:]))}
	case "resume":
		w.s.Resume(uint16(arg(1)), w.now, w)
	case "suspend":
		w.s.Suspend()
	case "hold":
		w.s.Hold()
	case "continue":
		w.s.Continue(w.now, w)
	case "time":
		w.now = int64(arg(1))
	case "maxpacket":
		w.max = arg(1)
	case "deliver":
		w.deliver(t, f[1:])
	case "puback":
		err = w.s.Puback(uint16(arg(1)), w.now, w)
	case "pubrec":
		err = w.s.Pubrec(uint16(arg(1)), codec.Reason(arg(2)), w.now, w)
	case "pubcomp":
		err = w.s.Pubcomp(uint16(arg(1)), w.now, w)
	case "receive":
		m := message.New([]byte("t"), []byte(f[2]), 2, false)
		err = w.s.Receive(uint16(arg(1)), m, codec.Reason(arg(3)), w)
	case "deny":
		err = w.s.ReceiveDenied(uint16(arg(1)), message.New([]byte("t"), []byte(f[2]), 2, false), w)
	case "release":
		m, r := w.s.Release(uint16(arg(1)), w)
		if m != nil {
			w.say("route %s", m.Payload)
		}
		w.SendAck(codec.PUBCOMP, uint16(arg(1)), r)
	default:
		t.Fatalf("unknown command %q", f[0])
	}
	if err != nil {
		w.say("error %v", err)
	}
}

func (w *teller) deliver(t *testing.T, f []string) {
	m := message.New([]byte("t"), []byte(f[0]), 2, false)
	g := Grant{QoS: uint8(number(t, f[1]))}
	for _, o := range f[2:] {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "retain":
			g.Retain = true
		case "expiry":
			m.Expiry = int64(number(t, v))
		case "sub":
			g.SubscriptionID = uint32(number(t, v))
		}
	}
	out := w.s.Deliver(m, g, w)
	w.say("%s", [...]string{"sent", "queued", "dropped-full", "dropped-qos0"}[out])
}

func limits(t *testing.T, f []string) *Limits {
	l := &Limits{}
	for _, o := range f {
		k, v, _ := strings.Cut(o, "=")
		if k == "qos0" {
			l.QueueQoS0 = true
			continue
		}
		n := number(t, v)
		switch k {
		case "inflight":
			l.Inflight = uint16(n)
		case "inflightbytes":
			l.InflightBytes = int64(n)
		case "queued":
			l.Queued = n
		case "queuedbytes":
			l.QueuedBytes = int64(n)
		case "unreleased":
			l.Unreleased = n
		default:
			t.Fatalf("unknown limit %q", k)
		}
	}
	return l
}
