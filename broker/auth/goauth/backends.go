package goauth

import (
	"fmt"
	"strings"
	"time"
)

// filesRows are those of the backend files.
func filesRows() []row {
	passwords := text(func(d *draft) *string { return &d.files.Passwords })
	acl := text(func(d *draft) *string { return &d.files.ACL })
	return []row{
		{
			name: "files_password_path", backend: "files", value: required, meaning: "the password file",
			note: "required if users are asked about; a line that cannot be read ends the start", set: passwords,
		},
		{
			name: "files_acl_path", backend: "files", value: "", meaning: "the access list",
			note: "without it everything is allowed if files is the only backend, and otherwise nothing", set: acl,
		},
		{name: "password_path", backend: "files", value: "", meaning: "older name of files_password_path", set: passwords},
		{name: "acl_path", backend: "files", value: "", meaning: "older name of files_acl_path", set: acl},
	}
}

// httpRows are those of a webservice: of the backend http, or of jwt in mode remote.
func httpRows(backend, p string, jwt bool) []row {
	to := func(d *draft) *HTTP {
		if jwt {
			return &d.jwt.HTTP
		}
		return &d.http
	}
	timeout, method, mode := p+"timeout", p+"method", ""
	if jwt {
		timeout, method, mode = p+"http_timeout", p+"http_method", " (mode remote)"
	}
	str := func(of func(*HTTP) *string) func(*draft, string) error {
		return text(func(d *draft) *string { return of(to(d)) })
	}
	out := []row{
		{name: p + "host", value: required, meaning: "of the webservice", set: str(func(h *HTTP) *string { return &h.Host })},
		{name: p + "port", value: required, meaning: "its port", set: port(func(d *draft) *string { return &to(d).Port })},
		{
			name: p + "getuser_uri", value: required, meaning: "the path that is asked about a login",
			set: str(func(h *HTTP) *string { return &h.User }),
		},
		{
			name: p + "superuser_uri", value: "", meaning: "the path that is asked whether a user is a superuser; without it nobody is",
			set: str(func(h *HTTP) *string { return &h.Superuser }),
		},
		{
			name: p + "aclcheck_uri", value: required, meaning: "the path that is asked about a topic",
			set: str(func(h *HTTP) *string { return &h.ACL }),
		},
		{name: p + "with_tls", value: "false", meaning: "https", set: truth(func(d *draft) *bool { return &to(d).TLS })},
		{
			name: p + "verify_peer", value: "false", meaning: "its certificate is checked",
			note: "false is done as it says, with a warning", set: truth(func(d *draft) *bool { return &to(d).Verify }),
		},
		{
			name: p + "response_mode", value: "status", meaning: "what says yes: status, json (`ok` is true), text (`ok`); all want a status of 2xx too",
			set: oneOf(func(d *draft, v string) { h := to(d); h.JSONAnswer, h.TextAnswer = v == "json", v == "text" }, "status", "json", "text"),
		},
		{
			name: p + "params_mode", value: "json", meaning: "how parameters are sent: json or form",
			set: oneOf(func(d *draft, v string) { to(d).Form = v == "form" }, "json", "form"),
		},
		{
			name: timeout, value: "5", meaning: "seconds that an answer may take, 1 to 60",
			set: number(1, 60, func(d *draft, n int) { to(d).Timeout = time.Duration(n) * time.Second }),
		},
		{name: p + "user_agent", value: "mosquitto", meaning: "header User-Agent", set: str(func(h *HTTP) *string { return &h.Agent })},
		{
			name: method, value: "POST", meaning: "POST, GET or PUT",
			set: oneOf(func(d *draft, v string) { to(d).Method = v }, "POST", "GET", "PUT"),
		},
	}
	for i := range out {
		out[i].backend = backend
		out[i].meaning += mode
	}
	return out
}

