package lookup

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SQL is a database with a query, whose placeholders are bound as parameters.
type SQL struct {
	Driver   string `yaml:"driver"` // postgres, mysql or sqlite
	DSN      string `yaml:"dsn"`
	DSNFile  string `yaml:"dsn_file"`
	Query    string `yaml:"query"`
	MaxConns int    `yaml:"max_conns"` // 8
}

func (s *SQL) check(path string, names Names) error {
	if err := OneOf(path+".driver", s.Driver, "postgres", "mysql", "sqlite"); err != nil {
		return err
	}
	if err := built(path+".driver", s.Driver, sql.Drivers()); err != nil {
		return err
	}
	switch {
	case (s.DSN == "") == (s.DSNFile == ""):
		return Wrong(path, "either dsn or dsn_file is needed")
	case strings.TrimSpace(s.Query) == "":
		return Wrong(path, "no query")
	case s.MaxConns < 1:
		return Wrong(path+".max_conns", "at least 1 connection is needed")
	}
	if _, _, err := bind(s.Query, names, false); err != nil {
		return Wrong(path+".query", "%v", err)
	}
	return nil
}

// built reports a driver that is not among those this program is built with.
func built(path, name string, drivers []string) error {
	if !slices.Contains(drivers, driverOf(name)) {
		return Wrong(path, "this noctule is built without %s (-tags nosql)", name)
	}
	return nil
}

// driverOf is what database/sql knows a driver as.
func driverOf(name string) string {
	switch name {
	case "postgres":
		return "pgx"
	case "sqlite":
		return "sqlite3"
	}
	return name
}

// database is the Source of an SQL.
type database[A any] struct {
	db    *sql.DB
	query string
	args  []int // places of names, in the order of the parameters
	read  func(*sql.Rows) (A, error)
}

func newDatabase[A any](cfg *SQL, o *Options[A]) (*database[A], error) {
	dsn := cfg.DSN
	if cfg.DSNFile != "" {
		var err error
		if dsn, err = o.Files.Secret(".sql.dsn_file", cfg.DSNFile); err != nil {
			return nil, err
		}
	}
	s := &database[A]{read: o.SQL}
	var err error
	if s.query, s.args, err = bind(cfg.Query, o.Names, cfg.Driver == "postgres"); err != nil {
		return nil, err
	}
	if s.db, err = sql.Open(driverOf(cfg.Driver), dsn); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Driver, err)
	}
	s.db.SetMaxOpenConns(cfg.MaxConns)
	s.db.SetMaxIdleConns(cfg.MaxConns)
	s.db.SetConnMaxLifetime(10 * time.Minute)
	return s, nil
}

// bind replaces placeholders outside of quotes by parameters.
func bind(query string, names Names, numbered bool) (text string, args []int, err error) {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '%':
			name, length, err := names.at(query[i:])
			if err != nil {
				return "", nil, err
			}
			if length == 0 {
				break
			}
			i += length - 1
			args = append(args, name)
			if numbered {
				out.WriteByte('$')
				out.WriteString(strconv.Itoa(len(args)))
			} else {
				out.WriteByte('?')
			}
			continue
		}
		out.WriteByte(c)
	}
	return out.String(), args, nil
}

// Close implements Source.
func (s *database[A]) Close() { _ = s.db.Close() }

// Uses implements Source.
func (s *database[A]) Uses() []int { return s.args }

// Ask implements Source.
func (s *database[A]) Ask(ctx context.Context, q *Question) (a A, err error) {
	args := make([]any, len(s.args))
	for i, name := range s.args {
		args[i] = q.Values[name]
	}
	rows, err := s.db.QueryContext(ctx, s.query, args...)
	if err != nil {
		return a, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says it
	if a, err = s.read(rows); err != nil {
		return a, err
	}
	return a, rows.Err()
}

// EachRow reads rows: it gives f the names of the columns and the values of each row, which are good until
// the next, and ends with f's first error, as a Final.
func EachRow(rows *sql.Rows, f func(columns []string, values []sql.NullString) error) error {
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for n := 1; rows.Next(); n++ {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := f(names, values); err != nil {
			return Final{fmt.Errorf("row %d: %w", n, err)}
		}
	}
	return rows.Err()
}
