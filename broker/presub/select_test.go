package presub

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// forYAML is a provider with a selection.
func forYAML(selection string) string {
	return "providers:\n  - name: a\n    static: {topics: [{topic: a}]}\n    " + selection
}

func TestSelectorsAreChecked(t *testing.T) {
	for _, tt := range []struct{ selection, want string }{
		{"for: {username: a}", ""},
		{"for: {username: [a, 'b*', 7, '']}\n    not_for:\n      - {listener: '*:1884'}\n      - {address: [10.0.0.0/8, '::1']}", ""},
		{"for: {user: a}", "[4:11]"},
		{"for: {}", "[4:10] a selector needs one of"},
		{"for: []", "[4:10] a list of 0 selectors"},
		{"for: a", "[4:"},
		{"for: {username: []}", "[4:21] a list of 0 values"},
		{"for: {username: [[a]]}", "[4:22] not a value"},
		{"for: {username: }", "[4:"},
		{"for: {address: 10.0.0.0/33}", `[4:20] "10.0.0.0/33" is not an address`},
		{"for: {address: 10.0.0.1/8}", `[4:20] "10.0.0.1/8" has bits beyond the network 10.0.0.0/8`},
		{"for: {address: here}", "[4:20]"},
		{"not_for:\n      - {username: a}\n      - {address: 'fe80::1%eth0'}", "[6:19]"},
	} {
		_, err := Parse([]byte(forYAML(tt.selection)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.selection, err, tt.want)
		}
	}
}

func TestSelection(t *testing.T) {
	c := Client{ID: "probe-7", Username: "ann@e1", Tenant: "e1", Listener: "tcp :1884", Address: netip.MustParseAddr("10.1.2.3")}
	mapped, none, nobody := c, c, c
	mapped.Address = netip.MustParseAddr("::ffff:10.1.2.3")
	none.Address, none.Listener = netip.Addr{}, "pipe"
	nobody.Username, nobody.Tenant = "", ""
	for _, tt := range []struct {
		selection string
		c         *Client
		want      string
	}{
		{"when: before_connack", &c, ""},
		{"for: {username: '*@e1'}", &c, ""},
		{"for: {username: '*@e2'}", &c, `its for does not fit username "ann@e1"`},
		{"for: {username: ['*@e2', '*nn*e*']}", &c, ""},
		{"for: {username: '*', clientid: 'phone-*'}", &c, `its for does not fit username "ann@e1", client id "probe-7"`},
		{"for: [{clientid: 'phone-*'}, {tenant: e1}]", &c, ""},
		{"not_for: {clientid: 'probe-*'}", &c, `its not_for fits client id "probe-7"`},
		{
			"for: {username: '*'}\n    not_for: [{username: bob}, {clientid: 'probe-*', listener: '*:1884'}]", &c,
			`its not_for fits client id "probe-7", listener "tcp :1884"`,
		},
		{"not_for: {clientid: 'probe-*', listener: '*:1883'}", &c, ""},
		{"for: {address: [192.168.0.0/16, 10.1.2.3]}", &c, ""},
		{"for: {address: 10.0.0.0/8}", &mapped, ""},
		{"for: {address: 10.1.2.4}", &c, "its for does not fit address 10.1.2.3"},
		{"for: {address: ['0.0.0.0/0', '::/0']}", &none, "its for does not fit address none"},
		{"not_for: {address: ['0.0.0.0/0', '::/0']}", &none, ""},
		{"not_for: {username: ''}", &nobody, `its not_for fits username ""`},
		{"not_for: {username: ''}", &c, ""},
	} {
		cfg, err := Parse([]byte(forYAML(tt.selection)))
		if err != nil {
			t.Fatal(tt.selection, err)
		}
		why := cfg.Providers[0].whyNot(&candidate{Client: tt.c, named: true, placed: true})
		if why != tt.want {
			t.Errorf("%s: %q, want %q", tt.selection, why, tt.want)
		}
	}
}

