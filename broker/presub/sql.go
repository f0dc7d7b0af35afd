package presub

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SQLConfig is a query with the columns topic and, if it likes, qos, nl, rap, rh and id. %c, %u and %e are
// bound as parameters.
type SQLConfig struct {
	Driver   string `yaml:"driver"` // postgres, mysql or sqlite
	DSN      string `yaml:"dsn"`
	DSNFile  string `yaml:"dsn_file"`
	Query    string `yaml:"query"`
	MaxConns int    `yaml:"max_conns"` // 8
}

func (s *SQLConfig) check(path string) error {
	if err := oneOf(path+".driver", s.Driver, "postgres", "mysql", "sqlite"); err != nil {
		return err
	}
	if err := built(path+".driver", s.Driver, sql.Drivers()); err != nil {
		return err
	}
	setInt(&s.MaxConns, 8)
	switch {
	case (s.DSN == "") == (s.DSNFile == ""):
		return wrong(path, "either dsn or dsn_file is needed")
	case strings.TrimSpace(s.Query) == "":
		return wrong(path, "no query")
	case s.MaxConns < 1:
		return wrong(path+".max_conns", "at least 1 connection is needed")
	}
	return nil
}

// built reports a driver that is not among those this program is built with.
func built(path, name string, drivers []string) error {
	if !slices.Contains(drivers, driverOf(name)) {
		return wrong(path, "this noctule is built without %s (-tags nosql)", name)
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

// sqlSource asks a database.
type sqlSource struct {
	db    *sql.DB
	query string
	args  []byte // 'c', 'u', 'e' in the order of the parameters
}

func newSQLSource(cfg *SQLConfig, f files) (*sqlSource, error) {
	dsn := cfg.DSN
	if cfg.DSNFile != "" {
		raw, err := f.read(".sql.dsn_file", cfg.DSNFile)
		if err != nil {
			return nil, err
		}
		dsn = strings.TrimSpace(string(raw))
	}
	db, err := sql.Open(driverOf(cfg.Driver), dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Driver, err)
	}
	db.SetMaxOpenConns(cfg.MaxConns)
	db.SetMaxIdleConns(cfg.MaxConns)
	db.SetConnMaxLifetime(10 * time.Minute)
	s := &sqlSource{db: db}
	s.query, s.args = bind(cfg.Query, cfg.Driver == "postgres")
	return s, nil
}

// bind replaces %c, %u and %e outside of quotes by parameters.
func bind(query string, numbered bool) (string, []byte) {
	var out strings.Builder
	var args []byte
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
		case c == '%' && i+1 < len(query) && strings.IndexByte("cue", query[i+1]) >= 0:
			i++
			args = append(args, query[i])
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
	return out.String(), args
}

func (s *sqlSource) close() { _ = s.db.Close() }

// topics implements source.
func (s *sqlSource) topics(ctx context.Context, c *Client) ([]Topic, error) {
	args := make([]any, len(s.args))
	for i, a := range s.args {
		args[i] = map[byte]string{'c': c.ID, 'u': c.Username, 'e': c.Tenant}[a]
	}
	rows, err := s.db.QueryContext(ctx, s.query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says it
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	var list []Topic
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		t, err := topicOfRow(names, values)
		if err != nil {
			return nil, finalError{fmt.Errorf("row %d: %w", len(list)+1, err)}
		}
		list = append(list, t)
		if len(list) > topicsMax {
			return nil, finalError{errTooMany}
		}
	}
	return list, rows.Err()
}

// topicOfRow reads one row by the names of its columns.
func topicOfRow(names []string, values []sql.NullString) (Topic, error) {
	var t Topic
	for i, name := range names {
		if !values[i].Valid {
			continue
		}
		v := values[i].String
		var n uint64
		var err error
		switch strings.ToLower(name) {
		case "topic":
			t.Topic = v
		case "qos":
			n, err = strconv.ParseUint(v, 10, 8)
			t.QoS = uint8(n)
		case "rh":
			n, err = strconv.ParseUint(v, 10, 8)
			t.RH = uint8(n)
		case "id":
			n, err = strconv.ParseUint(v, 10, 28)
			t.ID = uint32(n)
		case "nl":
			t.NL, err = strconv.ParseBool(v)
		case "rap":
			t.RAP, err = strconv.ParseBool(v)
		default:
			return t, fmt.Errorf("unknown column %s", name)
		}
		if err != nil {
			return t, fmt.Errorf("column %s: %q is not right", name, v)
		}
	}
	return t, nil
}
