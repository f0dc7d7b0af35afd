package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker/auth/hash"
)

func writeFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustHash(t testing.TB, k hash.Kind, password string, iterations int) string {
	t.Helper()
	text, err := hash.New(k, []byte(password), iterations)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Hashes that Mosquitto's own program has made: of "x" by 2.0, and of "p" with -H sha512.
const (
	made20 = "$7$101$uScLvpGQQSDjtYjD$H8YbZXUlDsN5LnAOvm261w9WmF6Vhh/ZSo2fO8Gt/" +
		"zyxjkOVVioDXSN9GG5t2dw5NQx0DxhgOC0M+Fqi4YFOow=="
	made16 = "$6$1jtnp7i0W/ekEvJ6$TsiPqIm6Wy3DONvX4kN47h8E1bG3gJbxkmARWhOT3YFZPBtp/" +
		"aq77W36pw2pHNdp0xuCiEUj6axjljsDOrzhuA=="
	// A salt of 64 bytes, as 2.1 writes them; by Python, of "secret".
	made21 = "$7$1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUm" +
		"JygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$j5aX3DstWRgO5cjjfvKvsf7Z/KK812T4w" +
		"GDMih+DCHQg8P7++fmj4sZcMp1smkEafZL0QZ29tE5ezahL/nyffw=="
)

// TestEmptyPasswordNeverLogsIn, not even where the file has the hash of an empty one.
func TestEmptyPasswordNeverLogsIn(t *testing.T) {
	for _, k := range []hash.Kind{hash.PBKDF2, hash.SHA512, hash.Argon2id} {
		p, err := LoadPasswords(writeFile(t, "empty:"+mustHash(t, k, "", 0)+"\nfull:"+mustHash(t, k, "secret", 0)))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"empty", "full", "unknown"} {
			for _, password := range [][]byte{nil, {}} {
				for _, has := range []bool{false, true} {
					l := &Login{Username: name, HasUsername: true, Password: password, HasPassword: has}
					want := Deny
					if name == "unknown" {
						want = Defer
					}
					if v := p.Authenticate(l); v != want || p.Slow(l) {
						t.Errorf("%v: %s with %#v (%t): %v, slow %t", k, name, password, has, v, p.Slow(l))
					}
				}
			}
		}
		if v := p.Authenticate(&Login{}); v != Ignore { // left to the rule for anonymous clients
			t.Errorf("%v: no username: %v", k, v)
		}
		l := &Login{Username: "full", HasUsername: true, Password: []byte("secret"), HasPassword: true}
		if v := p.Authenticate(l); v != Allow {
			t.Errorf("%v: the right password: %v", k, v)
		}
	}
}

func TestPasswordsOfEveryKind(t *testing.T) {
	file := writeFile(t, "# comment\n\na line without a colon is skipped\n"+
		"\t v20 : "+made20+" \r\n"+
		"v16:"+made16+":what follows another colon is not looked at\n"+
		"v21:"+made21+"\n"+
		"slow:"+mustHash(t, hash.PBKDF2, "secret", 5000)+"\n"+
		"sha:"+mustHash(t, hash.SHA512, "secret", 0)+"\n"+
		"argon:"+mustHash(t, hash.Argon2id, "secret", 0)) // no end of line
	p, err := LoadPasswords(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.Len() != 6 || len(p.Warnings()) != 0 {
		t.Errorf("%d users, warnings %q", p.Len(), p.Warnings())
	}
	for user, right := range map[string]string{
		"v20": "x", "v16": "p", "v21": "secret", "slow": "secret", "sha": "secret", "argon": "secret",
	} {
		for _, c := range []struct {
			password string
			want     Verdict
		}{
			{right, Allow},
			{right + "x", Deny},
			{right[1:], Deny},
			{"", Deny},
			{right + "\x00x", Deny},
			{strings.ToUpper(right), Deny},
		} {
			l := Login{Username: user, HasUsername: true, Password: []byte(c.password), HasPassword: true}
			if got := p.Authenticate(&l); got != c.want {
				t.Errorf("%s with %q: %s", user, c.password, got)
			}
		}
	}
	for _, c := range []struct {
		l    Login
		want Verdict
	}{
		{Login{}, Ignore}, // anonymous rule
		{Login{HasPassword: true, Password: []byte("secret")}, Ignore},
		{Login{Username: "v20", HasUsername: true}, Deny},
		{Login{Username: "V20", HasUsername: true, Password: []byte("secret"), HasPassword: true}, Defer},
		{Login{HasUsername: true, Password: []byte("secret"), HasPassword: true}, Defer},
	} {
		if got := p.Authenticate(&c.l); got != c.want {
			t.Errorf("%+v: %s", c.l, got)
		}
	}
}

// TestUnknownUserIsHashed counts on nothing but the decoys: a name that is not there costs what one of the
// file costs, and always the same.
func TestUnknownUserIsHashed(t *testing.T) {
	p, err := LoadPasswords(writeFile(t, "a:"+made20+"\nb:"+made16))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.decoys) != 2 {
		t.Fatalf("%d decoys", len(p.decoys))
	}
	l := Login{Username: "nobody", HasUsername: true, Password: []byte("x"), HasPassword: true}
	if !p.Slow(&l) {
		t.Error("not slow")
	}
	p.decoys = p.decoys[:1] // whose password is "x": the right password of somebody else is no way in
	if v := p.Authenticate(&l); v != Defer {
		t.Errorf("%s", v)
	}
	empty, err := LoadPasswords(writeFile(t, "# nobody\n"))
	if err != nil {
		t.Fatal(err)
	}
	if v := empty.Authenticate(&l); v != Defer || empty.Slow(&l) {
		t.Errorf("empty file: %s", v)
	}
}

