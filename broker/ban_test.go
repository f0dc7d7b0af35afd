package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// ban adds an entry for so many seconds, 0 for ever, and says how many connections that has ended.
func (x *fixture) ban(k broker.BanKind, name string, seconds int) int {
	x.t.Helper()
	b := broker.Ban{Kind: k, Name: name, By: "test"}
	if seconds > 0 {
		b.Until = time.UnixMilli(x.clock.Source().Wall()).Add(time.Duration(seconds) * time.Second)
	}
	_, ended, err := x.b.Ban(x.t.Context(), b)
	if err != nil {
		x.t.Fatal(err)
	}
	return ended
}

// badges is a source of logins whose tokens have the username as their id.
type badges struct{}

func (badges) Authenticate(*auth.Login) auth.Verdict { return auth.Deny }

func (badges) Admit(_ context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	return auth.Allow, &auth.Pass{TokenID: "t-" + l.Username, Username: "u-" + l.Username, HasUsername: true}
}

// Who is banned is ended when the entry comes, with its will, and others are not; CONNECT is refused with 0x8A, in MQTT 3
// with 5, until the entry ends or is taken out [MQTT-3.2.2-8].
func TestBan(t *testing.T) {
	onEach(t, from(badges{}), func(t *testing.T, x *fixture) {
		for i, tt := range []struct {
			kind broker.BanKind
			name string
		}{{broker.BanToken, "t-a"}, {broker.BanUser, "u-a"}, {broker.BanClient, "a"}} {
			watch := x.connect("watch", codec.V5, as("watch"))
			watch.Subscribe("w/#", 1)
			five := x.connect("a", codec.V5, both(as("a"), willOf(0, 100)))
			others := []*brokertest.Client{x.connect("b", codec.V5, as("b")), x.connect("ab", codec.V311, as("ab"))}
			if n := x.ban(tt.kind, tt.name, 60); n != 1 {
				t.Errorf("%d: %d are ended", i, n)
			}
			wantDisconnect(t, five, codec.AdministrativeAction)
			receive(t, watch, "w/a", "gone", 1)
			for _, c := range others {
				exchange(t, c, "x", "y", 0)
			}
			for _, v := range []codec.Version{codec.V311, codec.V5} {
				if got := x.connack("a", v, as("a")); got != refusedAs(v, 5, codec.Banned) {
					t.Errorf("%d: MQTT %d: %s", i, v, got)
				}
			}
			x.advance(59)
			if got := x.connack("a", codec.V5, as("a")); got != codec.Banned {
				t.Errorf("%d: a second before its end: %s", i, got)
			}
			x.advance(1)
			if got := x.connack("a", codec.V5, as("a")); got != codec.Success {
				t.Errorf("%d: behind its end: %s", i, got)
			}
			x.ban(tt.kind, tt.name, 0)
			if _, ok, err := x.b.Unban(t.Context(), tt.kind, tt.name); !ok || err != nil {
				t.Errorf("%d: %v %v", i, ok, err)
			}
			three := x.connect("a", codec.V311, as("a"))
			x.ban(tt.kind, tt.name, 1)
			three.WantClosed()
			x.advance(1)
		}
		m := brokertest.Settle(t, x.b)
		if m.Disconnects[broker.EndBanned] != 9 || m.ConnectsRefused[broker.RefusedBanned] != 9 || m.Denials.Entries != 0 {
			t.Errorf("%v %v %+v", m.Disconnects, m.ConnectsRefused, m.Denials)
		}
	})
}

