// Package sqlitedb reads the file of Mosquitto 2.1's persistence plugin mosquitto_persist_sqlite.so.
package sqlitedb

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"noctule/broker/store/mosquitto"
	"noctule/internal/regular"
)

// ErrSchema says that the file has another schema.
var ErrSchema = errors.New("not a database of Mosquitto's schema 1")

// driver is what database/sql knows it as.
const driver = "sqlite3"

// errWithout is for programs built with the tag nosql.
var errWithout = errors.New("this noctule is built without SQLite (-tags nosql)")

// File is an open file, as a mosquitto.Source.
type File struct {
	db    *sql.DB
	dir   string // of the copy
	minor int    // of the schema's version
}

// Open opens a file. SQLite writes to a database with a write-ahead log even to read it, so it gets a copy of
// both; what a broker that was killed has left in the log is part of what is read.
func Open(path string) (*File, error) {
	if err := built(sql.Drivers()); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "noctule-import-")
	if err != nil {
		return nil, err
	}
	f := &File{dir: dir}
	if err := f.open(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func built(drivers []string) error {
	if !slices.Contains(drivers, driver) {
		return errWithout
	}
	return nil
}

func (f *File) open(path string) (err error) {
	name := filepath.Join(f.dir, "db")
	if err := copyFile(path, name); err != nil {
		return err
	}
	if err := copyFile(path+"-wal", name+"-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if f.db, err = sql.Open(driver, name); err != nil {
		return err
	}
	major := 0
	err = f.db.QueryRow(`SELECT major, minor FROM version_info WHERE component = 'database_schema'`).
		Scan(&major, &f.minor)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if major != 1 {
		return fmt.Errorf("%w: %d.%d", ErrSchema, major, f.minor)
	}
	return nil
}

// Close removes the copy.
func (f *File) Close() (err error) {
	if f.db != nil {
		err = f.db.Close()
	}
	return errors.Join(err, os.RemoveAll(f.dir))
}

func copyFile(from, to string) error {
	in, err := regular.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Each implements mosquitto.Source.
func (f *File) Each(v *mosquitto.Visitor) error {
	r := &reader{f, v}
	for _, step := range []struct {
		wanted bool
		query  string
		row    func(*sql.Rows) error
	}{
		{v.Message != nil, `SELECT store_id, expiry_time, topic, payload, source_id, source_username,
			source_mid, source_port, qos, retain, properties FROM base_msgs ORDER BY store_id`, r.message},
		{v.Client != nil, r.clients(), r.client},
		{v.ClientMessage != nil, `SELECT client_id, store_id, dup, direction, mid, qos, retain, state,
			subscription_identifier FROM client_msgs ORDER BY cmsg_id`, r.clientMessage},
		{v.Retained != nil, `SELECT store_id FROM retains ORDER BY topic`, r.retained},
		{v.Subscription != nil, `SELECT client_id, topic, subscription_options, subscription_identifier
			FROM subscriptions`, r.subscription},
	} {
		if !step.wanted {
			continue
		}
		if err := f.rows(step.query, step.row); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) rows(query string, row func(*sql.Rows) error) (err error) {
	rows, err := f.db.Query(query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// number is the destination of a column: the plugin binds every number as a signed one of 32 or 64 bits, so
// that unsigned ones of 32 bits from 2^31 on are negative in the file: a session that never expires has the
// interval -1. Columns without a value are 0.
type number[T uint8 | uint16 | uint32 | int64] struct{ to *T }

// into returns the destination for a variable.
func into[T uint8 | uint16 | uint32 | int64](to *T) number[T] { return number[T]{to} }

// Scan implements sql.Scanner.
func (n number[T]) Scan(value any) error {
	var wide int64
	switch x := value.(type) {
	case nil:
	case int64:
		wide = x
	default:
		return fmt.Errorf("%v is no number", value)
	}
	if *n.to = T(wide); int64(*n.to) == wide {
		return nil
	}
	if _, ok := any(*n.to).(uint32); ok && wide < 0 && wide >= math.MinInt32 {
		return nil
	}
	return fmt.Errorf("%d is out of range", wide)
}

// optional is the destination of a text that may be missing.
type optional struct{ to *string }

// Scan implements sql.Scanner. Topics and names that look like numbers are numbers in the file, as their
// columns have a type that SQLite takes for numeric.
func (o optional) Scan(value any) error {
	var text sql.NullString
	err := text.Scan(value)
	*o.to = text.String
	return err
}

// reader gives a visitor rows as records.
type reader struct {
	*File
	v *mosquitto.Visitor
}

// clients is the query for clients with their wills, which version 1.0 does not have, and the last packet id
// that each was sent.
func (r *reader) clients() string {
	will, wills := `NULL, NULL, NULL, NULL, NULL`, ``
	if r.minor > 0 {
		will = `w.topic, w.payload, w.qos, w.retain, w.properties`
		wills = `LEFT JOIN wills w ON w.client_id = c.client_id`
	}
	return `SELECT c.client_id, c.username, c.session_expiry_time, c.listener_port, c.session_expiry_interval,
			c.will_delay_interval, m.last, ` + will + ` FROM clients c
		LEFT JOIN (SELECT client_id, max(mid) AS last FROM client_msgs WHERE direction = 1
			GROUP BY client_id) m
			ON m.client_id = c.client_id ` + wills
}

func (r *reader) client(row *sql.Rows) error {
	var c mosquitto.Client
	var w mosquitto.Will
	var topic sql.NullString
	var props string
	err := row.Scan(&c.ID, optional{&c.Username}, into(&c.Expires), into(&c.Port), into(&c.Expiry),
		into(&w.Delay), into(&c.LastMID), &topic, (*[]byte)(&w.Payload), into(&w.QoS), into(&w.Retain),
		optional{&props})
	if err == nil && topic.Valid {
		w.Topic = topic.String
		w.Properties, err = properties(props)
		c.Will = &w
	}
	if err != nil {
		return fmt.Errorf("client %q: %w", c.ID, err)
	}
	return r.v.Client(&c)
}

// properties reads the JSON of a column.
func properties(text string) (p mosquitto.Properties, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &p)
	}
	return p, err
}

func (r *reader) message(row *sql.Rows) error {
	var m mosquitto.Message
	var id int64
	var props string
	err := row.Scan(&id, into(&m.Expiry), &m.Topic, (*[]byte)(&m.Payload), optional{&m.Source},
		optional{&m.Username}, into(&m.SourceID), into(&m.SourcePort), into(&m.QoS), into(&m.Retain),
		optional{&props})
	m.ID = uint64(id)
	if err == nil {
		m.Properties, err = properties(props)
	}
	if err != nil {
		return fmt.Errorf("message %d: %w", id, err)
	}
	return r.v.Message(&m)
}

func (r *reader) subscription(row *sql.Rows) error {
	var s mosquitto.Subscription
	if err := row.Scan(&s.Client, &s.Topic, into(&s.Options), into(&s.Identifier)); err != nil {
		return fmt.Errorf("subscription of %q to %q: %w", s.Client, s.Topic, err)
	}
	s.QoS = s.Options & 3
	s.Options &^= 3
	return r.v.Subscription(&s)
}

func (r *reader) clientMessage(row *sql.Rows) error {
	var c mosquitto.ClientMessage
	var id int64
	var dup, retain uint8
	err := row.Scan(&c.Client, &id, into(&dup), into(&c.Direction), into(&c.MID), into(&c.QoS), into(&retain),
		into(&c.State), into(&c.Subscription))
	if err != nil {
		return fmt.Errorf("message %d of %q: %w", id, c.Client, err)
	}
	c.Message = uint64(id)
	c.RetainDup = retain&1<<4 | dup&1
	return r.v.ClientMessage(&c)
}

func (r *reader) retained(row *sql.Rows) error {
	var id int64
	if err := row.Scan(&id); err != nil {
		return fmt.Errorf("retained message: %w", err)
	}
	return r.v.Retained(&mosquitto.Retained{Message: uint64(id)})
}
