package broker

import (
	"bytes"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/internal/certname"
	"noctule/wsnet"
)

// persona is what takes the place of what CONNECT says.
type persona struct {
	clientID   []byte // nil: CONNECT's
	username   []byte // nil: CONNECT's
	identified bool   // a certificate vouches for the username
}

// dress puts it into a CONNECT.
func (a *persona) dress(p *codec.Connect) {
	if a == nil {
		return
	}
	if a.clientID != nil {
		p.ClientID = a.clientID
	}
	if a.username != nil {
		p.Username, p.HasUsername = a.username, true
	}
}

// identify works out who a client is on listeners where not CONNECT alone says it. The result is nil where it
// does.
func identify(c *wsnet.Conn, l *ListenerOptions, p *codec.Connect) (*persona, codec.Reason) {
	if !l.UseIdentityAsUsername && !l.UseSubjectAsUsername && !l.UseUsernameAsClientID {
		return nil, codec.Success
	}
	as := &persona{}
	secure := l.Net.TLS != nil || l.Net.ProxyProtocol == 2
	if secure && (l.UseIdentityAsUsername || l.UseSubjectAsUsername) {
		name := certificateName(c, l.UseSubjectAsUsername)
		if name == "" {
			return nil, codec.BadUserNameOrPassword
		}
		as.username, as.identified = []byte(name), true
		as.dress(p)
	}
	if l.UseUsernameAsClientID {
		if len(p.Username) == 0 {
			return nil, codec.NotAuthorized
		}
		as.clientID = bytes.Clone(p.Username)
		as.dress(p)
	}
	return as, codec.Success
}

// certificateName is the common name, or the subject, of the client's certificate; empty without. Behind a
// proxy it is the name that the PROXY header tells.
func certificateName(c *wsnet.Conn, subject bool) string {
	if h := c.Proxied(); h != nil && h.TLS != nil && !subject {
		return validName(h.TLS.CommonName)
	}
	st := c.TLS()
	if st == nil || len(st.PeerCertificates) == 0 {
		return ""
	}
	read := certname.CommonName
	if subject {
		read = certname.Subject
	}
	name, err := read(st.PeerCertificates[0])
	if err != nil {
		return ""
	}
	return validName(name)
}

// bars reports whether the client's certificate was good for the handshake but is no more: connections
// outlive the settings with which they began.
func (l *ListenerOptions) bars(c *wsnet.Conn) bool {
	if l.Revoked == nil {
		return false
	}
	st := c.TLS()
	return st != nil && l.Revoked(st)
}

// validName is a name if it may be a username.
func validName(name string) string {
	if !codec.ValidUTF8([]byte(name)) || len(name) > 65535 {
		return ""
	}
	return name
}

// loginOf is what a CONNECT presents. It aliases the packet's password.
func loginOf(c *wsnet.Conn, p *codec.Connect, id []byte, as *persona) auth.Login {
	return auth.Login{
		ClientID: string(id), Username: string(p.Username), HasUsername: p.HasUsername,
		Password: p.Password, HasPassword: p.HasPassword,
		Identified: as != nil && as.identified, Address: c.RemoteAddr().Addr(), Local: c.Local(),
	}
}
