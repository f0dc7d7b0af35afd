// Package ldap asks directories, for sources of package lookup: one connection a question, whose time its
// context bounds.
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"noctule/broker/lookup"
)

// Config is a directory.
type Config struct {
	URL              string `yaml:"url"`       // ldap://, ldaps:// or ldapi://
	StartTLS         bool   `yaml:"start_tls"` // of ldap://
	CAFile           string `yaml:"ca_file"`   // the system's certificates without it
	Plain            bool   `yaml:"plain"`     // ldap:// without TLS, to another machine
	BindDN           string `yaml:"bind_dn"`   // who searches; "": nobody in particular
	BindPasswordFile string `yaml:"bind_password_file"`
	MaxConns         int    `yaml:"max_conns"` // 8
}

const connsMax = 4096

// Defaults sets what the file does not.
func (c *Config) Defaults() { lookup.SetInt(&c.MaxConns, 8) }

// Check reports what is wrong, as an error of lookup.Wrong.
func (c *Config) Check(path string) error {
	u, err := url.Parse(c.address())
	switch {
	case err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" && u.Scheme != "ldapi":
		return lookup.Wrong(path+".url", "the URL is not ldap://, ldaps:// or ldapi://")
	case u.User != nil:
		return lookup.Wrong(path+".url", "who searches is said by bind_dn")
	case u.Scheme != "ldap" && c.StartTLS:
		return lookup.Wrong(path+".start_tls", "start_tls is for ldap://")
	case u.Scheme == "ldap" && !c.StartTLS && !c.Plain && !local(u.Hostname()):
		return lookup.Wrong(path+".url", "passwords would cross the network as they are: "+
			"start_tls: true, ldaps://, or plain: true if that is meant")
	case (c.BindDN == "") != (c.BindPasswordFile == ""):
		return lookup.Wrong(path, "bind_dn and bind_password_file belong together")
	case c.MaxConns < 1 || c.MaxConns > connsMax:
		return lookup.Wrong(path+".max_conns", "max_conns %d is not 1 to %d", c.MaxConns, connsMax)
	}
	return nil
}

// address is the URL as the library takes it: the path of a socket, which OpenLDAP writes in the place of a
// host (ldapi://%2Frun%2Fslapd%2Fldapi), behind it.
func (c *Config) address() string {
	host, ok := strings.CutPrefix(c.URL, "ldapi://")
	if path, err := url.PathUnescape(host); ok && err == nil {
		return "ldapi://" + path
	}
	return c.URL
}

func local(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Server is a directory that can be asked. It is immutable, and has no connection while nothing is asked.
type Server struct {
	cfg      Config
	tls      *tls.Config
	password string
}

// Open reads the files of a checked configuration. at is the path of the settings below what files are told
// of: ".ldap".
func Open(cfg *Config, at string, files lookup.Files) (*Server, error) {
	u, err := url.Parse(cfg.address())
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: *cfg, tls: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}
	if cfg.BindPasswordFile != "" {
		if s.password, err = files.Secret(at+".bind_password_file", cfg.BindPasswordFile); err != nil {
			return nil, err
		}
	}
	if cfg.CAFile == "" {
		return s, nil
	}
	raw, err := files.Read(at+".ca_file", cfg.CAFile)
	if err != nil {
		return nil, err
	}
	s.tls.RootCAs = x509.NewCertPool()
	if !s.tls.RootCAs.AppendCertsFromPEM(raw) {
		return nil, &lookup.FileError{
			Path: at + ".ca_file",
			Err:  fmt.Errorf("%s has no certificate", cfg.CAFile),
		}
	}
	return s, nil
}

// Conn is a connection, for one question.
type Conn struct {
	conn *ldap.Conn
	s    *Server
}

// connectMax bounds connecting, and each answer, where a context has no end.
const connectMax = 10 * time.Second

// Do connects, with TLS if that is asked for, and has f ask; the connection ends with f, or with ctx.
func (s *Server) Do(ctx context.Context, f func(*Conn) error) error {
	wait := connectMax
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), time.Millisecond)
	}
	conn, err := ldap.DialURL(s.cfg.address(), ldap.DialWithDialer(&net.Dialer{Timeout: wait}),
		ldap.DialWithTLSConfig(s.tls.Clone()))
	if err != nil {
		return because(ctx, err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to be said
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.SetTimeout(wait)
	if s.cfg.StartTLS {
		if err := conn.StartTLS(s.tls.Clone()); err != nil {
			return because(ctx, err)
		}
	}
	return because(ctx, f(&Conn{conn, s}))
}

// because is the end of ctx, if an error comes of it.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Service binds as who searches; it does nothing where nobody is named.
func (c *Conn) Service() error {
	if c.s.cfg.BindDN == "" {
		return nil
	}
	if err := c.conn.Bind(c.s.cfg.BindDN, c.s.password); err != nil {
		return fmt.Errorf("bind_dn: %w", err)
	}
	return nil
}

// Bind reports whether a password is that of an entry. One that is empty is refused without a question: to a
// directory it means nobody in particular, and that it takes.
func (c *Conn) Bind(dn, password string) (bool, error) {
	if password == "" || dn == "" {
		return false, nil
	}
	err := c.conn.Bind(dn, password)
	switch {
	case err == nil:
		return true, nil
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject,
		ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultInappropriateAuthentication,
		ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform):
		return false, nil
	}
	return false, err
}

// Entry is an entry that was found.
type Entry struct {
	DN     string
	values map[string][]string
}

// Values are those of an attribute that was asked for.
func (e *Entry) Values(attribute string) []string { return e.values[attribute] }

// ErrMany says that there are more entries than may be.
var ErrMany = errors.New("ldap: more entries than may be")

// Search finds entries below a base: at most so many, else the error is ErrMany.
func (c *Conn) Search(base, filter string, most int, attributes ...string) ([]Entry, error) {
	if len(attributes) == 0 {
		attributes = []string{"1.1"} // none: RFC 4511, 4.5.1.8
	}
	found, err := c.conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases,
		most+1, 0, false, filter, attributes, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return nil, nil
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, ErrMany
	case ldap.IsErrorWithCode(err, ldap.ErrorFilterCompile):
		return nil, lookup.Final{Err: err}
	case err != nil:
		return nil, err
	case len(found.Entries) > most:
		return nil, ErrMany
	}
	list := make([]Entry, len(found.Entries))
	for i, e := range found.Entries {
		list[i] = Entry{DN: e.DN, values: map[string][]string{}}
		for _, a := range attributes {
			list[i].values[a] = e.GetEqualFoldAttributeValues(a)
		}
	}
	return list, nil
}

// InDN is a value as a part of a DN.
func InDN(v string) string { return ldap.EscapeDN(v) }

// InFilter is a value in a filter.
func InFilter(v string) string { return ldap.EscapeFilter(v) }

// CheckFilter reports a filter that cannot be read.
func CheckFilter(filter string) error {
	_, err := ldap.CompileFilter(filter)
	return err
}
