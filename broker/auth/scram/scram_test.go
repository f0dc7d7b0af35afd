package scram

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/codec"
)

// file is a password file as a store.
func file(t testing.TB, lines ...string) *auth.Passwords {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := auth.LoadPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func stored(t testing.TB, k hash.Kind, password string) string {
	t.Helper()
	text, err := hash.New(k, []byte(password), 0)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pencil is what RFC 7677's example has for "pencil": its salt and iterations, with keys by Python's hashlib.
const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

// TestRFC is the exchange of RFC 7677, 3, byte by byte.
func TestRFC(t *testing.T) {
	m, err := New(file(t, "user:"+pencil), func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" })
	if err != nil {
		t.Fatal(err)
	}
	x, s := auth.Methods{Name: m}.Begin(t.Context(), Name, &auth.Login{}, []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
	const challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	if !s.Challenge() || string(s.Data) != challenge {
		t.Fatalf("%+v %q", s, s.Data)
	}
	s = x.Continue(t.Context(), []byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"+
		"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if s.Pass == nil || s.Pass.Username != "user" || !s.Pass.HasUsername || string(s.Data) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Fatalf("%+v %q", s, s.Data)
	}
	if s = x.Continue(t.Context(), []byte("c=biws")); s.Refused != codec.NotAuthorized {
		t.Errorf("it goes on after its end: %+v", s)
	}
}

// talk is a client of the library with a password.
func talk(t *testing.T, m *Method, l *auth.Login, user, password, as string, first bool) (auth.Step, bool) {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, as)
	if err != nil {
		t.Fatal(err)
	}
	conv := c.NewConversation()
	var data []byte
	if first {
		text, err := conv.Step("")
		if err != nil {
			t.Fatal(err)
		}
		data = []byte(text)
	}
	x, s := m.Begin(t.Context(), l, data)
	for s.Challenge() {
		text, err := conv.Step(string(s.Data))
		if err != nil {
			t.Fatal(err)
		}
		s = x.Continue(t.Context(), []byte(text))
	}
	if s.Pass != nil {
		_, err = conv.Step(string(s.Data))
	}
	return s, err == nil && conv.Valid()
}

func TestWhoGetsIn(t *testing.T) {
	m, err := New(file(t, "u,=:"+stored(t, hash.Scram, "secret"), "other:"+stored(t, hash.PBKDF2, "secret")), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		l              auth.Login
		user, pass, as string
		first, in      bool
	}{
		{"right", auth.Login{}, "u,=", "secret", "", true, true},
		{"without a first message", auth.Login{}, "u,=", "secret", "", false, true},
		{"with CONNECT's username", auth.Login{Username: "u,=", HasUsername: true}, "u,=", "secret", "", true, true},
		{"with itself as authorization", auth.Login{}, "u,=", "secret", "u,=", true, true},
		{"wrong password", auth.Login{}, "u,=", "Secret", "", true, false},
		{"unknown", auth.Login{}, "nobody", "secret", "", true, false},
		{"another form", auth.Login{}, "other", "secret", "", true, false},
		{"another username in CONNECT", auth.Login{Username: "v", HasUsername: true}, "u,=", "secret", "", true, false},
		{"an empty username in CONNECT", auth.Login{HasUsername: true}, "u,=", "secret", "", true, false},
		{"as somebody else", auth.Login{}, "u,=", "secret", "other", true, false},
	} {
		s, known := talk(t, m, &c.l, c.user, c.pass, c.as, c.first)
		if in := s.Pass != nil; in != c.in || in != known || !in && (s.Refused != codec.NotAuthorized || s.Why == "") {
			t.Errorf("%s: %+v, the client knows the broker: %t", c.name, s, known)
		}
		if strings.Contains(s.Why, "u,=") || strings.Contains(s.Why, "nobody") {
			t.Errorf("%s: %q names the user", c.name, s.Why)
		}
	}
}

// Who asks cannot tell who is there: an unknown user has a salt that stays, as a known one has.
func TestUnknownUsersLookKnown(t *testing.T) {
	m, err := New(file(t, "u:"+stored(t, hash.Scram, "secret")), func() string { return "n" })
	if err != nil {
		t.Fatal(err)
	}
	challenge := func(user string) string {
		_, s := m.Begin(t.Context(), &auth.Login{}, []byte("n,,n="+user+",r=x"))
		return string(s.Data)
	}
	first := challenge("nobody")
	if first != challenge("nobody") || first == challenge("somebody") ||
		len(first) != len(challenge("u")) || !strings.HasSuffix(first, ",i=4096") {
		t.Errorf("%q, %q", challenge("nobody"), challenge("u"))
	}
}

// What is no message of SCRAM is refused, at any step, and nothing of it is in the log.
func TestMalformed(t *testing.T) {
	m, err := New(file(t, "u:"+stored(t, hash.Scram, "secret")), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"x", "n", "n,,", "n,,n=u", "n,,r=x,n=u", "n,,m=ext,n=u,r=x", "p=tls-unique,,n=u,r=x", "p=x,,n=u,r=x", "q,,n=u,r=x", "n,,n=u=41,r=x",
		"n,a=secret=1,n=u,r=x", "n,,n=u,r=" + strings.Repeat("x", dataMax), "\xff\x00",
	} {
		if _, s := m.Begin(t.Context(), &auth.Login{}, []byte(bad)); s.Refused != codec.NotAuthorized || strings.Contains(s.Why, "secret") {
			t.Errorf("%.30q: %+v", bad, s)
		}
	}
	for _, bad := range []string{"", "x", "c=biws", "c=biws,r=n,p=!!", "c=biws,r=n,p=AAAA", "c=,r=n,p=AAAA", rand.Text()} {
		x, s := m.Begin(t.Context(), &auth.Login{}, []byte("n,,n=u,r=x"))
		if !s.Challenge() {
			t.Fatalf("%+v", s)
		}
		if s = x.Continue(t.Context(), []byte(bad)); s.Refused != codec.NotAuthorized {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}
