package main

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
	"noctule/internal/testcert"
)

// agreement is a configuration that `noctule check` and the start must think the same of. In conf $ is a
// directory that everybody may use, PORT a free port, and what is in make's files is made before.
type agreement struct {
	name, conf string
	make       func(t *testing.T, dir string)
	refused    bool
	says       string // a line of check's; "" where it has no error or warning
}

// files makes files with a mode; of a name that ends in / a directory. An owner may follow a colon.
func files(names map[string]os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for name, mode := range names {
			path := filepath.Join(dir, name)
			var err error
			if strings.HasSuffix(name, "/") {
				err = os.MkdirAll(path, 0o755)
			} else {
				var f *os.File
				if f, err = os.OpenFile(path, os.O_CREATE, 0o600); err == nil {
					err = f.Close()
				}
			}
			if err == nil {
				err = os.Chmod(path, mode)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// content makes a file for everybody.
func content(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// all does one after the other.
func all(makes ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for _, m := range makes {
			m(t, dir)
		}
	}
}

// given makes a file the user's whom the broker becomes; group only if so.
func given(who *user.User, name string, group bool) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		var uid, gid int
		_, _ = fmt.Sscan(who.Uid, &uid)
		_, _ = fmt.Sscan(who.Gid, &gid)
		if group {
			uid = 0
		}
		if err := os.Chown(filepath.Join(dir, name), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

// pair puts a certificate and its key into a directory.
func pair(t *testing.T, dir string) {
	t.Helper()
	_, cert, key := (&authority{Authority: &testcert.Authority{}}).issue(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	for name, from := range map[string]string{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "cert.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// snapshot is everything below a directory, with its times and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d %d %d %v", path, info.Mode(), info.Size(), st.Uid, st.Gid, info.ModTime())
		if info.Mode().IsRegular() {
			fmt.Fprintf(&b, " %x", sha256.Sum256([]byte(readFile(t, path))))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// starts runs the broker until it says that it runs, or ends by itself.
func starts(t *testing.T, file string) (ok bool, text string) {
	t.Helper()
	p := &process{news: make(chan struct{}, 1)}
	p.cmd = exec.Command(binary, "-c", file)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // awaited below
		_ = p.cmd.Wait()
		close(ended)
	}()
	defer func() { <-ended }()
	defer p.cmd.Process.Kill()
	late := time.After(patience)
	for {
		select {
		case <-p.news:
			if strings.Contains(p.lines(), "version 2.1.2 running\n") {
				_ = p.cmd.Process.Signal(syscall.SIGTERM)
				<-ended
				return true, p.lines()
			}
		case <-ended:
			return strings.Contains(p.lines(), "version 2.1.2 running\n"), p.lines()
		case <-late:
			t.Fatalf("it neither runs nor ends\n%s", p.lines())
		}
	}
}

// agree runs check and the start with one configuration.
func agree(t *testing.T, tt *agreement) {
	t.Helper()
	dir := openDir(t)
	if tt.make != nil {
		tt.make(t, dir)
	}
	port := fmt.Sprint(freePort(t))
	fill := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "$", dir), "PORT", port) }
	file := confFile(t, fill(tt.conf)+"\nlog_dest stderr\n")
	before := snapshot(t, dir)
	code, said := outcome(t, "check", file)
	if after := snapshot(t, dir); after != before {
		t.Errorf("check has changed\n%s into\n%s", before, after)
	}
	said = strings.ReplaceAll(said, filepath.Dir(file)+"/", "")
	if want := fill(tt.says); want != "" && !strings.Contains(said, want) {
		t.Errorf("check does not say\n%s\nbut\n%s", want, said)
	}
	runs, lines := starts(t, file)
	if runs == tt.refused || (code == exitOK) == tt.refused || (code == exitOK) != strings.Contains(said, "is OK.") {
		t.Errorf("refused is to be %t\ncheck: exit %d\n%s\nstart: running %t\n%s", tt.refused, code, said, runs, lines)
	}
	if tt.says == "" && (strings.Contains(said, "Error: ") || strings.Contains(said, "'$")) {
		t.Errorf("check has something to say:\n%s", said)
	}
}

// TestCheckAgreesForTheUser has files that root can use and the user of the broker perhaps not.
func TestCheckAgreesForTheUser(t *testing.T) {
	asRoot(t)
	who, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	group, err := user.LookupGroupId(who.Gid)
	if err != nil {
		t.Skip(err)
	}
	fix := func(path string) string {
		return "permission denied for user nobody: chown root:" + group.Name + " " + path + " && chmod 640 " + path
	}
	const tls = "listener PORT 127.0.0.1\nallow_anonymous true\ncertfile $/cert.pem\nkeyfile $/key.pem\n"
	const plain = "listener PORT 127.0.0.1\nallow_anonymous true\n"
	open := files(map[string]os.FileMode{"key.pem": 0o644})
	mine := func(name string) func(*testing.T, string) { return given(who, name, false) }
	rows := []agreement{
		{"key of root", tls, pair, true, "test.conf:4: Error: keyfile '$/key.pem': " + fix("$/key.pem")},
		{"key of root and the group", tls, all(pair, files(map[string]os.FileMode{"key.pem": 0o640}), given(who, "key.pem", true)), false, ""},
		{"key of the user", tls, all(pair, mine("key.pem")), false, ""},
		{
			"key for everybody", tls, all(pair, open), false,
			"test.conf:4: Warning: keyfile '$/key.pem' can be read by everybody on this machine: chown root:" + group.Name + " $/key.pem && chmod 640 $/key.pem.",
		},
		{
			"key of the user for everybody", tls, all(pair, open, mine("key.pem")), false,
			"test.conf:4: Warning: keyfile '$/key.pem' can be read by everybody on this machine: chmod o-r $/key.pem.",
		},
		{"certificate of root", tls, all(pair, open, files(map[string]os.FileMode{"cert.pem": 0o600})), true, "test.conf:3: Error: certfile '$/cert.pem': permission denied for user nobody: chmod o+r $/cert.pem."},
		{"CA of root", tls + "\ncafile $/ca.pem", all(pair, open, files(map[string]os.FileMode{"ca.pem": 0o600})), true, "test.conf:6: Error: cafile '$/ca.pem': "},
		{"CAs of root", tls + "capath $/ca", all(pair, open, files(map[string]os.FileMode{"ca/": 0o700})), true, "test.conf:5: Error: capath '$/ca': permission denied for user nobody: chmod o+rx $/ca."},
		{"CRL of root", tls + "crlfile $/crl.pem", all(pair, open, files(map[string]os.FileMode{"crl.pem": 0o600})), true, "test.conf:5: Error: crlfile '$/crl.pem': "},
		{
			"key behind a directory", strings.Replace(tls, "$/key", "$/d/via/key", 1),
			all(files(map[string]os.FileMode{"d/": 0o755, "d/shut/": 0o700}), func(t *testing.T, dir string) {
				t.Helper()
				pair(t, dir)
				if err := os.Rename(dir+"/key.pem", dir+"/d/shut/key.pem"); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("shut", dir+"/d/via"); err != nil {
					t.Fatal(err)
				}
			}), true,
			"test.conf:4: Error: keyfile '$/d/via/key.pem': permission denied for user nobody: it may not enter $/d/shut: chgrp " + group.Name + " $/d/shut && chmod g+x $/d/shut.",
		},
		{"passwords of root", "listener PORT ::1\npassword_file $/pw", files(map[string]os.FileMode{"pw": 0o600}), true, "test.conf:2: Error: password_file '$/pw': " + fix("$/pw")},
		{"passwords of the user", "listener PORT 127.0.0.1\npassword_file $/pw", all(files(map[string]os.FileMode{"pw": 0o600}), mine("pw")), false, ""},
		{"plugin's passwords of root", "listener PORT ::1\nplugin /mosquitto_password_file.so\nplugin_opt_password_file $/pw", files(map[string]os.FileMode{"pw": 0o600}), true, "test.conf:2: Error: password_file '$/pw': "},
		{"ACL of root", plain + "acl_file $/acl", files(map[string]os.FileMode{"acl": 0o600}), true, "test.conf:3: Error: acl_file '$/acl': " + fix("$/acl")},
		{"tokens of root", plain + "admin_token_file $/tokens", files(map[string]os.FileMode{"tokens": 0o600}), true, "test.conf:3: Error: admin_token_file '$/tokens': permission denied for user nobody: chown nobody: $/tokens && chmod 600 $/tokens."},
		{"sources of root", plain + "auth_file $/a.yaml", files(map[string]os.FileMode{"a.yaml": 0o600}), true, "test.conf:3: Error: auth_file '$/a.yaml': "},
		{"presub of root", plain + "presub_file $/p.yaml", files(map[string]os.FileMode{"p.yaml": 0o600}), true, "test.conf:3: Error: presub_file '$/p.yaml': "},
		{"state of root", plain + "persistence true\npersistence_location $/d", files(map[string]os.FileMode{"d/": 0o755}), true, "test.conf:4: Error: persistence_location: permission denied for user nobody: chown nobody: $/d."},
		{"state of the user", plain + "persistence true\npersistence_location $/d/", all(files(map[string]os.FileMode{"d/": 0o755}), mine("d")), false, ""},
		{"database of root", plain + "persistence true\npersistence_location $", content("noctule.db", "x"), true, "test.conf:4: Error: '$/noctule.db': "},
		{"Mosquitto's state of root", plain + "persistence true\npersistence_location $", files(map[string]os.FileMode{"mosquitto.db": 0o600}), true, "test.conf:4: Error: '$/mosquitto.db': "},
		{"log of root", plain + "log_dest file $/d/log", files(map[string]os.FileMode{"d/": 0o755}), false, "test.conf:3: Warning: log file '$/d/log': permission denied for user nobody: chown nobody: $/d. The broker runs without it."},
		{"log file of root", plain + "log_dest file $/log", files(map[string]os.FileMode{"log": 0o600}), false, "test.conf:3: Warning: log file '$/log': permission denied for user nobody: chown nobody $/log."},
		{"pid of root", plain + "pid_file $/d/pid", files(map[string]os.FileMode{"d/": 0o755}), true, "test.conf:3: Error: pid_file '$/d/pid': "},
		{"pid file of root", plain + "pid_file $/pid", files(map[string]os.FileMode{"pid": 0o644}), true, "test.conf:3: Error: pid_file '$/pid': "},
		{"pid file of the user", plain + "pid_file $/pid", all(files(map[string]os.FileMode{"pid": 0o644}), mine("pid")), false, ""},
		{"pid in a system directory", plain + "pid_file /var/lib/noctule-test.pid", nil, true, "test.conf:3: Error: pid_file '/var/lib/noctule-test.pid': permission denied for user nobody: use a directory that belongs to nobody."},
		{"pages of root", plain + "protocol http_api\nhttp_dir $/d", files(map[string]os.FileMode{"d/": 0o700}), true, "test.conf:4: Error: http_dir '$/d': permission denied for user nobody: chmod o+rx $/d."},
		{"socket in a directory of root", "listener 0 $/d/s", files(map[string]os.FileMode{"d/": 0o755}), true, "test.conf:1: Error: listener 0 $/d/s: permission denied for user nobody: "},
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			tt.conf += "\nuser nobody\n"
			agree(t, &tt)
		})
	}
	t.Run("unknown user", func(t *testing.T) {
		agree(t, &agreement{"", plain + "user nobody-knows-me", nil, true, "test.conf:3: Error: Unable to drop privileges to 'nobody-knows-me' because this user does not exist."})
	})
	t.Run("privileged port", func(t *testing.T) {
		if lowest := readFile(t, "/proc/sys/net/ipv4/ip_unprivileged_port_start"); lowest != "1024\n" {
			t.Skipf("users may listen from port %s", lowest)
		}
		agree(t, &agreement{"", "listener 7 127.0.0.1\nuser nobody", nil, true, "test.conf:1: Error: listener 7 127.0.0.1: bind: permission denied for user nobody: ports below 1024 need CAP_NET_BIND_SERVICE"})
	})
	t.Run("configuration of root", func(t *testing.T) { // which a start reads as root, but no reload
		agree(t, &agreement{"", plain + "user nobody", nil, false, "SIGHUP will change nothing."})
	})
	t.Run("PUID", func(t *testing.T) {
		t.Setenv("PUID", who.Uid)
		t.Setenv("PGID", who.Gid)
		agree(t, &agreement{"", tls, pair, true, "test.conf:4: Error: keyfile '$/key.pem': permission denied for user nobody"})
	})
}

// TestCheckAgrees has what is wrong for any user.
func TestCheckAgrees(t *testing.T) {
	const plain = "listener PORT 127.0.0.1\nallow_anonymous true\n"
	const tls = plain + "certfile $/cert.pem\nkeyfile $/key.pem\n"
	const kept = plain + "persistence true\npersistence_location $"
	dir := files(map[string]os.FileMode{"d/": 0o755})
	file := files(map[string]os.FileMode{"f": 0o600})
	pipe := func(t *testing.T, dir string) {
		t.Helper()
		if err := syscall.Mkfifo(dir+"/f", 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stale := func(t *testing.T, dir string) {
		t.Helper()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
	}
	rows := []agreement{
		{"plain", plain, nil, false, ""},
		{"tls", tls, pair, false, ""},

		{"state without a directory", kept + "/no", nil, true, "test.conf:4: Error: persistence_location: there is no directory $/no."},
		{"state in a file", kept + "/f", file, true, "test.conf:4: Error: '$/f/mosquitto.db': not a directory."},
		{"state", kept, nil, false, ""},
		{"state of a name", kept + "/d\npersistence_file x", dir, false, ""},
		{"state of no program", kept, content("mosquitto.db", "nonsense, not short"), true, "test.conf:4: Error: $/mosquitto.db: not a noctule database"},
		{"state in SQLite", kept, content("mosquitto.db", "SQLite format 3\x00"), true, "test.conf:4: Error: $/mosquitto.db is an SQLite file"},
		{"state that is cut off", kept, content("mosquitto.db", "\x00\xb5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00"), true, "test.conf:4: Error: $/mosquitto.db: "},
		{"database of no program", kept, content("noctule.db", strings.Repeat("nonsense", 4096)), true, "test.conf:4: Error: $/noctule.db: "},

		{"pid without a directory", plain + "pid_file $/no/pid", nil, true, "test.conf:3: Error: pid_file '$/no/pid': there is no directory $/no."},
		{"pid in a file", plain + "pid_file $/f/pid", file, true, "test.conf:3: Error: pid_file '$/f/pid': "},
		{"pid is a directory", plain + "pid_file $/d", dir, true, "test.conf:3: Error: pid_file '$/d': is a directory."},
		{"pid", plain + "pid_file $/pid", nil, false, ""},
		{"log without a directory", plain + "log_dest file $/no/log", nil, false, "test.conf:3: Warning: log file '$/no/log': there is no directory $/no. The broker runs without it."},
		{"log", plain + "log_dest file $/log", nil, false, ""},

		{"no pages", plain + "protocol http_api\nhttp_dir $/no", nil, true, "test.conf:4: Error: Unable to open http_dir '$/no'."},
		{"pages in a file", plain + "protocol http_api\nhttp_dir $/f", file, true, "test.conf:4: Error: http_dir '$/f': "},
		{"pages", plain + "protocol http_api\nhttp_dir $/d", dir, false, ""},

		{"no interface", "listener PORT\nbind_interface no-such", nil, true, "test.conf:2: Error: listener PORT: bind_interface no-such: "},
		{"address of another interface", "listener PORT 192.0.2.1\nbind_interface lo", nil, true, "test.conf:2: Error: listener PORT 192.0.2.1: Interface address for lo does not match"},
		{"interface", "listener PORT\nbind_interface lo", nil, false, ""},
		{"foreign address", "listener PORT 192.0.2.1", nil, true, "test.conf:1: Error: listener PORT 192.0.2.1: bind: cannot assign requested address."},
		{"foreign bind_address", "bind_address 192.0.2.1\nport PORT", nil, true, "test.conf:2: Error: listener PORT 192.0.2.1: "},
		{"no host", "listener PORT no..host", nil, true, "test.conf:1: Error: listener PORT no..host: lookup no..host: "},
		{"wrong family", "listener PORT 127.0.0.1\nsocket_domain ipv6", nil, true, "test.conf:1: Error: listener PORT 127.0.0.1: no address for port PORT."},

		{"twice", "listener PORT\nlistener PORT", nil, true, "test.conf:2: Error: listener PORT: the same as listener PORT at test.conf:1."},
		{"everywhere and here", "listener PORT\nlistener PORT 127.0.0.1", nil, true, "test.conf:2: Error: listener PORT 127.0.0.1: the same as listener PORT at test.conf:1."},
		{"here and everywhere", "listener PORT 127.0.0.1\nlistener PORT", nil, true, "test.conf:2: Error: listener PORT: the same as listener PORT 127.0.0.1 at test.conf:1."},
		{"by name", "listener PORT localhost\nlistener PORT 127.0.0.1", nil, true, "test.conf:2: Error: listener PORT 127.0.0.1: the same as listener PORT localhost at test.conf:1."},
		{"of two protocols", plain + "listener PORT 127.0.0.1\nprotocol websockets", nil, true, "test.conf:3: Error: listener PORT 127.0.0.1: the same as "},
		{"of two programs", plain + "listener PORT 127.0.0.1\nprotocol http_api", nil, true, "test.conf:3: Error: listener PORT 127.0.0.1: the same as "},
		{"default and named", "listener PORT\nport PORT", nil, true, "test.conf:2: Error: listener PORT: the same as listener PORT at test.conf:1."},
		{"two addresses", plain + "listener PORT 127.0.0.2", nil, false, ""},
		{"two families", plain + "listener PORT ::1", nil, false, ""},
		{"socket twice", "listener 0 $/s\nlistener 0 $/./s", nil, true, "test.conf:2: Error: listener 0 $/./s: the same as listener 0 $/s at test.conf:1."},
		{"two sockets", "listener 0 $/s\nlistener 0 $/t", nil, false, ""},

		{"admin too", plain + "admin_listener 127.0.0.1:PORT", nil, true, "test.conf:3: Error: admin_listener 127.0.0.1:PORT: the same as listener PORT 127.0.0.1 at test.conf:1."},
		{"admin everywhere", plain + "admin_listener :PORT", nil, true, "test.conf:3: Error: admin_listener :PORT: the same as listener PORT 127.0.0.1 at test.conf:1."},
		{"admin without a port", plain + "admin_listener localhost", nil, true, "test.conf:3: Error: admin_listener localhost: "},
		{"admin's foreign address", plain + "admin_listener 192.0.2.1:1", nil, true, "test.conf:3: Error: admin_listener 192.0.2.1:1: bind: cannot assign"},
		{"admin", plain + "admin_listener 127.0.0.2:PORT", nil, false, ""},

		{"socket without a directory", "listener 0 $/no/s", nil, true, "test.conf:1: Error: listener 0 $/no/s: there is no directory $/no."},
		{"socket is a file", "listener 0 $/f", file, true, "test.conf:1: Error: listener 0 $/f: there is a file that is no socket."},
		{"socket is long", "listener 0 $/" + strings.Repeat("x", 100), nil, true, "test.conf:1: Error: listener 0 $/xxx"},
		{"socket of a crash", "listener 0 $/s", stale, false, ""},
		{"API's socket of a crash", "listener 0 $/s\nprotocol http_api", stale, false, ""},

		{"no certificate", tls, all(pair, func(t *testing.T, dir string) { t.Helper(); _ = os.Remove(dir + "/cert.pem") }), true, "test.conf:3: Error: certfile '$/cert.pem': no such file or directory."},
		{"certificate is a directory", plain + "certfile $/d\nkeyfile $/key.pem", all(pair, dir), true, "test.conf:3: Error: certfile '$/d': is a directory."},
		{"no key", tls, all(pair, func(t *testing.T, dir string) { t.Helper(); _ = os.Remove(dir + "/key.pem") }), true, "test.conf:4: Error: keyfile '$/key.pem': no such file or directory."},
		{"bad certificate", tls, all(pair, content("cert.pem", "nonsense")), true, "test.conf:3: Error: Unable to load server certificate"},
		{"bad key", tls, all(pair, content("key.pem", "nonsense")), true, "test.conf:4: Error: Unable to load server key file"},
		{"key without certificate", plain + "keyfile $/key.pem", pair, true, "test.conf:3: Error: Both certfile and keyfile must be provided"},
		{"no CA", tls + "cafile $/no", pair, true, "test.conf:5: Error: cafile '$/no': no such file or directory."},
		{"bad CA", tls + "cafile $/f", all(pair, file), true, "test.conf:5: Error: Unable to load CA certificates."},
		{"CAs in a file", tls + "capath $/f", all(pair, file), true, "test.conf:5: Error: capath '$/f': not a directory."},
		{"bad CRL", tls + "crlfile $/f", all(pair, file), true, "test.conf:5: Error: Unable to load certificate revocation file"},
		{"bad ciphers", tls + "ciphers nonsense", pair, true, "test.conf:5: Error: Unable to set TLS ciphers."},
		{"bad ciphers of TLS 1.3", tls + "ciphers_tls1.3 nonsense", pair, true, "test.conf:5: Error: Unable to set TLS 1.3 ciphersuites."},
		{"bad version", tls + "tls_version tlsv9", pair, true, "test.conf:5: Error: Unsupported tls_version"},
		{"nobody vouches", tls + "require_certificate true", pair, true, "test.conf:5: Error: require_certificate of listener"},

		{"no passwords", plain + "password_file $/no", nil, true, "test.conf:3: Error: password_file '$/no': no such file or directory."},
		{"passwords in a pipe", plain + "password_file $/f", pipe, true, "test.conf:3: Error: password_file '$/f': not a regular file."},
		{"passwords in a directory", plain + "password_file $/d", dir, true, "test.conf:3: Error: password_file '$/d': is a directory."},
		{"bad passwords", plain + "password_file $/pw", content("pw", "# none\na:b\n"), true, "$/pw:2: Error: "},
		{"bad ACL", plain + "acl_file $/acl", content("acl", "user a\n\nwrite x\n"), true, "$/acl:3: Error: "},
		{"bad tokens", plain + "admin_token_file $/f", content("f", "one two three\n"), true, "test.conf:3: Error: admin_token_file: "},
		{"no sources", plain + "auth_file $/no", nil, true, "test.conf:3: Error: auth_file '$/no': no such file or directory."},
		{"bad sources", plain + "auth_file $/f", content("f", "sources:\n  - name: a\n    fille: x\n"), true, "$/f:3: Error: unknown field"},
		{"a source's file", plain + "auth_file $/f", content("f", "sources:\n  - name: a\n    file: /no/where\n"), true, "$/f:3: Error: source a: open /no/where: no such file or directory"},
		{"no presub", plain + "presub_file $/no", nil, true, "test.conf:3: Error: presub_file '$/no': no such file or directory."},
		{"bad presub", plain + "presub_file $/f", content("f", "nonsense: 1\n"), true, "test.conf:3: Error: presub_file: "},
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			tt.conf += "\nuser root\n"
			agree(t, &tt)
		})
	}
	t.Run("environment", func(t *testing.T) {
		t.Setenv("MOSQUITTO_PERSISTENCE_LOCATION", "/no-such")
		agree(t, &agreement{"", plain + "persistence true\nuser root", nil, true, "Error: persistence_location: there is no directory /no-such."})
	})
	t.Run("umask", func(t *testing.T) {
		t.Setenv("UMASK_SET", "nonsense")
		agree(t, &agreement{"", plain + "\nuser root", nil, true, "Error: UMASK_SET environment variable not a valid octal number."})
	})
}

// TestCheckBesideABroker runs check on the configuration of a broker that runs: what that broker uses is told and
// is no error, which is where check and start differ, and the broker does not notice.
func TestCheckBesideABroker(t *testing.T) {
	dir := openDir(t)
	pair(t, dir)
	ports := []int{freePort(t), freePort(t), freePort(t)}
	conf := fmt.Sprintf("allow_anonymous true\npersistence true\npersistence_location %[1]s\npid_file %[1]s/pid\n"+
		"log_dest stderr\nlog_type all\nlistener %[2]d 127.0.0.1\nlistener 0 %[1]s/s\nlistener %[3]d 127.0.0.1\nprotocol websockets\n"+
		"certfile %[1]s/cert.pem\nkeyfile %[1]s/key.pem\nadmin_listener 127.0.0.1:%[4]d\nsys_interval 0\nuser root",
		dir, ports[0], ports[1], ports[2])
	p := newBroker(t, conf)
	p.start(t)
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	c := brokertest.Connect(t, addr, "client", codec.V5, nil)
	c.Subscribe("x", 1)
	p.await(t, "Sending SUBACK to client$")
	files, lines := snapshot(t, dir), p.lines()
	code, said := outcome(t, "check", p.cmd.Args[2])
	if code != exitOK || !strings.Contains(said, "\nConfiguration file is OK.\n") {
		t.Errorf("exit %d\n%s", code, said)
	}
	for _, want := range []string{
		":3: Note: '" + dir + "/noctule.db' is in use: as long as that is so, another broker does not start.",
		fmt.Sprintf(":7: Note: listener %d 127.0.0.1: the address is in use now", ports[0]),
		fmt.Sprintf(":9: Note: listener %d 127.0.0.1: the address is in use now", ports[1]),
		":13: Note: admin_listener: the address is in use now",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	if now := snapshot(t, dir); now != files {
		t.Errorf("check has changed\n%s into\n%s", files, now)
	}
	c.Publish("x", "", 0, 0)
	c.Want(codec.PUBLISH, nil)
	if !answers("unix", dir+"/s") {
		t.Error("the unix socket does not answer any more")
	}
	if noticed, _, _ := strings.Cut(strings.TrimPrefix(p.lines(), lines), "Received PUBLISH"); strings.Contains(noticed, "\n") {
		t.Errorf("the broker has noticed:\n%s", noticed)
	}
	if runs, out := starts(t, p.cmd.Args[2]); runs {
		t.Errorf("a second broker runs\n%s", out)
	}
}

// TestCheckAsAnotherUser is told for whom it has looked.
func TestCheckAsAnotherUser(t *testing.T) {
	conf := confFile(t, "listener 0 /tmp/noctule-check.sock\nuser mosquitto\n")
	cmd := exec.Command(binary, "check", conf)
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(binary), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{conf, filepath.Dir(conf), filepath.Dir(filepath.Dir(conf))} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "; a start as root becomes mosquitto: check that as root.\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