// sqlRows are those of a database server: of a backend, or of jwt in mode local.
func sqlRows(driver, p string, to func(*draft) *SQL, jwt bool) []row {
	backend, mode := driver, ""
	if jwt {
		backend, mode = "jwt", " (mode local, jwt_db "+driver+")"
	}
	str := func(of func(*SQL) *string) func(*draft, string) error {
		return text(func(d *draft) *string { return of(to(d)) })
	}
	tls := row{
		name: p + "sslmode", value: "verify-full", meaning: "disable, require, verify-ca or verify-full",
		set: oneOf(func(d *draft, v string) { to(d).TLS = v }, "disable", "require", "verify-ca", "verify-full"),
	}
	server := "5432"
	if driver == "mysql" {
		server = "3306"
		tls = row{
			name: p + "sslmode", value: "false", meaning: "false, true, skip-verify or custom, which uses the three files",
			set: oneOf(func(d *draft, v string) { to(d).TLS = strings.ReplaceAll(v, "disable", "false") },
				"false", "disable", "true", "skip-verify", "custom"),
		}
	}
	out := []row{
		{name: p + "host", value: "localhost", meaning: "of the server", set: str(func(q *SQL) *string { return &q.Host })},
		{name: p + "port", value: server, meaning: "its port", set: port(func(d *draft) *string { return &to(d).Port })},
		{name: p + "user", value: required, meaning: "who the broker is there", set: str(func(q *SQL) *string { return &q.User })},
		{name: p + "password", value: required, meaning: "its password", set: str(func(q *SQL) *string { return &q.Password })},
		{name: p + "dbname", value: required, meaning: "the database", set: str(func(q *SQL) *string { return &q.Name })},
	}
	if !jwt {
		out = append(out, row{
			name: p + "userquery", value: required, meaning: "the hash of a user's password, one row; the username is the parameter",
			set: str(func(q *SQL) *string { return &q.UserQuery }),
		})
	}
	out = append(out, queryRows(p, to)...)
	out = append(out, tls,
		row{name: p + "sslcert", value: "", meaning: "the broker's certificate there", set: str(func(q *SQL) *string { return &q.Cert })},
		row{name: p + "sslkey", value: "", meaning: "its key", set: str(func(q *SQL) *string { return &q.Key })},
		row{name: p + "sslrootcert", value: "", meaning: "who has signed the server's", set: str(func(q *SQL) *string { return &q.CA })},
	)
	if driver == "mysql" {
		out = append(out,
			row{
				name: p + "protocol", value: "tcp", meaning: "tcp, or unix with the socket",
				set: oneOf(func(d *draft, v string) { to(d).Unix = v == "unix" }, "tcp", "unix"),
			},
			row{name: p + "socket", value: "", meaning: "its path", set: str(func(q *SQL) *string { return &q.Socket })},
			row{
				name: p + "allow_native_passwords", value: "false", meaning: "logs in by mysql_native_password too",
				set: truth(func(d *draft) *bool { return &to(d).NativePasswords }),
			})
	}
	for i := range out {
		out[i].backend = backend
		out[i].meaning += mode
	}
	return out
}

// queryRows are those that all databases have.
func queryRows(p string, to func(*draft) *SQL) []row {
	return []row{
		{
			name: p + "superquery", value: "", meaning: "a count, above 0 for superusers; the username is the parameter; without it nobody is one",
			set: text(func(d *draft) *string { return &to(d).SuperQuery }),
		},
		{
			name: p + "aclquery", value: "", meaning: "filters, one a row; username and access (1 read, 2 write, 4 subscribe) are the parameters; without it everything is allowed",
			set: text(func(d *draft) *string { return &to(d).ACLQuery }),
		},
		{
			name: p + "connect_tries", value: "-1", meaning: "how often it tries to connect before it gives up",
			note:  "the broker starts without the database, and connects when it is there; until then nobody is let in by it",
			state: Inert, quiet: anything,
		},
		{
			name: p + "max_life_time", value: "0", meaning: "seconds after which a connection is replaced", state: Inert, quiet: anything,
			note: "a connection that does not work any more is replaced when that is seen",
		},
	}
}

func sqliteRows() []row {
	to := func(d *draft) *SQL { return &d.sqlite }
	out := append([]row{
		{
			name: "sqlite_source", value: required, meaning: "the file",
			note: "`memory` would be an empty database, and ends the start",
			set: func(d *draft, v string) error {
				if d.sqlite.Host = v; v == "memory" || v == ":memory:" {
					return fmt.Errorf("a database in memory is empty: nobody could log in")
				}
				return nil
			},
		},
		{
			name: "sqlite_userquery", value: required, meaning: "the hash of a user's password, one row; the username is the parameter",
			set: text(func(d *draft) *string { return &d.sqlite.UserQuery }),
		},
	}, queryRows("sqlite_", to)...)
	for i := range out {
		out[i].backend = "sqlite"
	}
	return out
}

func redisRows() []row {
	return []row{
		{name: "redis_host", backend: "redis", value: "localhost", meaning: "of the server", set: text(func(d *draft) *string { return &d.redis.Host })},
		{name: "redis_port", backend: "redis", value: "6379", meaning: "its port", set: port(func(d *draft) *string { return &d.redis.Port })},
		{
			name: "redis_db", backend: "redis", value: "1", meaning: "number of the database", note: "its README says 2, its code 1",
			set: number(0, 1<<20, func(d *draft, n int) { d.redis.DB = n }),
		},
		{name: "redis_password", backend: "redis", value: "", meaning: "of the server", set: text(func(d *draft) *string { return &d.redis.Password })},
		{
			name: "redis_disable_superuser", backend: "redis", value: "false", meaning: "nobody is a superuser by it",
			note: "its README says true, its code false",
			set: func(d *draft, v string) error {
				off := false
				err := truth(func(*draft) *bool { return &off })(d, v)
				d.redis.Superusers = !off
				return err
			},
		},
		{
			name: "redis_mode", backend: "redis", value: "", meaning: "cluster for a Redis Cluster",
			set: func(d *draft, v string) error { d.cluster = v == "cluster"; return nil },
		},
		{
			name: "redis_cluster_addresses", backend: "redis", value: "", meaning: "with redis_mode cluster: host:port, with commas",
			set: func(d *draft, v string) error { d.redis.Cluster = list(v); return nil },
		},
	}
}

