// Package conf reads Mosquitto's configuration files.
//
// One table (directives.go) says for each directive where it may stand, what its argument is and what it
// sets. Everything Mosquitto 2.1 knows is in it: what is not built yet is refused by name, never ignored.
package conf

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	// MemoryLimit is memory_limit in bytes; 0 none.
	MemoryLimit int64
	PIDFile     string
	User        string // to become when started as root
	Notes       []Note // warnings about what was read
}

// Listener is one listener line, before its files and interfaces are looked up.
type Listener struct {
	broker.ListenerOptions
	Port                      int
	Host                      string // address, or path of a unix socket when Port is 0
	Domain                    string // "", "tcp4" or "tcp6"
	Interface                 string
	Protocol                  string // mqtt, websockets or http_api
	HTTPDir                   string // files of an http_api listener; "" none
	Implied                   bool   // no line of the file asks for it
	CertFile, KeyFile, CAFile string
	CAPath                    string
	RequireCertificate        bool
	TLSVersion                string

	own      local // listener_allow_anonymous, listener_auto_id_prefix
	security local // security options below the listener line, with per_listener_settings
}

// local are the settings that may be one listener's or everybody's; nil is unset.
type local struct {
	anonymous  *bool
	zeroLength *bool
	prefix     *string
}

// Log is where log lines go and which.
type Log struct {
	Dest            []string // stderr, stdout, syslog, topic
	File            string
	None            bool
	Types           map[string]bool // nil: the default
	Timestamp       bool
	TimestampFormat string // strftime; "" means epoch seconds
	Facility        int    // of syslog: 0 to 7 for local0 to local7, -1 for daemon
	JSON            bool   // log_format json
}

// Note is a warning with its place.
type Note struct{ Text string }

// Error is a line that cannot be used.
type Error struct {
	Text   string
	Places []Place // innermost first; none when it is no line's fault
}

// Place is a line of a file; Include says that the file is part of another.
type Place struct {
	File    string
	Line    int
	Include bool
}

// Error implements error: one line for the text and one for each place, in Mosquitto's words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("Error: " + e.Text)
	for _, p := range e.Places {
		format := "\nError found at %s:%d."
		if p.Include {
			format = "\nError found at '%s:%d'."
		}
		fmt.Fprintf(&b, format, p.File, p.Line)
	}
	return b.String()
}

// at adds a place to an error.
func at(err error, p Place) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Text: err.Error()}
	}
	e.Places = append(e.Places, p)
	return e
}

// parser is the state between lines.
type parser struct {
	cfg       *Config
	table     map[string]directive
	listeners []*Listener
	current   *Listener // the last listener line of this file
	def       *Listener // of options that stand before any listener line
	defUsed   bool      // there are such options
	defNamed  bool      // by port or bind_address, which end local only mode
	perL      bool      // per_listener_settings
	secured   bool      // a security option has been seen
	included  bool      // the file is part of another
	seen      map[seen]bool
	global    local
	noDelay   bool
	maxHeader int
}

// seen is an option that may stand once, or once for each listener.
type seen struct {
	key string
	of  *Listener
}

// Parse reads configuration files in turn; ports are those of -p, used when no file names a listener.
func Parse(files []string, ports []int) (*Config, error) {
	cfg := &Config{Options: broker.DefaultOptions(), User: "mosquitto"}
	cfg.Log.Timestamp, cfg.Log.Facility = true, -1
	p := &parser{cfg: cfg, table: directives(), def: newListener(), seen: map[seen]bool{}, noDelay: true}
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

// file reads one file; include says that it is part of another. Each file starts without a current
// listener.
func (p *parser) file(name string, include bool) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return &Error{Text: fmt.Sprintf("Unable to open config file '%s': %v", name, errors.Unwrap(err))}
	}
	listener, included := p.current, p.included
	p.current, p.included = nil, include
	defer func() { p.current, p.included = listener, included }()
	n := 0
	for text := range strings.SplitSeq(string(raw), "\n") {
		n++
		if err := p.line(text); err != nil {
			return at(err, Place{File: name, Line: n, Include: include})
		}
	}
	return nil
}

