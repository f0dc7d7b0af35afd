package conf

import (
	"fmt"
	"reflect"
	"strings"

	"noctule/broker"
)

// keptField is a setting that keeps its value until the program starts again. of returns a pointer to it.
type keptField[T any] struct {
	key string
	of  func(*T) any
}

// kept are the settings of everybody that a reload does not change: those that Mosquitto keeps too, and
// those of what is opened once.
func kept() []keptField[Config] {
	return []keptField[Config]{
		{"user", func(c *Config) any { return &c.User }},
		{"pid_file", func(c *Config) any { return &c.PIDFile }},
		{"admin_listener", func(c *Config) any { return &c.Admin }},
		{"check_retain_source", func(c *Config) any { return &c.Options.CheckRetainSource }},
		{"enable_control_api", func(c *Config) any { return &c.ControlAPI }},
		{"global_max_clients", func(c *Config) any { return &c.Options.GlobalMaxClients }},
		{"global_max_connections", func(c *Config) any { return &c.Options.MaxConnections }},
		{"max_inflight_bytes", func(c *Config) any { return &c.Options.MaxInflightBytes }},
		{"max_inflight_messages", func(c *Config) any { return &c.Options.MaxInflight }},
		{"max_keepalive", func(c *Config) any { return &c.Options.MaxKeepAlive }},
		{"max_packet_size", func(c *Config) any { return &c.Options.MaxPacketSize }},
		{"max_queued_bytes", func(c *Config) any { return &c.Options.MaxQueuedBytes }},
		{"max_queued_messages", func(c *Config) any { return &c.Options.MaxQueuedMessages }},
		{"max_queued_memory", func(c *Config) any { return &c.MaxQueuedMemory }},
		{"retain_available", func(c *Config) any { return &c.Options.RetainAvailable }},
		{"retain_expiry_interval", func(c *Config) any { return &c.RetainExpiry }},
		{"persistence", func(c *Config) any { return &c.Persistence.On }},
		{"persistence_file", func(c *Config) any { return &c.Persistence.File }},
		{"persistence_location", func(c *Config) any { return &c.Persistence.Location }},
		{"persistence_sync", func(c *Config) any { return &c.Persistence.Sync }},
	}
}

// keptByListeners are the settings of a listener that belong to its sockets.
func keptByListeners() []keptField[Listener] {
	return []keptField[Listener]{
		{"socket_domain", func(l *Listener) any { return &l.Domain }},
		{"bind_interface", func(l *Listener) any { return &l.Interface }},
		{"protocol", func(l *Listener) any { return &l.Protocol }},
		{"http_dir", func(l *Listener) any { return &l.HTTPDir }},
		{"enable_proxy_protocol", func(l *Listener) any { return &l.ProxyProtocol }},
		{"psk_hint", func(l *Listener) any { return &l.PSKHint }},
		{"set_tcp_nodelay", func(l *Listener) any { return &l.Net.NoDelay }},
		{"websockets_headers_size", func(l *Listener) any { return &l.Net.MaxHeader }},
	}
}

// keep gives next the values of old that a reload does not change, and returns the keys that differed.
func keep[T any](fields []keptField[T], old, next *T) (keys []string) {
	for _, f := range fields {
		from, to := reflect.ValueOf(f.of(old)).Elem(), reflect.ValueOf(f.of(next)).Elem()
		if !from.Equal(to) {
			to.Set(from)
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Reload reads the files again, as SIGHUP asks for, and returns what is to be in force from now on: the new
// values, but the old ones where a change needs a new start; the notes name those. With an error nothing
// is to change: a line cannot be used, or the listeners are not the same. c is not changed. The result's
// listeners have the order of c's.
func (c *Config) Reload(files []string, ports []int) (*Config, []Note, error) {
	next, err := Parse(files, ports)
	if err != nil {
		return nil, nil, err
	}
	if err := next.matchListeners(c); err != nil {
		return nil, nil, err
	}
	var notes []Note
	say := func(keys []string, of string) {
		for _, k := range keys {
			text := fmt.Sprintf("The new value of %s%s takes effect after a restart.", k, of)
			notes = append(notes, Note{Text: text, Level: broker.LevelNotice})
		}
	}
	say(keep(kept(), c, next), "")
	for i := range next.Listeners {
		old, l := &c.Listeners[i], &next.Listeners[i]
		of := " of listener " + l.Name()
		if (old.CertFile == "") != (l.CertFile == "") {
			l.keepTLS(old)
			say([]string{"certfile"}, of)
		}
		say(keep(keptByListeners(), old, l), of)
		l.Net.WebSocket = old.Net.WebSocket
	}
	o, from := &next.Options, &c.Options // what no directive sets
	o.Log, o.Version, o.Clock = from.Log, from.Version, from.Clock
	o.Loops, o.Portable = from.Loops, from.Portable
	return next, notes, nil
}

// keepTLS leaves a listener with TLS, or without, as it was: clients on the other side expect it.
func (l *Listener) keepTLS(old *Listener) {
	l.CertFile, l.KeyFile, l.CAFile = old.CertFile, old.KeyFile, old.CAFile
	l.CAPath, l.CRLFile = old.CAPath, old.CRLFile
	l.Ciphers, l.CiphersTLS13, l.TLSVersion = old.Ciphers, old.CiphersTLS13, old.TLSVersion
	l.RequireCertificate, l.DisableCertDateChecks = old.RequireCertificate, old.DisableCertDateChecks
	l.UseIdentityAsUsername, l.UseSubjectAsUsername = old.UseIdentityAsUsername, old.UseSubjectAsUsername
}

// Name is what a listener line says: the port and, where there is one, the address or path.
func (l *Listener) Name() string { return strings.TrimSpace(fmt.Sprintf("%d %s", l.Port, l.Host)) }

// matchListeners puts the listeners in old's order; they must be the same.
func (c *Config) matchListeners(old *Config) error {
	const text = "It is not currently possible to add/remove listeners when reloading the config file."
	byName := map[string][]*Listener{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		byName[l.Name()] = append(byName[l.Name()], l)
	}
	sorted := make([]Listener, 0, len(c.Listeners))
	for i := range old.Listeners {
		name := old.Listeners[i].Name()
		if len(byName[name]) == 0 {
			return &Error{Text: text + " Removed: " + name + "."}
		}
		sorted = append(sorted, *byName[name][0])
		byName[name] = byName[name][1:]
	}
	for i := range c.Listeners {
		if l := &c.Listeners[i]; len(byName[l.Name()]) > 0 {
			return &Error{Text: text, Places: l.at}
		}
	}
	c.Listeners = sorted
	return nil
}
