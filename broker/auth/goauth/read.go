package goauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Read makes the configuration that options come to; of several of the same name the last counts. With a
// fatal problem the configuration is nil.
func Read(options []Option) (*Config, []Problem) {
	r := reader{draft: newDraft(), rows: map[string]row{}, at: map[string]int{}}
	for _, x := range rows() {
		r.rows[x.name] = x
	}
	for i, o := range options {
		r.at[o.Name] = i
	}
	for i, o := range options {
		if r.at[o.Name] == i {
			r.option(i, o)
		}
	}
	r.backends()
	r.finish()
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Option - b.Option })
	if slices.ContainsFunc(r.problems, func(p Problem) bool { return p.Fatal }) {
		return nil, r.problems
	}
	return &r.draft.cfg, r.problems
}

// reader is the state between options.
type reader struct {
	draft    *draft
	rows     map[string]row
	at       map[string]int // where each option is
	problems []Problem
}

func (r *reader) warn(at int, format string, a ...any) {
	r.problems = append(r.problems, Problem{Option: at, Text: fmt.Sprintf(format, a...)})
}

// fail notes what ends the start, at one of some options: the first that is there.
func (r *reader) fail(names []string, format string, a ...any) {
	at := -1
	for _, n := range names {
		if i, ok := r.at[n]; ok {
			at = i
			break
		}
	}
	r.problems = append(r.problems, Problem{at, fmt.Sprintf(format, a...), true})
}

// option takes one.
func (r *reader) option(at int, o Option) {
	x, ok := r.rows[o.Name]
	if !ok {
		text := fmt.Sprintf("auth_opt_%s is no option of mosquitto-go-auth.", o.Name)
		if guess := r.guess(o.Name); guess != "" {
			text += fmt.Sprintf(" Did you mean auth_opt_%s?", guess)
		}
		r.warn(at, "%s", text)
		return
	}
	switch x.state {
	case Works:
		err := x.set(r.draft, o.Value)
		if soft, ok := errors.AsType[softError](err); ok {
			r.warn(at, "auth_opt_%s: %s.", o.Name, soft.text)
		} else if err != nil {
			r.fail([]string{o.Name}, "auth_opt_%s: %v.", o.Name, err)
		}
	case Inert:
		if !x.quiet(o.Value) {
			r.warn(at, "auth_opt_%s has no effect: %s.", o.Name, x.note)
		}
	case Refused: // its backend says so, if it is asked for
	}
}

// guess is the option whose name is nearest to a name, if one is near.
func (r *reader) guess(name string) string {
	best, least := "", 3
	for _, x := range rows() {
		if x.state == Works {
			if d := distance(name, x.name); d < least {
				best, least = x.name, d
			}
		}
	}
	return best
}

// distance is how many bytes have to be put in, left out or changed to make b of a; names of options are
// short.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// backends checks which are asked for, and makes them.
func (r *reader) backends() {
	d := r.draft
	if len(d.names) == 0 || slices.Equal(d.names, []string{""}) {
		r.fail(nil, "mosquitto-go-auth needs auth_opt_backends.")
		return
	}
	for i, name := range d.names {
		k, ok := findKind(name)
		switch {
		case !ok:
			r.fail([]string{"backends"}, "auth_opt_backends: there is no backend %q.", name)
		case k.why != "":
			r.fail(
				[]string{"backends"},
				"The backend %s of mosquitto-go-auth is not built in: %s.",
				name,
				k.why,
			)
		case slices.Contains(d.names[:i], name):
			r.fail([]string{"backends"}, "auth_opt_backends names %s twice.", name)
		default:
			d.cfg.Backends = append(d.cfg.Backends, r.backend(name, k.prefix))
		}
	}
	for name, at := range r.at { // those of backends that are not asked for
		x, ok := r.rows[name]
		if ok && x.backend != "" && !slices.Contains(d.names, x.backend) {
			r.warn(at, "auth_opt_%s has no effect: auth_opt_backends does not name %s.", name, x.backend)
		}
	}
}

// backend makes one.
func (r *reader) backend(name, prefix string) Backend {
	d := r.draft
	b := Backend{Name: name, Users: true, Superusers: true, ACLs: true}
	if list, ok := d.register[name]; ok {
		b.Users, b.ACLs = slices.Contains(list, "user"), slices.Contains(list, "acl")
		b.Superusers = slices.Contains(list, "superuser")
	}
	b.Superusers = b.Superusers && !d.noSuper
	b.TextSalt = d.utf8[""]
	if d.hashers[prefix+"_"] { // its own options, and none of the general ones
		b.TextSalt = d.utf8[prefix+"_"]
	}
	switch name {
	case "files":
		b.Files = &d.files
		if b.Users && d.files.Passwords == "" {
			r.missing(name, "files_password_path")
		}
	case "http":
		b.HTTP = &d.http
		r.webservice(name, "http_", &d.http, b.ACLs, false)
	case "postgres":
		b.SQL = &d.postgres
		r.server("pg_", b.SQL, b.Users)
	case "mysql":
		b.SQL = &d.mysql
		r.server("mysql_", b.SQL, b.Users)
	case "sqlite":
		b.SQL = &d.sqlite
		r.needed("sqlite", "sqlite_source", b.SQL.Host)
		if b.Users {
			r.needed("sqlite", "sqlite_userquery", b.SQL.UserQuery)
		}
	case "redis":
		b.Redis = &d.redis
		if !d.cluster {
			d.redis.Cluster = nil
		} else if len(d.redis.Cluster) == 0 {
			r.missing("redis with redis_mode cluster", "redis_cluster_addresses")
		}
	case "jwt":
		b.JWT = &d.jwt
		r.token(b.Users, b.ACLs)
	}
	return b
}