// line handles one line: key, space, value. Only the first byte makes a comment.
func (p *parser) line(text string) error {
	if text == "" || text[0] == '#' || text[0] == '\r' {
		return nil
	}
	text = strings.Trim(strings.TrimRight(text, "\r"), " ")
	if text == "" {
		return nil
	}
	key, value, _ := strings.Cut(text, " ")
	d, ok := p.table[key]
	if !ok && (strings.HasPrefix(key, "plugin_opt_") || strings.HasPrefix(key, "auth_opt_")) {
		d, ok = directive{scope: plugin, state: later}, true
	}
	if !ok {
		return fmt.Errorf("Unknown configuration variable '%s'.", key)
	}
	if needs := needs(d.scope); needs != "" && (d.scope != listener || p.current == nil) {
		return fmt.Errorf("The '%s' option requires %s to be defined first.", key, needs)
	}
	p.secured = p.secured || d.scope == security
	if d.state == later {
		return fmt.Errorf("not supported yet: %s", key)
	}
	if d.state == inert {
		p.note(d.note)
	}
	if d.set == nil {
		return nil
	}
	return d.set(p, arg{key, strings.Trim(value, blanks)})
}

// blanks are trimmed from both ends of a value; only the space ends a key.
const blanks = " \t\v\f"

// needs is what must stand before the options of a scope. Bridges and plugins cannot be defined yet.
func needs(s scope) string {
	switch s {
	case listener:
		return "a listener"
	case bridge:
		return "a bridge"
	case plugin:
		return "plugin/global_plugin/plugin_load"
	default:
		return ""
	}
}

func (p *parser) note(text string) { p.cfg.Notes = append(p.cfg.Notes, Note{text}) }

// listener is the one an option of scope L* belongs to: the last, or the default one.
func (p *parser) listener() *Listener {
	if p.current != nil {
		return p.current
	}
	p.defUsed = true
	return p.def
}

// named is the default listener, for the options that take the broker out of local only mode.
func (p *parser) named() *Listener {
	p.defUsed, p.defNamed = true, true
	return p.def
}

// security is what a security option belongs to: everybody, or with per_listener_settings the last
// listener or the default one, which does not come to be by it.
func (p *parser) security() *local {
	switch {
	case !p.perL:
		return &p.global
	case p.current != nil:
		return &p.current.security
	default:
		return &p.def.security
	}
}

func newListener() *Listener {
	return &Listener{ListenerOptions: broker.DefaultListenerOptions(), Port: 1883, Protocol: "mqtt"}
}

