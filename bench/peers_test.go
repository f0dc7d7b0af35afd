//go:build linux

package bench

import (
	"strings"
	"testing"
	"time"
)

func TestBrokersAreChecked(t *testing.T) {
	const good = "[[broker]]\nname = \"one\"\nstart = \"a\"\n"
	const two = good + "[[broker]]\nname = \"two\"\nstart = \"b\"\n"
	const files = good + "[broker.files]\n"
	for _, c := range []struct{ text, want string }{
		{"", "no broker"},
		{"[[broker]", "line 1"},
		{"colour = 'x'", "unknown key colour"},
		{two + "colour = 1", "unknown key broker.colour (broker two)"},
		{two + "websocket = ''", "broker.websocket"},
		{good + "[[broker]]\nstart = 'b'", "broker 2: name is empty"},
		{good + good, "two brokers are named one"},
		{"[[broker]]\nname = 'x'", "broker x: start is empty"},
		{"[[broker]]\nname = 'x'\nstart = ' '", "broker x: start is empty"},
		{good + "start_seconds = -1", "broker one: start_seconds is negative"},
		{good + "start_seconds = 'soon'", "broker.start_seconds"},
		{good + "path = 'mqtt'", `broker one: path "mqtt"`},
		{good + "environment = ['A=b', 'c']", `broker one: environment: "c"`},
		{files + "'../x' = ''", `broker one: files: "../x"`},
		{files + "'..' = ''", `broker one: files: ".."`},
		{files + "'a/b' = ''", `broker one: files: "a/b"`},
		{files + "'bench-output.txt' = ''", `broker one: files: "bench-output.txt"`},
		{files + "x = 1", "broker.files"},
	} {
		text, want := c.text, c.want
		_, err := ParseBrokers("FILE", text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "FILE") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := ReadBrokers(t.TempDir() + "/none"); err == nil {
		t.Error("a missing file is read")
	}
}

// The file that is shipped is good, and each of its brokers speaks WebSocket, but for what is no broker.
func TestShippedBrokers(t *testing.T) {
	brokers, err := ReadBrokers("peers/brokers.toml")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, b := range brokers {
		if !b.WebSocket && b.Name != FloorName || b.Version == "" {
			t.Errorf("%s: no WebSocket or no version", b.Name)
		}
		if other := hashes[b.hash()]; other != "" {
			t.Errorf("%s and %s have one hash", b.Name, other)
		}
		hashes[b.hash()] = b.Name
	}
	if len(brokers) < 7 {
		t.Errorf("%d brokers", len(brokers))
	}
	for _, s := range Suite(time.Second, 1) {
		for _, b := range brokers {
			if want := b.Name != FloorName || s.Reference == FloorName; b.takes(&s) != want {
				t.Errorf("%s is for %s: %v", b.Name, s.Key(), !want)
			}
		}
	}
}

// Everything that configures a broker is in its hash.
func TestHash(t *testing.T) {
	base := Broker{Start: "a b", Environment: []string{"A=b"}, Files: map[string]string{"f": "x"}}
	for name, change := range map[string]func(*Broker){
		"start":       func(b *Broker) { b.Start = "a c" },
		"environment": func(b *Broker) { b.Environment = []string{"A=c"} },
		"file":        func(b *Broker) { b.Files = map[string]string{"f": "y"} },
		"file name":   func(b *Broker) { b.Files = map[string]string{"g": "x"} },
	} {
		other := base
		change(&other)
		if base.hash() == other.hash() {
			t.Errorf("%s is not in the hash", name)
		}
	}
}

func TestThisMachine(t *testing.T) {
	m := ThisMachine()
	if m.Kernel == "" || m.CPUs < 1 || m.Memory == "" || m.Go == "" || len(m.Date) != len("2006-01-02") {
		t.Errorf("%+v", m)
	}
}
