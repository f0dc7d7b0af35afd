package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// station is a client that publishes to its own topic and hears itself, until told to stop.
type station struct {
	id   string
	conn net.Conn
	in   *bufio.Reader
	sent int
}

// packet reads one packet.
func (s *station) packet() (h codec.Header, body []byte, err error) {
	var b []byte
	for {
		c, err := s.in.ReadByte()
		if err != nil {
			return h, nil, err
		}
		if b = append(b, c); len(b) < 2 {
			continue
		}
		if h, err = codec.ParseHeader(b); err == nil {
			break
		}
	}
	body = make([]byte, h.Len)
	_, err = io.ReadFull(s.in, body)
	return h, body, err
}

// want reads a packet of a type.
func (s *station) want(t codec.Type) ([]byte, error) {
	_ = s.conn.SetDeadline(time.Now().Add(patience))
	h, body, err := s.packet()
	if err == nil && h.Type != t {
		err = fmt.Errorf("got %s, want %s", h.Type, t)
	}
	return body, err
}

// begin connects and subscribes to the station's own topic.
func (s *station) begin(addr string, secure *tls.Config) (err error) {
	if secure != nil {
		s.conn, err = tls.Dial("tcp", addr, secure)
	} else {
		s.conn, err = net.Dial("tcp", addr)
	}
	if err != nil {
		return err
	}
	s.in = bufio.NewReader(s.conn)
	p := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte(s.id)}
	withLogin("crew", "secret")(&p)
	sub := codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("load/" + s.id), QoS: 0}}}
	if _, err = s.conn.Write(sub.Append(p.Append(nil, codec.V311), codec.V311)); err != nil {
		return err
	}
	body, err := s.want(codec.CONNACK)
	if err == nil && body[1] != 0 {
		err = fmt.Errorf("CONNACK %d", body[1])
	}
	if err == nil {
		_, err = s.want(codec.SUBACK)
	}
	return err
}

// round publishes a message with QoS 1 and reads it and its PUBACK.
func (s *station) round() error {
	s.sent++
	p := codec.Publish{QoS: 1, PacketID: 1, Topic: []byte("load/" + s.id), Payload: fmt.Appendf(nil, "%d", s.sent)}
	if _, err := s.conn.Write(p.Append(nil, codec.V311)); err != nil {
		return err
	}
	body, err := s.want(codec.PUBLISH)
	if err == nil && !strings.HasSuffix(string(body), "/"+s.id+fmt.Sprint(s.sent)) {
		err = fmt.Errorf("got %q", body)
	}
	if err == nil {
		_, err = s.want(codec.PUBACK)
	}
	return err
}

// TestReloadUnderLoad: a thousand clients publish, a tenth of them over TLS, while the files change a hundred
// times, three times in ten for the worse. Nobody who is still allowed is lost, and no message.
func TestReloadUnderLoad(t *testing.T) {
	stations, changes := 1000, 100
	if testing.Short() {
		stations, changes = 100, 20
	}
	s, plain, secure := newSite(t), freePort(t), freePort(t)
	ca := newAuthority(t, "CA")
	renew := func() {
		_, cert, key := ca.issue(t, "localhost", &x509.Certificate{DNSNames: []string{"localhost"}})
		s.copy(t, cert, "cert")
		s.copy(t, key, "key")
	}
	renew()
	conf := func(extra string) {
		s.conf(t, fmt.Sprintf("password_file DIR/passwords\nacl_file DIR/acl\nconnection_messages false\nlistener %d 127.0.0.1\n"+
			"max_connections 5000\n%s\nlistener %d 127.0.0.1\ncertfile DIR/cert\nkeyfile DIR/key\n", plain, extra, secure))
	}
	s.passwords(t, "both", "crew secret", "guest g")
	lines := strings.SplitAfter(readFile(t, s.path("both")), "\n")
	users := func(guest bool) {
		s.write(t, "passwords", lines[0]+map[bool]string{true: lines[1]}[guest])
	}
	const rights = "user guest\ntopic #\nuser crew\ntopic load/#\n"
	acl := func(extra string) { s.write(t, "acl", rights+extra) }
	users(true)
	acl("")
	conf("")
	s.start(t)

	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	stop, failures := make(chan struct{}), make(chan error, stations)
	var rounds atomic.Int64
	var wg, up sync.WaitGroup
	turns := make(chan struct{}, 64) // so that the clients do not take the whole machine
	for i := range stations {
		up.Add(1)
		wg.Go(func() {
			c := &station{id: fmt.Sprint("s", i)}
			port, over := plain, (*tls.Config)(nil)
			if i%10 == 0 {
				port, over = secure, &tls.Config{RootCAs: roots, ServerName: "localhost"}
			}
			turns <- struct{}{}
			err := c.begin(fmt.Sprintf("127.0.0.1:%d", port), over)
			<-turns
			up.Done()
			for err == nil {
				select {
				case <-stop:
					_ = c.conn.Close()
					return
				case turns <- struct{}{}:
				}
				err = c.round()
				rounds.Add(1)
				<-turns
			}
			failures <- fmt.Errorf("%s after %d messages: %w", c.id, c.sent, err)
		})
	}
	up.Wait()
	bad := 0
	for i := range changes {
		want, before := true, rounds.Load()
		switch i % 10 {
		case 0:
			acl("topic deny other/#\npattern read %u/%c\n")
		case 1:
			renew()
		case 2:
			s.write(t, "acl", rights+"topic\n")
			want = false
		case 3:
			acl("")
			conf("max_qos 1\nmax_topic_alias 5")
		case 4:
			users(false)
		case 5:
			conf("nonsense 1")
			want = false
		case 6:
			conf("max_connections 1500")
			users(true)
		case 7:
			s.write(t, "cert", "none")
			want = false
		case 8:
			renew()
			conf("")
		case 9:
			acl("pattern write %c\n")
		}
		if log, ok := s.hup(t); ok != want {
			t.Fatalf("change %d: %t, want %t\n%s", i, ok, want, log)
		}
		if !want {
			bad++
		}
		if i%10 == 4 || i%10 == 6 {
			want := map[bool]codec.Reason{true: codec.NotAuthorized, false: codec.Success}[i%10 == 4]
			_, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", plain), "guest", codec.V5, withLogin("guest", "g"))
			if ack.Reason != want {
				t.Errorf("change %d: the guest is answered %s", i, ack.Reason)
			}
		}
		eventually(t, "messages", func() bool { return rounds.Load() >= before+int64(stations)/2 || len(failures) > 0 })
		if len(failures) > 0 {
			t.Fatal(<-failures)
		}
	}
	close(stop)
	wg.Wait()
	for len(failures) > 0 {
		t.Error(<-failures)
	}
	t.Logf("%d clients, %d messages, %d changes, %d of them refused", stations, rounds.Load(), changes, bad)
	brokertest.Connect(t, fmt.Sprintf("127.0.0.1:%d", plain), "end", codec.V5, withLogin("crew", "secret"))
}
