package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/codec"
	"noctule/internal/version"
	"noctule/wsnet"
)

// TestBrokerVersion asks by every way and version of the protocol.
func TestBrokerVersion(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	ws, _ := serve(t, wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", WebSocket: true})
	path := filepath.Join(t.TempDir(), "s")
	serve(t, wsnet.ListenerConfig{Network: "unix", Address: path})
	want := "noctule " + version.Read().String() + ", speaks as mosquitto version 2.1.2"
	for name, target := range map[string]Target{
		"TCP": {Address: address}, "MQTT 5": {Address: address, Version: codec.V5},
		"MQTT 3.1": {Address: address, Version: codec.V31, Prefix: "a-prefix"}, "WebSocket": {Address: ws, WebSocket: true},
		"unix": {Address: path, Unix: true}, "persistent": {Address: address, Persistent: true},
	} {
		if got := brokerVersion(t.Context(), target); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	plan := Load{Rate: 100, Duration: 100 * time.Millisecond}.Pairs(1)
	r, err := Run(t.Context(), Target{Address: address}, plan, Options{AskVersion: true})
	if err != nil || r.BrokerVersion != want || r.Foreign > 0 || r.Clients != 2 {
		t.Errorf("%v %+v", err, r)
	}
	if r := do(t, Target{Address: address}, plan); r.BrokerVersion != "" {
		t.Errorf("not asked, and %q", r.BrokerVersion)
	}
	deadline := time.Now().Add(10 * time.Second)
	for b.Metrics(t.Context()).Sessions > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := b.Metrics(t.Context()).Sessions; n > 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestBrokerVersionIsUnknown where nobody tells it; the run goes on.
func TestBrokerVersionIsUnknown(t *testing.T) {
	o := broker.DefaultOptions()
	o.Log = slog.New(slog.DiscardHandler)
	o.SysInterval = 0
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	listen := func(policy *auth.Policy) string {
		l, err := b.Listen(broker.ListenerOptions{
			AllowAnonymous: true, MaxQoS: 2, Policy: policy, Net: wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for name, address := range map[string]string{
		"no $SYS": listen(nil), "no anonymous clients": listen(&auth.Policy{}), "nobody listens": gone.Addr().String(),
	} {
		if got := brokerVersion(t.Context(), Target{Address: address}); got != UnknownVersion {
			t.Errorf("%s: %q", name, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := brokerVersion(ctx, Target{Address: listen(nil)}); got != UnknownVersion {
		t.Errorf("canceled: %q", got)
	}
}

// TestVersionOfMosquitto asks Debian's.
func TestVersionOfMosquitto(t *testing.T) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	cmd := exec.CommandContext(t.Context(), program, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	got := UnknownVersion
	for deadline := time.Now().Add(10 * time.Second); got == UnknownVersion && time.Now().Before(deadline); {
		got = brokerVersion(t.Context(), Target{Address: "127.0.0.1:" + port})
	}
	if !strings.HasPrefix(got, "mosquitto version ") {
		t.Errorf("%q", got)
	}
}

func TestVersionOf(t *testing.T) {
	for _, tt := range [][3]string{
		{"", "", UnknownVersion},
		{"0.1.0 (abc)", "", "noctule 0.1.0 (abc)"},
		{"", "mosquitto version 2.0.11", "mosquitto version 2.0.11"},
		{"0.1.0", "mosquitto version 2.1.2", "noctule 0.1.0, speaks as mosquitto version 2.1.2"},
	} {
		if got := versionOf(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%q", got)
		}
	}
}

// TestVersionLine has what brokers print.
func TestVersionLine(t *testing.T) {
	for _, tt := range []struct{ out, name, want string }{
		{"mosquitto 2.1.2\nnoctule 0.1.0 (abc), compatible with mosquitto 2.1.2\n", "noctule", "noctule 0.1.0 (abc), compatible with mosquitto 2.1.2"},
		{"mosquitto version 2.0.11\n\nmosquitto is an MQTT v5.0/v3.1.1/v3.1 broker.\n", "mosquitto", "mosquitto version 2.0.11"},
		{"\n1.2\n3\n", "x", "1.2"},
		{"nats-server: v2.12.0\n", "nats-server", "nats-server: v2.12.0"},
		{"Error: Unknown option\nNoctule 7\n", "noctule", "Noctule 7"},
		{"noctuleish 1\n2\n", "noctule", "noctuleish 1"},
		{"", "x", ""},
	} {
		if got := versionLine(tt.out, tt.name); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.out, got, tt.want)
		}
	}
}
