package conf

import (
	"os"
	"slices"
)

// apiPort is where the HTTP API listens in local only mode.
const apiPort = 9883

// finish turns what was read into listeners, and checks what can only be checked together.
func (p *parser) finish(ports []int) error {
	if v := os.Getenv("MOSQUITTO_PERSISTENCE_LOCATION"); v != "" {
		p.cfg.Persistence.Location = v
	}
	if err := p.finishPlugins(); err != nil {
		return err
	}
	localOnly := len(p.listeners) == 0 && !p.defNamed
	p.cfg.LocalOnly = localOnly
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
		l.Net.NoDelay, l.Net.MaxHeader, l.Net.WebSocket = p.noDelay, p.maxHeader, l.Protocol == "websockets"
		for _, from := range []*local{&p.global, &l.security, &l.own} {
			from.decide(l)
		}
		if err := p.fail(l.check()); err != nil {
			return err
		}
		p.cfg.Listeners = append(p.cfg.Listeners, *l)
	}
	return p.finishBridges()
}

// fail is an error to stop at; when the parser is to go on, it remembers it instead.
func (p *parser) fail(err error) error {
	if err != nil && p.all {
		p.errors = append(p.errors, p.placed(err))
		return nil
	}
	return err
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

// decide adds to a listener the files that decide about its clients.
func (s *local) decide(l *Listener) {
	add := func(list *[]SecurityFile, f SecurityFile) {
		same := func(o SecurityFile) bool { return o.Path == f.Path }
		if f.Path != "" && !slices.ContainsFunc(*list, same) {
			*list = append(*list, f)
		}
	}
	for _, pl := range s.plugins {
		if pl.goauth != nil && !slices.Contains(l.GoAuth, pl.goauth) {
			l.GoAuth = append(l.GoAuth, pl.goauth)
		}
		add(&l.Passwords, pl.passwords)
		add(&l.ACLs, pl.acls)
	}
	add(&l.Passwords, s.passwords)
	add(&l.ACLs, s.acls)
	add(&l.Sources, s.sources)
	if s.psk.Path != "" {
		l.PSKFile = s.psk
	}
}

// check says what of a listener does not go together.
func (l *Listener) check() error {
	var text string
	at := []string{"certfile", "keyfile"}
	switch {
	case (l.CertFile == "") != (l.KeyFile == ""):
		text = "Both certfile and keyfile must be provided to enable a TLS listener."
	case l.CAFile != "" && l.CertFile == "" && l.ProxyProtocol != 2:
		text, at = "cafile specified without certfile and keyfile.", []string{"cafile"}
	case l.CAPath != "" && l.CertFile == "" && l.ProxyProtocol != 2:
		text, at = "capath specified without certfile and keyfile.", []string{"capath"}
	case l.ProxyProtocol == 2 && l.UseSubjectAsUsername:
		text, at = "use_subject_as_username cannot be used with `enable_proxy_protocol 2`.",
			[]string{"use_subject_as_username"}
	case l.ProxyProtocol == 2 && l.CertFile != "":
		text = "certfile and keyfile cannot be used with `enable_proxy_protocol 2`."
	case l.CertFile != "" && l.PSKHint != "":
		text, at = "Cannot use both certificate and psk encryption in a single listener.",
			[]string{"psk_hint"}
	default:
		return nil
	}
	return &Error{Text: text, Places: l.At(at...)}
}

// loopback is what runs without any listener line: the loopback addresses, and the HTTP API.
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
	if p.table["protocol http_api"].state == works {
		l := newListener()
		l.Port, l.Host, l.Protocol, l.Implied = apiPort, "127.0.0.1", "http_api", true
		out = append(out, l)
	}
	return out
}
