package traffic

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// Who talks: the domain and password that the servers are set up with.
const (
	domain   = "localhost"
	sender   = "u1"
	peer     = "u2"
	password = "pw"
)

// The stanzas, as strophe.js writes them.
const (
	bindStanza = `<iq id="bind" type="set" xmlns="jabber:client">` +
		`<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></iq>`
	sessionStanza = `<iq id="sess" type="set" xmlns="jabber:client">` +
		`<session xmlns="urn:ietf:params:xml:ns:xmpp-session"/></iq>`
	presenceStanza = `<presence xmlns="jabber:client"/>`
	bareStanza     = `<message to="` + peer + `@` + domain + `" type="chat" xmlns="jabber:client">` +
		`<body>hello</body></message>`
	fullStanza = `<message from="` + sender + `@` + domain + `" to="` + peer + `@` + domain + `" ` +
		`type="chat" id="b5c4f8b2-6b62-4f3a-9d0e-0e6f0f3c7a11" xmlns="jabber:client"><body>hello</body>` +
		`<active xmlns="http://jabber.org/protocol/chatstates"/></message>`
)

// plain is the SASL exchange for a user.
func plain(user string) string {
	return `<auth mechanism="PLAIN" xmlns="urn:ietf:params:xml:ns:xmpp-sasl">` +
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + `</auth>`
}

// stanza is a message to the peer.
func stanza(full bool) string {
	if full {
		return fullStanza
	}
	return bareStanza
}

// pings numbers a client's pings (XEP-0199).
type pings int

// next is a ping and what its answer contains.
func (p *pings) next() (request, want string) {
	*p++
	id := fmt.Sprintf("ping%03d", *p)
	return `<iq id="` + id + `" to="` + domain + `" type="get" xmlns="jabber:client">` +
		`<ping xmlns="urn:xmpp:ping"/></iq>`, id
}

// xmppWeb is a client of XMPP over WebSocket (RFC 7395).
type xmppWeb struct {
	conn   *channel
	period time.Duration
	pings  pings
}

// dialXMPPWeb signs a user in. url is of the server's endpoint.
func dialXMPPWeb(ctx context.Context, s settings, url, user string) (*xmppWeb, error) {
	c, err := dialWebSocket(ctx, s.meter, url, "xmpp", ws.OpText)
	if err != nil {
		return nil, err
	}
	x := &xmppWeb{conn: c, period: s.period}
	const open = `<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="` + domain + `" version="1.0"/>`
	for _, step := range [][2]string{
		{open, "PLAIN"},
		{plain(user), "<success"},
		{open, "urn:ietf:params:xml:ns:xmpp-bind"},
		{bindStanza, "<jid>"},
		{sessionStanza, "sess"},
	} {
		if err := x.exchange(ctx, step[0], step[1]); err != nil {
			x.close()
			return nil, fmt.Errorf("%w, signing in to %s", err, url)
		}
	}
	return x, nil
}

// exchange sends a stanza and reads until one contains want.
func (x *xmppWeb) exchange(ctx context.Context, text, want string) error {
	defer cut(ctx, x.conn)()
	if err := x.conn.write([]byte(text)); err != nil {
		return err
	}
	for {
		b, err := x.conn.read()
		if err != nil {
			return fmt.Errorf("%w, waiting for %s", err, want)
		}
		if strings.Contains(string(b), want) {
			return nil
		}
		if strings.Contains(string(b), "<failure") {
			return fmt.Errorf("%w: %s", errProtocol, b)
		}
	}
}

func (x *xmppWeb) send(_ context.Context, full bool) error { return x.conn.write([]byte(stanza(full))) }

func (x *xmppWeb) ping(ctx context.Context) error {
	request, want := x.pings.next()
	return x.exchange(ctx, request, want)
}

func (x *xmppWeb) idle(ctx context.Context) error {
	if err := pause(ctx, x.period); err != nil {
		return err
	}
	return x.ping(ctx)
}

func (*xmppWeb) rest(ctx context.Context, d time.Duration) error { return pause(ctx, d) }

func (x *xmppWeb) close() { _ = x.conn.Close() }

// appear makes the user available, so that messages come.
func (x *xmppWeb) appear(ctx context.Context) error {
	return x.exchange(ctx, presenceStanza, "<presence") // the server sends it back to each resource
}

func (x *xmppWeb) receive(ctx context.Context, n int) error {
	defer cut(ctx, x.conn)()
	for got := 0; got < n; {
		b, err := x.conn.read()
		if err != nil {
			return fmt.Errorf("%w: %d of %d messages came", err, got, n)
		}
		got += strings.Count(string(b), "<message")
	}
	return nil
}
