package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// The ledger: publishers and subscribers of every kind keep book while the broker is killed at random
// moments and started again, and its disk is full at times. What was acknowledged arrives, what is of QoS 2
// arrives once, and in order. The number of kills is that of NOCTULE_LEDGER_ROUNDS, 20 by default.

// wire is a connection of the ledger: every error is only the end of it.
type wire struct {
	conn net.Conn
	v    codec.Version
	buf  []byte
}

func (w *wire) send(p brokertest.Packet) error {
	_, err := w.conn.Write(p.Append(nil, w.v))
	return err
}

// next reads a packet; an error after a while without one.
func (w *wire) next(wait time.Duration) (codec.Header, []byte, error) {
	for {
		h, err := codec.ParseHeader(w.buf)
		if err == nil && len(w.buf) >= h.Size+h.Len {
			body := slices.Clone(w.buf[h.Size : h.Size+h.Len])
			w.buf = w.buf[h.Size+h.Len:]
			return h, body, nil
		}
		if err != nil && !errors.Is(err, codec.ErrShort) {
			return h, nil, err
		}
		if err := w.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return h, nil, err
		}
		var chunk [16 << 10]byte
		n, err := w.conn.Read(chunk[:])
		w.buf = append(w.buf, chunk[:n]...)
		if n == 0 && err != nil {
			return h, nil, err
		}
	}
}

// ledger is one run.
type ledger struct {
	t    *testing.T
	addr string
	stop chan struct{} // publishers end
	end  chan struct{} // subscribers end

	publishers sync.WaitGroup
	wg         sync.WaitGroup // subscribers
}

func (l *ledger) ended(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// dial connects until it succeeds; nil when c has ended.
func (l *ledger) dial(id string, v codec.Version, clean bool, c chan struct{}) (w *wire, present bool) {
	for !l.ended(c) {
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			time.Sleep(2 * time.Millisecond) // the broker is down
			continue
		}
		w := &wire{conn: conn, v: v}
		p := codec.Connect{Version: v, CleanStart: clean, ClientID: []byte(id), KeepAlive: 60}
		if v == codec.V5 && !clean {
			p.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 0xFFFFFFFF)
		}
		var ack codec.Connack
		if err = w.send(&p); err == nil {
			var h codec.Header
			var body []byte
			if h, body, err = w.next(5 * time.Second); err == nil && h.Type == codec.CONNACK {
				err = ack.Parse(h.Flags, body, v)
			}
		}
		if err == nil && ack.Reason == codec.Success {
			return w, ack.SessionPresent
		}
		_ = conn.Close()
		time.Sleep(2 * time.Millisecond) // the broker is down, or cannot keep a session
	}
	return nil, false
}

// pending is a message that is not acknowledged.
type pending struct {
	id       uint16
	seq      int
	received bool // PUBREC has come
}

// publisher sends numbers in order and notes which are acknowledged.
type publisher struct {
	name   string
	qos    uint8
	clean  bool
	retain bool
	v      codec.Version
	window int

	sent  int
	open  []pending
	acked map[int]bool

	refused int
}

func (p *publisher) packet(m pending, dup bool) *codec.Publish {
	return &codec.Publish{
		Topic: []byte("ledger/" + p.name), Payload: fmt.Appendf(nil, "%s %d", p.name, m.seq),
		QoS: p.qos, PacketID: m.id, Dup: dup, Retain: p.retain,
	}
}

func (l *ledger) publish(p *publisher) {
	defer l.publishers.Done()
	never := make(chan struct{})
	for first := true; ; first = false {
		if l.ended(l.stop) && (p.clean || len(p.open) == 0) {
			return
		}
		w, present := l.dial(p.name, p.v, p.clean, never)
		if !first && !p.clean && !present {
			l.t.Errorf("%s: the session is gone", p.name)
			return
		}
		l.publishOn(p, w)
		_ = w.conn.Close()
	}
}

// publishOn publishes on one connection until it ends.
func (l *ledger) publishOn(p *publisher, w *wire) {
	if p.clean {
		p.open = nil // nobody knows
	}
	for _, m := range p.open {
		var err error
		if m.received {
			err = w.send(&codec.Ack{Type: codec.PUBREL, PacketID: m.id})
		} else {
			err = w.send(p.packet(m, true))
		}
		if err != nil {
			return
		}
	}
	for {
		for len(p.open) < p.window && !l.ended(l.stop) {
			m := pending{id: uint16(p.sent%60000 + 1), seq: p.sent}
			p.sent++
			p.open = append(p.open, m)
			if w.send(p.packet(m, false)) != nil {
				return
			}
		}
		if len(p.open) == 0 {
			return
		}
		h, body, err := w.next(20 * time.Second)
		if err != nil {
			return
		}
		if err := l.acknowledged(p, w, h, body); err != nil {
			if err != errEnd {
				l.t.Errorf("%s: %v", p.name, err)
			}
			return
		}
	}
}

