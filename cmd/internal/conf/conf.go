// Package conf reads Mosquitto's configuration files.
//
// One table (directives.go) says for each directive where it may stand, what its argument is and what it
// sets. Everything Mosquitto 2.1 knows is in it: what is not built yet is refused by name, never ignored.
package conf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"

	"noctule/broker"
)

// Config is what a configuration says.
type Config struct {
	Options   broker.Options
	Listeners []Listener
	Log       Log
	Admin     string // address of the HTTP server for metrics; "" none
	PIDFile   string
	User      string // to become when started as root
	Notes     []Note // warnings about what was read
}

// Listener is one listener line, before its files and interfaces are looked up.
type Listener struct {
	broker.ListenerOptions
	Port                      int
	Host                      string // address, or path of a unix socket when Port is 0
	Domain                    string // "", "tcp4" or "tcp6"
	Interface                 string
	HTTP                      bool
	CertFile, KeyFile, CAFile string
	CAPath                    string
	RequireCertificate        bool
	TLSVersion                string

	anonymous    *bool // listener_allow_anonymous
	autoIDPrefix *string
	implicit     bool // made by an option without a listener line
}

// Log is where log lines go and which.
type Log struct {
	Dest            []string // stderr, stdout, syslog
	File            string
	None            bool
	Types           map[string]bool // nil: the default
	Timestamp       bool
	TimestampFormat string // strftime; "" means epoch seconds
	Facility        int    // of syslog
}

// Note is a warning with its place.
type Note struct{ Text string }

// Error is a line that cannot be used.
type Error struct {
	Text    string
	File    string
	Line    int
	Include bool
}

// Error implements error: two lines in Mosquitto's words.
func (e *Error) Error() string {
	if e.File == "" {
		return "Error: " + e.Text
	}
	if e.Include {
		return fmt.Sprintf("Error: %s\nError found at '%s:%d'.", e.Text, e.File, e.Line)
	}
	return fmt.Sprintf("Error: %s\nError found at %s:%d.", e.Text, e.File, e.Line)
}

// parser is the state between lines.
type parser struct {
	cfg        *Config
	current    *Listener // the last listener line
	def        *Listener // of options that stand before any listener line
	perL       bool
	security   bool // a security option has been seen
	seen       map[string]bool
	table      map[string]directive
	anonymous  *bool
	prefix     string
	noDelay    bool
	zeroLength *bool
}

// Parse reads configuration files in turn; ports are those of -p, used when no file names a listener.
func Parse(files []string, ports []int) (*Config, error) {
	cfg := &Config{Options: broker.DefaultOptions(), User: "mosquitto"}
	cfg.Log.Timestamp = true
	p := &parser{cfg: cfg, table: directives(), seen: map[string]bool{}, prefix: "auto-", noDelay: true}
	for _, f := range files {
		if err := p.file(f, false); err != nil {
			return nil, err
		}
	}
	if err := p.finish(ports); err != nil {
		return nil, err
	}
	return cfg, nil
}

// file reads one file; include says that it is part of another.
func (p *parser) file(name string, include bool) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return &Error{Text: fmt.Sprintf("Unable to open config file '%s': %v", name, errors.Unwrap(err))}
	}
	if include {
		saved := p.current
		p.current = nil
		defer func() { p.current = saved }()
	}
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, 1<<20)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimRight(sc.Text(), "\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		if err := p.line(text); err != nil {
			var e *Error
			if errors.As(err, &e) {
				return e // of an included file
			}
			return &Error{Text: err.Error(), File: name, Line: line, Include: include}
		}
	}
	return sc.Err()
}

// line handles one line: key, space, value.
func (p *parser) line(text string) error {
	text = strings.TrimLeft(text, " ")
	if text == "" {
		return nil
	}
	key, value, _ := strings.Cut(text, " ")
	d, ok := p.table[key]
	if !ok {
		if strings.HasPrefix(key, "plugin_opt_") || strings.HasPrefix(key, "auth_opt_") {
			return fmt.Errorf("not supported yet: %s", key)
		}
		return fmt.Errorf("Unknown configuration variable '%s'.", key)
	}
	if d.state == later {
		return fmt.Errorf("not supported yet: %s", key)
	}
	if d.scope == security {
		p.security = true
	}
	if d.scope == listener && p.current == nil {
		return fmt.Errorf("The '%s' option requires a listener to be defined first.", key)
	}
	if d.state == inert {
		p.cfg.Notes = append(p.cfg.Notes, Note{d.note})
		return nil
	}
	return d.set(p, arg{key, strings.Trim(value, " ")})
}

// listener is the one an option of scope L* belongs to: the last, or the default one.
func (p *parser) listener() *Listener {
	if p.current != nil {
		return p.current
	}
	if p.def == nil {
		p.def = p.newListener()
		p.def.implicit = true
	}
	return p.def
}

