package presub

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"noctule/broker/behalf"
	"noctule/codec/im"
)

func TestParseEntries(t *testing.T) {
	list, binary, err := ParseEntries([]byte(`{"clientid":"c1","action":"subscribe","topics":[{"topic":"/e/e1/im/u/u1","qos":1}]}`))
	if err != nil || binary || len(list) != 1 || list[0].ClientID != "c1" || list[0].Topics[0].QoS != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	list, _, err = ParseEntries([]byte(` [{"username":"u","action":"replace","wait_seconds":0,"topics":[]},
		{"clientid":"c","action":"unsubscribe","origin":"x","topics":[{"topic":"a","nl":true,"rap":true,"rh":2,"id":7}]}]`))
	if err != nil || len(list) != 2 || *list[0].Wait != 0 || list[1].Topics[0].ID != 7 || !list[1].Topics[0].NL {
		t.Errorf("%+v, %v", list, err)
	}
	raw := (&im.Batch{Entries: []im.Entry{{
		Target: []byte("u"), IsUsername: true, Action: im.Replace, HasWait: true, Wait: 5,
		Topics: []im.Subscription{{Filter: []byte("a"), QoS: 2, ID: 9}},
	}}}).Append(nil)
	list, binary, err = ParseEntries(raw)
	if err != nil || !binary || list[0].Username != "u" || *list[0].Wait != 5 || list[0].Topics[0].ID != 9 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestParseEntriesNamesThePlace(t *testing.T) {
	many := `[` + strings.Repeat(`{"clientid":"c","action":"replace","topics":[]},`, entriesMax) +
		`{"clientid":"c","action":"replace","topics":[]}]`
	for raw, want := range map[string]string{
		``:  "byte 0: cut off",
		`{`: "byte 1: cut off",
		`{"clientid":"c","action":"subscribe","topics":[{"topic":"a"}]} x`:         "something follows",
		`{"clientid":"c","acton":"subscribe"}`:                                     `unknown field "acton"`,
		`{"clientid":"c","action":"subscribe","topics":[{"topic":"a","qos":"1"}]}`: `byte 69: "topics.qos" must be uint8, not string`,
		`{"clientid":"c","action":"subscribe","topics":[{"topic":"a","qos":-1}]}`:  "must be uint8",
		`{"action":"subscribe","topics":[{"topic":"a"}]}`:                          "a clientid or username is needed",
		`{"clientid":"c","action":"add","topics":[{"topic":"a"}]}`:                 `action "add"`,
		`{"clientid":"c","action":"subscribe","topics":[]}`:                        "no topic",
		`{"clientid":"c","action":"replace","wait_seconds":-1,"topics":[]}`:        "wait_seconds -1",
		`{"clientid":"c\u0001","action":"replace","topics":[]}`:                    "no MQTT string",
		`{"clientid":"c","action":"replace"}`:                                      "no list of topics",
		`[]`:                                                                       "0 entries",
		`null`:                                                                     "a clientid or username",
		many:                                                                       "10001 entries",
		"\x01":                                                                     "byte 1: number of entries is cut off",
	} {
		_, _, err := ParseEntries([]byte(raw))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", raw, err, want)
		}
	}
}

