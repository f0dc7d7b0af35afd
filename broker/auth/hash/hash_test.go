package hash

import (
	"errors"
	"strings"
	"testing"
)

// vectors are hashes that programs nobody here wrote have made.
var vectors = []struct{ by, password, text string }{
	{"mosquitto_passwd 2.0", "x", "$7$101$uScLvpGQQSDjtYjD$H8YbZXUlDsN5LnAOvm261w9WmF6Vhh/ZSo2fO8Gt/" +
		"zyxjkOVVioDXSN9GG5t2dw5NQx0DxhgOC0M+Fqi4YFOow=="},
	{"mosquitto_passwd -H sha512", "p", "$6$1jtnp7i0W/ekEvJ6$TsiPqIm6Wy3DONvX4kN47h8E1bG3gJbxkmARWhOT3YFZPBtp/" +
		"aq77W36pw2pHNdp0xuCiEUj6axjljsDOrzhuA=="},
	{"htpasswd -B of Apache 2.4.71", "secret", "$2y$05$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW"},
	{"Python bcrypt 3.2.2", "secret", "$2a$05$CVkA97NHElqGw862t.HnX.3GZVpsI6VBKOongWyfdXsYM6jxhr3BW"},
	{"Python bcrypt 3.2.2", "secret", "$2b$05$FnOuJaVbZDHa2RscPGdeO.YcsAJsL3/OAKA2liP68gNllI1smJHXm"},
	{"Python bcrypt 3.2.2", strings.Repeat("x", 80), "$2b$04$qKfU8C8BHhdxTSaFZsHyqe3JTHTCLdvQcbRAmCGsn3Zu6kdKYojMe"},
	{"argon2-cffi 21.1", "secret", "$argon2id$v=19$m=102400,t=2,p=8$3VsHOPYomWRYNTTKR6YT+Q$kX8uX0Lq6wGy8JObxRes5Q"},
	{"argon2-cffi with mosquitto-go-auth's parameters", "secret", "$argon2id$v=19$m=4096,t=3,p=2$" +
		"tH0UnYTlthQdJ5mBT+XCMw$6BM+14He+mJ0xlT0jnMrkyh6/RDBdpAsRddoV7id6v8"},
	{"pw of mosquitto-go-auth, in Home Assistant's documents", "foo", "PBKDF2$sha512$100000$" +
		"qsU7xQ8YCV/9nRuBBJVTxA==$jqw94Ej3aEr97UofY6rClmVCRkTdDiubQW0A6ZYmUI+pZjW9Hax+2w2FeYB3y5ut1SliB7+HAwIl2iONLKkohw=="},
	{"mosquitto-go-auth's own tests", "testpw", "PBKDF2$sha512$100000$" +
		"os24lcPr9cJt2QDVWssblQ==$BK1BQ2wbwU1zNxv3Ml3wLuu5//hPop3/LvaPYjjCwdBvnpwusnukJPpcXQzyyjOlZdieXTx6sXAcX4WnZRZZnw=="},
	{"Python hashlib", "secret", "PBKDF2$sha512$1000$AAECAwQFBgcICQoLDA0ODw==$8ltlLe5cI6KNrWOmMFkTi2iE7fEXJKJJR9lhjd/xSn4="},
	{"Python hashlib", "secret", "PBKDF2$sha256$1000$AAECAwQFBgcICQoLDA0ODw==$Tvsru20utY6o3q7VRBeuL9h/1QqKhWhwk2PaYNRWBgY="},
	{"Python hashlib", "secret", "$pbkdf2-sha512$i=1000,l=64$AAECAwQFBgcICQoLDA0ODw$" +
		"8ltlLe5cI6KNrWOmMFkTi2iE7fEXJKJJR9lhjd/xSn68+xOqzv2h20C4IDv/enqlx8f6AaRHE+6XnvHKXKhAjA"},
	{"passlib 1.7.4", "secret", "$pbkdf2-sha512$1000$d.59j3FOSamVEiLk3FtLaQ$" +
		"bMiCAIevu/3PrSPOV9ltTL/FVCZL1bjKlml85tBUEcdK81xTWOXrAEjzBQQ5eMa0tkpw3qZLuUWz9.Js1/I1Yg"},
	{"passlib 1.7.4", "secret", "$pbkdf2-sha256$1000$vldK6R1j7H1vbS0lhDAGQA$kW40qOZCwEBsu2qWe8eAKVVxT/z9WowoWa2WXExtp5A"},
	{"Python hashlib, for the example of RFC 7677", "pencil", "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="},
}

