// Package conf reads Mosquitto's configuration files.
//
// One table (directives.go) says for each directive where it may stand, what its argument is and what it
// sets. Everything Mosquitto 2.1 knows is in it: what is not built yet is read and checked, then refused by
// name, never ignored.
package conf

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"noctule/broker"
)

// parser is the state between lines.
type parser struct {
	cfg       *Config
	table     map[string]directive
	listeners []*Listener
	current   *Listener // the last listener line of this file, or the default listener
	def       *Listener // of options that stand before any listener line
	defUsed   bool      // there are such options
	defNamed  bool      // by port or bind_address, which end local only mode
	bridge    *Bridge   // the last connection line of this file
	plugin    *plugin   // the last plugin line of this file
	plugins   []*plugin
	secured   bool // a security option has been seen
	portSeen  bool
	seen      map[seen]bool
	global    local
	noDelay   bool
	maxHeader int

	key     string   // of the line being read
	stack   []Place  // where the parser is: a line of each file, the included one last
	refused []*Error // good lines that ask for what is not there
	all     bool     // go on behind an error
	errors  []*Error // with all
}

// seen is an option that may stand once, or once for each listener.
type seen struct {
	key string
	of  *Listener
}

// Parse reads configuration files in turn; ports are those of -p, used when no file names a listener. Its
// error is an *Error.
func Parse(files []string, ports []int) (*Config, error) {
	p := newParser()
	if err := p.files(files, ports); err != nil {
		return nil, err
	}
	return p.cfg, nil
}

func newParser() *parser {
	cfg := &Config{
		Options: broker.DefaultOptions(), User: "mosquitto",
		Persistence: Persistence{File: mosquittoFile, AutosaveInterval: 1800, Sync: "group"},
	}
	cfg.Options.GlobalMaxClients, cfg.Options.MaxConnections = -1, -1
	cfg.Log.Timestamp, cfg.Log.Facility = true, -1
	return &parser{cfg: cfg, table: directives(), def: newListener(), seen: map[seen]bool{}, noDelay: true}
}

// files reads all files and makes of them what they mean together.
func (p *parser) files(files []string, ports []int) error {
	for _, f := range files {
		if err := p.fail(p.file(f, false)); err != nil {
			return err
		}
	}
	if err := p.finish(ports); err != nil {
		return p.placed(err)
	}
	if len(p.refused) > 0 {
		return p.refused[0]
	}
	return nil
}

// where is the line being read, and the lines that included its file, innermost first.
func (p *parser) where() []Place {
	out := slices.Clone(p.stack)
	slices.Reverse(out)
	return out
}

// placed is an error with its place.
func (p *parser) placed(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Text: err.Error(), Places: p.where()}
	}
	return e
}

// file reads one file; include says that it is part of another. Each file starts without a current
// listener, bridge and plugin.
func (p *parser) file(name string, include bool) error {
	raw, err := read(name)
	if err != nil {
		err.Places = p.where() // of the include_dir line
		return err
	}
	listener, bridge, plugin := p.current, p.bridge, p.plugin
	p.current, p.bridge, p.plugin = nil, nil, nil
	p.stack = append(p.stack, Place{File: name, Include: include})
	defer func() {
		p.current, p.bridge, p.plugin = listener, bridge, plugin
		p.stack = p.stack[:len(p.stack)-1]
	}()
	for text := range strings.SplitSeq(string(raw), "\n") {
		p.stack[len(p.stack)-1].Line++
		if err := p.line(text); err != nil {
			if err := p.fail(p.placed(err)); err != nil {
				return err
			}
		}
	}
	return nil
}

func read(name string) ([]byte, *Error) {
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		return nil, &Error{Text: fmt.Sprintf("Config file '%s' is a directory.", name)}
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		text := fmt.Sprintf("Unable to open config file '%s'.", name)
		if !errors.Is(err, fs.ErrNotExist) { // Mosquitto leaves the reason out
			text += fmt.Sprintf("\nError: %v", err)
		}
		return nil, &Error{Text: text}
	}
	return raw, nil
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
	d, ok := p.lookup(key)
	if !ok {
		return fmt.Errorf("Unknown configuration variable '%s'.", key)
	}
	if needs := p.missing(d.scope); needs != "" {
		return fmt.Errorf("The '%s' option requires %s to be defined first.", key, needs)
	}
	p.key, p.secured = key, p.secured || d.scope == security
	if text, ok := deprecations(key); ok {
		p.say(broker.LevelNotice, "The '%s' option is now deprecated and will be removed in version 3.0. %s",
			key, text)
	}
	if d.state == inert {
		p.warn("%s", d.note)
	}
	if d.set != nil {
		if err := d.set(p, arg{key, strings.Trim(value, blanks)}); err != nil {
			return err
		}
		p.note(key, d.scope)
	}
	if d.scope != bridge { // the connection line says it for all
		p.refuse(key, d, p.where())
	}
	return nil
}

