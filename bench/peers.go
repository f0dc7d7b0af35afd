package bench

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Broker tells how to start a broker for a comparison. In its texts {dir} stands for a directory of its
// own, {tcp} and {ws} for the ports it is to listen on, {peers} for the directory of the peers' programs.
type Broker struct {
	Name        string            `toml:"name"`
	Start       string            `toml:"start"`   // command line, split at blanks
	Version     string            `toml:"version"` // command line whose first line of output is the version
	WebSocket   bool              `toml:"websocket"`
	Path        string            `toml:"path"` // of WebSocket requests
	Environment []string          `toml:"environment"`
	Files       map[string]string `toml:"files"`
	StartWait   int               `toml:"start_seconds"` // longest time until it listens; 0: 10
}

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
		return nil, fmt.Errorf("bench: %s: unknown key %s", name, extra[0])
	}
	seen := map[string]bool{}
	for i, b := range file.Broker {
		switch {
		case b.Name == "" || b.Start == "":
			return nil, fmt.Errorf("bench: %s: broker %d needs a name and a start command", name, i+1)
		case seen[b.Name]:
			return nil, fmt.Errorf("bench: %s: two brokers are named %s", name, b.Name)
		}
		seen[b.Name] = true
	}
	if len(file.Broker) == 0 {
		return nil, fmt.Errorf("bench: %s: no broker", name)
	}
	return file.Broker, nil
}

// hash identifies the configuration.
func (b *Broker) hash() string {
	h := sha256.New()
	fmt.Fprintln(h, b.Start, b.Environment)
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		fmt.Fprintln(h, name, b.Files[name])
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Machine is where a comparison ran.
type Machine struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
	Date   string `json:"date"`
}

// String gives it in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%s: %d x %s, Linux %s, generator built by %s", m.Date, m.CPUs, m.CPU, m.Kernel, m.Go)
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Date: today()}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(raw))
	}
	raw, _ := os.ReadFile("/proc/cpuinfo") // empty where there is none
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}
