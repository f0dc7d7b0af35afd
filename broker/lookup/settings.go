package lookup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Duration is a time in a file of settings: "200ms", "30s".
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		pos := n.GetToken().Position
		return fmt.Errorf("[%d:%d] %q is not a time such as 200ms or 30s", pos.Line, pos.Column, text)
	}
	*d = Duration(v)
	return nil
}

// Settings are the keys that whoever asks others has in its file, with the same meaning in each: it is
// embedded with `yaml:",inline"`. One of HTTP and SQL is set.
type Settings struct {
	Budget     Duration `yaml:"budget"`      // of a lookup, from when it is sent; 1s
	MaxWaiting int      `yaml:"max_waiting"` // lookups that wait for their turn; 10000
	// Key names what the answer depends on; without it, all that the request says.
	Key   []string `yaml:"key"`
	HTTP  *HTTP    `yaml:"http"`
	SQL   *SQL     `yaml:"sql"`
	Cache Cache    `yaml:"cache"`
}

// Cache says what is kept of answers.
type Cache struct {
	TTL      Duration `yaml:"ttl"`       // it is asked again after it; 0: each time
	Stale    Duration `yaml:"stale"`     // and the answer may be used for so long if asking fails; 24h
	Max      int      `yaml:"max"`       // answers; 100000
	MaxBytes int64    `yaml:"max_bytes"` // of memory; 64 MiB
}

// CheckZeros refuses what is 0 and cannot be; it comes before Defaults. Paths are those of Check.
func (s *Settings) CheckZeros(path string, given Given) error {
	h, q := s.HTTP, s.SQL
	for _, x := range [...]struct {
		name string
		zero bool
	}{
		{"budget", s.Budget == 0},
		{"max_waiting", s.MaxWaiting == 0},
		{"cache.max", s.Cache.Max == 0},
		{"cache.max_bytes", s.Cache.MaxBytes == 0},
		{"http.timeout", h != nil && h.Timeout == 0},
		{"http.max_conns", h != nil && h.MaxConns == 0},
		{"sql.max_conns", q != nil && q.MaxConns == 0},
	} {
		if err := given.NoZero(path, x.name, x.zero); err != nil {
			return err
		}
	}
	return nil
}

// Defaults sets what the file does not.
func (s *Settings) Defaults(given Given) {
	SetDuration(&s.Budget, time.Second)
	SetInt(&s.MaxWaiting, 10000)
	if !given.Has("cache.stale") {
		SetDuration(&s.Cache.Stale, 24*time.Hour)
	}
	SetInt(&s.Cache.Max, 100000)
	if s.Cache.MaxBytes == 0 {
		s.Cache.MaxBytes = 64 << 20
	}
	if s.HTTP != nil {
		s.HTTP.defaults()
	}
	if s.SQL != nil {
		SetInt(&s.SQL.MaxConns, 8)
	}
}

// Check reports what is wrong, as an error of Wrong. The path is that of the settings in their file:
// "$.providers[0]". Names are what the templates may mention.
func (s *Settings) Check(path string, names Names) error {
	switch {
	case s.MaxWaiting < 1:
		return Wrong(path+".max_waiting", "max_waiting %d is not 1 or more", s.MaxWaiting)
	case s.Cache.Max < 1:
		return Wrong(path+".cache.max", "max %d is not 1 or more", s.Cache.Max)
	case s.Cache.MaxBytes < 1:
		return Wrong(path+".cache.max_bytes", "max_bytes %d is not 1 or more", s.Cache.MaxBytes)
	}
	for i, k := range s.Key {
		if names.find(k) < 0 {
			return Wrong(fmt.Sprintf("%s.key[%d]", path, i), "%q is not one of %s", k, names)
		}
	}
	if s.HTTP != nil {
		if err := s.HTTP.check(path+".http", names); err != nil {
			return err
		}
	}
	if s.SQL != nil {
		return s.SQL.check(path+".sql", names)
	}
	return nil
}

// SetString is for defaults: it sets what is empty.
func SetString(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

// SetInt is for defaults.
func SetInt(n *int, v int) {
	if *n == 0 {
		*n = v
	}
}

// SetDuration is for defaults.
func SetDuration(d *Duration, v time.Duration) {
	if *d == 0 {
		*d = Duration(v)
	}
}

// settingError is a wrong value, with the path by which its line is found.
type settingError struct {
	path string // "$.providers[0].when"
	text string
}

// Error implements error.
func (e *settingError) Error() string { return e.text }

// Wrong is an error of the setting at a path, such as "$.providers[0].when"; WithLine finds its line.
func Wrong(path, format string, args ...any) error {
	return &settingError{path: path, text: fmt.Sprintf(format, args...)}
}

// OneOf reports a value that is not among the allowed ones.
func OneOf(path, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return Wrong(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

// WithLine puts the line in front of an error of Wrong. raw is the file.
func WithLine(raw []byte, err error) error {
	var s *settingError
	if !errors.As(err, &s) {
		return err
	}
	for path := s.path; path != "$" && path != ""; path = path[:strings.LastIndexAny(path, ".[")] {
		p, perr := yaml.PathString(path)
		if perr != nil {
			break
		}
		node, perr := p.ReadNode(bytes.NewReader(raw))
		if perr == nil && node != nil && node.GetToken() != nil {
			pos := node.GetToken().Position
			return fmt.Errorf("[%d:%d] %w", pos.Line, pos.Column, err)
		}
	}
	return err
}

// ParseYAML reads a file of settings; a key that is not there is an error. Errors are one line and begin with
// the position: "[3:5] unknown field".
func ParseYAML(raw []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict())
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) { // it says nothing
		first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return errors.New(strings.TrimSpace(first))
	}
	return nil
}
