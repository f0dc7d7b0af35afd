package goauth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State says what becomes of an option.
type State uint8

// The states.
const (
	Works   State = iota
	Inert         // read, and said to have no effect if that matters
	Refused       // ends the start, if its backend is asked for
)

// String is the word for it in the table.
func (s State) String() string { return [...]string{"works", "no effect", "refused"}[s] }

// row is one option.
type row struct {
	name    string // without auth_opt_
	backend string // that it belongs to; "": to none
	state   State
	value   string // what holds without it; "required" if something must be said
	meaning string
	note    string                     // why it has no effect, is refused, or differs
	set     func(*draft, string) error // of Works
	quiet   func(value string) bool    // of Inert: nothing needs to be said of this value
}

// required is a value that has to be given.
const required = "required"

// draft is a Config in the making: all backends, whether they are asked for or not.
type draft struct {
	cfg      Config
	names    []string // of backends
	prefixes []string
	register map[string][]string
	utf8     map[string]bool // salts, by the prefix of options; "" for all
	hashers  map[string]bool // prefixes of options that have a hasher of their own
	noSuper  bool
	cached   bool
	cluster  bool

	files                   Files
	http                    HTTP
	postgres, mysql, sqlite SQL
	jwtPostgres, jwtMySQL   SQL
	redis                   Redis
	jwt                     JWT
	jwtDB, jwtQuery         string
}

func newDraft() *draft {
	web := HTTP{Method: "POST", Agent: "mosquitto", Timeout: 5 * time.Second}
	pg := SQL{Driver: "postgres", Host: "localhost", Port: "5432", TLS: "verify-full", ConnectTries: -1}
	my := SQL{Driver: "mysql", Host: "localhost", Port: "3306", ConnectTries: -1}
	return &draft{
		cfg: Config{
			DenySpecial: true,
			Cache:       Cache{Auth: 30 * time.Second, ACL: 30 * time.Second},
		},
		register: map[string][]string{}, utf8: map[string]bool{}, hashers: map[string]bool{},
		http: web, postgres: pg, mysql: my, sqlite: SQL{Driver: "sqlite3", ConnectTries: -1},
		jwtPostgres: pg, jwtMySQL: my,
		redis: Redis{Host: "localhost", Port: "6379", DB: 1, Superusers: true},
		jwt:   JWT{NameClaim: "sub", HTTP: web}, jwtDB: "postgres",
	}
}

// kind is a backend that the option backends may name.
type kind struct {
	name   string
	prefix string // of its options
	why    string // it is not there; "" if it is
}

const elsewhere = "it cannot run inside this broker: let a webservice do what it does, " +
	"and ask it with the backend http"

func kinds() []kind {
	return []kind{
		{"files", "files", ""},
		{"http", "http", ""},
		{"jwt", "jwt", ""},
		{"postgres", "pg", ""},
		{"mysql", "mysql", ""},
		{"sqlite", "sqlite", ""},
		{"redis", "redis", ""},
		{"ldap", "ldap", "logins from a directory are a section of auth_file here"},
		{
			"mongo",
			"mongo",
			"there is no client for MongoDB here: let a webservice ask it, with the backend http",
		},
		{
			"grpc",
			"grpc",
			"there is no gRPC here: offer the same service by HTTP, and ask it with the backend http",
		},
		{
			"js",
			"js",
			"no scripts run inside this broker: let a webservice decide, and ask it with the backend http",
		},
		{"plugin", "plugin", elsewhere},
	}
}

func findKind(name string) (kind, bool) {
	for _, k := range kinds() {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

// rows is every option that the plug-in documents, and those that only its code knows.
func rows() []row {
	var all []row
	for _, part := range [][]row{
		generalRows(), cacheRows(), hasherRows(), filesRows(), httpRows("http", "http_", false),
		httpRows("jwt", "jwt_", true), jwtRows(),
		sqlRows("postgres", "pg_", func(d *draft) *SQL { return &d.postgres }, false),
		sqlRows("mysql", "mysql_", func(d *draft) *SQL { return &d.mysql }, false),
		sqliteRows(),
		sqlRows("postgres", "jwt_pg_", func(d *draft) *SQL { return &d.jwtPostgres }, true),
		sqlRows("mysql", "jwt_mysql_", func(d *draft) *SQL { return &d.jwtMySQL }, true),
		redisRows(), absentRows(),
	} {
		all = append(all, part...)
	}
	return all
}

// Setters.

func text(to func(*draft) *string) func(*draft, string) error {
	return func(d *draft, v string) error { *to(d) = v; return nil }
}

// truth takes true; the plug-in takes all else for false, which is only said of what looks like another yes.
func truth(to func(*draft) *bool) func(*draft, string) error {
	return func(d *draft, v string) error {
		v = strings.ReplaceAll(v, " ", "")
		*to(d) = v == "true"
		if v != "true" && v != "false" {
			return softError{fmt.Sprintf("%q is not true, so it is false", v)}
		}
		return nil
	}
}

func number(low, high int, to func(*draft, int)) func(*draft, string) error {
	return func(d *draft, v string) error {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a number from %d to %d", v, low, high)
		}
		to(d, n)
		return nil
	}
}

// year is the longest time that an option may say, in seconds.
const year = 366 * 24 * 3600

func seconds(to func(*draft) *time.Duration) func(*draft, string) error {
	return number(0, year, func(d *draft, n int) { *to(d) = time.Duration(n) * time.Second })
}

func oneOf(to func(*draft, string), values ...string) func(*draft, string) error {
	return func(d *draft, v string) error {
		if slices.Contains(values, v) {
			to(d, v)
			return nil
		}
		return fmt.Errorf("%q is not one of %s", v, strings.Join(values, ", "))
	}
}

func port(to func(*draft) *string) func(*draft, string) error {
	return func(d *draft, v string) error {
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is no port", v)
		}
		*to(d) = v
		return nil
	}
}

// list is the words between commas.
func list(v string) []string { return strings.Split(strings.ReplaceAll(v, " ", ""), ",") }

// softError is one that is only told.
type softError struct{ text string }

// Error implements error.
func (e softError) Error() string { return e.text }