// TestSelectionOfWhatIsNotKnown: what cannot be told yet is neither yes nor no, unless the rest decides.
func TestSelectionOfWhatIsNotKnown(t *testing.T) {
	for _, tt := range []struct {
		selection     string
		named, placed bool
		want          fit
	}{
		{"for: {username: a}", false, true, unknown},
		{"not_for: {username: a}", false, true, unknown},
		{"for: {username: a}", true, false, fits},
		{"for: {username: b, listener: x}", true, false, fitsNot},
		{"for: [{username: a}, {listener: x}]", true, false, fits},
		{"for: {username: a}\n    not_for: {address: 10.0.0.0/8}", true, false, unknown},
		{"for: {username: b}\n    not_for: {address: 10.0.0.0/8}", true, false, fitsNot},
		{"for: {listener: x}\n    not_for: {username: a}", true, false, fitsNot},
		{"for: {tenant: e}", false, false, unknown},
		{"for: {clientid: 'c*'}", false, false, fits},
	} {
		cfg, err := Parse([]byte(forYAML(tt.selection)))
		if err != nil {
			t.Fatal(tt.selection, err)
		}
		c := Client{ID: "c", Username: "a"}
		if !tt.named {
			c.Username = ""
		}
		if got := cfg.Providers[0].fit(&candidate{Client: &c, named: tt.named, placed: tt.placed}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.selection, got, tt.want)
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*", "a", true},
		{"a*", "ba", false},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false},
		{"*ab*ab", "ab", false},
		{"*ab*ab", "abab", true},
		{"**", "x", true},
		{"a.c", "abc", false},
		{"*b*", "abc", true},
		{"a*bc*c", "abc", false},
	} {
		if got := (Patterns{tt.pattern}).Fit(tt.name); got != tt.want {
			t.Errorf("%q, %q: %v", tt.pattern, tt.name, got)
		}
	}
}

// origins is what a session has been given, by origin: "a=x b=".
func (x *system) origins(id string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), brokertest.Timeout)
	defer cancel()
	l, err := x.e.List(ctx, id)
	if err != nil {
		x.t.Fatal(id, err)
	}
	var out []string
	for _, h := range l.Holdings[1:] {
		for i := range h.Topics {
			out = append(out, strings.TrimPrefix(h.Origin, "presub:")+"="+h.Topics[i].Filter)
		}
	}
	return strings.Join(out, " ")
}