func TestPasswordFileErrors(t *testing.T) {
	sum := strings.Repeat("A", 86) + "=="
	for _, c := range []struct {
		content string
		line    int
		text    string
	}{
		{"a:" + made16 + "\n a :" + made16, 2, "Duplicate user 'a'"},
		{"#\n:" + made16, 2, "Empty username"},
		{"  :" + made16, 1, "Empty username"},
		{"a:", 1, "Invalid line in password file"},
		{"a: \nb:x", 1, "Invalid line in password file"},
		{"a:plain", 1, "Unable to decode line in password file"},
		{"a:$apr1$yffQRqUu$b99ozKu1pjC8q6CUUI1IF/", 1, "'. htpasswd's MD5 (apr1) is not taken: it is tried"},
		{"a:$2y$31$Vqs2ylfIhfOGqeQ8fyZMAOMXqXFRfJfnnS6fTYF/PwRWJ4St3ErTW", 1, "Unable to decode"},
		{"a:$5$AAAA$" + sum, 1, "Unable to decode"},
		{"a:$6$AAAA", 1, "Unable to decode"},
		{"a:$6$$" + sum, 1, "Unable to decode"},
		{"a:$6$AAA$" + sum, 1, "Unable to decode"},
		{"a:$6$AAAA$AAAA", 1, "Unable to decode"},
		{"a:$6$AAAA$" + sum + "$", 1, "Unable to decode"},
		{"a:$7$0$AAAA$" + sum, 1, "Unable to decode"},
		{"a:$7$-1$AAAA$" + sum, 1, "Unable to decode"},
		{"a:$7$99999999999$AAAA$" + sum, 1, "Unable to decode"},
		{"a:$7$AAAA$" + sum, 1, "Unable to decode"},
		{"a:$argon2id$v=16$m=64,t=1,p=1$AAAA$AAAAAA", 1, "Unable to decode"},
		{"a:$argon2id$v=19$m=9999999,t=1,p=1$AAAA$AAAAAA", 1, "Unable to decode"},
		{"a:$argon2id$v=19$m=64,t=1$AAAA$AAAAAA", 1, "Unable to decode"},
		{"a:$argon2id$v=19$m=64,t=1,p=256$AAAA$AAAAAA", 1, "Unable to decode"},
		{"a:$argon2id$v=19$t=1,m=64,p=1$AAAA$AAAAAA", 1, "Unable to decode"},
		{"a:$argon2i$v=19$m=64,t=1,p=1$AAAA$AAAAAA", 1, "Unable to decode"},
		{strings.Repeat("x", 65536) + ":" + made16, 1, "username too long"},
		{"#\n" + strings.Repeat("x", lineMax+1), 2, "Line too long"},
	} {
		path := writeFile(t, c.content)
		_, err := LoadPasswords(path)
		var e *FileError
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Text, c.text) || e.Unreadable() {
			t.Errorf("%.40q: %v", c.content, err)
			continue
		}
		if strings.Contains(err.Error(), "plain") || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%q shows a secret", err)
		}
		if !strings.HasSuffix(err.Error(), "\nError found at "+path+":"+string('0'+rune(c.line))+".") {
			t.Errorf("%q names no place", err)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, load := range map[string]func(string) error{
		"passwords": func(p string) error { _, err := LoadPasswords(p); return err },
		"acl":       func(p string) error { _, err := LoadACL(p); return err },
	} {
		err := load(filepath.Join(dir, "missing"))
		var e *FileError
		if !errors.As(err, &e) || !e.Unreadable() || !errors.Is(err, fs.ErrNotExist) || e.Line != 0 {
			t.Errorf("%s: %v", name, err)
		}
		if err := load(dir); !errors.As(err, &e) || !e.Unreadable() {
			t.Errorf("%s: a directory: %v", name, err)
		}
	}
}

// TestSymlinksAreFollowed is where this differs from Mosquitto, which refuses what containers mount.
func TestSymlinksAreFollowed(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(writeFile(t, "a:"+made16), link); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	p, err := LoadPasswords(link)
	if err != nil || p.Len() != 1 {
		t.Errorf("%v", err)
	}
}
