package goauth

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"noctule/broker/auth"
	"noctule/internal/testserver"
)

// The queries of the plug-in's documents, on the tables of its tests.
const (
	userQuery  = "select password_hash from test_user where username = $1 limit 1"
	superQuery = "select count(*) from test_user where username = $1 and is_admin = true"
	aclQuery   = "SELECT test_acl.topic FROM test_acl, test_user WHERE test_user.username = $1 AND test_acl.test_user_id = test_user.id AND rw = $2"
	countQuery = "select count(*) from test_user where username = $1 limit 1"
)

// fill makes those tables: anna reads, writes and subscribes, root is a superuser, weak has a hash that is not taken.
func fill(t *testing.T, driver, dsn string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testserver.Await(t, db.Ping)
	for q := range strings.SplitSeq(`create table test_user (id integer primary key, username varchar(100) not null,
 password_hash varchar(200) not null, is_admin boolean not null);
create table test_acl (id integer primary key, test_user_id integer not null references test_user on delete cascade,
 topic varchar(200) not null, rw int not null);
insert into test_user values (1, 'anna', '`+hashOfTestpw+`', false);
insert into test_user values (2, 'root', '`+hashOfFoo+`', true);
insert into test_user values (3, 'weak', '{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=', false);
insert into test_acl values (1, 1, 'out/%u', 2);
insert into test_acl values (2, 1, 'in/#', 1);
insert into test_acl values (3, 1, 'in/#', 4);
insert into test_acl values (4, 1, 'client/%c', 2)`, ";\n") {
		if driver == "mysql" {
			q = strings.Replace(q, "references test_user on delete cascade", "", 1)
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// checkServer is what all of them come to.
func checkServer(t *testing.T, c *Chain) {
	t.Helper()
	logins(t, c, "anna testpw allow", "anna foo deny", "nobody foo defer", "root foo allow", "weak secret ask")
	may(t, c, "anna", "w out/anna yes", "w out/root no", "r in/x yes", "s in/# yes", "s in/+ yes", "r out/anna no",
		"s out/anna no", "s # no", "w client/c-anna yes", "w client/c-root no")
	may(t, c, "root", "w out/anna yes", "s # yes", "r $SYS/x yes")
	may(t, c, "nobody", "w out/nobody no", "r in/x no")
}

// sqlOptions are the queries of a backend.
func sqlOptions(p, marks string) string {
	q := strings.NewReplacer("$1", marks, "$2", marks)
	if marks == "" {
		q = strings.NewReplacer()
	}
	return q.Replace(fmt.Sprintf("%suserquery %s\n%ssuperquery %s\n%saclquery %s\n", p, userQuery, p, superQuery, p, aclQuery))
}

func TestPostgreSQL(t *testing.T) {
	dir := testserver.Postgres(t)
	fill(t, "pgx", "host="+dir+" user=postgres dbname=postgres")
	server := func(p string) string {
		return p + "host " + dir + "\n" + p + "user postgres\n" + p + "password it's\\\n" + p + "dbname postgres\n" + p + "sslmode disable\n"
	}
	c := mustChain(t, "backends postgres\n"+server("pg_")+sqlOptions("pg_", ""))
	checkServer(t, c)
	c = mustChain(t, "backends postgres\n"+server("pg_")+"pg_userquery "+userQuery+"\ncache true\n")
	logins(t, c, "anna testpw allow")
	may(t, c, "anna", "w anything yes", "s # yes") // without a query everything is allowed
	c = mustChain(t, "backends postgres\n"+server("pg_")+"pg_userquery "+userQuery+"\npg_aclquery "+
		"select 'a/' || username || '/#' from test_user where username = $1 and $2 = $2\n")
	logins(t, c, "anna testpw allow")
	may(t, c, "anna", "w a/anna/x yes", "s a/anna/# yes", "w b no")

	// jwt in mode local
	c = mustChain(t, "backends jwt\njwt_mode local\njwt_secret "+secret+"\njwt_userquery "+countQuery+"\n"+
		server("jwt_pg_")+"jwt_pg_superquery "+superQuery+"\njwt_pg_aclquery "+aclQuery+"\n")
	for name, want := range map[string]auth.Verdict{"anna": auth.Allow, "root": auth.Allow, "nobody": auth.Defer} {
		text := signed(t, secret, jwt.MapClaims{"sub": name})
		if v, _ := admit(t, c, text, "any"); v != want {
			t.Errorf("%s: %v", name, v)
		}
		if name == "anna" {
			mayOf(t, c, "anna", "c-"+text, "w out/anna yes", "w other no", "s in/# yes")
		}
	}
}

func TestMariaDB(t *testing.T) {
	socket := testserver.MariaDB(t)
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it is waited for
	root, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	testserver.Await(t, root.Ping)
	for _, q := range []string{
		"create database go_auth_test", "create user 'go_auth_test'@'localhost' identified by 'go_auth_test'",
		"grant all privileges on go_auth_test.* to 'go_auth_test'@'localhost'",
	} {
		if _, err := root.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, "mysql", "go_auth_test:go_auth_test@unix("+socket+")/go_auth_test")
	text := "backends mysql\nmysql_protocol unix\nmysql_socket " + socket + "\nmysql_user go_auth_test\nmysql_password go_auth_test\n" +
		"mysql_dbname go_auth_test\n" + sqlOptions("mysql_", "?")
	checkServer(t, mustChain(t, text+"mysql_allow_native_passwords true\n"))
	logins(t, mustChain(t, text), "anna testpw ask") // as the driver does without it
}

func TestSQLite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "users ?#%.db")
	fill(t, "sqlite3", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23", " ", "%20").Replace(name))
	for _, marks := range []string{"", "?"} {
		c := mustChain(t, "backends sqlite\nsqlite_source "+name+"\n"+sqlOptions("sqlite_", marks)+"cache true\nauth_jitter_seconds 3\n")
		checkServer(t, c)
	}
	c := mustChain(t, "backends sqlite\nsqlite_source "+name+".not\n"+sqlOptions("sqlite_", "?"))
	logins(t, c, "anna testpw ask")
}

func TestRedis(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	testserver.Redis(t, "--port", port, "--bind", "127.0.0.1", "--requirepass", "go_auth_test")
	r := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, Password: "go_auth_test", DB: 1, DisableIdentity: true})
	defer r.Close()
	ctx := context.Background()
	testserver.Await(t, func() error { return r.Ping(ctx).Err() })
	for key, value := range map[string]string{
		"anna": hashOfTestpw, "root": hashOfFoo, "root:su": "true", "weak": "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
	} {
		if err := r.Set(ctx, key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for key, topics := range map[string][]any{
		"anna:racls": {"in/#"}, "anna:sacls": {"in/#"}, "common:wacls": {"out/%u", "client/%c"}, "anna:rwacls": {"both"},
	} {
		if err := r.SAdd(ctx, key, topics...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	text := "backends redis\nredis_host 127.0.0.1\nredis_port " + port + "\nredis_password go_auth_test\n"
	c := mustChain(t, text)
	logins(t, c, "anna testpw allow", "anna foo deny", "nobody foo defer", "root foo allow", "weak secret ask")
	may(t, c, "anna", "w out/anna yes", "w out/root no", "r in/x yes", "s in/# yes", "w both yes", "r both yes", "s both no",
		"w client/c-anna yes")
	may(t, c, "root", "w any yes", "s # yes")
	may(t, c, "nobody", "w out/nobody yes", "r in/x no") // what is everybody's
	c = mustChain(t, text+"redis_disable_superuser true\n")
	logins(t, c, "root foo allow")
	may(t, c, "root", "w any no")
	logins(t, mustChain(t, text+"redis_db 2\n"), "anna testpw defer")
	logins(t, mustChain(t, strings.Replace(text, "go_auth_test", "wrong", 1)), "anna testpw ask")
}
