package auth

import (
	"encoding/hex"
	"strings"
)

// PSKs is a file of pre-shared keys. It is immutable.
type PSKs struct {
	keys     map[string][]byte
	warnings []string
}

// pskMax is the longest key, in bytes.
const pskMax = 512

// LoadPSK reads lines "identity:hexkey", comments with # in the first column. Lines that are wrong are left
// out with a warning that does not show them.
func LoadPSK(path string) (*PSKs, error) {
	p := &PSKs{keys: make(map[string][]byte)}
	s := &source{path: path, what: "PSK file"}
	if err := s.read(func(line string) error { p.add(s, line); return nil }); err != nil {
		return nil, err
	}
	p.warnings = s.warnings
	return p, nil
}

func (p *PSKs) add(s *source, line string) {
	identity, text, ok := strings.Cut(line, ":")
	if !ok {
		if strings.TrimSpace(line) != "" {
			s.warn("Invalid line %d in PSK file '%s'.", s.line, s.path)
		}
		return
	}
	identity = strings.TrimSpace(identity)
	key, err := hex.DecodeString(strings.TrimSpace(text))
	switch {
	case identity == "":
		s.warn("Empty identity in line %d of PSK file '%s'.", s.line, s.path)
	case err != nil, len(key) == 0, len(key) > pskMax:
		s.warn("Invalid key in line %d of PSK file '%s'.", s.line, s.path)
	case p.keys[identity] != nil:
		s.warn("Duplicate identity in line %d of PSK file '%s'.", s.line, s.path)
	default:
		p.keys[identity] = key
	}
}

// Warnings are what is worth telling about the file, whole log lines.
func (p *PSKs) Warnings() []string { return p.warnings }

// Len is the number of keys.
func (p *PSKs) Len() int { return len(p.keys) }

// Key is the key of an identity. It must not be changed.
func (p *PSKs) Key(identity string) (key []byte, ok bool) {
	key, ok = p.keys[identity]
	return key, ok
}
