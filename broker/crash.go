package broker

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"noctule/codec"
	"noctule/wsnet"
)

// A panic ends the process: what it has left half done may be state that loops share, and nobody goes on with
// that. But the log and stderr first say whose packet it was, so that the operator can keep that client away;
// see docs/adr/0012.

// handling is the packet that a loop is handling, noted for the report of a panic.
type handling struct {
	conn    *wsnet.Conn // nil: none
	packet  []byte      // a loan: begins with it, and may go on behind it
	connect bool        // packet is a CONNECT without its fixed header
}

const (
	crashPatience = time.Second            // for log and stderr
	askPatience   = 500 * time.Millisecond // for the other loops to say whose session has a number
	crashDumpMax  = 256                    // bytes of a packet that are shown
	crashTextMax  = 1000                   // bytes of the panic's value that are shown
)

// crashed is wsnet's OnCrash.
func (b *Broker) crashed(c wsnet.Crash) {
	b.crash(c.Loop, func() string {
		if c.Loop == nil {
			return "in a handshake or the transport of " + addrText(c.Peer, "")
		}
		return c.Loop.Handler().(*shard).doing(c.Conn)
	}, c.Value, c.Stack)
}

// Crashed tells the log and stderr of a panic that the caller's goroutine has recovered from and is about to
// go on with: what says what it was doing. The loops stop for good. Any goroutine but a loop's may call it.
func (b *Broker) Crashed(what string, value any, stack []byte) {
	b.crash(nil, func() string { return what }, value, stack)
}

// guard is deferred by goroutines that work for one client off the loops.
func (b *Broker) guard(what func() string) {
	value := recover()
	if value == nil {
		return
	}
	b.crash(nil, what, value, debug.Stack())
	panic(value)
}

// crash reports a panic. A second goroutine that panics waits here, so that the report of the first is whole.
func (b *Broker) crash(l *wsnet.Loop, what func() string, value any, stack []byte) {
	if b.crashing.Swap(true) {
		time.Sleep(2 * (crashPatience + askPatience)) // rather the process has ended by then
		return
	}
	where := "off the loops"
	if l != nil {
		where = fmt.Sprintf("on loop %d", l.Index())
	}
	text := fmt.Sprint(value) // survives a panic in it
	head := fmt.Sprintf("Error: panic %s, the broker ends: %q\nError: it came %s\n",
		where, text[:min(len(text), crashTextMax)], safely(what))
	b.stopLoops(l)
	b.report(head, stack)
}

// safely is what f says, which looks at state that may be broken.
func safely(f func() string) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("in what cannot be described: %v", v)
		}
	}()
	return f()
}

// report writes to stderr and the log, which may hang, or be what has panicked: the end waits for neither
// longer than crashPatience. Go writes the stack to stderr when the panic goes on.
func (b *Broker) report(head string, stack []byte) {
	done := make(chan struct{}, 2)
	part := func(f func()) {
		defer func() {
			_ = recover() // one panic is enough
			done <- struct{}{}
		}()
		f()
	}
	go part(func() { _, _ = os.Stderr.WriteString(head) }) // ends with the process
	go part(func() {                                       // ends with the process
		for line := range strings.Lines(head + string(stack)) {
			line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
			logf(b.opts.Log, LevelError, "%s", line)
		}
		if b.opts.FlushLog != nil {
			b.opts.FlushLog()
		}
	})
	end := time.NewTimer(crashPatience)
	defer end.Stop()
	for range cap(done) {
		select {
		case <-done:
		case <-end.C:
			return
		}
	}
}

// stopLoops has each loop but one stop for good before its next task: what they share may be broken.
func (b *Broker) stopLoops(except *wsnet.Loop) {
	for _, s := range b.shards {
		if s.loop != except {
			s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { select {} }))
		}
	}
}

// handled ends handling.
func (s *shard) handled() { s.handling = handling{} }

// doing says what the loop is doing for a client, c being the connection that it serves, if it does.
func (s *shard) doing(c *wsnet.Conn) string {
	if h := &s.handling; h.conn != nil {
		return "while handling " + s.describe(h)
	}
	if m := s.live.Message(); m != nil {
		return fmt.Sprintf("while delivering a message of %s with topic %q and a payload of %d bytes%s",
			s.b.whose(s, m.Publisher), m.Topic, len(m.Payload), dump(m.Topic, m.Payload))
	}
	if c != nil {
		return "while serving " + s.who(c)
	}
	return "in no client's packet"
}