// TestProvidersAreForSome: at CONNECT, on the connect topic and in explanations.
func TestProvidersAreForSome(t *testing.T) {
	x := newSystem(t, `
connect: {topic: 'e/+/new', usernames: [agent]}
providers:
  - {name: all, static: {topics: [{topic: all}]}}
  - {name: people, not_for: [{username: agent}, {clientid: 'probe-*'}], static: {topics: [{topic: 'u/%u'}]}}
  - {name: sockets, for: {address: 127.0.0.0/8}, static: {topics: [{topic: socket}]}}
  - {name: inside, for: {listener: 'pipe*'}, static: {topics: [{topic: inside}]}}`)
	inside := x.addr
	o := broker.DefaultListenerOptions()
	o.AllowAnonymous = true
	brokertest.Loopback(&o.Net)
	var err error
	if x.addr, err = x.b.Listen(o); err != nil {
		t.Fatal(err)
	}
	x.connect("c1", "ann")
	agent := x.connect("agent", "agent")
	x.connect("probe-1", "ann")
	brokertest.Connect(t, inside, "in", codec.V5, nil)
	for id, want := range map[string]string{
		"c1": "all=all people=u/ann sockets=socket", "agent": "all=all sockets=socket", "probe-1": "all=all sockets=socket",
		"in": "all=all inside=inside",
	} {
		if got := x.origins(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	agent.Subscribe("e/e1/new/ack", 0)
	for id, want := range map[string]string{
		"c1":      `[{"topic":"all","code":0,"state":"existing"},{"topic":"u/ann","code":0,"state":"existing"},{"topic":"socket","code":0,"state":"existing"}]`,
		"probe-1": `[{"topic":"all","code":0,"state":"existing"},{"topic":"socket","code":0,"state":"existing"}]`,
		"later":   `"results":[{"topic":"all","code":0,"state":"pending"}]`, // nobody knows yet who, and from where
	} {
		agent.Publish("e/e1/new", id, 0, 0)
		var p codec.Publish
		if agent.Want(codec.PUBLISH, &p); !strings.Contains(string(p.Payload), want) {
			t.Errorf("%s: %s, want %s", id, p.Payload, want)
		}
	}
	for id, want := range map[string]string{
		"c1":      `provider inside is not asked: its for does not fit listener "tcp4 127.0.0.1:0"`,
		"probe-1": `provider people is not asked: its not_for fits client id "probe-1"`,
		"in":      `provider sockets is not asked: its for does not fit address none`,
		"nobody":  `provider people is not asked: it is not known who it is before the client connects`,
	} {
		e, err := x.e.Explain(t.Context(), id, "t")
		if notes := strings.Join(e.Notes, "\n"); err != nil || !strings.Contains(notes, want) {
			t.Errorf("%s: %s, %v, want %s", id, notes, err, want)
		}
	}
}

// TestReloadSelectsAnew: sessions that a provider is not for any more lose its list at once, those that it has
// become for get it, offline ones too; the others keep theirs, and the provider its cache.
func TestReloadSelectsAnew(t *testing.T) {
	s := newService(t)
	s.say(http.StatusOK, `{"topics":[{"topic":"list"}]}`)
	yaml := func(selection string) string {
		return "tenant: {from: username, match: '@(.+)$'}\nproviders:\n  - {name: ws, " + selection +
			" budget: 10s, cache: {ttl: 1h}, http: {timeout: 10s, url: '" + s.URL + "'}}\n" +
			"  - {name: own, static: {topics: [{topic: own}]}}"
	}
	x := newSystem(t, yaml("for: {username: '*@e1'},"))
	keep := func(p *codec.Connect) { p.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 600) }
	as := func(id, user string) *brokertest.Client {
		return brokertest.Connect(t, x.addr, id, codec.V5, func(p *codec.Connect) {
			keep(p)
			p.HasUsername, p.Username = true, []byte(user)
		})
	}
	as("a1", "ann@e1")
	as("b1", "bob@e1")
	as("c2", "cid@e2")
	as("d1", "dan@e1").Disconnect()
	as("e2", "eve@e2").Disconnect()
	brokertest.Settle(t, x.b)
	for _, tt := range []struct{ selection, want string }{
		{"for: {username: '*@e1'},", "a1 b1 d1"},
		{"for: {tenant: e2},", "c2 e2"},
		{"not_for: {clientid: 'b*'},", "a1 c2 d1 e2"},
		{"", "a1 b1 c2 d1 e2"},
		{"for: {username: nobody},", ""},
		{"for: {listener: '*'},", "a1 b1 c2"}, // of who is not there it is known with the next CONNECT
		{"for: {listener: 'x*'},", ""},
	} {
		change(t, x.e, yaml(tt.selection))
		if done := x.e.walked; done != nil {
			select {
			case <-done:
			case <-time.After(brokertest.Timeout):
				t.Fatal("the walk has not ended")
			}
		}
		var got []string
		for _, id := range []string{"a1", "b1", "c2", "d1", "e2"} {
			switch list := x.origins(id); list {
			case "own=own ws=list", "ws=list own=own":
				got = append(got, id)
			case "own=own":
			default:
				t.Errorf("%s: %s has %s", tt.selection, id, list)
			}
		}
		if list := strings.Join(got, " "); list != tt.want {
			t.Errorf("%s: %s, want %s", tt.selection, list, tt.want)
		}
	}
	if n := s.calls.Load(); n != 5 {
		t.Errorf("the webservice was asked %d times for 5 clients", n)
	}
}

// TestReloadTakesInWhileDown: who is taken in while the webservice is down gets the list when it is back.
func TestReloadTakesInWhileDown(t *testing.T) {
	s := newService(t)
	s.say(http.StatusServiceUnavailable, "")
	yaml := func(user string) string {
		return "providers: [{name: ws, for: {username: " + user + "}, budget: 10s, http: {timeout: 10s, url: '" + s.URL + "'}}]"
	}
	x := newSystem(t, yaml("nobody"))
	c := x.connect("c", "ann")
	change(t, x.e, yaml("ann"))
	<-x.e.walked
	if n := x.e.rules.Load().providers[0].chase.len(); n != 1 {
		t.Errorf("%d lists are missing, want 1", n)
	}
	c.Subscribe("$me/subscriptions", 0)
	s.say(http.StatusOK, `{"topics":[{"topic":"list"}]}`)
	for told := ""; !strings.Contains(told, `"topic":"list"`); {
		var p codec.Publish
		c.Want(codec.PUBLISH, &p)
		told = string(p.Payload)
	}
	if got := x.origins("c"); got != "ws=list" {
		t.Errorf("%q", got)
	}
}
