package broker

import (
	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// identify works out who a client is on listeners where not CONNECT alone says it. The result is nil where it
// does.
func identify(c *wsnet.Conn, l *ListenerOptions, p *codec.Connect) (*auth.Identity, codec.Reason) {
	certified := l.UseIdentityAsUsername || l.UseSubjectAsUsername
	n := auth.Naming{
		ByCertificate:      certified && (l.Net.TLS != nil || l.Net.ProxyProtocol == 2),
		UsernameAsClientID: l.UseUsernameAsClientID,
	}
	name := ""
	if n.ByCertificate {
		name = certificateName(c, l.UseSubjectAsUsername)
	}
	return n.Identify(name, p)
}

// certificateName is the common name, or the subject, of the client's certificate; empty without. Behind a
// proxy it is the name that the PROXY header tells.
func certificateName(c *wsnet.Conn, subject bool) string {
	if h := c.Proxied(); h != nil && h.TLS != nil && !subject {
		return auth.ValidName(h.TLS.CommonName)
	}
	st := c.TLS()
	if st == nil || len(st.PeerCertificates) == 0 {
		return ""
	}
	return auth.CertificateName(st.PeerCertificates[0], subject)
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

// loginOf is what a CONNECT presents. It aliases the packet's password.
func loginOf(c *wsnet.Conn, p *codec.Connect, id []byte, as *auth.Identity) auth.Login {
	return auth.Login{
		ClientID: string(id), Username: string(p.Username), HasUsername: p.HasUsername,
		Password: p.Password, HasPassword: p.HasPassword,
		Identified: as.Vouched(), Address: c.RemoteAddr().Addr(), Local: c.Local(),
	}
}