// describe is the packet and who has sent it. What may be secret is left out: a CONNECT, whatever has
// come in its place, authentication, and requests to the server.
func (s *shard) describe(h *handling) string {
	kind, n, packet := codec.CONNECT, len(h.packet), h.packet
	if !h.connect {
		head, err := codec.ParseHeader(packet)
		if err != nil {
			head, err = codec.ParseHeader31(packet)
		}
		if errors.Is(err, codec.ErrShort) {
			return "the beginning of a packet of " + s.who(h.conn)
		}
		kind = head.Type
		packet = packet[:min(len(packet), head.Size+head.Len)]
		n = head.Size + head.Len
	}
	text := fmt.Sprintf("%s (%d bytes) of ", kind, n)
	_, connected := h.conn.Attachment.(*client)
	if !connected || kind == codec.CONNECT || kind == codec.AUTH {
		return text + s.applicant(h, packet)
	}
	text += s.who(h.conn)
	if kind == codec.PUBLISH && isControl(s.pub.Topic) { // an alias may stand for it
		return text
	}
	if m := s.live.Message(); m != nil && kind != codec.PUBLISH { // of a QoS 2 handshake
		text += fmt.Sprintf(" for a message with topic %q and a payload of %d bytes", m.Topic, len(m.Payload))
	}
	return text + dump(packet, packet)
}

// applicant is who has sent a CONNECT.
func (s *shard) applicant(h *handling, packet []byte) string {
	if _, ok := h.conn.Attachment.(*client); ok {
		return s.who(h.conn)
	}
	if head, err := codec.ParseHeader(packet); !h.connect && err == nil {
		packet = packet[head.Size:]
	}
	var p codec.Connect
	if err := p.Parse(0, packet, codec.V311); err != nil && len(p.ClientID) == 0 {
		return s.who(h.conn)
	}
	return fmt.Sprintf("client %q [%s]", p.ClientID, peer(h.conn))
}

// who is the client of a connection.
func (s *shard) who(c *wsnet.Conn) string {
	switch a := c.Attachment.(type) {
	case *client:
		return fmt.Sprintf("client %q [%s]", a.id, peer(c))
	case *greeting:
		if a.waits != nil {
			return fmt.Sprintf("client %q [%s]", a.waits.ClientID, peer(c))
		}
	}
	if name := s.departed.find(0, c.ID()); name != "" {
		return name
	}
	return fmt.Sprintf("a client before CONNECT [%s]", peer(c))
}

// dump is the first bytes in hexadecimal, each line after the first one on its own; a message to $CONTROL, as
// where shows, is left out: it may set passwords.
func dump(where, b []byte) string {
	if isControl(where[:min(len(where), crashDumpMax)]) {
		return ""
	}
	var out strings.Builder
	const perLine = 32
	for at := 0; at < min(len(b), crashDumpMax); at += perLine {
		fmt.Fprintf(&out, "\nError: %04x: % x", at, b[at:min(at+perLine, len(b), crashDumpMax)])
	}
	if len(b) > crashDumpMax {
		fmt.Fprintf(&out, "\nError: and %d bytes more", len(b)-crashDumpMax)
	}
	return out.String()
}

// isControl reports whether the topic of a request to the server is in b.
func isControl(b []byte) bool { return bytes.Contains(b, []byte("$CONTROL/")) }

// whose names the session that has a number; it may be of any loop. Shard s asks.
func (b *Broker) whose(s *shard, number uint64) string {
	if number == 0 {
		return "no client"
	}
	if name := s.named(number); name != "" {
		return name
	}
	answers := make(chan string, len(b.shards))
	for _, o := range b.shards {
		if o != s {
			o.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { answers <- o.named(number) }))
		}
	}
	end := time.NewTimer(askPatience)
	defer end.Stop()
	for range len(b.shards) - 1 {
		select {
		case name := <-answers:
			if name != "" {
				return name
			}
		case <-end.C:
			return "a client whose loop does not answer"
		}
	}
	return "a client whose session has ended"
}

// named is the client of a session of this loop; "" if it has none of that number.
func (s *shard) named(number uint64) string {
	for _, cl := range s.sessions {
		if cl.number == number && cl.conn != nil {
			return s.who(cl.conn)
		}
	}
	if name := s.departed.find(number, 0); name != "" {
		return name
	}
	for _, cl := range s.sessions {
		if cl.number == number {
			return fmt.Sprintf("client %q, which is offline", cl.id)
		}
	}
	return ""
}

// departures are the clients of a loop that have gone last: a message may still be under way whose publisher
// has.
type departures struct {
	list [64]departure
	next int
}

type departure struct {
	number, conn uint64 // of session and connection
	id           string
	addr         netip.AddrPort
}

// add notes a client whose connection ends.
func (d *departures) add(cl *client) {
	d.list[d.next] = departure{cl.number, cl.conn.ID(), cl.id, cl.conn.RemoteAddr()}
	d.next = (d.next + 1) % len(d.list)
}

// find is the client with a number of a session, or of a connection; "" if it is not known.
func (d *departures) find(number, conn uint64) string {
	for i := range d.list {
		if x := &d.list[i]; x.number != 0 && (x.number == number || x.conn == conn) {
			return fmt.Sprintf("client %q [%s], which has gone", x.id, addrText(x.addr, ""))
		}
	}
	return ""
}
