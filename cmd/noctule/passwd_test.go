package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker/auth"
)

// passwdRun is what one run of a password tool did.
type passwdRun struct {
	code             int
	stdout, stderr   string
	users, unchanged string // users of the file p; the file p itself if it was to stay
}

// ours runs `noctule passwd` in a directory.
func ours(t *testing.T, dir, stdin string, args ...string) passwdRun {
	t.Helper()
	return runIn(t, dir, stdin, binary, append([]string{"passwd"}, args...)...)
}

func runIn(t *testing.T, dir, stdin, name string, args ...string) passwdRun {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return passwdRun{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// TestPasswdAsMosquitto gives the same command lines to both programs: exit codes, messages and the users of the
// file are the same. (A file with a line that it does not understand, theirs loses.)
func TestPasswdAsMosquitto(t *testing.T) {
	theirs := program(t, "mosquitto_passwd")
	const file = "a:$7$101$uScLvpGQQSDjtYjD$H8YbZXUlDsN5LnAOvm261w9WmF6Vhh/ZSo2fO8Gt/" +
		"zyxjkOVVioDXSN9GG5t2dw5NQx0DxhgOC0M+Fqi4YFOow==\nb:$6$x\n"
	for _, c := range []struct{ file, args, stdin string }{
		{"", "-c -b p u secret", ""},
		{file, "-c -b p u secret", ""},
		{file, "-b p c secret", ""},
		{file, "-b p a secret", ""},
		{file, "-H sha512 -b p a secret", ""},
		{file, "-D p a", ""},
		{file, "-D p nobody", ""},
		{file, "p c", "x\nx\n"},
		{file, "p c", "x\ny\n"},
		{file, "p c", "\n\n"},
		{file, "p c", ""},
		{"", "-c p c", "x\nx\n"},
		{"", "-b p a secret", ""},
		{"", "-D p a", ""},
		{"a:x\nb:y\n", "-U p", ""},
		{"a:x\nb\n", "-U p", ""},
		{file, "-b p a:b secret", ""},
		{file, "-H md5 -b p a secret", ""},
		{file, "-c -D p a", ""},
		{file, "-c -U p", ""},
		{file, "-D -U p", ""},
		{file, "-b -D p a", ""},
		{file, "p", ""},
		{file, "-H", ""},
	} {
		run := func(f func(dir string) passwdRun) passwdRun {
			dir := t.TempDir()
			path := filepath.Join(dir, "p")
			if c.file != "" {
				if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := f(dir)
			b, _ := os.ReadFile(path) // it may be missing in both
			for line := range strings.Lines(string(b)) {
				user, hash, _ := strings.Cut(line, ":")
				r.users += user + " " + hash[:min(3, len(hash))] + "\n"
			}
			if r.code != 0 {
				r.unchanged = string(b)
			}
			return r
		}
		got := run(func(dir string) passwdRun { return ours(t, dir, c.stdin, strings.Fields(c.args)...) })
		want := run(func(dir string) passwdRun { return runIn(t, dir, c.stdin, theirs, strings.Fields(c.args)...) })
		if got.code != want.code || got.users != want.users || got.unchanged != want.unchanged ||
			got.stderr != want.stderr {
			t.Errorf("%s\nours   %+v\ntheirs %+v", c.args, got, want)
		}
	}
}

// TestPasswdLikeMosquitto21 is what Debian's 2.0 does not have yet: what is printed, -I, the standard output,
// and ours beyond it, argon2id, bcrypt and SCRAM.
func TestPasswdLikeMosquitto21(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, stdin, stdout, stderr string }{
		{"-c -b p u secret", "", "Adding password for user u\n", ""},
		{"-b p u secret2", "", "Updating password for user u\n", ""},
		{"-I 7 p v", "a\na\n", "Password: \nReenter password: \nAdding password for user v\n", ""},
		{"-H argon2id -b p w secret", "", "Adding password for user w\n", ""},
		{"-H bcrypt -b p x secret", "", "Adding password for user x\n", ""},
		{"-H scram-sha-256 -b p y secret", "", "Adding password for user y\n", ""},
		{"-I 0 -b p u x", "", "", "Error: Number of iterations must be > 0.\n"},
		{"-I", "", "", "Error: -I argument given but not enough other arguments.\n"},
	} {
		r := ours(t, dir, c.stdin, strings.Fields(c.args)...)
		if r.stdout != c.stdout || r.stderr != c.stderr || (r.code != 0) != (c.stderr != "") {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "p"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"u:$7$1000$", "v:$7$7$", "w:$argon2id$v=19$m=47104,t=1,p=1$", "x:$2a$10$", "y:SCRAM-SHA-256$4096:"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
	p, err := auth.LoadPasswords(filepath.Join(dir, "p"))
	if err != nil {
		t.Fatal(err)
	}
	for user, password := range map[string]string{"u": "secret2", "v": "a", "w": "secret"} {
		l := auth.Login{Username: user, HasUsername: true, Password: []byte(password), HasPassword: true}
		if v := p.Authenticate(&l); v != auth.Allow {
			t.Errorf("%s: %s", user, v)
		}
	}
	r := ours(t, dir, "", "-c", "-b", "-", "u", "x")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "u:$7$1000$") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("standard output: %+v", r)
	}
	if r := ours(t, dir, ""); r.code != 1 || !strings.Contains(r.stdout, "Usage: noctule passwd") {
		t.Errorf("%+v", r)
	}
}

// TestPasswordFilesGoBothWays gives a file of ours to Mosquitto's broker, and one of its program's to ours.
func TestPasswordFilesGoBothWays(t *testing.T) {
	mosquitto, tool, pub := program(t, "mosquitto"), program(t, "mosquitto_passwd"), program(t, "mosquitto_pub")
	dir := t.TempDir()
	file := filepath.Join(dir, "ours")
	for _, args := range [][]string{
		{"-c", "-b", file, "a", "pa"}, {"-H", "sha512", "-b", file, "b", "pb"}, {"-I", "3000", "-b", file, "c", "pc"},
	} {
		if r := ours(t, dir, "", args...); r.code != 0 {
			t.Fatalf("%q: %+v", args, r)
		}
	}
	port := fmt.Sprint(freePort(t))
	p := &process{news: make(chan struct{}, 1)}
	p.cmd = exec.Command(mosquitto, "-c", confFile(t, "listener "+port+" 127.0.0.1\nuser root\npassword_file "+file+"\n"))
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start(t)
	for _, user := range []string{"a", "b", "c"} {
		runClient(t, pub, "-p", port, "-u", user, "-P", "p"+user, "-t", "x", "-m", "1")
		if out, err := exec.Command(pub, "-p", port, "-u", user, "-P", "wrong", "-t", "x", "-m", "1").CombinedOutput(); err == nil {
			t.Errorf("%s with a wrong password: %s", user, out)
		}
	}
	theirs := filepath.Join(dir, "theirs")
	for _, args := range [][]string{{"-c", "-b", theirs, "a", "pa"}, {"-H", "sha512", "-b", theirs, "b", "pb"}} {
		runClient(t, tool, args...)
	}
	passwords, err := auth.LoadPasswords(theirs)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"a", "b"} {
		for password, want := range map[string]auth.Verdict{"p" + user: auth.Allow, "wrong": auth.Deny} {
			l := auth.Login{Username: user, HasUsername: true, Password: []byte(password), HasPassword: true}
			if v := passwords.Authenticate(&l); v != want {
				t.Errorf("%s with %q: %s", user, password, v)
			}
		}
	}
}
