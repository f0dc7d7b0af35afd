package conf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"noctule/broker"
)

// keep gives next the values of old that a reload does not change, and returns the keys that differed,
// sorted. T is Config or Listener.
func keep[T any](old, next *T) (keys []string) {
	for key, d := range directives() {
		of, ok := d.field.(func(*T) any)
		if !ok {
			continue
		}
		from, to := reflect.ValueOf(of(old)).Elem(), reflect.ValueOf(of(next)).Elem()
		if !from.Equal(to) {
			to.Set(from)
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
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
	say(keep(c, next), "")
	for i := range next.Listeners {
		old, l := &c.Listeners[i], &next.Listeners[i]
		of := " of listener " + l.Name()
		if (old.CertFile == "") != (l.CertFile == "") {
			l.keepTLS(old)
			say([]string{"certfile"}, of)
		}
		say(keep(old, l), of)
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
