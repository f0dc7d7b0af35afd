package traffic

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/gobwas/ws"

	"noctule/codec"
)

const (
	bareTopic = "u" // table 6's byte counts leave room for a topic of one character
	fullTopic = "/e/e1/im/u/u2"
	// keepAlive is the MQTT keep alive in seconds, the paper's.
	keepAlive = 60
)

// mqtt is a client of MQTT 3.1.1.
type mqtt struct {
	conn   io.ReadWriteCloser
	in     *bufio.Reader
	period time.Duration
}

// dialMQTT connects over TCP.
func dialMQTT(ctx context.Context, s settings, address string) (*mqtt, error) {
	conn, err := s.meter.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return signIn(ctx, conn, s.period)
}

// dialMQTTWeb connects over WebSocket.
func dialMQTTWeb(ctx context.Context, s settings, address string) (*mqtt, error) {
	c, err := dialWebSocket(ctx, s.meter, "ws://"+address+"/mqtt", "mqtt", ws.OpBinary)
	if err != nil {
		return nil, err
	}
	return signIn(ctx, &frames{channel: c}, s.period)
}

func signIn(ctx context.Context, conn io.ReadWriteCloser, period time.Duration) (*mqtt, error) {
	m := &mqtt{conn: conn, in: reader(conn), period: period}
	hello := codec.Connect{Version: codec.V311, Level: 4, CleanStart: true, KeepAlive: keepAlive}
	if err := m.exchange(ctx, hello.Append(nil, codec.V311), codec.CONNACK); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return m, nil
}

// exchange writes a packet and waits for one of a type.
func (m *mqtt) exchange(ctx context.Context, packet []byte, want codec.Type) error {
	defer cut(ctx, m.conn)()
	if _, err := m.conn.Write(packet); err != nil {
		return err
	}
	for {
		h, body, err := m.next()
		if err != nil {
			return fmt.Errorf("%w, waiting for %v", err, want)
		}
		if h.Type == want {
			if want == codec.CONNACK && (len(body) < 2 || body[1] != 0) {
				return fmt.Errorf("%w: CONNACK %x", errProtocol, body)
			}
			return nil
		}
	}
}

// next reads a packet.
func (m *mqtt) next() (codec.Header, []byte, error) {
	for n := 2; ; n++ {
		b, err := m.in.Peek(n)
		if err != nil {
			return codec.Header{}, nil, fmt.Errorf("traffic: MQTT: %w", err)
		}
		h, err := codec.ParseHeader(b)
		if err != nil && n < 5 {
			continue
		}
		if err != nil {
			return h, nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		body := make([]byte, h.Size+h.Len)
		if _, err := io.ReadFull(m.in, body); err != nil {
			return h, nil, fmt.Errorf("traffic: MQTT: %w", err)
		}
		return h, body[h.Size:], nil
	}
}

func (m *mqtt) send(_ context.Context, full bool) error {
	p := codec.Publish{Topic: []byte(bareTopic), Payload: []byte("hello")}
	if full {
		p.Topic, p.Payload = []byte(fullTopic), payload()
	}
	_, err := m.conn.Write(p.Append(nil, codec.V311))
	return err
}

func (m *mqtt) ping(ctx context.Context) error {
	return m.exchange(ctx, codec.AppendPingreq(nil), codec.PINGRESP)
}

func (m *mqtt) idle(ctx context.Context) error {
	if err := pause(ctx, m.period); err != nil {
		return err
	}
	return m.ping(ctx)
}

func (*mqtt) rest(ctx context.Context, d time.Duration) error { return pause(ctx, d) }

func (m *mqtt) close() { _ = m.conn.Close() }

// subscribe makes the client the receiver of what send sends.
func (m *mqtt) subscribe(ctx context.Context) error {
	p := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{
		{Name: []byte(bareTopic)}, {Name: []byte(fullTopic)},
	}}
	return m.exchange(ctx, p.Append(nil, codec.V311), codec.SUBACK)
}

func (m *mqtt) receive(ctx context.Context, n int) error {
	defer cut(ctx, m.conn)()
	for got := 0; got < n; {
		h, _, err := m.next()
		if err != nil {
			return fmt.Errorf("%w: %d of %d messages came", err, got, n)
		}
		if h.Type == codec.PUBLISH {
			got++
		}
	}
	return nil
}

// payload is the paper's table 2: one text, from the user u1.
func payload() []byte {
	const sender, content = "u1", `{"co":"hello"}`
	b := binary.BigEndian.AppendUint32(nil, 1700000000)
	b = append(b, 0x11, 0x00) // Web to iOS, one medium; text
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	b = append(b, content...)
	b = append(b, byte(len(sender)))
	return append(b, sender...)
}