func TestAnswersBothWays(t *testing.T) {
	a := []Answer{{ClientID: "c1", Revision: 7, Results: []Result{{Topic: "a", Code: 1, State: "new"}}}}
	b, err := EncodeAnswers(a, false, true)
	if want := `{"clientid":"c1","revision":7,"results":[{"topic":"a","code":1,"state":"new"}]}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	b, _ = EncodeAnswers(a, false, false)
	if b[0] != '[' {
		t.Errorf("%s", b)
	}
	b, _ = EncodeAnswers(a, true, true)
	var p im.Answers
	if err := p.Parse(b); err != nil || p.List[0].Revision != 7 || p.List[0].Results[0].State != im.New {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte(`{"clientid":"c1","action":"subscribe","topics":[{"topic":"a","qos":1}]}`))
	f.Add([]byte(`[{"username":"u","action":"replace","wait_seconds":3,"topics":[]}]`))
	f.Add([]byte(`{"clientid":"c","action":"subscribe","expires_in":"1h","topics":[{"topic":"a","expires_at":"2030-01-31T12:00:00Z"}]}`))
	f.Add([]byte("\x01\x00\x01\x00\x01c\x01\x00\x01\x00\x01a\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, _, err := ParseEntries(raw)
		if err != nil {
			return
		}
		for i := range list {
			set, bad := setOf(list[i].Topics)
			if set.Len()+len(bad) > len(list[i].Topics) {
				t.Errorf("%d and %d of %d topics", set.Len(), len(bad), len(list[i].Topics))
			}
		}
	})
}

// TestVectorsOfEntriesAreTaken: what the vectors of codec/im show to writers of clients goes through the door,
// each topic of it; there was one with an origin that nobody may use.
func TestVectorsOfEntriesAreTaken(t *testing.T) {
	raw, err := os.ReadFile("../../codec/im/testdata/entry.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name, Hex string
		Offset    *int
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	x := newSystem(t, "control: {usernames: [agent]}")
	for _, c := range [][2]string{{"c1", "u1"}, {"c2", "u2"}} {
		x.connect(c[0], c[1])
	}
	caller := Caller{Door: MQTT, Principal: "agent", Allowed: true}
	for _, v := range list {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		entries, binary, err := ParseEntries(b)
		if v.Offset != nil {
			if err == nil {
				t.Errorf("%s: is taken", v.Name)
			}
			continue
		}
		if err != nil || !binary {
			t.Errorf("%s: binary %t, %v", v.Name, binary, err)
			continue
		}
		answers, err := x.e.Do(t.Context(), caller, entries, nil)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		for _, a := range answers {
			if a.Code != 0 {
				t.Errorf("%s: code %d, %s", v.Name, a.Code, a.Error)
			}
			for _, r := range a.Results {
				if r.Code >= 0x80 {
					t.Errorf("%s: %s: code %d", v.Name, r.Topic, r.Code)
				}
			}
		}
	}
}

// TestDocumentOfLimits holds docs/formats.md to what an entry may have at the doors.
func TestDocumentOfLimits(t *testing.T) {
	raw, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(raw), "<!-- table: limits of the door -->\n")
	if !ok {
		t.Fatal("the table is not there")
	}
	limit := func(what string) (n int) {
		t.Helper()
		_, rest, _ := strings.Cut(table, "| "+what+" | ")
		if _, err := fmt.Sscanf(rest, "%d |\n", &n); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return n
	}
	topics := func(n int) []Topic {
		list := make([]Topic, n)
		for i := range list {
			list[i].Topic = "a"
		}
		return list
	}
	entries := func(n int, e Entry) (list []Entry) {
		for range n {
			list = append(list, e)
		}
		return list
	}
	batch := limit("entries of a batch")
	all := limit("topics of a batch, all entries together")
	wait := limit("seconds of a wait")
	more := wait + 1
	one := Entry{ClientID: "c", Action: "subscribe", Topics: topics(1)}
	half := Entry{ClientID: "c", Action: "subscribe", Topics: topics(all / 2)}
	waits, waitsMore := one, one
	waits.Wait, waitsMore.Wait = &wait, &more
	for _, c := range []struct {
		name      string
		good, bad []Entry
	}{
		{"entries", entries(batch, one), entries(batch+1, one)},
		{"topics", entries(2, half), append(entries(2, half), one)},
		{"wait", []Entry{waits}, []Entry{waitsMore}},
	} {
		if err := CheckEntries(c.good); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if CheckEntries(c.bad) == nil {
			t.Errorf("%s: more than the limit is taken", c.name)
		}
	}
	x := newSystem(t, "")
	name := strings.Repeat("x", limit("bytes of an origin's name"))
	if _, err := x.e.originOf(Caller{Principal: "p"}, name); err != nil {
		t.Error(err)
	}
	if _, err := x.e.originOf(Caller{Principal: "p"}, name+"x"); err == nil {
		t.Error("a longer origin is taken")
	}
}

// TestDocumentOfCodes holds docs/formats.md to the codes of answers.
func TestDocumentOfCodes(t *testing.T) {
	raw, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "<!-- table: codes -->\n")
	table, _, _ = strings.Cut(table, "\n\n")
	codes := []behalf.Code{
		behalf.Done, behalf.WrongRevision, behalf.NotAllowed, behalf.Unavailable, behalf.Busy, behalf.NoSession,
		behalf.TooMuch, behalf.Malformed,
	}
	for _, c := range codes {
		if row := fmt.Sprintf("\n| %d | %s | ", c, c); !strings.Contains(table, row) {
			t.Errorf("no row %q", row)
		}
	}
	if rows := strings.Count(table, "\n| "); rows != len(codes) {
		t.Errorf("%d rows, %d codes", rows, len(codes))
	}
}

// TestNamesOfOrigins: what docs/formats.md says of them.
func TestNamesOfOrigins(t *testing.T) {
	x := newSystem(t, "")
	for name, want := range map[string]string{
		"": "api:p", "api:p": "api:p", "a.B_9-": "api:p/a.B_9-", "api:p/a": "api:p/a",
		"api:p/": "", "presub:a": "", "api:q": "", "api:q/a": "", "api:p/a/b": "", "client/": "", "\u00e9": "",
	} {
		o, err := x.e.originOf(Caller{Principal: "p"}, name)
		if (err != nil) != (want == "") || err == nil && o.Name != want {
			t.Errorf("%q: %+v, %v, want %q", name, o, err, want)
		}
	}
}

// TestDoChecksEntries: who embeds the broker is held to what the other doors hold requests to.
func TestDoChecksEntries(t *testing.T) {
	x := newSystem(t, "")
	caller := Caller{Door: Go, Principal: "shop", Allowed: true}
	wait := 86401
	long := Entry{ClientID: "c", Action: "replace", Topics: []Topic{}, RequestID: strings.Repeat("x", requestIDMax+1)}
	for _, list := range [][]Entry{
		nil,
		{},
		{{}},
		{{ClientID: "c"}},
		{{ClientID: "c", Action: "subscribe"}},
		{{ClientID: "c", Action: "subscribe", Topics: []Topic{}}},
		{{Action: "replace", Topics: []Topic{}}},
		{{ClientID: "c\x00", Action: "replace", Topics: []Topic{}}},
		{{ClientID: "c", Action: "replace", Topics: []Topic{}, Wait: &wait}},
		{long},
		make([]Entry, entriesMax+1),
	} {
		if answers, err := x.e.Do(t.Context(), caller, list, nil); err == nil || answers != nil {
			t.Errorf("%d entries: %v, %v", len(list), answers, err)
		}
	}
}