var errEnd = errors.New("the connection has ended")

func (l *ledger) acknowledged(p *publisher, w *wire, h codec.Header, body []byte) error {
	a := codec.Ack{Type: h.Type}
	if err := a.Parse(h.Flags, body, p.v); err != nil {
		return err
	}
	i := slices.IndexFunc(p.open, func(m pending) bool { return m.id == a.PacketID })
	if i >= 0 && a.Reason == codec.QuotaExceeded { // the disk is full; it was not taken
		p.open = slices.Delete(p.open, i, i+1)
		p.refused++
		return nil
	}
	if i < 0 || a.Reason >= 0x80 && a.Reason != codec.PacketIdentifierNotFound {
		return fmt.Errorf("%s of %d with reason %s", h.Type, a.PacketID, a.Reason)
	}
	if h.Type == codec.PUBREC {
		p.open[i].received = true
		if w.send(&codec.Ack{Type: codec.PUBREL, PacketID: a.PacketID}) != nil {
			return errEnd
		}
		return nil
	}
	p.acked[p.open[i].seq] = true
	p.open = slices.Delete(p.open, i, i+1)
	return nil
}

// subscriber notes what arrives.
type subscriberBook struct {
	name   string
	filter string
	qos    uint8
	v      codec.Version

	mu   sync.Mutex
	got  []string // in order of arrival
	seen map[string]int
	held map[uint16]bool // QoS 2 between PUBLISH and PUBREL
}

func (l *ledger) subscribe(s *subscriberBook, ready *sync.WaitGroup) {
	defer l.wg.Done()
	done := sync.OnceFunc(ready.Done)
	defer done()
	for first := true; ; {
		w, present := l.dial(s.name, s.v, false, l.end)
		if w == nil {
			return
		}
		if !first && !present {
			l.t.Errorf("%s: the session is gone", s.name)
			return
		}
		if first {
			err := w.send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte(s.filter), QoS: s.qos}}})
			if h, _, err2 := w.next(5 * time.Second); err != nil || err2 != nil || h.Type != codec.SUBACK {
				l.t.Errorf("%s: no SUBACK: %v %v", s.name, err, err2)
				return
			}
			first = false
			done()
		}
		for err := error(nil); err == nil; {
			err = l.take(s, w)
		}
		_ = w.conn.Close()
	}
}

// take handles one packet.
func (l *ledger) take(s *subscriberBook, w *wire) error {
	h, body, err := w.next(50 * time.Millisecond)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() && !l.ended(l.end) {
		return nil
	}
	if err != nil {
		return err
	}
	switch h.Type {
	case codec.PUBLISH:
		var p codec.Publish
		if err := p.Parse(h.Flags, body, s.v); err != nil {
			l.t.Errorf("%s: %v", s.name, err)
			return err
		}
		s.mu.Lock()
		if p.QoS < 2 || !s.held[p.PacketID] {
			s.got = append(s.got, string(p.Payload))
			s.seen[string(p.Payload)]++
		}
		t := codec.PUBACK
		if p.QoS == 2 {
			s.held[p.PacketID] = true
			t = codec.PUBREC
		}
		s.mu.Unlock()
		if p.QoS == 0 {
			return nil
		}
		return w.send(&codec.Ack{Type: t, PacketID: p.PacketID})
	case codec.PUBREL:
		a := codec.Ack{Type: h.Type}
		if err := a.Parse(h.Flags, body, s.v); err != nil {
			l.t.Errorf("%s: %v", s.name, err)
			return err
		}
		s.mu.Lock()
		delete(s.held, a.PacketID)
		s.mu.Unlock()
		return w.send(&codec.Ack{Type: codec.PUBCOMP, PacketID: a.PacketID})
	default:
		return fmt.Errorf("%s", h.Type)
	}
}

