package sqlitedb

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"noctule/broker/store"
	"noctule/broker/store/mosquitto"
)

// schema is that of Mosquitto 2.1.
const schema = `
CREATE TABLE base_msgs (store_id INT64 PRIMARY KEY, expiry_time INT64, topic STRING NOT NULL, payload BLOB,
 source_id STRING, source_username STRING, payloadlen INTEGER, source_mid INTEGER, source_port INTEGER, qos INTEGER,
 retain INTEGER, properties STRING);
CREATE TABLE retains (topic STRING PRIMARY KEY, store_id INT64);
CREATE TABLE clients (client_id TEXT PRIMARY KEY, username TEXT, connection_time INT64, will_delay_time INT64,
 session_expiry_time INT64, listener_port INT, max_packet_size INT, max_qos INT, retain_available INT,
 session_expiry_interval INT, will_delay_interval INT);
CREATE TABLE subscriptions (client_id TEXT NOT NULL, topic TEXT NOT NULL, subscription_options INTEGER,
 subscription_identifier INTEGER, PRIMARY KEY (client_id, topic));
CREATE TABLE client_msgs (client_id TEXT NOT NULL, cmsg_id INT64, store_id INT64, dup INTEGER, direction INTEGER,
 mid INTEGER, qos INTEGER, retain INTEGER, state INTEGER, subscription_identifier INT);
CREATE TABLE wills (client_id TEXT PRIMARY KEY, payload BLOB, topic STRING NOT NULL, payloadlen INTEGER, qos INTEGER,
 retain INTEGER, properties STRING);
CREATE TABLE version_info (component TEXT NOT NULL, major INTEGER NOT NULL, minor INTEGER NOT NULL,
 patch INTEGER NOT NULL);
`

func write(t *testing.T, name string, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	change(t, path, statements...)
	return path
}

// change runs statements on a file.
func change(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open(driver, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// importOf imports a file into a store in memory; now is in Unix seconds.
func importOf(t *testing.T, path string, now int64) (*store.Memory, mosquitto.Report, error) {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := store.NewMemory()
	r, err := mosquitto.Import(f, m, now)
	return m, r, err
}

func TestRead(t *testing.T) {
	path := write(t, "a name.sqlite3", "PRAGMA journal_mode=WAL", schema,
		`INSERT INTO version_info VALUES ('database_schema', 1, 1, 0)`,
		`INSERT INTO base_msgs VALUES (7, 0, '12', x'6F6E65', 'pub', '', 3, 1, 1883, 2, 1,
			'[{"identifier":"content-type","value":"text/plain"}]'), (8, 1, 'expired', x'', '', '', 0, 0, 0, 0, 0, NULL)`,
		`INSERT INTO retains VALUES ('12', 7)`,
		`INSERT INTO clients VALUES ('c', 'user', 5, 0, 0, 1883, 0, 2, 1, -1, 30)`,
		`INSERT INTO subscriptions VALUES ('c', '$share/g/#', 10, 5)`,
		`INSERT INTO client_msgs VALUES ('c', 2, 7, 0, 1, 4, 2, 1, 11, 5), ('c', 1, 7, 1, 1, 3, 2, 0, 5, 0), ('c', 3, 7, 0, 0, 9, 2, 0, 7, 0)`,
		`INSERT INTO wills VALUES ('c', x'676F6E65', 'will', 4, 1, 1, '[{"identifier":"will-delay-interval","value":30}]')`)
	m, r, err := importOf(t, path, 1_800_000_000)
	if err != nil || len(r.Notes) > 0 || r.Sessions != 1 || r.Subscriptions != 1 || r.Queued != 3 || r.Retained != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	_ = m.Walk(store.Sessions, func(k, v []byte) error {
		x, err := store.ReadSession(k, v)
		if err != nil || x.ClientID != "c" || x.Username != "user" || x.Will == nil || x.Will.Delay != 30 ||
			string(x.Will.Message.Topic) != "will" || string(x.Will.Message.Payload) != "gone" {
			t.Errorf("%+v, %v", x, err)
		}
		return nil
	})
	var entries []store.Entry
	_ = m.Walk(store.Entries, func(k, v []byte) error {
		e, err := store.ReadEntry(k, v)
		entries = append(entries, e)
		return err
	})
	if len(entries) != 2 || entries[0].State != store.WaitRec || entries[0].PacketID != 3 ||
		entries[1].State != store.Queued || !entries[1].Retain || entries[1].SubscriptionID != 5 {
		t.Errorf("%+v", entries)
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	other := write(t, "x", `CREATE TABLE t (a INT)`)
	next := write(t, "y", schema, `INSERT INTO version_info VALUES ('database_schema', 2, 0, 0)`)
	for _, path := range []string{other, next} {
		if _, err := Open(path); !errors.Is(err, ErrSchema) {
			t.Error(err)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, append([]byte("SQLite format 3\x00"), make([]byte, 5000)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{broken, filepath.Join(t.TempDir(), "nothing")} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
}

// A build without drivers says so, rather than how database/sql calls it.
func TestBuiltWithoutSQLite(t *testing.T) {
	if err := built([]string{"pgx"}); !errors.Is(err, errWithout) {
		t.Error(err)
	}
	if err := built(sql.Drivers()); err != nil {
		t.Error(err)
	}
}