func TestBanOfAddresses(t *testing.T) {
	onEach(t, func(_ *broker.Options, l *broker.ListenerOptions) { l.Net.ProxyProtocol, l.AllowAnonymous = 1, true }, func(t *testing.T, x *fixture) {
		come := func(address string) (*brokertest.Client, codec.Reason) {
			c := x.proxied(address)
			return c, c.Connack(address, nil).Reason
		}
		in, _ := come("192.0.2.9")
		out, _ := come("198.51.100.1")
		if n := x.ban(broker.BanAddress, "192.0.2.0/28", 0); n != 1 {
			t.Errorf("%d are ended", n)
		}
		wantDisconnect(t, in, codec.AdministrativeAction)
		exchange(t, out, "x", "y", 0)
		for address, want := range map[string]codec.Reason{"192.0.2.1": codec.Banned, "192.0.2.16": codec.Success, "2001:db8::1": codec.Success} {
			if _, got := come(address); got != want {
				t.Errorf("%s: %s", address, got)
			}
		}
	})
}

// A ban that was acknowledged survives a kill, and what was taken out does not come back; one that ends while there is no
// broker has ended.
func TestBansSurvive(t *testing.T) {
	onLoops(t, func(t *testing.T, loops int) {
		d := newDurable(t, loops, from(badges{}))
		d.ban(broker.BanClient, "a", 0)
		d.ban(broker.BanToken, "t-b", 100)
		d.ban(broker.BanUser, "u-c", 0)
		if _, ok, err := d.b.Unban(t.Context(), broker.BanUser, "u-c"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		want := func(a, b, c codec.Reason) {
			t.Helper()
			for id, want := range map[string]codec.Reason{"a": a, "b": b, "c": c} {
				if got := d.connack(id, codec.V5, as(id)); got != want {
					t.Errorf("%s: %s", id, got)
				}
			}
		}
		d.crash(t, loops)
		want(codec.Banned, codec.Banned, codec.Success)
		d.clock.Set(101 * time.Second)
		d.restart(t)
		want(codec.Banned, codec.Success, codec.Success)
		d.advance(1)
		if list, _, more := d.b.Bans(broker.BanCursor{}, 10); len(list) != 1 || more || list[0].Name != "a" || list[0].By != "test" {
			t.Errorf("%+v", list)
		}
		d.restart(t)
		if list, _, _ := d.b.Bans(broker.BanCursor{}, 10); len(list) != 1 {
			t.Errorf("%+v", list)
		}
	})
}

// TestBanOfMany: clients that come and go while their user is banned are not there behind it.
func TestBanOfMany(t *testing.T) {
	onEach(t, from(badges{}), func(t *testing.T, x *fixture) {
		const n = 3000
		for i := range n {
			x.connect(fmt.Sprint(i), codec.V311, as("many"))
		}
		late := make([]*brokertest.Client, 100)
		for i := range late {
			late[i] = brokertest.Dial(t, x.addr, codec.V5)
			p := codec.Connect{Version: codec.V5, CleanStart: true, ClientID: fmt.Appendf(nil, "late%d", i)}
			as("many")(&p)
			late[i].Send(&p)
		}
		x.ban(broker.BanUser, "u-many", 0)
		if m := brokertest.Settle(t, x.b); m.Disconnects[broker.EndBanned] < n {
			t.Errorf("%d are ended", m.Disconnects[broker.EndBanned])
		}
		brokertest.Until(t, x.b, "the end of all", func(m *broker.Metrics) bool {
			return m.Connections == 0 && m.Disconnects[broker.EndBanned]+m.ConnectsRefused[broker.RefusedBanned] == n+int64(len(late))
		})
	})
}

func TestBanThatIsNone(t *testing.T) {
	x := newFixture(t, nil)
	if _, _, err := x.b.Ban(t.Context(), broker.Ban{Kind: broker.BanAddress, Name: "nowhere"}); err == nil {
		t.Error("a ban of no address")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, _, err := x.b.Ban(ctx, broker.Ban{Kind: broker.BanUser, Name: "u"})
	if b.Name != "u" || err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%+v %v", b, err)
	}
	if _, ok, err := x.b.Unban(t.Context(), broker.BanUser, "v"); ok || err != nil {
		t.Error("what is not there is taken out")
	}
}
