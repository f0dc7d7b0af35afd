package mosquitto

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"noctule/codec"
)

// LeftOut is what Mosquitto's format has no place for.
type LeftOut struct {
	Wills, Grants, Denials int
}

// String is a sentence about it; empty if there is nothing.
func (l LeftOut) String() string {
	if l == (LeftOut{}) {
		return ""
	}
	text := fmt.Sprintf("%d wills and %d lists of subscriptions made by servers, unknown to Mosquitto",
		l.Wills, l.Grants)
	if l.Denials > 0 {
		text = fmt.Sprintf("%d bans, ", l.Denials) + text
	}
	return text
}

// databaseWriter writes a mosquitto.db of version 6, a chunk a record.
type databaseWriter struct {
	w       *bufio.Writer
	b       []byte // the chunk
	highest uint64 // id of a message
	standIn bool   // has been written
	left    LeftOut
}

// standInID is the message of handshakes whose message the receiver has: Mosquitto drops those without one.
const standInID = retainedID - 1

// version6 is what Mosquitto 2.0 and 2.1 write, and both read.
const version6 = 6

// configAt is where the highest id stands: in the first chunk, behind the header of the file and its own.
const configAt = len(magic) + 8 + 8

// WriteDatabase writes a mosquitto.db of version 6 to an empty file.
func WriteDatabase(out io.WriteSeeker, from Source) (LeftOut, error) {
	d := &databaseWriter{w: bufio.NewWriterSize(out, 1<<20)}
	head := append([]byte(magic), 0, 0, 0, 0, 0, 0, 0, version6) // CRC, which nobody writes, and version
	if _, err := d.w.Write(head); err != nil {
		return d.left, err
	}
	d.begin()
	d.b = append(d.b, make([]byte, 8)...)     // the highest id comes at the end
	d.b = append(d.b, 1, 8, 0, 0, 0, 0, 0, 0) // shut down in order, ids of 8 bytes
	if err := d.end(chunkConfig); err != nil {
		return d.left, err
	}
	err := from.Each(&Visitor{
		Message: d.message, Client: d.client, ClientMessage: d.clientMessage, Retained: d.retained,
		Subscription: d.subscription,
		Grant:        func(*Grant) error { d.left.Grants++; return nil },
		Denial:       func(*Denial) error { d.left.Denials++; return nil },
	})
	if err != nil {
		return d.left, err
	}
	if err := d.w.Flush(); err != nil {
		return d.left, err
	}
	if _, err := out.Seek(int64(configAt), io.SeekStart); err != nil {
		return d.left, err
	}
	_, err = out.Write(binary.LittleEndian.AppendUint64(nil, d.highest))
	return d.left, err
}

// begin makes room for the head of a chunk.
func (d *databaseWriter) begin() { d.b = append(d.b[:0], make([]byte, 8)...) }

// end writes the chunk.
func (d *databaseWriter) end(kind uint32) error {
	binary.BigEndian.PutUint32(d.b, kind)
	binary.BigEndian.PutUint32(d.b[4:], uint32(len(d.b)-8))
	_, err := d.w.Write(d.b)
	if cap(d.b) > 1<<20 {
		d.b = nil
	}
	return err
}

func (d *databaseWriter) uint16(n ...int) {
	for _, x := range n {
		d.b = binary.BigEndian.AppendUint16(d.b, uint16(x))
	}
}

func (d *databaseWriter) host64(n uint64) { d.b = binary.LittleEndian.AppendUint64(d.b, n) }
func (d *databaseWriter) text(s ...string) {
	for _, x := range s {
		d.b = append(d.b, x...)
	}
}

// properties writes a length and the properties, as on the wire; nothing if there are none.
func (d *databaseWriter) properties(p codec.Properties) {
	if len(p) > 0 {
		d.b = binary.AppendUvarint(d.b, uint64(len(p))) // a variable byte integer is the same
		d.b = append(d.b, p...)
	}
}

func (d *databaseWriter) message(m *Message) error {
	d.highest = max(d.highest, m.ID)
	d.begin()
	d.host64(m.ID)
	d.host64(uint64(m.Expiry))
	d.b = binary.BigEndian.AppendUint32(d.b, uint32(len(m.Payload)))
	d.uint16(int(m.SourceID), len(m.Source), len(m.Username), len(m.Topic), int(m.SourcePort))
	d.b = append(d.b, m.QoS, m.Retain)
	d.text(m.Source, m.Username, m.Topic)
	d.b = append(d.b, m.Payload...)
	d.properties(codec.Properties(m.Properties))
	return d.end(chunkMessage)
}

func (d *databaseWriter) client(c *Client) error {
	if c.Will != nil {
		d.left.Wills++
	}
	d.begin()
	d.host64(uint64(c.Expires))
	d.b = binary.BigEndian.AppendUint32(d.b, c.Expiry)
	d.uint16(int(c.LastMID), len(c.ID), int(c.Port), len(c.Username), 0, 0)
	d.text(c.ID, c.Username)
	return d.end(chunkClient)
}

func (d *databaseWriter) clientMessage(m *ClientMessage) error {
	id := m.Message
	if id == 0 && m.State == stateWaitPubcomp {
		if id = standInID; !d.standIn {
			d.standIn = true
			if err := d.message(&Message{ID: id, Topic: "acknowledged", QoS: 2}); err != nil {
				return err
			}
		}
	}
	d.begin()
	d.host64(id)
	d.uint16(int(m.MID), len(m.Client))
	d.b = append(d.b, m.QoS, m.State, m.RetainDup, m.Direction)
	d.text(m.Client)
	if m.Subscription != 0 {
		d.properties(codec.AppendUintProperty(nil, codec.SubscriptionIdentifier, m.Subscription))
	}
	return d.end(chunkClientMessage)
}

func (d *databaseWriter) retained(r *Retained) error {
	d.begin()
	d.host64(r.Message)
	return d.end(chunkRetained)
}

func (d *databaseWriter) subscription(s *Subscription) error {
	d.begin()
	d.b = binary.BigEndian.AppendUint32(d.b, s.Identifier)
	d.uint16(len(s.Client), len(s.Topic))
	d.b = append(d.b, s.QoS, s.Options, 0, 0)
	d.text(s.Client, s.Topic)
	return d.end(chunkSubscription)
}
