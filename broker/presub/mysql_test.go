package presub

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMySQL starts Debian's MariaDB in a directory of its own.
func TestMySQL(t *testing.T) {
	socket := mariadb(t)
	db, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tick := time.NewTicker(20 * time.Millisecond) // another process tells nobody when it is ready
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); db.Ping() != nil && time.Now().Before(deadline); {
		<-tick.C
	}
	tables := strings.NewReplacer("TABLE sub", "TABLE p.sub", "INTO sub", "INTO p.sub").Replace(schema)
	for q := range strings.SplitSeq("CREATE DATABASE p;\n"+tables, ";\n") {
		if _, err := db.Exec(strings.TrimSuffix(q, ";")); err != nil {
			t.Fatal(err)
		}
	}
	sqlTest(t, "mysql", "root@unix("+socket+")/p")
}

// mariadb runs a server until the test ends and returns its socket.
func mariadb(t *testing.T) string {
	t.Helper()
	install, err := exec.LookPath("mariadb-install-db")
	const server = "/usr/sbin/mariadbd"
	if _, missing := os.Stat(server); err != nil || missing != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("MariaDB is not installed")
		}
		t.Skip("MariaDB is not installed")
	}
	dir, err := os.MkdirTemp("", "my") //nolint:usetesting // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	as := []string{"--no-defaults", "--datadir=" + data}
	if os.Getuid() == 0 {
		as = append(as, "--user=root")
	}
	out, err := exec.Command(install, append(as, "--auth-root-authentication-method=normal")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(server, append(as, "--socket="+socket, "--skip-networking", "--pid-file="+filepath.Join(dir, "pid"))...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return socket
}
