package auth

import (
	"strings"
	"testing"

	"noctule/codec"
)

// What a listener takes in the place of what CONNECT says.
func TestIdentify(t *testing.T) {
	for name, tt := range map[string]struct {
		naming         Naming
		certificate    string
		username       string
		id, user       string // of the packet afterwards
		vouched, plain bool
		reason         codec.Reason
	}{
		"CONNECT alone":        {Naming{}, "cert", "u", "id", "u", false, true, codec.Success},
		"certificate":          {Naming{ByCertificate: true}, "cert", "u", "id", "cert", true, false, codec.Success},
		"no certificate":       {Naming{ByCertificate: true}, "", "u", "id", "u", false, true, codec.BadUserNameOrPassword},
		"username as id":       {Naming{UsernameAsClientID: true}, "", "u", "u", "u", false, false, codec.Success},
		"no username as id":    {Naming{UsernameAsClientID: true}, "", "", "id", "", false, true, codec.NotAuthorized},
		"certificate as id":    {Naming{true, true}, "cert", "", "cert", "cert", true, false, codec.Success},
		"none, and id by it":   {Naming{true, true}, "", "u", "id", "u", false, true, codec.BadUserNameOrPassword},
		"certificate replaces": {Naming{true, true}, "cert", "u", "cert", "cert", true, false, codec.Success},
	} {
		p := codec.Connect{ClientID: []byte("id"), Username: []byte(tt.username), HasUsername: tt.username != ""}
		as, r := tt.naming.Identify(tt.certificate, &p)
		if r != tt.reason || as.Vouched() != tt.vouched || (as == nil) != tt.plain ||
			string(p.ClientID) != tt.id || string(p.Username) != tt.user {
			t.Errorf("%s: %+v, reason 0x%02x, client id %q, username %q", name, as, r, p.ClientID, p.Username)
		}
		if as == nil {
			continue
		}
		again := codec.Connect{ClientID: []byte("id"), Username: []byte(tt.username)}
		if as.Dress(&again); string(again.ClientID) != tt.id || string(again.Username) != tt.user {
			t.Errorf("%s: dressed again, %q, %q", name, again.ClientID, again.Username)
		}
	}
	for _, bad := range []string{"\xff", strings.Repeat("x", 65536)} {
		if ValidName(bad) != "" {
			t.Errorf("a username of %d bytes", len(bad))
		}
	}
}
