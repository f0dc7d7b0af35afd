package source

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/internal/testserver"
)

// fillTables makes the tables of a test.
func fillTables(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	testserver.Await(t, db.Ping)
	stored, err := hash.New(hash.PBKDF2, []byte("secret"), 101)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		"CREATE TABLE users (name VARCHAR(99), pw VARCHAR(300), admin INTEGER)",
		"CREATE TABLE acls (name VARCHAR(99), access VARCHAR(20), topic VARCHAR(300), rw INTEGER)",
		"INSERT INTO users VALUES ('alice', '" + stored + "', 0)",
		"INSERT INTO users VALUES ('root', '" + stored + "', 1)",
		"INSERT INTO users VALUES ('weak', '{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=', 0)",
		"INSERT INTO users VALUES ('twice', '" + stored + "', 0)",
		"INSERT INTO users VALUES ('twice', '" + stored + "', 0)",
		"INSERT INTO users VALUES ('none', NULL, 0)",
		"INSERT INTO acls VALUES ('alice', 'readwrite', 'home/%u/#', 3)",
		"INSERT INTO acls VALUES ('alice', 'deny', 'home/+/secret', 0)",
		"INSERT INTO acls VALUES ('alice', 'write', 'status/%c', 2)",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// sqlTest is what a database of any kind comes to.
func sqlTest(t *testing.T, driver, name, dsn string) {
	t.Helper()
	db := fillTables(t, driver, dsn)
	b := begin(t, "", fmt.Sprintf(`
sources:
  - name: users
    sql:
      driver: %s
      dsn: '%s'
      query: 'SELECT pw, admin FROM users WHERE name = %%u'
    rules_query: 'SELECT access, topic FROM acls WHERE name = %%u'
    cache: {ttl: 1h}
    refused_ttl: 0s
    refresh: 1h`, name, dsn))
	p := b.want("alice", "secret", auth.Allow)
	may(t, p.Rules, "yes read home/alice/x", "no read home/alice/secret", "yes write status/c-alice",
		"no read status/c-alice", "no write x", "yes subscribe #")
	if p.Rules.Covers([]byte("home/alice/x")) {
		t.Error("what may change is covered")
	}
	may(t, b.want("root", "secret", auth.Allow).Rules, "yes write anything")
	b.want("alice", "wrong", auth.Deny)
	b.want("weak", "secret", auth.Ask) // the first line of many is said at once
	if !strings.Contains(b.log.String(), "without a salt") {
		t.Errorf("the log does not say what is wrong with a weak hash: %s", b.log)
	}
	for user, want := range map[string]auth.Verdict{
		"nobody": auth.Defer, "none": auth.Defer, "twice": auth.Ask,
		"' OR 1=1 --": auth.Defer,
	} {
		b.want(user, "secret", want)
	}
	// What is not known is asked about again; what is known, when its time is over.
	if _, err := db.Exec("INSERT INTO acls VALUES ('alice', 'read', 'late', 1)"); err != nil {
		t.Fatal(err)
	}
	may(t, p.Rules, "no read late")
	byAccess(t, name, dsn)
}

// byAccess asks as mosquitto-go-auth does: once for each access, for topics.
func byAccess(t *testing.T, name, dsn string) {
	t.Helper()
	b := begin(t, "", fmt.Sprintf(`
sources:
  - name: users
    sql: {driver: %s, dsn: '%s', query: 'SELECT pw FROM users WHERE name = %%u'}
    rules_query: "SELECT topic FROM acls WHERE name = %%u AND rw >= %%{acc}"
    superuser: {sql: {driver: %s, dsn: '%s', query: 'SELECT count(*) FROM users WHERE name = %%u AND admin = 1'}}
`, name, dsn, name, dsn))
	may(t, b.want("alice", "secret", auth.Allow).Rules, "yes read home/alice/x", "yes write status/c-alice",
		"no subscribe home/alice/#", "no write x")
	may(t, b.want("root", "secret", auth.Allow).Rules, "yes write anything")
}

func TestSQLite(t *testing.T) {
	sqlTest(t, "sqlite3", "sqlite", "file:"+t.TempDir()+"/db")
}

func TestPostgres(t *testing.T) {
	sqlTest(t, "pgx", "postgres", "host="+testserver.Postgres(t)+" user=postgres dbname=postgres")
}

func TestMySQL(t *testing.T) {
	socket := testserver.MariaDB(t)
	db, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testserver.Await(t, db.Ping)
	if _, err := db.Exec("CREATE DATABASE p"); err != nil {
		t.Fatal(err)
	}
	sqlTest(t, "mysql", "mysql", "root@unix("+socket+")/p")
}
