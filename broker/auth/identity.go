package auth

import (
	"bytes"
	"crypto/x509"

	"noctule/codec"
	"noctule/internal/certname"
)

// Identity is who a client is where not CONNECT alone says it: what takes the place of what that says. nil
// takes the place of nothing.
type Identity struct {
	ClientID   []byte // nil: CONNECT's
	Username   []byte // nil: CONNECT's
	Identified bool   // a certificate vouches for the username
	Stay       *Stay  // what of its Pass goes on; nil: it has none
}

// Naming is how a listener's clients get their names, beside CONNECT.
type Naming struct {
	ByCertificate      bool // the username is the certificate's name
	UsernameAsClientID bool
}

// Identify works out who a client is: name is that of its certificate, "" if there is none that may be a
// username. The result is nil where CONNECT alone says it.
func (n Naming) Identify(name string, p *codec.Connect) (*Identity, codec.Reason) {
	if n == (Naming{}) {
		return nil, codec.Success
	}
	as := &Identity{}
	if n.ByCertificate {
		if name == "" {
			return nil, codec.BadUserNameOrPassword
		}
		as.Username, as.Identified = []byte(name), true
		as.Dress(p)
	}
	if n.UsernameAsClientID {
		if len(p.Username) == 0 {
			return nil, codec.NotAuthorized
		}
		as.ClientID = bytes.Clone(p.Username)
		as.Dress(p)
	}
	return as, codec.Success
}

// Admitted is a with what a source has found out; method is the Authentication Method by which the client has
// come, "" without. What the source says takes the place of what CONNECT or a certificate says; where
// usernames are client ids, its username is. Neither a nor pass is changed, and both may be nil. The reason
// is not Success if the client cannot have that name.
func (n Naming) Admitted(a *Identity, pass *Pass, method string) (*Identity, codec.Reason) {
	if pass == nil {
		return a, codec.Success
	}
	next := Identity{}
	if a != nil {
		next = *a
	}
	next.Stay = pass.Stay(method)
	if pass.HasUsername && !validName(pass.Username) || !validName(pass.ClientID) {
		return a, codec.NotAuthorized
	}
	if pass.HasUsername {
		next.Identified = next.Identified && string(next.Username) == pass.Username
		next.Username = []byte(pass.Username)
		if n.UsernameAsClientID {
			next.ClientID = next.Username
		}
	}
	if pass.ClientID != "" {
		next.ClientID = []byte(pass.ClientID)
	}
	return &next, codec.Success
}

// Dress puts it into a CONNECT.
func (a *Identity) Dress(p *codec.Connect) {
	if a == nil {
		return
	}
	if a.ClientID != nil {
		p.ClientID = a.ClientID
	}
	if a.Username != nil {
		p.Username, p.HasUsername = a.Username, true
	}
}

// Vouched reports whether a certificate vouches for the username.
func (a *Identity) Vouched() bool { return a != nil && a.Identified }

// CertificateName is the common name, or the subject, of a certificate; "" if it may not be a username.
func CertificateName(c *x509.Certificate, subject bool) string {
	read := certname.CommonName
	if subject {
		read = certname.Subject
	}
	name, err := read(c)
	if err != nil {
		return ""
	}
	return ValidName(name)
}

// ValidName is a name if it may be a username, else "".
func ValidName(name string) string {
	if !validName(name) {
		return ""
	}
	return name
}

func validName(name string) bool { return codec.ValidUTF8([]byte(name)) && len(name) <= 65535 }
