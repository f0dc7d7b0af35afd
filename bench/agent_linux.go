package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"noctule/codec"
)

// agent is the one client of a run that publishes: who has logged in, and proof. It blocks, on goroutines of
// its own.
type agent struct {
	conn  net.Conn
	ended chan struct{} // closed when the reader has ended

	window int64 // messages that may be unacknowledged: Receive Maximum

	write struct { // Guarded by its Mutex:
		sync.Mutex
		id uint16
	}
	mu struct { // Guarded by its Mutex:
		sync.Mutex
		acks    map[string]int64 // PUBACK, by reason
		answers map[string]int64 // of logins, by code
		sent    int64
		acked   int64
		heard   int64
		last    time.Time
		err     error
	}
	heard chan struct{} // something has come
}

// Logins is what came of logins on the connect topic.
type Logins struct {
	Sent    int64            `json:"sent"`
	Sending time.Duration    `json:"sending_ns"` // until the last was sent
	Acks    map[string]int64 `json:"acknowledgements"`
	Answers int64            `json:"answers"`
	Codes   map[string]int64 `json:"codes"`   // of the answers
	Time    time.Duration    `json:"time_ns"` // from the first login to the last answer
}

// The connect topic of the runs, and who may publish there.
const (
	agentName   = "agent"
	loginFilter = "/e/+/connect/new"
	loginTopic  = "/e/bench/connect/new"
)

func newAgent(ctx context.Context, address string) (*agent, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	a := &agent{conn: conn, ended: make(chan struct{}), heard: make(chan struct{}, 1), window: 65534}
	a.mu.acks, a.mu.answers = map[string]int64{}, map[string]int64{}
	hello := codec.Connect{
		Version: codec.V5, CleanStart: true, ClientID: []byte(agentName), HasUsername: true,
		Username: []byte(agentName),
	}
	sub := codec.Subscribe{PacketID: 65535}
	sub.Filters = []codec.Filter{{Name: []byte(loginTopic + "/ack"), QoS: 1}}
	_, err = conn.Write(sub.Append(hello.Append(nil, codec.V5), codec.V5))
	r := bufio.NewReaderSize(conn, 256<<10)
	if err == nil {
		err = a.welcome(r)
	}
	if err != nil {
		_ = conn.Close() // it was of no use
		return nil, err
	}
	go a.read(r) // close waits
	return a, nil
}

// welcome reads what a connection and a subscription are answered with.
func (a *agent) welcome(r *bufio.Reader) error {
	for _, want := range []codec.Type{codec.CONNACK, codec.SUBACK} {
		h, body, err := packet(r)
		if err != nil {
			return err
		}
		var c codec.Connack
		var s codec.Suback
		refused := h.Type != want
		switch h.Type {
		case codec.CONNACK:
			err = c.Parse(h.Flags, body, codec.V5)
			refused = refused || c.Reason != codec.Success
			if n, ok := c.Properties.Uint(codec.ReceiveMaximum); ok {
				a.window = int64(n)
			}
		case codec.SUBACK:
			err = s.Parse(h.Flags, body, codec.V5)
			refused = refused || s.Codes[0] >= 0x80
		default:
		}
		if err != nil || refused {
			return errors.Join(err, fmt.Errorf("the agent is refused: %v %v %v", h.Type, c.Reason, s.Codes))
		}
	}
	return nil
}

// packet reads one packet.
func packet(r *bufio.Reader) (codec.Header, []byte, error) {
	var raw []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return codec.Header{}, nil, err
		}
		raw = append(raw, c)
		h, err := codec.ParseHeader(raw)
		if errors.Is(err, codec.ErrShort) {
			continue
		}
		if err != nil {
			return h, nil, err
		}
		body := make([]byte, h.Len)
		_, err = io.ReadFull(r, body)
		return h, body, err
	}
}

// read takes acknowledgements and answers until the connection ends.
func (a *agent) read(r *bufio.Reader) {
	defer close(a.ended)
	for {
		h, body, err := packet(r)
		if err == nil {
			err = a.take(h, body)
		}
		if err != nil {
			a.mu.Lock()
			a.mu.err = err
			a.mu.Unlock()
			a.tell()
			return
		}
		a.tell()
	}
}

func (a *agent) tell() {
	select {
	case a.heard <- struct{}{}:
	default:
	}
}

func (a *agent) take(h codec.Header, body []byte) error {
	switch h.Type {
	case codec.PUBACK:
		p := codec.Ack{Type: codec.PUBACK}
		if err := p.Parse(h.Flags, body, codec.V5); err != nil {
			return err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.mu.acks[p.Reason.String()]++
		a.mu.acked++
	case codec.PUBLISH:
		var p codec.Publish
		if err := p.Parse(h.Flags, body, codec.V5); err != nil {
			return err
		}
		var answer struct{ Code uint8 }
		if err := json.Unmarshal(p.Payload, &answer); err != nil {
			return err
		}
		a.mu.Lock()
		a.mu.answers[fmt.Sprint(answer.Code)]++
		a.mu.heard++
		a.mu.last = time.Now()
		a.mu.Unlock()
		ack := codec.Ack{PacketID: p.PacketID, Type: codec.PUBACK}
		return a.send(ack.Append(nil, codec.V5))
	case codec.DISCONNECT:
		var p codec.Disconnect
		if err := p.Parse(h.Flags, body, codec.V5); err != nil {
			return err
		}
		return fmt.Errorf("%w: %v", errEnded, p.Reason)
	default:
	}
	return nil
}

func (a *agent) send(b []byte) error {
	a.write.Lock()
	defer a.write.Unlock()
	_, err := a.conn.Write(b)
	return err
}

// publish publishes with QoS 1, when the broker's Receive Maximum lets it.
func (a *agent) publish(ctx context.Context, topic string, payload []byte) error {
	for !a.mayPublish() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.ended:
			return a.mu.err
		case <-a.heard:
		}
	}
	a.write.Lock()
	if a.write.id++; a.write.id == 65535 {
		a.write.id = 1
	}
	p := codec.Publish{QoS: 1, PacketID: a.write.id, Topic: []byte(topic), Payload: payload}
	a.write.Unlock()
	return a.send(p.Append(nil, codec.V5))
}

// mayPublish takes a place among the messages that are unacknowledged.
func (a *agent) mayPublish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.sent-a.mu.acked >= a.window {
		return false
	}
	a.mu.sent++
	return true
}

// logIn says within a second that clients have logged in, and waits until all is acknowledged and answered.
func (a *agent) logIn(ctx context.Context, clients []string) (*Logins, error) {
	out := &Logins{Sent: int64(len(clients))}
	begun := time.Now()
	for i, name := range clients {
		due := begun.Add(time.Second * time.Duration(i) / time.Duration(len(clients)))
		if d := time.Until(due); d > 0 {
			time.Sleep(d)
		}
		if err := a.publish(ctx, loginTopic, []byte(name)); err != nil {
			return nil, err
		}
	}
	out.Sending = time.Since(begun)
	for {
		a.mu.Lock()
		acked, heard, err := a.mu.acked, a.mu.heard, a.mu.err
		out.Acks, out.Codes, out.Answers, out.Time = a.mu.acks, a.mu.answers, heard, a.mu.last.Sub(begun)
		a.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if acked >= out.Sent && heard >= out.Sent {
			break
		}
		select {
		case <-ctx.Done():
			return out, nil // what is missing is in the counts
		case <-a.heard:
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.acks, a.mu.answers = map[string]int64{}, map[string]int64{} // those are out's now
	return out, nil
}

func (a *agent) close() {
	_ = a.conn.Close() // nobody is to be told
	<-a.ended
}
