package bench

import (
	"strings"
	"testing"
)

func TestBrokersAreChecked(t *testing.T) {
	const good = "[[broker]]\nname = \"one\"\nstart = \"a\"\n"
	for text, want := range map[string]string{
		"":               "no broker",
		"[[broker]":      "line 1",
		"colour = \"x\"": "unknown key colour",
		good + "[[broker]]\nname = \"two\"\nstart = \"b\"\ncolour = 1":       "unknown key broker.colour (broker two)",
		good + "[[broker]]\nstart = \"b\"":                                   "broker 2: name is empty",
		good + good:                                                          "two brokers are named one",
		"[[broker]]\nname = \"x\"":                                           "broker x: start is empty",
		"[[broker]]\nname = \"x\"\nstart = \" \"":                            "broker x: start is empty",
		good + "start_seconds = -1":                                          "broker one: start_seconds is negative",
		good + "start_seconds = \"soon\"":                                    "start_seconds",
		good + "path = \"mqtt\"":                                             "broker one: path \"mqtt\"",
		good + "environment = [\"A=b\", \"c\"]":                              "broker one: environment: \"c\"",
		good + "[broker.files]\n\"../x\" = \"\"":                             "broker one: files: \"../x\"",
		good + "[broker.files]\n\"..\" = \"\"":                               "broker one: files: \"..\"",
		good + "[broker.files]\n\"a/b\" = \"\"":                              "broker one: files: \"a/b\"",
		good + "[broker.files]\n\"bench-output.txt\" = \"\"":                 "broker one: files: \"bench-output.txt\"",
		good + "[broker.files]\nx = 1":                                       "files",
		good + "[[broker]]\nname = \"two\"\nstart = \"b\"\nwebsocket = \"\"": "websocket",
	} {
		_, err := ParseBrokers("FILE", text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "FILE") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := ReadBrokers(t.TempDir() + "/none"); err == nil {
		t.Error("a missing file is read")
	}
}

// The file that is shipped is good, and each of its brokers speaks WebSocket.
func TestShippedBrokers(t *testing.T) {
	brokers, err := ReadBrokers("peers/brokers.toml")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, b := range brokers {
		if !b.WebSocket || b.Version == "" {
			t.Errorf("%s: no WebSocket or no version", b.Name)
		}
		if other := hashes[b.hash()]; other != "" {
			t.Errorf("%s and %s have one hash", b.Name, other)
		}
		hashes[b.hash()] = b.Name
	}
	if len(brokers) < 6 {
		t.Errorf("%d brokers", len(brokers))
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
