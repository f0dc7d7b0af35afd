// Package testserver runs servers of Debian for tests, each in a directory of its own and on a unix socket.
// Where one is not installed the test is skipped, and fails where CI=true.
package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// missing ends a test that needs a server that is not there.
func missing(t testing.TB, name string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// short is a directory whose name is short, since that of a socket must be.
func short(t testing.TB, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix) //nolint:usetesting // t.TempDir has a long name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// run starts a program that ends with the test.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// Await waits until a server answers: another process tells nobody when it is ready.
func Await(t testing.TB, ready func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Postgres runs PostgreSQL until the test ends and returns the directory of its socket; its user is postgres.
func Postgres(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		missing(t, "PostgreSQL")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir := short(t, "pg")
	as := func(name string, args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(bin, name), args...)
	}
	if os.Getuid() == 0 { // the server refuses root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("root without a user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		as = func(name string, args ...string) *exec.Cmd {
			return exec.Command("setpriv", append([]string{
				"--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups", filepath.Join(bin, name),
			}, args...)...)
		}
	}
	data := filepath.Join(dir, "data")
	run := func(c *exec.Cmd) {
		t.Helper()
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
	}
	run(as("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"))
	options := "-c listen_addresses= -c fsync=off -c unix_socket_directories=" + dir
	run(as("pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "-o", options, "start"))
	t.Cleanup(func() { run(as("pg_ctl", "-D", data, "-m", "immediate", "stop")) })
	return dir
}

// MariaDB runs MariaDB until the test ends and returns its socket, which Await has to wait for; its user is
// root.
func MariaDB(t testing.TB) string {
	t.Helper()
	install, err := exec.LookPath("mariadb-install-db")
	const server = "/usr/sbin/mariadbd"
	if _, none := os.Stat(server); err != nil || none != nil {
		missing(t, "MariaDB")
	}
	dir := short(t, "my")
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	as := []string{"--no-defaults", "--datadir=" + data}
	if os.Getuid() == 0 {
		as = append(as, "--user=root")
	}
	as = append(as, "--auth-root-authentication-method=normal")
	out, err := exec.Command(install, as...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	as = append(as[:len(as)-1], "--socket="+socket, "--skip-networking")
	as = append(as, "--pid-file="+filepath.Join(dir, "pid"))
	cmd := exec.Command(server, as...)
	run(t, cmd)
	return socket
}

// Redis runs Redis until the test ends and returns its socket, which Await has to wait for.
func Redis(t testing.TB, options ...string) string {
	t.Helper()
	server, err := exec.LookPath("redis-server")
	if err != nil {
		missing(t, "Redis")
	}
	dir := short(t, "rd")
	socket := filepath.Join(dir, "s")
	run(t, exec.Command(server, append([]string{
		"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no",
	}, options...)...))
	return socket
}

// Directory is a running slapd.
type Directory struct {
	URL        string // ldapi://
	Plain, TLS string // ldap:// and ldaps:// of the loopback address; TLS is "" without a certificate
}

// LDAP runs OpenLDAP until the test ends, with entries in LDIF below dc=example,dc=org and the administrator
// cn=admin,dc=example,dc=org with the password "admin"; Await has to wait for it. cert and key are files, or
// "".
func LDAP(t testing.TB, ldif, cert, key string) Directory {
	t.Helper()
	const slapd = "/usr/sbin/slapd"
	if _, err := os.Stat(slapd); err != nil {
		missing(t, "OpenLDAP")
	}
	dir := short(t, "ld")
	var b strings.Builder
	for _, name := range []string{"core", "cosine", "inetorgperson"} {
		fmt.Fprintf(&b, "include /etc/ldap/schema/%s.schema\n", name)
	}
	fmt.Fprintf(&b, "modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile %s/pid\n", dir)
	if cert != "" {
		fmt.Fprintf(&b, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\n", cert, key)
	}
	b.WriteString("database mdb\nsuffix dc=example,dc=org\nrootdn cn=admin,dc=example,dc=org\n" +
		"rootpw admin\naccess to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n")
	fmt.Fprintf(&b, "directory %s\n", dir)
	conf, data := filepath.Join(dir, "conf"), filepath.Join(dir, "ldif")
	for name, text := range map[string]string{conf: b.String(), data: ldif} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("/usr/sbin/slapadd", "-f", conf, "-l", data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := Directory{URL: "ldapi://" + strings.ReplaceAll(filepath.Join(dir, "s"), "/", "%2F")}
	urls := d.URL
	d.Plain = "ldap://127.0.0.1:" + freePort(t)
	urls += " " + d.Plain
	if cert != "" {
		d.TLS = "ldaps://127.0.0.1:" + freePort(t)
		urls += " " + d.TLS
	}
	run(t, exec.Command(slapd, "-d", "0", "-f", conf, "-h", urls))
	return d
}

// freePort is a port that nobody listens on just now: slapd takes no 0.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // it was only looked for
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}
