package goauth

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/internal/testdoc"
)

var update = flag.Bool("update", false, "write the table of options in docs/go-auth.md")

// TestDocument holds the document against the table.
func TestDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| option | backend | status | default | meaning | remark |\n|---|---|---|---|---|---|\n")
	for _, x := range rows() {
		fmt.Fprintf(
			&b,
			"| `%s` | %s | %s | %s | %s | %s |\n",
			x.name,
			x.backend,
			x.state,
			x.value,
			x.meaning,
			x.note,
		)
	}
	testdoc.Hold(t, "../../../docs/go-auth.md", "go test ./broker/auth/goauth -run TestDocument -update",
		b.String()+"\n", *update)
}

// TestTable holds the table against the options that the plug-in's documentation has.
func TestTable(t *testing.T) {
	raw, err := os.ReadFile("testdata/options.txt")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]row{}
	for _, x := range rows() {
		if _, twice := have[x.name]; twice {
			t.Errorf("%s is there twice", x.name)
		}
		have[x.name] = x
		switch {
		case x.meaning == "", x.state != Works && x.note == "":
			t.Errorf("%s: no meaning, or no reason", x.name)
		case x.state == Works && x.set == nil, x.state == Inert && x.quiet == nil:
			t.Errorf("%s: nothing takes it", x.name)
		case strings.ContainsAny(x.meaning+x.note+x.value, "|\n"):
			t.Errorf("%s: no cell of a table", x.name)
		}
	}
	for name := range strings.FieldsSeq(string(raw)) {
		if _, ok := have[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

// options are lines "name value".
func options(text string) (list []Option) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" {
			list = append(list, Option{name, value})
		}
	}
	return list
}

// addon are the options that Home Assistant's add-on writes.
const addon = `backends files,http
hasher pbkdf2
cache true
auth_cache_seconds 300
auth_jitter_seconds 30
acl_cache_seconds 300
acl_jitter_seconds 30
log_level error
files_password_path /etc/mosquitto/pw
files_acl_path /etc/mosquitto/acl
http_host 127.0.0.1
http_port 80
http_getuser_uri /authentication
http_superuser_uri /superuser
http_aclcheck_uri /acl
`

// TestAddon reads what the add-on writes: nothing is to be said about it.
func TestAddon(t *testing.T) {
	c, problems := Read(options(addon))
	if c == nil || len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	if len(c.Backends) != 2 || c.Backends[0].Files.ACL != "/etc/mosquitto/acl" ||
		c.Backends[1].HTTP.ACL != "/acl" ||
		c.Cache != (Cache{300 * time.Second, 300 * time.Second, 30 * time.Second, 30 * time.Second}) ||
		!c.Backends[1].Superusers ||
		c.Backends[1].HTTP.Timeout != 5*time.Second ||
		c.Backends[1].HTTP.Method != "POST" {
		t.Errorf("%+v", c)
	}
}

