package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"
)

// bosh is a client of XMPP over BOSH (XEP-0124, XEP-0206) as strophe.js is one: two connections, and always
// one request that the server holds.
type bosh struct {
	http *browser
	path string
	rid  int64
	sid  string

	signedIn bool
	pings    pings
}

var sidOf = regexp.MustCompile(`\bsid=["']([^"']+)`)

// dialBOSH signs a user in; the server may hold a request for as long as the period is.
func dialBOSH(ctx context.Context, s settings, address, path, user string) (*bosh, error) {
	b := &bosh{
		http: newBrowser(s.meter, address, "text/xml; charset=UTF-8"), path: path,
		rid: 1_000_000_000 + rand.Int64N(1_000_000_000), // ten digits, always
	}
	hello := fmt.Sprintf(`<body content="text/xml; charset=utf-8" hold="1" rid="%d" to="%s" ver="1.6" `+
		`wait="%d" xml:lang="en" xmlns="http://jabber.org/protocol/httpbind" xmlns:xmpp="urn:xmpp:xbosh" `+
		`xmpp:version="1.0"/>`, b.rid, domain, int(s.period/time.Second))
	err := b.http.post(ctx, path, hello)
	for _, step := range [][2]string{
		{"", "PLAIN"},
		{plain(user), "<success"},
		{restart, "urn:ietf:params:xml:ns:xmpp-bind"},
		{bindStanza, "<jid>"},
		{sessionStanza, "sess"},
	} {
		if err == nil && step[0] != "" {
			err = b.post(ctx, step[0])
		}
		if err == nil {
			err = b.await(ctx, step[1])
		}
	}
	b.signedIn = true
	if err == nil {
		err = b.await(ctx, "")
	}
	if err == nil { // strophe.js waits as long between requests; ejabberd must not see them out of order
		err = pause(ctx, 100*time.Millisecond)
	}
	if err == nil {
		err = b.ping(ctx) // opens the second connection
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("%w, signing in to %s%s", err, address, path)
	}
	return b, nil
}

// restart stands for XEP-0206's request to restart the stream.
const restart = "restart"

// post sends a request with stanzas, or without.
func (b *bosh) post(ctx context.Context, stanzas string) error {
	b.rid++
	head := fmt.Sprintf(`<body rid="%d" sid="%s" xmlns="http://jabber.org/protocol/httpbind"`, b.rid, b.sid)
	switch stanzas {
	case "":
		head += "/>"
	case restart:
		head += ` to="` + domain + `" xml:lang="en" xmpp:restart="true" xmlns:xmpp="urn:xmpp:xbosh"/>`
	default:
		head += ">" + stanzas + "</body>"
	}
	return b.http.post(ctx, b.path, head)
}

// await reads answers until one contains want and the server holds one request, no more; where it holds
// none, it is given one. While a client signs in it is not: it would race with the next step on the other
// connection, and ejabberd ends a session whose requests come out of order.
func (b *bosh) await(ctx context.Context, want string) error {
	for seen := want == ""; ; {
		if b.http.waiting == 0 && len(b.http.ready) == 0 && b.sid != "" && (b.signedIn || !seen) {
			if err := b.post(ctx, ""); err != nil {
				return err
			}
		}
		if seen && b.http.waiting <= 1 && len(b.http.ready) == 0 {
			return nil
		}
		body, err := b.http.next(ctx)
		if err != nil {
			return err
		}
		if m := sidOf.FindStringSubmatch(body); m != nil && b.sid == "" {
			b.sid = m[1]
		}
		if strings.Contains(body, "terminate") || strings.Contains(body, "<failure") {
			return fmt.Errorf("%w: %s", errProtocol, body)
		}
		seen = seen || strings.Contains(body, want)
	}
}

func (b *bosh) send(ctx context.Context, full bool) error {
	if err := b.post(ctx, stanza(full)); err != nil {
		return err
	}
	return b.await(ctx, "")
}

func (b *bosh) ping(ctx context.Context) error {
	request, want := b.pings.next()
	if err := b.post(ctx, request); err != nil {
		return err
	}
	return b.await(ctx, want)
}

// idle waits until the server answers the request that it holds, and sends the next.
func (b *bosh) idle(ctx context.Context) error {
	if _, err := b.http.next(ctx); err != nil {
		return err
	}
	return b.await(ctx, "")
}

// rest gives the server a request to hold whenever it has answered the last: ejabberd ends a session that
// has none for 30 s.
func (b *bosh) rest(ctx context.Context, d time.Duration) error {
	return b.http.rest(ctx, d, func() error { return b.await(ctx, "") })
}

func (b *bosh) close() { b.http.close() }
