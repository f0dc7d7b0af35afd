// Package sqlitedb reads the file of Mosquitto 2.1's persistence plugin mosquitto_persist_sqlite.so.
package sqlitedb

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"noctule/broker/store/mosquitto"
)

// ErrSchema says that the file has another schema.
var ErrSchema = errors.New("not a database of Mosquitto's schema 1")

// Read reads a file. SQLite writes to a database with a write-ahead log even to read it, so it gets a copy of
// both; what a broker that was killed has left in the log is part of what is read.
func Read(path string) (s *mosquitto.State, err error) {
	dir, err := os.MkdirTemp("", "noctule-import-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := filepath.Join(dir, "db")
	if err := copyFile(path, name); err != nil {
		return nil, err
	}
	if err := copyFile(path+"-wal", name+"-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	r := &reader{db: db, s: &mosquitto.State{}, clients: map[string]int{}}
	return r.s, errors.Join(r.read(), db.Close())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
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

type reader struct {
	db      *sql.DB
	s       *mosquitto.State
	clients map[string]int // places in s.Clients
	delays  []uint32       // will delay intervals of s.Clients
}

func (r *reader) read() error {
	var major, minor int
	err := r.db.QueryRow(`SELECT major, minor FROM version_info WHERE component = 'database_schema'`).
		Scan(&major, &minor)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if major != 1 {
		return fmt.Errorf("%w: %d.%d", ErrSchema, major, minor)
	}
	steps := []struct {
		query string
		row   func(*sql.Rows) error
	}{
		{`SELECT client_id, ifnull(username, ''), ifnull(session_expiry_time, 0), ifnull(listener_port, 0),
			ifnull(session_expiry_interval, 0), ifnull(will_delay_interval, 0) FROM clients`, r.client},
		{`SELECT store_id, ifnull(expiry_time, 0), topic, payload, ifnull(source_id, ''),
			ifnull(source_username, ''), ifnull(source_mid, 0), ifnull(source_port, 0), qos, retain,
			ifnull(properties, '') FROM base_msgs ORDER BY store_id`, r.message},
		{`SELECT client_id, topic, subscription_options, ifnull(subscription_identifier, 0)
			FROM subscriptions`, r.subscription},
		{`SELECT client_id, store_id, dup, direction, mid, qos, retain, state,
			ifnull(subscription_identifier, 0) FROM client_msgs ORDER BY cmsg_id`, r.clientMessage},
		{`SELECT store_id FROM retains ORDER BY topic`, r.retained},
	}
	if minor > 0 {
		steps = append(steps, struct {
			query string
			row   func(*sql.Rows) error
		}{`SELECT client_id, topic, payload, qos, retain, ifnull(properties, '') FROM wills`, r.will})
	}
	for _, step := range steps {
		if err := r.rows(step.query, step.row); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) rows(query string, f func(*sql.Rows) error) (err error) {
	rows, err := r.db.Query(query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *reader) client(row *sql.Rows) error {
	var c mosquitto.Client
	var delay uint32
	if err := row.Scan(&c.ID, &c.Username, &c.Expires, &c.Port, &c.Expiry, &delay); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	r.clients[c.ID] = len(r.s.Clients)
	r.s.Clients = append(r.s.Clients, c)
	r.delays = append(r.delays, delay)
	return nil
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
	err := row.Scan(&id, &m.Expiry, &m.Topic, (*[]byte)(&m.Payload), &m.Source, &m.Username, &m.SourceID,
		&m.SourcePort, &m.QoS, &m.Retain, &props)
	m.ID = uint64(id)
	if err == nil {
		m.Properties, err = properties(props)
	}
	if err != nil {
		return fmt.Errorf("message %d: %w", id, err)
	}
	r.s.Messages = append(r.s.Messages, m)
	return nil
}

func (r *reader) subscription(row *sql.Rows) error {
	var s mosquitto.Subscription
	if err := row.Scan(&s.Client, &s.Topic, &s.Options, &s.Identifier); err != nil {
		return fmt.Errorf("subscriptions: %w", err)
	}
	s.QoS = s.Options & 3
	s.Options &^= 3
	r.s.Subscriptions = append(r.s.Subscriptions, s)
	return nil
}

func (r *reader) clientMessage(row *sql.Rows) error {
	var c mosquitto.ClientMessage
	var id int64
	var dup, retain uint8
	err := row.Scan(&c.Client, &id, &dup, &c.Direction, &c.MID, &c.QoS, &retain, &c.State, &c.Subscription)
	if err != nil {
		return fmt.Errorf("client_msgs: %w", err)
	}
	c.Message = uint64(id)
	c.RetainDup = retain&1<<4 | dup&1
	if at, ok := r.clients[c.Client]; ok && c.Direction == 1 {
		r.s.Clients[at].LastMID = max(r.s.Clients[at].LastMID, c.MID)
	}
	r.s.ClientMessages = append(r.s.ClientMessages, c)
	return nil
}

func (r *reader) retained(row *sql.Rows) error {
	var id int64
	if err := row.Scan(&id); err != nil {
		return fmt.Errorf("retains: %w", err)
	}
	r.s.Retained = append(r.s.Retained, mosquitto.Retained{Message: uint64(id)})
	return nil
}

func (r *reader) will(row *sql.Rows) error {
	var w mosquitto.Will
	var client, props string
	err := row.Scan(&client, &w.Topic, (*[]byte)(&w.Payload), &w.QoS, &w.Retain, &props)
	if err == nil {
		w.Properties, err = properties(props)
	}
	if err != nil {
		return fmt.Errorf("will of %q: %w", client, err)
	}
	if at, ok := r.clients[client]; ok {
		w.Delay = r.delays[at]
		r.s.Clients[at].Will = &w
	}
	return nil
}