// TestProblems is what is said of options, and where.
func TestProblems(t *testing.T) {
	const files = "backends files\nfiles_password_path /p\n"
	pg := "backends postgres\npg_user u\npg_password p\npg_dbname d\npg_userquery q\n"
	for text, want := range map[string]string{
		"":                                         "-1 fatal mosquitto-go-auth needs auth_opt_backends.",
		"backends ":                                "-1 fatal mosquitto-go-auth needs auth_opt_backends.",
		"backends files, mongo":                    "0 fatal The backend mongo of mosquitto-go-auth is not built in: there is no client for MongoDB",
		"backends grpc":                            "0 fatal The backend grpc of mosquitto-go-auth is not built in: there is no gRPC",
		"backends js":                              "0 fatal The backend js of mosquitto-go-auth is not built in",
		"backends plugin":                          "0 fatal The backend plugin of mosquitto-go-auth is not built in",
		"backends ldap":                            "0 fatal The backend ldap of mosquitto-go-auth is not built in",
		"backends fils":                            `0 fatal auth_opt_backends: there is no backend "fils".`,
		"backends redis,redis":                     "0 fatal auth_opt_backends names redis twice.",
		"backends files":                           "0 fatal The backend files needs auth_opt_files_password_path.",
		"backends http":                            "0 fatal The backend http needs auth_opt_http_host.",
		files + "log_level debug":                  "",
		files + "cache_refresh true":               "2 auth_opt_cache_refresh has no effect: a right",
		files + "cache_type redis":                 "2 auth_opt_cache_type has no effect: answers are kept",
		files + "files_pasword_path x":             "2 auth_opt_files_pasword_path is no option of mosquitto-go-auth. Did you mean auth_opt_files_password_path?",
		files + "something else":                   "2 auth_opt_something is no option of mosquitto-go-auth.",
		files + "pg_host x":                        "2 auth_opt_pg_host has no effect: auth_opt_backends does not name postgres.",
		files + "mongo_host x":                     "2 auth_opt_mongo_host has no effect: auth_opt_backends does not name mongo.",
		files + "retry_count 11":                   `2 fatal auth_opt_retry_count: "11" is not a number from 0 to 10.`,
		files + "cache yes":                        `2 auth_opt_cache: "yes" is not true, so it is false.`,
		files + "files_register users":             `2 fatal auth_opt_files_register: "users" is not one of user, superuser, acl.`,
		files + "files_register superuser":         "0 fatal No backend is asked about users or rights.",
		files + "check_prefix true\nprefixes a, b": "3 fatal auth_opt_prefixes has 2 prefixes for 1 backends.",
		files + "check_prefix true\nprefixes a_b":  `3 fatal auth_opt_prefixes: "a_b" is empty`,
		pg:                       "",
		pg + "pg_sslcert x":      "5 fatal auth_opt_pg_sslcert and auth_opt_pg_sslkey belong together.",
		pg + "pg_sslmode prefer": `5 fatal auth_opt_pg_sslmode: "prefer" is not one of`,
		"backends sqlite\nsqlite_source memory\nsqlite_userquery q": "1 fatal auth_opt_sqlite_source: a database in memory is empty",
		"backends jwt\njwt_mode js":                                 `1 fatal auth_opt_jwt_mode: "js" is not one of local, remote, files.`,
		"backends jwt":                                              "0 fatal The backend jwt needs auth_opt_jwt_secret.",
		"backends redis\nredis_mode cluster":                        "0 fatal The backend redis with redis_mode cluster needs auth_opt_redis_cluster_addresses.",
		addon + "http_params_mode form\nhttp_method GET":            "15 fatal auth_opt_http_params_mode: a form is for POST and PUT.",
		addon + "http_with_tls true":                                "15 auth_opt_http_verify_peer is not true",
	} {
		c, problems := Read(options(text))
		var said []string
		fatal := false
		for _, p := range problems {
			mark := ""
			if p.Fatal {
				mark, fatal = "fatal ", true
			}
			said = append(said, fmt.Sprintf("%d %s%s", p.Option, mark, p.Text))
		}
		found := slices.ContainsFunc(said, func(x string) bool { return strings.HasPrefix(x, want) })
		if found != (want != "") || fatal == (c != nil) {
			t.Errorf("%q: %q, want %q", text, said, want)
		}
	}
}

// TestValues reads options into their places.
func TestValues(t *testing.T) {
	c, problems := Read(options(`backends postgres, jwt
check_prefix true
strip_prefix true
prefixes pg, tok
pg_user u
pg_password p
pg_dbname d
pg_userquery select pass from account where username = $1 limit 1
pg_hasher pbkdf2
pg_hasher_salt_encoding utf-8
jwt_mode local
jwt_db mysql
jwt_secret 0123456789abcdef
jwt_userfield Username
jwt_userquery select count(*) from test_user where username = ?
jwt_mysql_user u
jwt_mysql_password p
jwt_mysql_dbname d
jwt_mysql_protocol unix
jwt_mysql_socket /s
jwt_register user
disable_superuser true
use_clientid_as_username true
`))
	if c == nil || len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	a, b := c.Backends[0], c.Backends[1]
	if a.Prefix != "pg" || !a.TextSalt || a.Superusers || !a.ACLs || a.SQL.TLS != "verify-full" ||
		!strings.HasSuffix(
			a.SQL.UserQuery,
			"limit 1",
		) || !c.StripPrefix || !c.ClientIDAsUsername || c.Cache.Auth != 0 {
		t.Errorf("%+v", a)
	}
	if b.Prefix != "tok" || b.TextSalt || b.ACLs || !b.Users || b.JWT.NameClaim != "username" ||
		!b.JWT.SQL.Unix ||
		b.JWT.SQL.UserQuery == "" ||
		b.JWT.SQL.Driver != "mysql" {
		t.Errorf("%+v", b.JWT)
	}
}
