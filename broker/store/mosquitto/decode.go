package mosquitto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"noctule/codec"
)

// magic begins a mosquitto.db.
const magic = "\x00\xB5\x00mosquitto db"

// IsDatabase reports whether a file begins as mosquitto.db does.
func IsDatabase(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }

// Errors of Decode.
var (
	// ErrVersion says that the file is of a version that cannot be read.
	ErrVersion = errors.New("unsupported version of the database")
	// ErrFormat says that it is damaged, or no mosquitto.db.
	ErrFormat = errors.New("not a valid mosquitto.db")
)

// Types of chunks.
const (
	chunkConfig        = 1
	chunkMessage       = 2
	chunkClientMessage = 3
	chunkRetained      = 4
	chunkSubscription  = 5
	chunkClient        = 6
)

// chunkMost bounds a chunk: a message of 256 MB with its texts.
const chunkMost = 300 << 20

// Database is a mosquitto.db.
type Database struct {
	in      io.ReadSeeker
	unknown int
}

// NewDatabase returns the source that in holds.
func NewDatabase(in io.ReadSeeker) *Database { return &Database{in: in} }

// Unknown is the number of chunks of unknown types, which are passed over, in the last Each.
func (d *Database) Unknown() int { return d.unknown }

// Each implements Source.
func (d *Database) Each(v *Visitor) error {
	d.unknown = 0
	if _, err := d.in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReaderSize(d.in, 1<<20)
	head := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(in, head); err != nil || !IsDatabase(head) {
		return fmt.Errorf("%w: no header", ErrFormat)
	}
	version := binary.BigEndian.Uint32(head[len(magic)+4:])
	if version != 5 && version != version6 {
		return fmt.Errorf("%w: %d, only 5 and 6 can be read", ErrVersion, version)
	}
	at := int64(len(head))
	for {
		var h [8]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("%w: cut off at byte %d", ErrFormat, at)
		}
		kind, size := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[4:])
		if size > chunkMost {
			return fmt.Errorf("%w: chunk of %d bytes at byte %d", ErrFormat, size, at)
		}
		if !v.wants(kind) {
			if n, err := io.CopyN(io.Discard, in, int64(size)); n < int64(size) {
				return fmt.Errorf("%w: cut off within the chunk at byte %d (%w)", ErrFormat, at, err)
			}
			d.unknown += b2i(kind == 0 || kind > chunkClient)
		} else if err := visitChunk(v, in, h, version, at); err != nil {
			return err
		}
		at += int64(len(h)) + int64(size)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wants reports whether chunks of a type are to be read.
func (v *Visitor) wants(kind uint32) bool {
	switch kind {
	case chunkMessage:
		return v.Message != nil
	case chunkClientMessage:
		return v.ClientMessage != nil
	case chunkRetained:
		return v.Retained != nil
	case chunkSubscription:
		return v.Subscription != nil
	case chunkClient:
		return v.Client != nil
	default:
		return false
	}
}

// visitChunk reads the body of a chunk and gives it to v; h is its head, at where that stood.
func visitChunk(v *Visitor, in io.Reader, h [8]byte, version uint32, at int64) error {
	kind := binary.BigEndian.Uint32(h[:])
	body, err := readChunk(in, int(binary.BigEndian.Uint32(h[4:])))
	if err != nil {
		return fmt.Errorf("%w: cut off within the chunk at byte %d", ErrFormat, at)
	}
	c := &chunk{b: body}
	visit := c.record(v, kind, version)
	if c.bad != "" {
		return fmt.Errorf("%w: chunk of type %d at byte %d: %s", ErrFormat, kind, at, c.bad)
	}
	return visit()
}

// readChunk reads n bytes, which the file may not have: memory grows with what is there.
func readChunk(r io.Reader, n int) ([]byte, error) {
	if n <= 1<<20 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	var b bytes.Buffer
	m, err := io.CopyN(&b, r, int64(n))
	if err == nil && m < int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}

// chunk is the body of one; after a mistake everything it returns is zero and bad says what it was.
type chunk struct {
	b   []byte
	bad string
}

func (c *chunk) take(n int) []byte {
	if c.bad != "" || n > len(c.b) {
		if c.bad == "" {
			c.bad = "too short"
		}
		return make([]byte, min(n, 8))
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *chunk) uint8() uint8   { return c.take(1)[0] }
func (c *chunk) uint16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *chunk) uint32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *chunk) skip(n int)     { c.take(n) }

// host64 is in the byte order of the machine that wrote the file: a little endian one.
func (c *chunk) host64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

func (c *chunk) text(n uint16) string {
	b := c.take(int(n))
	if c.bad != "" {
		return ""
	}
	return string(b)
}

// properties reads a length and properties of a PUBLISH, if there is anything left.
func (c *chunk) properties() codec.Properties {
	if len(c.b) == 0 || c.bad != "" {
		return nil
	}
	p := codec.Publish{}
	body := append([]byte{0, 1, 't'}, c.b...)
	if err := p.Parse(0, body, codec.V5); err != nil || len(p.Payload) > 0 {
		c.bad = "properties are malformed"
		return nil
	}
	return p.Properties
}

// record reads the chunk, of a type that v wants, and returns what gives it to v.
func (c *chunk) record(v *Visitor, kind, version uint32) func() error {
	switch kind {
	case chunkMessage:
		m := c.message()
		return func() error { return v.Message(&m) }
	case chunkClientMessage:
		m := c.clientMessage()
		return func() error { return v.ClientMessage(&m) }
	case chunkRetained:
		r := Retained{c.host64()}
		return func() error { return v.Retained(&r) }
	case chunkSubscription:
		s := c.subscription()
		return func() error { return v.Subscription(&s) }
	default:
		x := c.client(version)
		return func() error { return v.Client(&x) }
	}
}

func (c *chunk) message() (m Message) {
	m.ID, m.Expiry = c.host64(), int64(c.host64())
	payload := c.uint32()
	m.SourceID = c.uint16()
	source, username, topic := c.uint16(), c.uint16(), c.uint16()
	m.SourcePort, m.QoS, m.Retain = c.uint16(), c.uint8(), c.uint8()
	m.Source, m.Username, m.Topic = c.text(source), c.text(username), c.text(topic)
	if payload > chunkMost {
		c.bad = "the payload is too long"
	}
	p := c.take(int(payload))
	if c.bad != "" {
		return m
	}
	m.Payload = p
	m.Properties = Properties(c.properties().Forwarded(nil))
	return m
}

func (c *chunk) clientMessage() (m ClientMessage) {
	m.Message, m.MID = c.host64(), c.uint16()
	id := c.uint16()
	m.QoS, m.State, m.RetainDup, m.Direction = c.uint8(), c.uint8(), c.uint8(), c.uint8()
	m.Client = c.text(id)
	m.Subscription, _ = c.properties().Uint(codec.SubscriptionIdentifier)
	return m
}

func (c *chunk) subscription() (s Subscription) {
	s.Identifier = c.uint32()
	id, topic := c.uint16(), c.uint16()
	s.QoS, s.Options = c.uint8(), c.uint8()
	c.skip(2)
	s.Client, s.Topic = c.text(id), c.text(topic)
	return s
}

func (c *chunk) client(version uint32) (x Client) {
	x.Expires, x.Expiry, x.LastMID = int64(c.host64()), c.uint32(), c.uint16()
	id, username := c.uint16(), uint16(0)
	if version >= 6 {
		x.Port, username = c.uint16(), c.uint16()
		c.skip(4)
	}
	x.ID, x.Username = c.text(id), c.text(username)
	return x
}
