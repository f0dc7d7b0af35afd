package listener

import (
	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// Identify works out who a client is on listeners where not CONNECT alone says it, and puts that into p. The
// result is nil where it does.
func (o *Options) Identify(c *wsnet.Conn, p *codec.Connect) (*auth.Identity, codec.Reason) {
	n, name := o.Naming(), ""
	if n.ByCertificate {
		name = certificateName(c, o.UseSubjectAsUsername)
	}
	return n.Identify(name, p)
}

// Naming is how clients get their names.
func (o *Options) Naming() auth.Naming {
	certified := o.UseIdentityAsUsername || o.UseSubjectAsUsername
	return auth.Naming{
		ByCertificate:      certified && (o.Net.TLS != nil || o.Net.ProxyProtocol == 2),
		UsernameAsClientID: o.UseUsernameAsClientID,
	}
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

// Bars reports whether the client's certificate was good for the handshake but is no more: connections
// outlive the settings with which they began.
func (o *Options) Bars(c *wsnet.Conn) bool {
	if o.Revoked == nil {
		return false
	}
	st := c.TLS()
	return st != nil && o.Revoked(st)
}

// Slow reports whether a login takes hashing, so that it must not be decided on a loop.
func (o *Options) Slow(login *auth.Login) bool { return o.Policy != nil && o.Policy.Slow(login) }

// Admits decides about a login that is not Slow.
func (o *Options) Admits(login *auth.Login) bool {
	if o.Policy == nil {
		return o.AllowAnonymous || login.Identified
	}
	return o.Policy.Authenticate(login)
}

// Stands reports whether a client that was let in by the settings old would be let in still by o, which have
// replaced them since: the reload has not seen it. p is its CONNECT, as its identity.
func (o *Options) Stands(old *Options, c *wsnet.Conn, p *codec.Connect, as *auth.Identity) bool {
	if o == old {
		return true
	}
	if o.Bars(c) {
		return false
	}
	if as.Vouched() {
		return true
	}
	switch {
	case o.Policy == nil:
		return o.AllowAnonymous
	case as != nil && as.Stay != nil:
		return o.Policy.Keeps(as.Stay, string(p.Username))
	}
	var mark uint32
	username := string(p.Username)
	if old.Policy != nil {
		mark = old.Policy.Mark(username)
	}
	return o.Policy.StillValid(username, p.HasUsername, mark)
}

// LoginOf is what a CONNECT presents that has come on a connection; as is who the client is. It aliases the
// packet's password.
func LoginOf(c *wsnet.Conn, p *codec.Connect, clientID []byte, as *auth.Identity) auth.Login {
	return auth.Login{
		ClientID: string(clientID), Username: string(p.Username), HasUsername: p.HasUsername,
		Password: p.Password, HasPassword: p.HasPassword,
		Identified: as.Vouched(), Address: c.RemoteAddr().Addr(), Local: c.Local(),
	}
}
