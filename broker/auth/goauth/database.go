package goauth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/lookup"
)

// database is a backend with queries.
type database struct {
	cfg    *SQL
	db     *sql.DB
	form   hash.Form
	users  *lookup.Lookup[*hash.Hash] // nil: there is no such user
	counts *lookup.Lookup[bool]       // of jwt: whether there is
	supers *lookup.Lookup[bool]
	lists  *lookup.Lookup[[]string] // filters of a user and an access
	decoy  decoy
}

// queryTime bounds a query.
const queryTime = 5 * time.Second

// listMax is how many filters a backend may have for one user and access.
const listMax = 10_000

func newDatabase(cfg *SQL, c *Chain, b *Backend) (*database, error) {
	cache := &c.cfg.Cache
	d := &database{cfg: cfg, form: hash.Form{TextSalt: b.TextSalt}}
	var err error
	if d.db, err = openDB(cfg); err != nil {
		return nil, fmt.Errorf("go-auth: backend %s: %w", b.Name, err)
	}
	d.db.SetMaxOpenConns(connsMax)
	d.db.SetMaxIdleConns(connsMax)
	d.db.SetConnMaxLifetime(10 * time.Minute)
	a := about{
		name: "go-auth " + b.Name, names: []string{"username"}, budget: queryTime, turns: connsMax,
		ttl: cache.Auth, jitter: cache.AuthJitter, watch: c.host.Watch, about: "login",
	}
	d.users = newLookup(a, d.hash, func(*hash.Hash) (int, any) { return 256, nil })
	d.counts = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
		return d.count(ctx, cfg.UserQuery, v[0])
	}, nil)
	a.ttl, a.jitter = cache.ACL, cache.ACLJitter
	a.about = "superuser"
	d.supers = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
		return d.count(ctx, cfg.SuperQuery, v[0])
	}, nil)
	a.names = []string{"username", "acc"}
	a.about = "rules"
	d.lists = newLookup(a, d.filters, texts)
	return d, nil
}

// openDB opens it; nobody is connected to yet.
func openDB(cfg *SQL) (*sql.DB, error) {
	switch cfg.Driver {
	case "mysql":
		return openMySQL(cfg)
	case "postgres":
		return openDriver("pgx", postgresDSN(cfg))
	}
	dsn := cfg.Host
	if !strings.HasPrefix(dsn, "file:") { // a file that is not there is not made
		dsn = "file:" + (&url.URL{Path: dsn}).EscapedPath() + "?mode=rw"
	}
	return openDriver("sqlite3", dsn)
}

func openDriver(name, dsn string) (*sql.DB, error) {
	if !slices.Contains(sql.Drivers(), name) {
		return nil, fmt.Errorf("this noctule is built without %s (-tags nosql)", name)
	}
	db, err := sql.Open(name, dsn)
	if err != nil {
		return nil, errors.New("its options cannot be used") // the error may have them
	}
	return db, nil
}

// postgresDSN is how the driver takes the options.
func postgresDSN(cfg *SQL) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var b strings.Builder
	for _, x := range [...][2]string{
		{"host", cfg.Host},
		{"port", cfg.Port},
		{"user", cfg.User},
		{"password", cfg.Password},
		{"dbname", cfg.Name},
		{"sslmode", cfg.TLS},
		{"sslcert", cfg.Cert},
		{"sslkey", cfg.Key},
		{"sslrootcert", cfg.CA},
		{"connect_timeout", "5"},
	} {
		if x[1] != "" || x[0] == "password" {
			fmt.Fprintf(&b, "%s='%s' ", x[0], quote.Replace(x[1]))
		}
	}
	return b.String()
}

