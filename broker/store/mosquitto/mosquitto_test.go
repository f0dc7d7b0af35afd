package mosquitto_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"noctule/broker/store"
	"noctule/broker/store/mosquitto"
	"noctule/codec"
)

// The samples were written by Debian's mosquitto 2.0.11: one with queues and retained messages, one with
// QoS 1 and 2 messages in flight in both directions.
const (
	queues   = "testdata/debian-2.0.11-v6.db"
	inflight = "testdata/debian-2.0.11-inflight-v6.db"
	savedAt  = 1795634700 // about
	expires  = 1795721093 // the end of the session of "shared"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decode(t *testing.T, raw []byte) *mosquitto.State {
	t.Helper()
	d := mosquitto.NewDatabase(bytes.NewReader(raw))
	s, err := mosquitto.Collect(d)
	if err != nil || d.Unknown() != 0 {
		t.Fatalf("%v, %d unknown chunks", err, d.Unknown())
	}
	return s
}

// decodes reads all of a file.
func decodes(raw []byte) (*mosquitto.State, error) {
	return mosquitto.Collect(mosquitto.NewDatabase(bytes.NewReader(raw)))
}

// exported is what a store holds.
func exported(t testing.TB, from store.Store) *mosquitto.State {
	t.Helper()
	source, err := mosquitto.Export(from)
	if err != nil {
		t.Fatal(err)
	}
	s, err := mosquitto.Collect(source)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func imported(t *testing.T, s mosquitto.Source) (*store.Memory, mosquitto.Report) {
	t.Helper()
	m := store.NewMemory()
	r, err := mosquitto.Import(s, m, savedAt)
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

// records is all records of a table, by a name that read gives.
func records[R any](t *testing.T, s store.Store, table store.Table, read func(k, v []byte) (R, error)) (list []R) {
	t.Helper()
	err := s.Walk(table, func(k, v []byte) error {
		r, err := read(bytes.Clone(k), bytes.Clone(v))
		list = append(list, r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestQueuesAndRetained(t *testing.T) {
	s := decode(t, read(t, queues))
	if len(s.Clients) != 3 || len(s.Subscriptions) != 3 || len(s.Retained) != 3 || len(s.ClientMessages) != 7 {
		t.Errorf("%d clients, %d subscriptions, %d retained, %d messages of clients", len(s.Clients),
			len(s.Subscriptions), len(s.Retained), len(s.ClientMessages))
	}
	m, r := imported(t, s)
	if r.Sessions != 3 || r.Queued != 7 || r.Retained != 3 || len(r.Notes) != 0 {
		t.Errorf("%+v", r)
	}
	sessions := map[string]store.Session{}
	for _, x := range records(t, m, store.Sessions, store.ReadSession) {
		sessions[x.ClientID] = x
	}
	if x := sessions["shared"]; x.Username != "user" || int64(x.Expiry)+x.OfflineAt != expires || x.OfflineAt != savedAt {
		t.Errorf("%+v", x)
	}
	if x := sessions["old"]; x.Expiry != 0xFFFFFFFF || x.OfflineAt != savedAt {
		t.Errorf("%+v", x)
	}
	// Mosquitto 2.0.11 does not write shared subscriptions, only what waits for them.
	subs := map[string]store.Subscription{}
	for _, x := range records(t, m, store.Subscriptions, store.ReadSubscription) {
		subs[x.Filter] = x
	}
	if x := subs["queue/+"]; x.Session != sessions["five"].Number || x.Options != 2|8 || x.ID != 7 {
		t.Errorf("%+v", x)
	}
	n := 0
	_ = m.Walk(store.Messages, func(_, v []byte) error {
		n++
		x, err := store.ReadMessage(v)
		if err != nil {
			t.Error(err)
		}
		if string(x.Topic) == "queue/2" {
			kind, _ := x.Properties.Bytes(codec.ContentType)
			if string(x.Payload) != "two" || string(kind) != "text/plain" || x.QoS != 2 || x.Expiry < savedAt*1000 {
				t.Errorf("%+v", x)
			}
		}
		return nil
	})
	if n != 4 {
		t.Errorf("%d messages are stored for 7 places in queues", n)
	}
	_ = m.Walk(store.Retained, func(_, v []byte) error {
		x, err := store.ReadMessage(v)
		if err != nil || x.Source == nil || x.Source.ClientID == "" || x.Source.Listener != "tcp :18830" {
			t.Errorf("%s: published by %+v: %v", x.Topic, x.Source, err)
		}
		return nil
	})
}

func TestInFlight(t *testing.T) {
	m, r := imported(t, decode(t, read(t, inflight)))
	if r.Sessions != 3 || len(r.Notes) != 0 {
		t.Errorf("%+v", r)
	}
	names := map[uint64]string{}
	for _, x := range records(t, m, store.Sessions, store.ReadSession) {
		names[x.Number] = x.ClientID
	}
	got := map[string][]store.Entry{}
	for _, e := range records(t, m, store.Entries, store.ReadEntry) {
		got[names[e.Session]] = append(got[names[e.Session]], e)
	}
	list := got["sub"]
	if len(list) != 2 || list[0].State != store.WaitComp || list[0].PacketID != 2 || list[0].Message != 0 ||
		list[1].State != store.WaitRec || list[1].PacketID != 3 || list[1].Message == 0 {
		t.Errorf("%+v", list)
	}
	list = got["sub1"]
	for i := range list { // in the order of the first sending, with their packet ids [MQTT-4.4.0-1] [MQTT-4.6.0-1]
		if e := &list[i]; len(list) != 3 || e.State != store.WaitAck || e.QoS != 1 || e.PacketID != uint16(i+1) {
			t.Errorf("%+v", list)
		}
	}
	h := records(t, m, store.Inbound, store.ReadHandshake)
	if len(h) != 1 || names[h[0].Session] != "pub" || h[0].PacketID != 4 || h[0].Message == 0 {
		t.Errorf("%+v", h)
	}
}

// chunks cuts a file into its header and its chunks.
func chunks(raw []byte) (list [][]byte) {
	const head = 23
	list = append(list, raw[:head])
	for raw = raw[head:]; len(raw) > 0; {
		n := 8 + int(binary.BigEndian.Uint32(raw[4:]))
		list = append(list, raw[:n])
		raw = raw[n:]
	}
	return list
}

// A session lives as long as Mosquitto would have let it, whether persistent_client_expiration has set that or the
// client: once its time, not once more from the import on.
func TestExpiryIsNotBegunAgain(t *testing.T) {
	for _, tt := range []struct {
		expiry  uint32
		expires int64
		want    uint32
	}{
		{0xFFFFFFFF, 0, 0xFFFFFFFF},
		{0xFFFFFFFF, savedAt + 3600, 3600},
		{86400, savedAt + 3600, 3600},
		{86400, savedAt + 1, 1},
		{86400, 0, 86400}, // it was online
		{0xFFFFFFFF, 1 << 40, 0xFFFFFFFE},
	} {
		s := &mosquitto.State{Clients: []mosquitto.Client{{ID: "c", Expiry: tt.expiry, Expires: tt.expires}}}
		m, _ := imported(t, s)
		x := records(t, m, store.Sessions, store.ReadSession)
		if len(x) != 1 || x[0].Expiry != tt.want || x[0].OfflineAt != savedAt {
			t.Errorf("%+v: %+v", tt, x)
		}
	}
}

// Version 5 has clients without port and username.
func TestVersion5(t *testing.T) {
	raw := read(t, queues)
	var five []byte
	for i, c := range chunks(raw) {
		c = bytes.Clone(c)
		switch {
		case i == 0:
			binary.BigEndian.PutUint32(c[19:], 5)
		case binary.BigEndian.Uint32(c) == 6:
			username := int(binary.BigEndian.Uint16(c[8+18:]))
			c = append(c[:8+16], c[8+24:len(c)-username]...)
			binary.BigEndian.PutUint32(c[4:], uint32(len(c)-8))
		}
		five = append(five, c...)
	}
	want, got := decode(t, raw), decode(t, five)
	for i := range want.Clients {
		want.Clients[i].Port, want.Clients[i].Username = 0, ""
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestOtherVersionsAreRefused(t *testing.T) {
	raw := read(t, queues)
	for _, v := range []uint32{0, 2, 3, 4, 7} {
		binary.BigEndian.PutUint32(raw[19:], v)
		if _, err := decodes(raw); !errors.Is(err, mosquitto.ErrVersion) {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

// A file that is cut off within a chunk is refused; one that is cut between chunks cannot be told from a
// whole.
func TestEveryPrefixIsRefused(t *testing.T) {
	for _, name := range []string{queues, inflight} {
		raw := read(t, name)
		whole := map[int]bool{}
		at := 0
		for _, c := range chunks(raw) {
			at += len(c)
			whole[at] = true
		}
		for n := range raw {
			_, err := decodes(raw[:n])
			if (err == nil) != whole[n] || err != nil && !errors.Is(err, mosquitto.ErrFormat) {
				t.Errorf("%s: %d of %d bytes: %v", name, n, len(raw), err)
			}
		}
	}
}

func TestUnknownChunksAreCounted(t *testing.T) {
	raw := append(read(t, queues), 0, 0, 0, 99, 0, 0, 0, 2, 1, 2)
	d := mosquitto.NewDatabase(bytes.NewReader(raw))
	if _, err := mosquitto.Collect(d); err != nil || d.Unknown() != 1 {
		t.Errorf("%d, %v", d.Unknown(), err)
	}
}

// grantAll gives every session a list of one origin and an empty one of another.
func grantAll(t *testing.T, m *store.Memory) {
	t.Helper()
	var b store.Batch
	x := store.Set{Key: store.SetKey{1, 2}, Topics: []store.SetTopic{
		{Filter: "$share/g/a", Options: 1}, {Filter: "a/+", Options: 0x2E, ID: 7}, {Filter: "b", End: 1_900_000_000},
	}}
	b.PutSet(&x)
	for _, s := range records(t, m, store.Sessions, store.ReadSession) {
		b.PutGrant(&store.Grant{
			Session: s.Number, Origin: "api:x", Revision: 1 << 34, Set: x.Key, Unsubscribe: 2, Bypass: true,
			Muted: []string{"a/+"},
		})
		b.PutGrant(&store.Grant{Session: s.Number, Origin: "presub:y", Place: 1, Unsubscribe: 1, PerConnect: true})
	}
	b.PutDenial(&store.Denial{Of: store.DenyUser, Name: "u", Since: 1_800_000_000, Until: 1_900_000_000, By: "api:x", Reason: "y"})
	b.PutDenial(&store.Denial{Of: store.DenyAddress, Name: "10.0.0.0/8", Since: 1_800_000_000})
	if err := m.Commit(b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// seeker is a file in memory.
type seeker struct {
	b  []byte
	at int
}

func (s *seeker) Write(p []byte) (int, error) {
	s.b = append(s.b, make([]byte, max(0, s.at+len(p)-len(s.b)))...)
	copy(s.b[s.at:], p)
	s.at += len(p)
	return len(p), nil
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	if whence != 0 {
		return 0, errors.New("only from the start")
	}
	s.at = int(offset)
	return offset, nil
}

// What a store exports as JSON, or as a mosquitto.db, makes the same store again; Mosquitto's file has no place
// for wills and for what servers have subscribed clients to.
func TestExportAndImportAgain(t *testing.T) {
	for _, name := range []string{queues, inflight} {
		first, _ := imported(t, decode(t, read(t, name)))
		bare := exported(t, first)
		grantAll(t, first)
		state := exported(t, first)
		source, err := mosquitto.Export(first)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := mosquitto.WriteJSON(&text, source); err != nil {
			t.Fatal(err)
		}
		if whole, err := json.MarshalIndent(state, "", "  "); err != nil || string(whole)+"\n" != text.String() {
			t.Errorf("written %s\nwant %s", text.Bytes(), whole)
		}
		second, r := imported(t, mosquitto.NewJSON(bytes.NewReader(text.Bytes())))
		if len(r.Notes) > 0 || r.Lists != 1 || r.Grants != 2*r.Sessions || r.Denials != 2 {
			t.Errorf("%+v", r)
		}
		if third := exported(t, second); !reflect.DeepEqual(state, third) {
			a, _ := json.Marshal(third)
			t.Errorf("%s: was %s\nis %s", name, text.Bytes(), a)
		}
		var file seeker
		left, err := mosquitto.WriteDatabase(&file, source)
		if err != nil || left != (mosquitto.LeftOut{Grants: r.Grants, Denials: 2}) {
			t.Errorf("%+v, %v", left, err)
		}
		fourth, r := imported(t, mosquitto.NewDatabase(bytes.NewReader(file.b)))
		again := exported(t, fourth)
		for i := range bare.Clients { // Mosquitto does not store when sessions without an end went offline
			if bare.Clients[i].Expires == 0 {
				bare.Clients[i].OfflineAt, again.Clients[i].OfflineAt = 0, 0
			}
		}
		if len(r.Notes) > 0 || !reflect.DeepEqual(bare, again) {
			a, _ := json.Marshal(again)
			b, _ := json.Marshal(bare)
			t.Errorf("%s: %v, was %s\nis %s", name, r.Notes, b, a)
		}
	}
}

// The words are those of mosquitto_db_dump --json.
func TestJSON(t *testing.T) {
	const text = `{"base-messages":[{"storeid":273732462748327,"expiry-time":1895634700,"source-mid":1,"source-port":1883,"qos":1,` +
		`"retain":1,"topic":"test-topic","clientid":"c","payload":"bWVzc2FnZQ==","properties":[{"identifier":"content-type",` +
		`"value":"text/plain"},{"identifier":"correlation-data","value":"3566"},{"identifier":"payload-format-indicator","value":1},` +
		`{"identifier":"user-property","name":"k","value":"v"}]}],"clients":[{"clientid":"c","session-expiry-time":1895634700,` +
		`"session-expiry-interval":60,"last-mid":1,"listener-port":0}],"client-messages":[{"clientid":"c","storeid":273732462748327,` +
		`"mid":1,"qos":1,"state":11,"retain-dup":0,"direction":1,"subscription-identifier":42}],"retained-messages":[{"storeid":273732462748327}],` +
		`"subscriptions":[{"clientid":"c","topic":"test-topic","qos":1,"options":0,"identifier":42}]}`
	var s mosquitto.State
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&s)
	if err != nil || string(again) != text {
		t.Errorf("%s, %v", again, err)
	}
	if _, r := imported(t, &s); r.Sessions != 1 || r.Queued != 1 || r.Retained != 1 || r.Subscriptions != 1 || len(r.Notes) > 0 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{
		`{"base-messages":[{"payload":"*"}]}`, `{"base-messages":[{"properties":[{"identifier":"x","value":1}]}]}`,
		`{"base-messages":[{"properties":[{"identifier":"content-type","value":1}]}]}`,
	} {
		if err := json.Unmarshal([]byte(bad), &mosquitto.State{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// What cannot be in a broker is left out with a note, not stored.
func TestNonsenseIsLeftOut(t *testing.T) {
	s := &mosquitto.State{
		Clients: []mosquitto.Client{{ID: "c", Expiry: 60}, {ID: "c", Expiry: 60}, {ID: "", Expiry: 1}, {ID: "ended"}, {ID: "expired", Expiry: 5, Expires: 7}},
		Messages: []mosquitto.Message{
			{ID: 1, Topic: "a/#"},
			{ID: 2, Topic: ""},
			{ID: 3, Topic: "t", QoS: 3},
			{ID: 4, Topic: "$SYS/x"},
			{ID: 5, Topic: strings.Repeat("x", 70000)},
			{ID: 6, Topic: "ok", Payload: []byte("x")},
		},
		ClientMessages: []mosquitto.ClientMessage{{Client: "nobody", Message: 6, QoS: 1, Direction: 1}, {Client: "c", Message: 99, QoS: 1, Direction: 1, State: 11}},
		Subscriptions:  []mosquitto.Subscription{{Client: "c", Topic: "a/#/b"}, {Client: "nobody", Topic: "a"}},
		Retained:       []mosquitto.Retained{{1}, {2}, {6}, {77}},
		Lists: []mosquitto.List{{Key: "xyz"}, {Key: "00"}, {
			Key: strings.Repeat("a1", 16),
			Topics: []mosquitto.ListTopic{
				{Topic: "a/#/b"}, {Topic: "q", QoS: 3}, {Topic: "o", Options: 0x30}, {Topic: "i", Identifier: 1 << 28},
			},
		}},
		Grants: []mosquitto.Grant{
			{Client: "nobody", Origin: "api:x", Unsubscribe: "allow"},
			{Client: "c", Unsubscribe: "allow"},
			{Client: "c", Origin: "api:x", Unsubscribe: "never"},
			{Client: "c", Origin: "api:x", Unsubscribe: "allow", List: "12"},
			{Client: "c", Origin: "api:x", Unsubscribe: "allow", List: strings.Repeat("b1", 16)},
		},
	}
	m, r := imported(t, s)
	if r.Sessions != 1 || r.Subscriptions != 0 || r.Queued != 0 || r.Retained != 1 || len(r.Notes) < 8 {
		t.Errorf("%+v", r)
	}
	want := map[store.Table]int{store.Sessions: 1, store.Retained: 1}
	got := map[store.Table]int{}
	for table := range store.Tables {
		_ = m.Walk(table, func(_, _ []byte) error { got[table]++; return nil })
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func FuzzDecode(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.db")
	for _, name := range names {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := store.NewMemory()
		if _, err := mosquitto.Import(mosquitto.NewDatabase(bytes.NewReader(raw)), m, savedAt); err != nil {
			return
		}
		exported(t, m)
	})
}