// textSalts are hashes with a salt that is text.
var textSalts = []struct{ by, password, text string }{
	{"np of mosquitto-auth-plug, as published", "admin", "PBKDF2$sha256$901$qiCmZmc2ZKEJkEaL$7Nw6lpv9G0IoEgxcTfEbx4ajtMQD3shC"},
	{"Python hashlib", "secret", "PBKDF2$sha512$1000$SälzigesMeer$" +
		"X+ML+AqiXSEYNt1ZDOlRgZNvUAeYCYz7QA0mOD+n2ertlRCSLWOpfCTKLDYWgzKNDLSADMV5+RfQAlusA4mRIA=="},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		checkVector(t, Form{}, v.by, v.password, v.text)
	}
	for _, v := range textSalts {
		checkVector(t, Form{TextSalt: true}, v.by, v.password, v.text)
		if h, err := Parse(v.text); err == nil && h.Matches([]byte(v.password)) {
			t.Errorf("%s: a salt that is text is taken for base64", v.by)
		}
	}
}

func checkVector(t *testing.T, f Form, by, password, text string) {
	t.Helper()
	h, err := f.Parse(text)
	if err != nil {
		t.Errorf("%s: %v", by, err)
		return
	}
	if h.String() != text {
		t.Errorf("%s: written back as %q", by, h.String())
	}
	if !h.Matches([]byte(password)) {
		t.Errorf("%s: the right password does not match", by)
	}
	for _, wrong := range []string{"", strings.ToUpper(password), password + "\x00" + password} {
		if h.Matches([]byte(wrong)) {
			t.Errorf("%s: %q matches", by, wrong)
		}
	}
	other, err := f.Parse(text)
	if err != nil || other.Mark() != h.Mark() || h.Mark() == 0 {
		t.Errorf("%s: the mark changes", by)
	}
}

// What is made is read, and no two are the same.
func TestNew(t *testing.T) {
	for _, k := range []Kind{PBKDF2, SHA512, Argon2id, Bcrypt, Scram} {
		a, err1 := New(k, []byte("secret"), 0)
		b, err2 := New(k, []byte("secret"), 0)
		if err1 != nil || err2 != nil || a == b {
			t.Errorf("kind %d: %v, %v, the same: %t", k, err1, err2, a == b)
			continue
		}
		h, err := Parse(a)
		if err != nil || h.Kind() != k || !h.Matches([]byte("secret")) || h.Matches([]byte("Secret")) {
			t.Errorf("kind %d: %q, %v", k, a, err)
		}
		o, err := Parse(b)
		if err != nil || o.Mark() == h.Mark() {
			t.Errorf("kind %d: two hashes with one mark, %v", k, err)
		}
	}
	if _, err := New(Bcrypt, make([]byte, 73), 0); err == nil {
		t.Error("bcrypt takes what it does not see")
	}
	if _, err := New(Scram, []byte("pässword"), 0); err == nil {
		t.Error("a password that clients prepare is taken as it is")
	}
	if _, err := New(Derived, nil, 0); err == nil {
		t.Error("a form that is only read is made")
	}
	if _, err := New(PBKDF2, nil, iterationsMax+1); err == nil {
		t.Error("more iterations than are read")
	}
}

// What follows in a line of a file is no part of a hash; two colons of SCRAM are.
func TestCut(t *testing.T) {
	for field, want := range map[string]string{
		"": "", "x": "x", "$6$a$b:c:d": "$6$a$b", ":x": "", " SCRAM-SHA-256$1:a$b:c:d": " SCRAM-SHA-256$1:a$b:c",
		"SCRAM-SHA-256$1:a$b:c": "SCRAM-SHA-256$1:a$b:c", "SCRAM-SHA-256$": "SCRAM-SHA-256$",
	} {
		if got := Cut(field); got != want {
			t.Errorf("%q: %q", field, got)
		}
	}
}

// Weak forms are refused by name, made by htpasswd, openssl and passlib.
func TestWeak(t *testing.T) {
	for text, name := range map[string]string{
		"$apr1$yffQRqUu$b99ozKu1pjC8q6CUUI1IF/":                           "apr1",
		"$1$wWHBd0bC$vnpVERa74pH/ZFD3eFicN1":                              "MD5",
		"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=":                               "SHA-1",
		"$5$Ut1iB4fRfL7mZ7U9$ze7IIiBlqMkCKkDyJJNiLY1tdz8hsVS6Pc7DWrpJr7.": "crypt's SHA-256",
		"$6$aQWDjGAXR54WiCll$OsS8iGTJ3v9ZycnCdSct0IB.ofS3l12dkK8jukzS81QKBLXcSROJngqX.FyQxK0xzaNaSEL/Ylmlur6qvD/pX1": "crypt's SHA-512",
		"$6$rounds=5000$aQWDjGAXR54WiCll$OsS8iGTJ3v9":                                                                "crypt's SHA-512",
		"$2x$05$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW":                                               "bcrypt $2x$",
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAA":                                           "Argon2i",
	} {
		_, err := Parse(text)
		weak, ok := errors.AsType[*WeakError](err)
		if !ok || !strings.Contains(weak.Name, name) || weak.Why == "" || strings.Contains(err.Error(), text[8:]) {
			t.Errorf("%.12s: %v", text, err)
		}
	}
}

