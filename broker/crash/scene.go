package crash

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/wsnet"
)

// Handling is the packet that a loop is handling, noted for the report. The zero value is none.
type Handling struct {
	Conn    *wsnet.Conn // nil: none
	Packet  []byte      // a loan: begins with it, and may go on behind it
	Connect bool        // Packet is a CONNECT without its fixed header
}

// Scene is what a loop knows of what it was doing.
type Scene struct {
	Handling
	Who      string           // the client of Conn, or its address
	Known    bool             // it has a session
	Topic    []byte           // of the PUBLISH being handled
	Message  *message.Message // that is being delivered; nil: none
	FromWhom func() string    // who has published it
}

// String says what the loop was doing for a client; "" if it was nothing that a client has sent.
func (s *Scene) String() string {
	if s.Conn != nil {
		return "while handling " + s.packet()
	}
	if m := s.Message; m != nil {
		return fmt.Sprintf("while delivering a message of %s with topic %q and a payload of %d bytes%s",
			s.FromWhom(), m.Topic, len(m.Payload), dump(m.Topic, m.Payload))
	}
	return ""
}

// packet is the packet and who has sent it. What may be secret is left out: a CONNECT, whatever has come in
// its place, authentication, and requests to the server.
func (s *Scene) packet() string {
	kind, n, packet := codec.CONNECT, len(s.Packet), s.Packet
	if !s.Connect {
		head, err := codec.ParseHeader(packet)
		if err != nil {
			head, err = codec.ParseHeader31(packet)
		}
		if errors.Is(err, codec.ErrShort) {
			return "the beginning of a packet of " + s.Who
		}
		kind = head.Type
		packet = packet[:min(len(packet), head.Size+head.Len)]
		n = head.Size + head.Len
	}
	text := fmt.Sprintf("%s (%d bytes) of ", kind, n)
	if !s.Known || kind == codec.CONNECT || kind == codec.AUTH {
		return text + s.applicant(packet)
	}
	text += s.Who
	if kind == codec.PUBLISH && isControl(s.Topic) { // an alias may stand for it
		return text
	}
	if m := s.Message; m != nil && kind != codec.PUBLISH { // of a QoS 2 handshake
		text += fmt.Sprintf(" for a message with topic %q and a payload of %d bytes", m.Topic, len(m.Payload))
	}
	return text + dump(packet, packet)
}

// applicant is who has sent a CONNECT.
func (s *Scene) applicant(packet []byte) string {
	if s.Known {
		return s.Who
	}
	if head, err := codec.ParseHeader(packet); !s.Connect && err == nil {
		packet = packet[head.Size:]
	}
	var p codec.Connect
	if err := p.Parse(0, packet, codec.V311); err != nil && len(p.ClientID) == 0 {
		return s.Who
	}
	return Client(string(p.ClientID), line.Peer(s.Conn))
}

// Client names a client by its id and address.
func Client(id, address string) string { return fmt.Sprintf("client %q [%s]", id, address) }

// dump is the first bytes in hexadecimal, each line after the first one on its own; a message to $CONTROL, as
// where shows, is left out: it may set passwords.
func dump(where, b []byte) string {
	if isControl(where[:min(len(where), dumpMax)]) {
		return ""
	}
	var out strings.Builder
	const perLine = 32
	for at := 0; at < min(len(b), dumpMax); at += perLine {
		fmt.Fprintf(&out, "\nError: %04x: % x", at, b[at:min(at+perLine, len(b), dumpMax)])
	}
	if len(b) > dumpMax {
		fmt.Fprintf(&out, "\nError: and %d bytes more", len(b)-dumpMax)
	}
	return out.String()
}

// isControl reports whether the topic of a request to the server is in b.
func isControl(b []byte) bool { return bytes.Contains(b, []byte("$CONTROL/")) }

// Departures are the clients of a loop that have gone last: a message may still be under way whose publisher
// has.
type Departures struct {
	list [64]departure
	next int
}

type departure struct {
	number, conn uint64 // of session and connection
	id           string
	addr         netip.AddrPort
}

// Add notes a client, with the number of its session, whose connection ends.
func (d *Departures) Add(number uint64, id string, c *wsnet.Conn) {
	d.list[d.next] = departure{number, c.ID(), id, c.RemoteAddr()}
	d.next = (d.next + 1) % len(d.list)
}

// Find is the client with a number of a session, or of a connection; "" if it is not known.
func (d *Departures) Find(number, conn uint64) string {
	for i := range d.list {
		if x := &d.list[i]; x.number != 0 && (x.number == number || x.conn == conn) {
			return Client(x.id, line.Addr(x.addr, "")) + ", which has gone"
		}
	}
	return ""
}