// include reads all *.conf files of a directory, in Mosquitto's order: without regard to case, upper case
// first among equals.
func (p *parser) include(a arg) error {
	dir, err := a.text()
	if err != nil {
		return err
	}
	if p.included {
		p.note("Warning: include_dir has no effect in an included file.")
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("Unable to open include_dir '%s'.", dir)
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); strings.HasSuffix(n, ".conf") && n != ".conf" {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
	for _, n := range names {
		f := filepath.Join(dir, n)
		p.note(fmt.Sprintf("Loading config file '%s'", f))
		if err := p.file(f, true); err != nil {
			return err
		}
	}
	return nil
}

// finish turns what was read into listeners.
func (p *parser) finish(ports []int) error {
	localOnly := len(p.listeners) == 0 && !p.defNamed
	switch {
	case localOnly:
		p.listeners = p.loopback(ports)
	case p.defUsed:
		p.listeners = append(p.listeners, p.def)
	}
	for _, l := range p.listeners {
		l.AllowAnonymous = first(l.own.anonymous, l.security.anonymous, p.global.anonymous, &localOnly)
		l.AutoIDPrefix = first(l.own.prefix, l.security.prefix, p.global.prefix, &l.AutoIDPrefix)
		l.AllowZeroLengthClientID = first(
			l.security.zeroLength,
			p.global.zeroLength,
			&l.AllowZeroLengthClientID,
		)
		l.Net.NoDelay, l.Net.MaxHeader = p.noDelay, p.maxHeader
		if (l.CertFile == "") != (l.KeyFile == "") {
			return &Error{Text: "Both certfile and keyfile must be provided to enable a TLS listener."}
		}
		p.cfg.Listeners = append(p.cfg.Listeners, *l)
	}
	return nil
}

// first is the first value that is set.
func first[T any](values ...*T) (v T) {
	for _, p := range values {
		if p != nil {
			return *p
		}
	}
	return v
}

// loopback is what runs without any listener line: the loopback addresses.
func (p *parser) loopback(ports []int) (out []*Listener) {
	if len(ports) == 0 {
		ports = []int{1883}
	}
	for _, port := range ports {
		for _, host := range []string{"127.0.0.1", "::1"} {
			l := *p.def
			l.Port, l.Host = port, host
			out = append(out, &l)
		}
	}
	api := newListener()
	api.Port, api.Host, api.Protocol, api.Implied = apiPort, "127.0.0.1", "http_api", true
	return append(out, api)
}

// apiPort is where local only mode offers the HTTP API.
const apiPort = 9883

// addListener handles a listener line: port and, if it is not a comment, an address or path.
func (p *parser) addListener(a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	port, err := arg{"port", v}.number(0, 65535)
	if err != nil {
		return err
	}
	_, host, _ := strings.Cut(a.value, " ")
	if host = strings.Trim(host, blanks); strings.HasPrefix(host, "#") {
		host = ""
	}
	if port == 0 && host == "" {
		return errors.New("A listener with port 0 must provide a Unix socket path.")
	}
	p.current = newListener()
	p.current.Port, p.current.Host = port, host
	p.listeners = append(p.listeners, p.current)
	return nil
}

// arg is a directive's value.
type arg struct{ key, value string }

// first is the value up to the first space: for numbers and booleans the rest of the line is ignored.
func (a arg) first() arg {
	v, _, _ := strings.Cut(a.value, " ")
	return arg{a.key, v}
}

// empty says that the value is missing.
func (a arg) empty() error { return fmt.Errorf("Empty '%s' value in configuration.", a.key) }

// invalid says that the value is not one of those possible.
func (a arg) invalid() error { return fmt.Errorf("Invalid '%s' value (%s).", a.key, a.first().value) }

// text is the whole value, comments included.
func (a arg) text() (string, error) {
	switch {
	case a.value == "":
		return "", a.empty()
	case len(a.value) > 65535:
		return "", fmt.Errorf("Invalid '%s' value: longer than 65535 bytes.", a.key)
	case !utf8.ValidString(a.value):
		return "", errors.New("Malformed UTF-8 in configuration.")
	}
	return a.value, nil
}

// word is the value up to the first space.
func (a arg) word() (string, error) {
	v := a.first().value
	if v == "" {
		return "", a.empty()
	}
	return v, nil
}

func (a arg) truth() (bool, error) {
	v, err := a.word()
	switch {
	case err != nil:
		return false, err
	case v == "true" || v == "1":
		return true, nil
	case v == "false" || v == "0":
		return false, nil
	default:
		return false, a.invalid()
	}
}

// number reads an integer with C's prefixes for hexadecimal and octal.
func (a arg) number(low, high int64) (int, error) {
	v, err := a.word()
	if err != nil {
		return 0, err
	}
	n, err := parseInt(v)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, a.invalid()
	case err != nil:
		return 0, fmt.Errorf("'%s' value not a number.", a.key)
	case n < low || n > high:
		return 0, a.invalid()
	}
	return int(n), nil
}

// parseInt is strtol with base 0, without Go's underscores and its prefixes 0b and 0o.
func parseInt(s string) (int64, error) {
	digits := strings.ToLower(strings.TrimLeft(s, "+-"))
	if strings.Contains(s, "_") || strings.HasPrefix(digits, "0b") || strings.HasPrefix(digits, "0o") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 0, 64)
}