func TestLedger(t *testing.T) {
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv("NOCTULE_LEDGER_ROUNDS")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = 3
	}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("NOCTULE_LEDGER_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	port := freePort(t)
	dir := t.TempDir()
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"+
		"persistence true\npersistence_location %s\nuser root\n", port, dir)
	start := func() *process {
		bound := []int{0, 5000}[rnd.IntN(2)] // queues are in memory, or mostly on disk
		p := newBroker(t, conf+fmt.Sprintf("max_queued_memory %d\n", bound))
		p.cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", 1+rnd.IntN(4))) // as many loops
		p.start(t)
		return p
	}
	broker := start()
	l := &ledger{t: t, addr: fmt.Sprint("127.0.0.1:", port), stop: make(chan struct{}), end: make(chan struct{})}
	var subs []*subscriberBook
	var ready sync.WaitGroup
	for i := range 8 {
		s := &subscriberBook{
			name: fmt.Sprint("sub", i), filter: "ledger/+", qos: uint8(1 + i%2), v: codec.V311,
			seen: map[string]int{}, held: map[uint16]bool{},
		}
		if i%4 > 1 {
			s.v = codec.V5
		}
		if i >= 4 {
			s.filter = fmt.Sprintf("$share/g%d/ledger/+", i%2) // two members each
		}
		subs = append(subs, s)
		l.wg.Add(1)
		ready.Add(1)
		go l.subscribe(s, &ready)
	}
	ready.Wait()
	var pubs []*publisher
	for i := range 8 {
		p := &publisher{
			name: fmt.Sprint("pub", i), qos: uint8(1 + i%2), clean: i == 2 || i == 3, retain: i == 4, v: codec.V311,
			window: 1 + 2*(i%4), acked: map[int]bool{},
		}
		if i%4 > 1 {
			p.v = codec.V5
		}
		pubs = append(pubs, p)
		l.publishers.Add(1)
		go l.publish(p)
	}
	for range rounds {
		if rnd.IntN(3) == 0 {
			starve(t, broker, rnd)
		}
		time.Sleep(time.Duration(20+rnd.IntN(150)) * time.Millisecond) // the moment of the kill
		if err := broker.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = broker.cmd.Wait()
		broker = start()
	}
	close(l.stop)
	l.publishers.Wait()
	eventually(t, "everything that was acknowledged", func() bool { return l.missing(pubs, subs) == "" || t.Failed() })
	close(l.end)
	l.wg.Wait()
	l.audit(seed, pubs, subs)
	l.retained(pubs[4])
}

// groups is what each subscription got, the members of a shared one together.
func groups(subs []*subscriberBook) map[string]map[string]int {
	out := map[string]map[string]int{}
	for _, s := range subs {
		name := s.name
		if strings.HasPrefix(s.filter, "$share") {
			name = s.filter
		}
		if out[name] == nil {
			out[name] = map[string]int{}
		}
		s.mu.Lock()
		for m, n := range s.seen {
			out[name][m] += n
		}
		s.mu.Unlock()
	}
	return out
}

// missing names something that was acknowledged and has not arrived; the publishers have ended.
func (l *ledger) missing(pubs []*publisher, subs []*subscriberBook) string {
	for name, seen := range groups(subs) {
		for _, p := range pubs {
			for seq := range p.acked {
				if m := fmt.Sprintf("%s %d", p.name, seq); seen[m] == 0 {
					return m + " at " + name
				}
			}
		}
	}
	return ""
}

// audit compares the books.
func (l *ledger) audit(seed uint64, pubs []*publisher, subs []*subscriberBook) {
	total, refused := 0, 0
	for _, p := range pubs {
		total += len(p.acked)
		refused += p.refused
	}
	if m := l.missing(pubs, subs); m != "" {
		l.t.Errorf("seed %d: %s was acknowledged and is lost", seed, m)
	}
	for name, seen := range groups(subs) {
		one := name == "sub1" || name == "sub3" || strings.HasPrefix(name, "$share/g1/") // QoS 2 subscriptions
		for m, n := range seen {
			p := pubs[int(m[3]-'0')]
			if n > 1 && one && p.qos == 2 {
				l.t.Errorf("seed %d: %s got %q %d times", seed, name, m, n)
			}
		}
	}
	for _, s := range subs {
		if strings.HasPrefix(s.filter, "$share") { // only others are ordered [MQTT-4.6.0-6]
			continue
		}
		last := map[string]int{}
		first := map[string]bool{}
		for _, m := range s.got {
			name, number, _ := strings.Cut(m, " ")
			seq, _ := strconv.Atoi(number)
			if first[m] {
				continue
			}
			first[m] = true
			if before, ok := last[name]; ok && seq < before {
				l.t.Errorf("seed %d: %s got %q after %d", seed, s.name, m, before)
			}
			last[name] = seq
		}
	}
	l.t.Logf("%d messages acknowledged, %d refused while the disk was full", total, refused)
}

// retained checks that the topic of p holds the last acknowledged message, or one that was sent after it.
func (l *ledger) retained(p *publisher) {
	c := brokertest.Connect(l.t, l.addr, "late", codec.V311, nil)
	c.Subscribe("ledger/"+p.name, 0)
	var m codec.Publish
	c.Want(codec.PUBLISH, &m)
	_, number, _ := strings.Cut(string(m.Payload), " ")
	seq, _ := strconv.Atoi(number)
	last := 0
	for n := range p.acked {
		last = max(last, n)
	}
	if !m.Retain || seq < last || seq > p.sent {
		l.t.Errorf("retained is %d, the last acknowledged %d of %d", seq, last, p.sent)
	}
}