func (r *reader) needed(backend, option, value string) {
	if value == "" {
		r.missing(backend, option)
	}
}

func (r *reader) missing(backend, option string) {
	r.fail([]string{option, "backends"}, "The backend %s needs auth_opt_%s.", backend, option)
}

// webservice checks what only goes together.
func (r *reader) webservice(backend, p string, h *HTTP, acl, parsed bool) {
	if !parsed {
		r.needed(backend, p+"host", h.Host)
	}
	r.needed(backend, p+"port", h.Port)
	r.needed(backend, p+"getuser_uri", h.User)
	if acl {
		r.needed(backend, p+"aclcheck_uri", h.ACL)
	}
	for name, path := range map[string]string{
		"getuser_uri": h.User, "superuser_uri": h.Superuser, "aclcheck_uri": h.ACL,
	} {
		if path != "" && !strings.HasPrefix(path, "/") {
			r.fail([]string{p + name}, "auth_opt_%s: a path begins with /.", p+name)
		}
	}
	if h.Form && h.Method == "GET" && backend == "http" {
		r.fail([]string{p + "params_mode"}, "auth_opt_%sparams_mode: a form is for POST and PUT.", p)
	}
	if h.TLS && !h.Verify {
		r.warn(
			r.first(p+"with_tls"),
			"auth_opt_%sverify_peer is not true: who stands in between can let everybody in.",
			p,
		)
	}
}

// first is where an option is.
func (r *reader) first(name string) int {
	if at, ok := r.at[name]; ok {
		return at
	}
	return -1
}

// server checks a database server's options.
func (r *reader) server(p string, q *SQL, users bool) {
	name := strings.TrimSuffix(p, "_")
	r.needed(name, p+"user", q.User)
	r.needed(name, p+"dbname", q.Name)
	if _, ok := r.at[p+"password"]; !ok {
		r.missing(name, p+"password")
	}
	if users {
		r.needed(name, p+"userquery", q.UserQuery)
	}
	if q.Unix {
		r.needed(name, p+"socket", q.Socket)
	}
	if q.TLS == "custom" {
		r.needed(name, p+"sslrootcert", q.CA)
	}
	if (q.Cert == "") != (q.Key == "") {
		r.fail(
			[]string{p + "sslcert", p + "sslkey"},
			"auth_opt_%ssslcert and auth_opt_%ssslkey belong together.",
			p,
			p,
		)
	}
}

// token checks the options of jwt.
func (r *reader) token(users, acl bool) {
	d := r.draft
	j := &d.jwt
	secret := j.Mode != Remote || j.Parse
	if secret {
		r.needed("jwt", "jwt_secret", j.Secret)
	}
	switch j.Mode {
	case "":
		if _, ok := r.at["jwt_mode"]; !ok {
			r.missing("jwt", "jwt_mode")
		}
	case ACLs:
		r.needed("jwt", "jwt_files_acl_path", j.ACL)
	case Remote:
		if j.HTTP.Host == "" && !j.Parse {
			r.missing("jwt", "jwt_host")
		} else if j.HTTP.Host == "" && len(j.Hosts) == 0 {
			r.missing("jwt without jwt_host", "jwt_host_whitelist")
		}
		r.webservice("jwt", "jwt_", &j.HTTP, acl, j.Parse)
	case Local:
		j.SQL = &d.jwtPostgres
		p := "jwt_pg_"
		if d.jwtDB == "mysql" {
			j.SQL, p = &d.jwtMySQL, "jwt_mysql_"
		}
		j.SQL.UserQuery = d.jwtQuery
		r.server(p, j.SQL, false)
		if users {
			r.needed("jwt", "jwt_userquery", d.jwtQuery)
		}
	}
}

// finish checks what belongs to no backend.
func (r *reader) finish() {
	d := r.draft
	c := &d.cfg.Cache
	if !d.cached {
		*c = Cache{}
	}
	c.AuthJitter, c.ACLJitter = min(c.AuthJitter, c.Auth), min(c.ACLJitter, c.ACL)
	if !slices.ContainsFunc(d.cfg.Backends, func(b Backend) bool { return b.Users || b.ACLs }) &&
		len(d.cfg.Backends) > 0 {
		r.fail([]string{"backends"}, "No backend is asked about users or rights.")
	}
	if !d.cfg.CheckPrefix {
		return
	}
	if len(d.prefixes) != len(d.names) {
		r.fail(
			[]string{"prefixes", "check_prefix"},
			"auth_opt_prefixes has %d prefixes for %d backends.",
			len(d.prefixes),
			len(d.names),
		)
		return
	}
	for i, p := range d.prefixes {
		if p == "" || strings.Contains(p, "_") || slices.Contains(d.prefixes[:i], p) {
			r.fail([]string{"prefixes"}, "auth_opt_prefixes: %q is empty, has a _, or is there twice.", p)
			return
		}
		if i < len(d.cfg.Backends) {
			d.cfg.Backends[i].Prefix = p
		}
	}
}
