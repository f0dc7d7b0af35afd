package sqlitedb

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"noctule/broker/store"
	"noctule/codec"
)

// realFile unpacks a file that Debian's mosquitto 2.1.2-3 has written with its plugin mosquitto_persist_sqlite.so: by
// one that was killed, so that all is in the log beside it, or that ended by itself. Five clients were there: two
// of MQTT 5 without an end of their session, one of 3.1.1, one that is offline for a day at most, and one with a
// will of the longest delay, a maximum packet size of 3 000 000 000 and messages in all states.
func realFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mosquitto.sqlite3")
	for _, suffix := range []string{"", "-wal"} {
		in, err := os.Open(filepath.Join("testdata", name+".sqlite3"+suffix+".gz"))
		if os.IsNotExist(err) && suffix != "" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		z, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// written is about when, in Unix seconds.
const written = 1_795_852_526

func TestRealFiles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		retained int
	}{
		{"killed-2.1.2", 3}, {"stopped-2.1.2", 4}, // the will is published at the end
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, r, err := importOf(t, realFile(t, tt.name), written+60)
			if err != nil || len(r.Notes) > 0 || r.Sessions != 5 || r.Subscriptions != 7 || r.Queued != 12 ||
				r.Retained != tt.retained {
				t.Errorf("%+v, %v", r, err)
			}
			checkSessions(t, m)
			checkEntries(t, m)
		})
	}
	if _, r, err := importOf(t, realFile(t, "killed-2.1.2"), written+90_000); err != nil || r.Sessions != 4 {
		t.Errorf("a day later: %+v, %v", r, err)
	}
}

func checkSessions(t *testing.T, m *store.Memory) {
	t.Helper()
	got := map[string]string{}
	_ = m.Walk(store.Sessions, func(k, v []byte) error {
		x, err := store.ReadSession(k, v)
		if err != nil {
			t.Error(err)
		}
		got[x.ClientID] = fmt.Sprintf("%d %s %d", x.Expiry, x.Username, x.OfflineAt-written)
		if x.ClientID == "five" && (x.Will == nil || x.Will.Delay != 0xFFFFFFFF || !x.Will.Message.Retain ||
			string(x.Will.Message.Payload) != "gone" || len(x.Will.Message.Properties) != 7) {
			t.Errorf("the will is %+v", x.Will)
		}
		return nil
	})
	for id, want := range map[string]string{
		"old": "4294967295  60", "never": "4294967295  60", "pub": "4294967295  60", "five": "86400 user 60",
		"day": "86340  60",
	} {
		if got[id] != want {
			t.Errorf("session of %s: %q, want %q", id, got[id], want)
		}
	}
}

func checkEntries(t *testing.T, m *store.Memory) {
	t.Helper()
	bodies := map[uint64]string{}
	_ = m.Walk(store.Messages, func(k, v []byte) error {
		x, err := store.ReadMessage(v)
		kind, _ := x.Properties.Bytes(codec.ContentType)
		bodies[store.KeyNumber(k)] = strings.TrimSpace(fmt.Sprintf("%s %s", x.Payload, kind))
		return err
	})
	var five []string
	_ = m.Walk(store.Entries, func(k, v []byte) error {
		x, err := store.ReadEntry(k, v)
		if x.SubscriptionID != 0 || x.State != store.Queued {
			five = append(five, fmt.Sprintf("%d/%d %s", x.State, x.PacketID, bodies[x.Message]))
		}
		return err
	})
	want := "3/1 ; 2/2 two b text/plain; 0/0 two c text/plain; 0/0 retained"
	if got := strings.Join(five, "; "); got != want {
		t.Errorf("messages are %q, want %q", got, want)
	}
	topics := ""
	_ = m.Walk(store.Retained, func(_, v []byte) error {
		x, err := store.ReadMessage(v)
		topics += string(x.Topic) + " "
		return err
	})
	if !strings.HasPrefix(topics, "1000 12 queue/r ") { // the plugin itself has made 1000 of 1e3
		t.Errorf("retained are %s", topics)
	}
}

// Numbers of 32 bits without a sign are negative in the file from 2^31 on, whatever the column; what no client can
// have ends the import with the column's row.
func TestNumbers(t *testing.T) {
	type sums struct {
		sessions, queued int
		refused          bool
	}
	for _, tt := range []struct {
		change string
		want   sums
	}{
		{"UPDATE clients SET session_expiry_interval = -1", sums{5, 12, false}},
		{"UPDATE clients SET session_expiry_interval = 4294967295", sums{5, 12, false}},
		{"UPDATE clients SET session_expiry_interval = -2, session_expiry_time = 9000000000", sums{5, 12, false}},
		{"UPDATE clients SET will_delay_interval = -1, max_packet_size = -1", sums{5, 12, false}},
		{"UPDATE clients SET session_expiry_interval = NULL", sums{0, 0, false}},
		{"UPDATE clients SET listener_port = NULL, session_expiry_time = NULL", sums{5, 12, false}},
		{"UPDATE base_msgs SET source_port = NULL, source_mid = NULL, payload = NULL", sums{5, 12, false}},
		{"UPDATE base_msgs SET store_id = -store_id; UPDATE client_msgs SET store_id = -store_id", sums{5, 12, false}},
		{"UPDATE client_msgs SET subscription_identifier = NULL", sums{5, 12, false}},
		{"UPDATE clients SET session_expiry_interval = -3000000000", sums{refused: true}},
		{"UPDATE clients SET session_expiry_interval = 'x'", sums{refused: true}},
		{"UPDATE clients SET listener_port = 65536", sums{refused: true}},
		{"UPDATE client_msgs SET mid = -1", sums{refused: true}},
		{"UPDATE base_msgs SET qos = 256", sums{refused: true}},
	} {
		path := realFile(t, "stopped-2.1.2")
		change(t, path, tt.change)
		_, r, err := importOf(t, path, written+60)
		if got := (sums{r.Sessions, r.Queued, err != nil}); got != tt.want && (!got.refused || !tt.want.refused) {
			t.Errorf("%s: %+v, %v", tt.change, r, err)
		}
	}
}