// note remembers where a good line stands.
func (p *parser) note(key string, s scope) {
	switch {
	case s == listener || s == own || s == anyL, key == "port", key == "bind_address":
		p.current.lines.set(key, p.where())
	case s == global:
		p.cfg.lines.set(key, p.where())
	}
}

// lookup finds a directive; the two prefixes stand for all options of plugins.
func (p *parser) lookup(key string) (directive, bool) {
	for _, prefix := range []string{"plugin_opt_", "auth_opt_"} {
		if strings.HasPrefix(key, prefix) {
			key = prefix + "*"
		}
	}
	d, ok := p.table[key]
	return d, ok && !strings.Contains(key, " ")
}

// refuse remembers that a good line cannot be used because of its directive's state.
func (p *parser) refuse(key string, d directive, at []Place) {
	var text string
	switch d.state {
	case later:
		text = "not supported yet: " + key
	case refused:
		text = d.note
	default:
		return
	}
	p.refused = append(p.refused, &Error{Text: text, Places: at})
}

// value does what the row of one value of a directive says of its state.
func (p *parser) value(key string) {
	d := p.table[key]
	if d.state == inert {
		p.warn("%s", d.note)
	}
	p.refuse(key, d, p.where())
}

// missing is what must stand before the options of a scope and does not.
func (p *parser) missing(s scope) string {
	switch {
	case s == listener && p.current == nil,
		s == own && (p.current == nil || p.current == p.def),
		s == security && p.cfg.PerListener && p.current == nil:
		return "a listener"
	case s == bridge && p.bridge == nil:
		return "a bridge"
	case s == option && p.plugin == nil:
		return "plugin/global_plugin/plugin_load"
	default:
		return ""
	}
}

func (p *parser) say(level slog.Level, format string, a ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, a...), " ")
	p.cfg.Notes = append(p.cfg.Notes, Note{text, level, p.where()})
}

func (p *parser) warn(format string, a ...any) { p.say(broker.LevelWarning, format, a...) }

// listener is the one an option of scope L* belongs to: the last, or the default one.
func (p *parser) listener() *Listener {
	if p.current != nil {
		return p.current
	}
	if !p.defUsed {
		p.say(broker.LevelInfo, "Creating default listener due to '%s' option.", p.key)
	}
	p.defUsed, p.current = true, p.def
	return p.def
}

// named is the default listener, for the options that take the broker out of local only mode.
func (p *parser) named() *Listener {
	p.current = nil
	p.defNamed = true
	return p.listener()
}

// security is what a security option belongs to: everybody, or with per_listener_settings the listener.
func (p *parser) security() *local {
	if p.cfg.PerListener {
		return &p.current.security
	}
	return &p.global
}

func newListener() *Listener {
	return &Listener{
		ListenerOptions: broker.DefaultListenerOptions(), Port: 1883, Protocol: "mqtt",
	}
}

// include reads all *.conf files of a directory, in Mosquitto's order: without regard to case, upper case
// first among equals.
func (p *parser) include(a arg) error {
	dir, err := a.text()
	if err != nil {
		return err
	}
	if len(p.stack) > 1 {
		return errors.New("The include_dir option is only valid in the main configuration file.")
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
		p.say(broker.LevelInfo, "Loading config file '%s'", f)
		if err := p.file(f, true); err != nil {
			return err
		}
	}
	return nil
}

// addListener handles a listener line: port and, if it is not a comment, an address or path.
func (p *parser) addListener(a arg) error {
	port, err := a.named("listener port").integer()
	if err != nil {
		return err
	}
	if port < 0 || port > 65535 {
		return a.named("port").invalid()
	}
	_, rest := a.cut()
	host := rest.first().value
	if strings.HasPrefix(host, "#") {
		host = ""
	}
	if port == 0 && host == "" {
		return errors.New("A listener with port 0 must provide a Unix socket path.")
	}
	p.current = newListener()
	p.current.Port, p.current.Host, p.current.at = port, host, p.where()
	p.listeners = append(p.listeners, p.current)
	return nil
}