// parameters is how many a query has: the highest of $1, $2, or as many as there are ?, outside of quotes.
func parameters(query string) int {
	quote, marks, highest := byte(0), 0, 0
	for i := 0; i < len(query); i++ {
		switch c := query[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '?':
			marks++
		case c == '$':
			end := i + 1
			for end < len(query) && query[end] >= '0' && query[end] <= '9' {
				end++
			}
			if n, err := strconv.Atoi(query[i+1 : end]); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return max(marks, highest)
}

// query asks with as many of the values as it has parameters.
func (d *database) query(ctx context.Context, query string, values ...any) (*sql.Rows, error) {
	n := parameters(query)
	if n > len(values) {
		return nil, lookup.Final{Err: fmt.Errorf("a query with %d parameters instead of %d", n, len(values))}
	}
	return d.db.QueryContext(ctx, query, values[:n]...)
}

// column reads the first column of all rows, up to a number of them.
func (d *database) column(
	ctx context.Context,
	most int,
	query string,
	values ...any,
) ([]sql.NullString, error) {
	rows, err := d.query(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says it
	var list []sql.NullString
	err = lookup.EachRow(rows, func(_ []string, row []sql.NullString) error {
		if len(list) >= most {
			return lookup.Final{Err: fmt.Errorf("a query with more than %d rows", most)}
		}
		list = append(list, row[0])
		return nil
	})
	return list, err
}

// hash is the stored password of a user: of one row, the first if there are several, as the plug-in has it.
func (d *database) hash(ctx context.Context, v []string) (*hash.Hash, error) {
	list, err := d.column(ctx, listMax, d.cfg.UserQuery, v[0])
	if err != nil || len(list) == 0 || !list[0].Valid || list[0].String == "" {
		return nil, err
	}
	return stored(d.form, list[0].String)
}

// stored reads a stored password.
func stored(form hash.Form, text string) (*hash.Hash, error) {
	h, err := form.Parse(text)
	if weak, ok := errors.AsType[*hash.WeakError](err); ok {
		return nil, lookup.Final{Err: fmt.Errorf("a stored password: %w", weak)}
	}
	if err != nil {
		return nil, lookup.Final{Err: errors.New("a stored password is no hash in a known form")}
	}
	return h, nil
}

// count reports whether the number that a query has is above 0.
func (d *database) count(ctx context.Context, query, user string) (bool, error) {
	list, err := d.column(ctx, listMax, query, user)
	if err != nil || len(list) == 0 || !list[0].Valid {
		return false, err
	}
	text := list[0].String
	if yes, err := strconv.ParseBool(text); err == nil {
		return yes, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false, lookup.Final{Err: errors.New("a count that is no number")}
	}
	return n > 0, nil
}

// filters are those of a user and an access. The number is a text for postgres, whose driver makes of it what
// the query wants.
func (d *database) filters(ctx context.Context, v []string) ([]string, error) {
	var acc any = v[1]
	if d.cfg.Driver != "postgres" {
		acc, _ = strconv.Atoi(v[1]) // which was made of one
	}
	rows, err := d.column(ctx, listMax, d.cfg.ACLQuery, v[0], acc)
	list := make([]string, 0, len(rows))
	for _, r := range rows {
		list = append(list, r.String)
	}
	return list, err
}

func (d *database) login(ctx context.Context, l *auth.Login, q *question) (found, error) {
	h, err := ask(ctx, d.users, q.from, q.user)
	if err != nil {
		return found{}, err
	}
	return d.decoy.prove(ctx, l, h)
}

// decoy is the last hash that a backend has had: who is not known is compared with it, so that it takes as
// long as for who is.
type decoy struct{ last atomic.Pointer[hash.Hash] }

// prove compares the password with a stored one; nil is that of nobody.
func (d *decoy) prove(ctx context.Context, l *auth.Login, h *hash.Hash) (f found, err error) {
	f.known = h != nil
	if h == nil {
		if h = d.last.Load(); h == nil {
			return f, nil
		}
	}
	d.last.Store(h)
	err = compute(ctx, l, func() bool {
		f.yes = h.Matches(l.Password) && f.known
		return f.known && !f.yes
	})
	return f, err
}

// exists reports whether there is a user, for jwt.
func (d *database) exists(ctx context.Context, q *question) (bool, error) {
	return ask(ctx, d.counts, q.from, q.user)
}

func (d *database) superuser(ctx context.Context, q *question) (bool, error) {
	if d.cfg.SuperQuery == "" {
		return false, nil
	}
	return ask(ctx, d.supers, q.from, q.user)
}

func (d *database) grant(ctx context.Context, q *question) (*grant, error) {
	if d.cfg.ACLQuery == "" {
		return grantAll(), nil
	}
	var list []topic
	for _, a := range [...]auth.Access{auth.Read, auth.Write, auth.Subscribe} {
		filters, err := ask(ctx, d.lists, q.from, q.user, strconv.Itoa(a.Number()))
		if err != nil {
			return nil, err
		}
		for _, f := range filters {
			list = append(list, topic{a, f})
		}
	}
	return newGrant(list, names{q.user, q.client}), nil
}

func (*database) topic(context.Context, *question, int, string) (bool, error) { return false, nil }

func (d *database) close() {
	d.users.Close()
	d.counts.Close()
	d.supers.Close()
	d.lists.Close()
	_ = d.db.Close() // it was only read
}
