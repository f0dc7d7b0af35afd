package conf

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"noctule/broker"
)

// Check reads configuration files as Parse does but does not stop at the first error. It returns all errors,
// at broker.LevelError, and remarks: what is deprecated, what has no effect, what is not safe. The Config is
// what the good lines make, nil when a file cannot be read. The files that it names are for others to look
// at.
func Check(files []string, ports []int) (*Config, []Note) {
	p := newParser()
	p.all = true
	_ = p.files(files, ports) // all errors are in p.errors and p.refused
	c := &checker{notes: p.cfg.Notes}
	for _, e := range append(p.errors, p.refused...) {
		c.notes = append(c.notes, Note{e.Text, broker.LevelError, e.Places})
	}
	for _, f := range files {
		if _, err := read(f); err != nil {
			return nil, c.notes
		}
	}
	for i := range p.cfg.Listeners {
		c.listener(&p.cfg.Listeners[i])
	}
	c.rest(p.cfg)
	return p.cfg, c.notes
}

// checker collects remarks.
type checker struct {
	notes []Note
}

func (c *checker) warn(at []Place, format string, a ...any) {
	c.say(broker.LevelWarning, at, format, a...)
}

func (c *checker) say(level slog.Level, at []Place, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if level == broker.LevelWarning {
		text = "Warning: " + text
	}
	c.notes = append(c.notes, Note{text, level, at})
}

// listener looks at who can come in, and what can be read on the way.
func (c *checker) listener(l *Listener) {
	name, tls := l.Name(), l.CertFile != ""
	certified := l.RequireCertificate && (tls || l.ProxyProtocol == 2)
	named := l.UseIdentityAsUsername || l.UseSubjectAsUsername
	outside := !l.loopback()
	if outside && l.AllowAnonymous && !certified {
		c.warn(l.at, "listener %s lets everybody in, without a password.", name)
	}
	logins := len(l.Passwords)+len(l.Sources)+len(l.GoAuth) > 0
	if !l.AllowAnonymous && !logins && (!certified || !named) {
		c.warn(l.at, "listener %s lets nobody in: it has no password_file, and allow_anonymous is not true.",
			name)
	}
	if outside && !tls && l.ProxyProtocol == 0 && logins {
		c.warn(l.at, "listener %s has no TLS: passwords and messages can be read on the way.", name)
	}
	c.certificates(l, certified, named)
}

// certificates looks at what is asked of clients' certificates.
func (c *checker) certificates(l *Listener, certified, named bool) {
	name, tls := l.Name(), l.CertFile != ""
	if l.RequireCertificate && !certified {
		c.warn(l.At("require_certificate"),
			"require_certificate of listener %s has no effect without certfile and keyfile.", name)
	}
	if l.RequireCertificate && tls && l.CAFile == "" && l.CAPath == "" {
		c.say(broker.LevelError, l.At("require_certificate"),
			"require_certificate of listener %s needs cafile or capath.", name)
	}
	if named && !certified {
		c.warn(l.At("use_identity_as_username", "use_subject_as_username"),
			"listener %s takes usernames from certificates but does not ask for one: "+
				"set require_certificate.",
			name)
	}
	if l.CRLFile != "" && !certified {
		c.warn(l.At("crlfile"), "crlfile of listener %s has no effect without require_certificate.", name)
	}
	if l.DisableCertDateChecks {
		c.warn(l.At("disable_client_cert_date_checks"),
			"listener %s accepts client certificates that have expired.", name)
	}
	if l.TLSVersion == "tlsv1.1" {
		c.warn(l.At("tls_version"), "listener %s accepts TLS 1.1, which is not safe.", name)
	}
	if l.ProxyProtocol > 0 && !l.loopback() && len(l.ProxyFrom) == 0 {
		c.warn(l.At("enable_proxy_protocol"), "listener %s believes any client's PROXY header: "+
			"name the proxies with proxy_protocol_from.", name)
	}
	if l.ProxyProtocol == 0 && len(l.ProxyFrom) > 0 {
		c.warn(l.At("proxy_protocol_from"),
			"proxy_protocol_from of listener %s has no effect without enable_proxy_protocol.", name)
	}
}

// rest looks at what belongs to no listener.
func (c *checker) rest(cfg *Config) {
	if cfg.User == "root" {
		c.warn(cfg.At("user"), "user root keeps all rights.")
	}
	if host, _, err := net.SplitHostPort(cfg.Admin); cfg.Admin != "" && (err != nil || !loopbackHost(host)) {
		c.warn(cfg.At("admin_listener"), "admin_listener answers other machines.")
	}
}

// loopback reports whether only this machine can connect to a listener.
func (l *Listener) loopback() bool { return l.Port == 0 || l.Interface == "lo" || loopbackHost(l.Host) }

func loopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}
