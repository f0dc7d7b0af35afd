package listener

import (
	"log/slog"
	"testing"

	"noctule/broker/auth"
	"noctule/broker/message"
	"noctule/codec"
	"noctule/wsnet"
)

func newServer(t *testing.T) *wsnet.Server {
	t.Helper()
	server, err := wsnet.New(wsnet.Config{
		Loops: 1, Log: slog.New(slog.DiscardHandler), NewHandler: func(*wsnet.Loop) wsnet.Handler { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Shutdown(t.Context()) })
	return server
}

func open(t *testing.T, server *wsnet.Server, network, address string) *Listener {
	t.Helper()
	o := DefaultOptions()
	o.Net.Network, o.Net.Address = network, address
	l, err := Open(server, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Sockets and places without one are found by their names; of one that is not there any more the port tells.
func TestNamesOfListeners(t *testing.T) {
	server := newServer(t)
	var s Set
	pipe := open(t, server, wsnet.PipeNetwork, "inside")
	other := open(t, server, wsnet.PipeNetwork, "other")
	socket := open(t, server, "tcp4", "127.0.0.1:0")
	for _, l := range []*Listener{pipe, other, socket} {
		s.Add(l)
	}
	if s.Named("pipe other") != other || s.Named("tcp4 127.0.0.1:0") != socket || s.Named("pipe") != nil {
		t.Error("a listener is not found by its name")
	}
	if s.Near("pipe inside") != pipe || s.Near("tcp4 192.0.2.1:0") != socket || s.Near("pipe gone") != nil ||
		s.Near("tcp4 127.0.0.1:1883") != nil {
		t.Error("a listener is not found by its port, or another is")
	}
	src := &message.Source{Listener: "tcp4 127.0.0.1:0", ClientID: "c"}
	if !s.MayStill(nil, nil) || !s.MayStill(src, []byte("a")) || !s.MayStill(&message.Source{Listener: "gone"}, nil) {
		t.Error("what nothing is known of is denied, or a listener without a policy denies")
	}
	if n := len(s.All()); n != 3 {
		t.Errorf("%d listeners", n)
	}
}

// Listeners of one address, after each other, are one in the metrics: what came in by the first is still there.
func TestMetricsOfOneAddress(t *testing.T) {
	server := newServer(t)
	var s Set
	for range 2 {
		l := open(t, server, wsnet.PipeNetwork, "same")
		l.Count(codec.V311, 3)
		l.Count(codec.V5, -1)
		s.Add(l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	list := s.Metrics()
	if len(list) != 1 || list[0].Connected != [versions]int64{0, 6, -2} {
		t.Errorf("%+v", list)
	}
	for v, want := range []string{"3.1", "3.1.1", "5"} {
		if got := VersionText(v); got != want {
			t.Errorf("version %d is %s", v, got)
		}
	}
}

// Settings that are replaced take effect at once, and do not move the listener.
func TestUpdate(t *testing.T) {
	l := open(t, newServer(t), "tcp4", "127.0.0.1:0")
	at := l.Addr().String()
	o := *l.Options()
	o.MaxQoS, o.AcceptVersions, o.Net.Address = 1, VersionsOf(codec.V5), "127.0.0.1:1"
	l.Update(o)
	if now := l.Options(); now.MaxQoS != 1 || now.AcceptVersions.Has(codec.V311) || !now.AcceptVersions.Has(codec.V5) {
		t.Errorf("%+v", now)
	}
	if l.Addr().String() != at {
		t.Errorf("it listens on %s", l.Addr())
	}
}

// marked is an Authenticator with an entry for "ann" that changes.
type marked uint64

func (marked) Authenticate(*auth.Login) auth.Verdict { return auth.Defer }

func (m marked) Mark(username string) uint64 {
	if username == "ann" {
		return uint64(m)
	}
	return 0
}

// Who was let in by settings that have been replaced meanwhile is held against the new ones.
func TestStands(t *testing.T) {
	policy := func(m marked) *auth.Policy { return &auth.Policy{Authenticators: []auth.Authenticator{m}} }
	first, same, changed := &Options{Policy: policy(1)}, &Options{Policy: policy(1)}, &Options{Policy: policy(2)}
	ann := &codec.Connect{HasUsername: true, Username: []byte("ann")}
	vouched := &auth.Identity{Identified: true}
	for i, tt := range []struct {
		now  *Options
		p    *codec.Connect
		as   *auth.Identity
		want bool
	}{
		{first, &codec.Connect{}, nil, true},
		{same, ann, nil, true},
		{changed, ann, nil, false},
		{changed, ann, vouched, true},
		{same, &codec.Connect{HasUsername: true, Username: []byte("bob")}, nil, false},
		{same, &codec.Connect{}, nil, false},
		{&Options{}, ann, nil, false},
		{&Options{AllowAnonymous: true}, ann, nil, true},
	} {
		if got := tt.now.Stands(first, nil, tt.p, tt.as); got != tt.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