// jwtRows are those of the backend jwt that are not a webservice's or a database's.
func jwtRows() []row {
	acl := text(func(d *draft) *string { return &d.jwt.ACL })
	rows := []row{
		{
			name: "jwt_mode", value: required, meaning: "local, remote or files",
			note: "js ends the start: no scripts run inside this broker",
			set:  oneOf(func(d *draft, v string) { d.jwt.Mode = v }, Local, Remote, ACLs),
		},
		{
			name: "jwt_secret", value: "", meaning: "what tokens are signed with (HS256, HS384, HS512)",
			note: "required but for mode remote without jwt_parse_token; one that is too short to be one ends the start",
			set:  text(func(d *draft) *string { return &d.jwt.Secret }),
		},
		{
			name: "jwt_parse_token", value: "false", meaning: "the token is checked, and the webservice told its username (mode remote)",
			set: truth(func(d *draft) *bool { return &d.jwt.Parse }),
		},
		{
			name: "jwt_userfield", value: "Subject", meaning: "Username: the claim `username` has the username, otherwise `sub`",
			set: func(d *draft, v string) error {
				d.jwt.NameClaim = "sub"
				if v == "Username" {
					d.jwt.NameClaim = "username"
				}
				return nil
			},
		},
		{
			name: "jwt_skip_user_expiration", value: "false", meaning: "a token that has expired logs in",
			set: truth(func(d *draft) *bool { return &d.jwt.ExpiredUser }),
		},
		{
			name: "jwt_skip_acl_expiration", value: "false", meaning: "and it has rights",
			note: "otherwise the connection ends with the token, where the plug-in let it stay without rights",
			set:  truth(func(d *draft) *bool { return &d.jwt.ExpiredACL }),
		},
		{
			name: "jwt_host_whitelist", value: "", meaning: "without jwt_host: hosts that may be the token's issuer and are asked, with commas (mode remote)",
			note: "`*` ends the start: tokens would say whom to trust",
			set: func(d *draft, v string) error {
				if d.jwt.Hosts = list(v); v == "*" {
					return fmt.Errorf("with \"*\" every token would say itself who is asked about it")
				}
				return nil
			},
		},
		{
			name: "jwt_db", value: "postgres", meaning: "postgres or mysql (mode local)",
			set: oneOf(func(d *draft, v string) { d.jwtDB = v }, "postgres", "mysql"),
		},
		{
			name: "jwt_userquery", value: required, meaning: "a count, above 0 for users; the username is the parameter (mode local)",
			set: text(func(d *draft) *string { return &d.jwtQuery }),
		},
		{name: "jwt_files_acl_path", value: required, meaning: "the access list (mode files)", set: acl},
		{name: "jwt_acl_path", value: "", meaning: "the same: the name that its code has", set: acl},
	}
	for _, name := range []string{"stack_depth_limit", "ms_max_duration", "user_script_path", "superuser_script_path", "acl_script_path"} {
		rows = append(rows, row{
			name: "jwt_js_" + name, value: "", meaning: "of jwt_mode js", state: Refused,
			note: "no scripts run inside this broker",
		})
	}
	for i := range rows {
		rows[i].backend = "jwt"
	}
	return rows
}

// absentRows are those of backends that are not there: who is not asked for needs none of them.
func absentRows() []row {
	var rows []row
	for _, k := range kinds() {
		if k.why == "" {
			continue
		}
		names := map[string]string{
			"ldap": "url user_dn group_dn bind_dn bind_password user_filter group_filter superuser_filter " +
				"acl_topic_pattern_attribute acl_acc_attribute",
			"mongo": "host port dbname authsource username password users acls disable_superuser with_tls " +
				"insecure_skip_verify",
			"grpc":   "host port ca_cert tls_cert tls_key disable_superuser fail_on_dial_error dial_timeout_ms",
			"js":     "stack_depth_limit ms_max_duration user_script_path superuser_script_path acl_script_path pass_claims",
			"plugin": "path",
		}[k.name]
		for name := range strings.FieldsSeq(names + " register") {
			rows = append(rows, row{name: k.prefix + "_" + name, backend: k.name, state: Refused, meaning: "of this backend", note: k.why})
		}
		for _, name := range []string{
			"hasher", "hasher_salt_size", "hasher_iterations", "hasher_keylen", "hasher_algorithm",
			"hasher_salt_encoding", "hasher_cost", "hasher_memory", "hasher_parallelism",
		} {
			if k.name == "mongo" {
				rows = append(rows, row{name: "mongo_" + name, backend: k.name, state: Refused, meaning: "of this backend", note: k.why})
			}
		}
	}
	return rows
}
