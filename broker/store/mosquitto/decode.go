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

// Decode reads a mosquitto.db. Chunks of unknown types are left out; unknown is their number.
func Decode(r io.Reader) (s *State, unknown int, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(in, head); err != nil || !IsDatabase(head) {
		return nil, 0, fmt.Errorf("%w: no header", ErrFormat)
	}
	version := binary.BigEndian.Uint32(head[len(magic)+4:])
	if version != 5 && version != 6 {
		return nil, 0, fmt.Errorf("%w: %d, only 5 and 6 can be read", ErrVersion, version)
	}
	s = &State{}
	at := int64(len(head))
	for {
		var h [8]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return s, unknown, nil
			}
			return nil, 0, fmt.Errorf("%w: cut off at byte %d", ErrFormat, at)
		}
		kind, size := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[4:])
		if size > chunkMost {
			return nil, 0, fmt.Errorf("%w: chunk of %d bytes at byte %d", ErrFormat, size, at)
		}
		body, err := readChunk(in, int(size))
		if err != nil {
			return nil, 0, fmt.Errorf("%w: cut off within the chunk at byte %d", ErrFormat, at)
		}
		c := &chunk{b: body}
		if known := c.into(s, kind, version); !known {
			unknown++
		} else if c.bad != "" {
			return nil, 0, fmt.Errorf("%w: chunk of type %d at byte %d: %s", ErrFormat, kind, at, c.bad)
		}
		at += int64(len(h)) + int64(size)
	}
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

// into adds what the chunk holds to s; false when its type is unknown.
func (c *chunk) into(s *State, kind, version uint32) bool {
	switch kind {
	case chunkConfig:
	case chunkMessage:
		s.Messages = append(s.Messages, c.message())
	case chunkClientMessage:
		s.ClientMessages = append(s.ClientMessages, c.clientMessage())
	case chunkRetained:
		s.Retained = append(s.Retained, Retained{c.host64()})
	case chunkSubscription:
		s.Subscriptions = append(s.Subscriptions, c.subscription())
	case chunkClient:
		s.Clients = append(s.Clients, c.client(version))
	default:
		return false
	}
	return true
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
	m.Properties = Properties(forwarded(c.properties()))
	return m
}

// forwarded leaves out what does not belong to the message itself.
func forwarded(p codec.Properties) (out codec.Properties) {
	for id, v := range p.All() {
		switch id {
		case codec.PayloadFormat:
			out = codec.AppendUintProperty(out, id, v.Num)
		case codec.UserProperty:
			out = codec.AppendUserProperty(out, v.Bytes, v.Pair)
		case codec.ContentType, codec.ResponseTopic, codec.CorrelationData:
			out = codec.AppendBytesProperty(out, id, v.Bytes)
		default:
		}
	}
	return out
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