func (p *parser) newListener() *Listener {
	return &Listener{ListenerOptions: broker.DefaultListenerOptions(), Port: 1883}
}

// include reads all *.conf files of a directory, in Mosquitto's order.
func (p *parser) include(dir string) error {
	if p.current != nil && p.current.implicit {
		return errors.New("include_dir is not at top level")
	}
	list, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("Unable to open include_dir '%s'.", dir)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := filepath.Base(list[i]), filepath.Base(list[j])
		if la, lb := strings.ToLower(a), strings.ToLower(b); la != lb {
			return la < lb
		}
		return a < b
	})
	for _, f := range list {
		p.cfg.Notes = append(p.cfg.Notes, Note{fmt.Sprintf("Loading config file '%s'", f)})
		if err := p.file(f, true); err != nil {
			return err
		}
	}
	return nil
}

// finish turns what was read into listeners.
func (p *parser) finish(ports []int) error {
	local := len(p.cfg.Listeners) == 0 && (p.def == nil || p.def.Host == "" && !p.seen["port"])
	if p.def != nil && !local {
		p.cfg.Listeners = append([]Listener{*p.def}, p.cfg.Listeners...)
	}
	if local {
		p.localOnly(ports)
	}
	for i := range p.cfg.Listeners {
		l := &p.cfg.Listeners[i]
		l.AllowAnonymous = local
		if p.anonymous != nil {
			l.AllowAnonymous = *p.anonymous
		}
		if l.anonymous != nil {
			l.AllowAnonymous = *l.anonymous
		}
		l.AutoIDPrefix = p.prefix
		if l.autoIDPrefix != nil {
			l.AutoIDPrefix = *l.autoIDPrefix
		}
		l.Net.NoDelay = p.noDelay
		if p.zeroLength != nil && !p.perL {
			l.AllowZeroLengthClientID = *p.zeroLength
		}
		if (l.CertFile == "") != (l.KeyFile == "") {
			return &Error{Text: "Both certfile and keyfile must be provided to enable a TLS listener."}
		}
	}
	return nil
}

// localOnly is what runs without any listener line: the loopback addresses, anonymous clients allowed.
func (p *parser) localOnly(ports []int) {
	if len(ports) == 0 {
		ports = []int{1883}
	}
	base := p.newListener()
	if p.def != nil {
		base = p.def
	}
	for _, port := range ports {
		for _, host := range []string{"127.0.0.1", "::1"} {
			l := *base
			l.Port, l.Host = port, host
			p.cfg.Listeners = append(p.cfg.Listeners, l)
		}
	}
}

// addListener handles a listener line.
func (p *parser) addListener(a arg) error {
	port, err := a.first().number(0, 65535)
	if err != nil {
		return fmt.Errorf("Invalid 'port' value (%s).", a.first().value)
	}
	_, host, _ := strings.Cut(a.value, " ")
	host = strings.TrimSpace(host)
	if port == 0 && host == "" {
		return errors.New("A listener with port 0 must provide a Unix socket path.")
	}
	p.cfg.Listeners = append(p.cfg.Listeners, *p.newListener())
	p.current = &p.cfg.Listeners[len(p.cfg.Listeners)-1]
	p.current.Port, p.current.Host = port, host
	return nil
}

// arg is a directive's value.
type arg struct{ key, value string }

// first is the value up to the first space: for numbers and booleans the rest of the line is ignored.
func (a arg) first() arg {
	v, _, _ := strings.Cut(a.value, " ")
	return arg{a.key, v}
}

func (a arg) text() (string, error) {
	switch {
	case a.value == "":
		return "", fmt.Errorf("Empty '%s' value in configuration.", a.key)
	case len(a.value) > 65535 || !utf8.ValidString(a.value):
		return "", fmt.Errorf("Invalid '%s' value: not valid UTF-8 or too long.", a.key)
	}
	return a.value, nil
}

func (a arg) truth() (bool, error) {
	switch v := a.first().value; v {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	case "":
		return false, fmt.Errorf("Empty '%s' value in configuration.", a.key)
	default:
		return false, fmt.Errorf("Invalid '%s' value (%s).", a.key, v)
	}
}

// number reads an integer with C's prefixes for hexadecimal and octal.
func (a arg) number(low, high int64) (int, error) {
	v := a.first().value
	if v == "" {
		return 0, fmt.Errorf("Empty '%s' value in configuration.", a.key)
	}
	n, err := parseInt(v)
	if err != nil {
		return 0, fmt.Errorf("'%s' value not a number.", a.key)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("Invalid '%s' value (%s).", a.key, v)
	}
	return int(n), nil
}