// A stored hash cannot exhaust whoever compares with it: what it may ask for is bounded, and what is not
// quite a hash is none.
func TestUnknown(t *testing.T) {
	sum := strings.Repeat("A", 86) + "=="
	salt := "$c29tZXNhbHRzb21lc2FsdA$"
	for _, text := range []string{
		"", "$", "plain", "pfD8pZEaPCNx6", "$7$", "$6$", "$2y$", "PBKDF2$", "PBKDF2$sha512$", "$pbkdf2-sha512$", "$argon2id$",
		"$7$10000001$AAAA$" + sum, "$7$0$AAAA$" + sum, "$7$-1$AAAA$" + sum, "$7$1$$" + sum, "$7$1$AAAA$AAAA",
		"$7$1$" + strings.Repeat("AAAA", 200) + "$" + sum, "$6$AAA$" + sum, "$6$AAAA$" + sum + "$",
		"PBKDF2$sha512$10000001$AAAA$" + sum, "PBKDF2$sha512$1$$" + sum, "PBKDF2$sha512$1$AAAA$", "PBKDF2$sha512$1$AAAA$AAAAAAAA",
		"PBKDF2$md5$1$AAAA$" + sum, "PBKDF2$sha512$1$AAAA$" + sum + "$", "PBKDF2$sha512$1$AAAA$" + strings.Repeat("AAAA", 200),
		"$pbkdf2-sha512$i=1$AAAA$" + sum[:86], "$pbkdf2-sha512$i=1,l=63$AAAA$" + sum[:86], "$pbkdf2-sha512$i=1,l=$AAAA$" + sum[:86],
		"$pbkdf2-sha512$i=99999999,l=64$AAAA$" + sum[:86], "$pbkdf2-sha512$1$AA+A$" + sum[:86], "$pbkdf2-sha512$1$AAAA$" + sum,
		"$argon2id$v=16$m=64,t=1,p=1" + salt + "AAAAAA", "$argon2id$v=19$m=1048577,t=1,p=1" + salt + "AAAAAA",
		"$argon2id$v=19$m=1048576,t=5,p=1" + salt + "AAAAAA", "$argon2id$v=19$m=8,t=4194304,p=1" + salt + "AAAAAA",
		"$argon2id$v=19$m=1,t=4194304,p=255" + salt + "AAAAAA", "$argon2id$v=19$m=64,t=1,p=256" + salt + "AAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1" + salt + "AAAAAA", "$argon2id$v=19$m=64,t=1,p=1$$AAAAAA", "$argon2id$v=19$m=64,t=1,p=1" + salt,
		"$argon2id$v=19$t=1,m=64,p=1" + salt + "AAAAAA", "$argon2id$m=64,t=1,p=1" + salt + "AAAAAA",
		"SCRAM-SHA-256$", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-256$0:AAAA$" + sum[:43] + "=:" + sum[:43] + "=",
		"SCRAM-SHA-256$4096:$" + sum[:43] + "=:" + sum[:43] + "=", "SCRAM-SHA-256$4096:AAAA$" + sum[:43] + "=:",
		"$2y$17$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW", "$2y$03$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW",
		"$2y$05$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErT", "$2y$05$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3Er+W",
		"$2y$5$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTWw", "$2y$+5$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrUnknown) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	if _, err := (Form{TextSalt: true}).Parse("PBKDF2$sha512$1$" + strings.Repeat("s", 513) + "$" + sum); err == nil {
		t.Error("a salt of any length")
	}
}

// FuzzParse: what parses is written back the same.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.text, false)
	}
	for _, v := range textSalts {
		f.Add(v.text, true)
	}
	f.Fuzz(func(t *testing.T, text string, salt bool) {
		form := Form{TextSalt: salt}
		h, err := form.Parse(text)
		if err != nil {
			return
		}
		again, err := form.Parse(h.String())
		if err != nil || again.String() != h.String() || again.Mark() != h.Mark() {
			t.Fatalf("%q is not read back: %v", h.String(), err)
		}
	})
}

// BenchmarkMatches is what one login costs.
func BenchmarkMatches(b *testing.B) {
	for _, c := range []struct {
		name       string
		kind       Kind
		iterations int
	}{
		{"sha512", SHA512, 0},
		{"pbkdf2-101", PBKDF2, 101},
		{"pbkdf2-1000", PBKDF2, 1000},
		{"argon2id", Argon2id, 0},
		{"bcrypt-10", Bcrypt, 0},
	} {
		text, err := New(c.kind, []byte("secret"), c.iterations)
		if err != nil {
			b.Fatal(err)
		}
		h, err := Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Matches([]byte("secret"))
			}
		})
	}
}
