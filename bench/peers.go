//go:build linux

package bench

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // the shipped brokers
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Broker tells how to start a broker for a comparison. In its texts {dir} stands for a directory of its
// own, {tcp} and {ws} for the ports it is to listen on, {port3} and {port4} for further free ports, {peers}
// for the directory of the peers' programs.
type Broker struct {
	Name        string            `toml:"name"`
	Start       string            `toml:"start"`   // command line, split at blanks
	Version     string            `toml:"version"` // command line; see versionLine
	Needs       []string          `toml:"needs"`   // paths without which the broker is left out
	WebSocket   bool              `toml:"websocket"`
	Path        string            `toml:"path"` // of WebSocket requests
	Environment []string          `toml:"environment"`
	Files       map[string]string `toml:"files"`
	StartWait   int               `toml:"start_seconds"` // longest time until it listens; 0: 10
	Scenarios   []string          `toml:"scenarios"`     // parts of the names of those it is for; none: all
}

// takes reports whether the broker is for a scenario.
func (b *Broker) takes(s *Scenario) bool {
	named := func(part string) bool { return strings.Contains(s.Key(), part) }
	return len(b.Scenarios) == 0 || slices.ContainsFunc(b.Scenarios, named)
}

//go:embed peers/brokers.toml
var shippedBrokers string

// ShippedBrokers are those of bench/peers/brokers.toml, as this program was built with it.
func ShippedBrokers() ([]Broker, error) { return ParseBrokers("brokers.toml", shippedBrokers) }

// ReadBrokers reads a file of brokers.
func ReadBrokers(path string) ([]Broker, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return ParseBrokers(path, string(raw))
}

// ParseBrokers reads the text of such a file; name is for errors.
func ParseBrokers(name, text string) ([]Broker, error) {
	var file struct {
		Broker []Broker `toml:"broker"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", name, err)
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return nil, fmt.Errorf("bench: %s: unknown key %s%s", name, extra[0], ownersOf(text, extra[0]))
	}
	if len(file.Broker) == 0 {
		return nil, fmt.Errorf("bench: %s: no broker", name)
	}
	seen := map[string]bool{}
	for i, b := range file.Broker {
		if b.Name == "" {
			return nil, fmt.Errorf("bench: %s: broker %d: name is empty", name, i+1)
		}
		if seen[b.Name] {
			return nil, fmt.Errorf("bench: %s: two brokers are named %s", name, b.Name)
		}
		seen[b.Name] = true
		if err := b.check(); err != nil {
			return nil, fmt.Errorf("bench: %s: broker %s: %w", name, b.Name, err)
		}
	}
	return file.Broker, nil
}

// check finds what is wrong with a broker.
func (b *Broker) check() error {
	if strings.TrimSpace(b.Start) == "" {
		return errors.New("start is empty")
	}
	if b.StartWait < 0 {
		return errors.New("start_seconds is negative")
	}
	if b.Path != "" && !strings.HasPrefix(b.Path, "/") {
		return fmt.Errorf("path %q does not begin with /", b.Path)
	}
	for _, e := range b.Environment {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("environment: %q is not NAME=value", e)
		}
	}
	for name := range b.Files {
		if name == outputFile || name != filepath.Base(name) || !filepath.IsLocal(name) {
			return fmt.Errorf("files: %q is not the name of a file", name)
		}
	}
	return nil
}

// ownersOf names the brokers that have an unknown key: the decoder's metadata does not tell them apart.
func ownersOf(text string, key toml.Key) string {
	var file struct {
		Broker []map[string]any `toml:"broker"`
	}
	if len(key) < 2 || key[0] != "broker" {
		return ""
	}
	if _, err := toml.Decode(text, &file); err != nil {
		return ""
	}
	var owners []string
	for i, b := range file.Broker {
		if _, ok := b[key[1]]; ok {
			owners = append(owners, fmt.Sprint(cmp.Or(b["name"], any(i+1))))
		}
	}
	return " (broker " + strings.Join(owners, ", ") + ")"
}

// hash identifies the configuration.
func (b *Broker) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", b.Start, b.Environment)
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		fmt.Fprintf(h, "%q %q\n", name, b.Files[name])
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Machine is where a comparison ran.
type Machine struct {
	System string `json:"system"`
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory string `json:"memory"`
	Go     string `json:"go"`
	Date   string `json:"date"`
}

// String gives it in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%s: %d x %s, %s of memory, %s, Linux %s, generator built by %s",
		m.Date, m.CPUs, m.CPU, m.Memory, m.System, m.Kernel, m.Go)
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Date: today()}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(raw))
	}
	m.CPU = setting("/proc/cpuinfo", ":", "model name")
	m.Memory = setting("/proc/meminfo", ":", "MemTotal")
	m.System = strings.Trim(setting("/etc/os-release", "=", "PRETTY_NAME"), `"`)
	return m
}

// setting finds the first line "name separator value" of a file; "" if there is none.
func setting(path, separator, name string) string {
	raw, _ := os.ReadFile(path) // empty where there is none
	for line := range strings.Lines(string(raw)) {
		if n, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
