package im

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// vector is one row of testdata/*.json: bytes and what they mean, or the byte at which they are wrong. The
// files are for other implementations too.
type vector struct {
	Name   string          `json:"name"`
	Hex    string          `json:"hex"`
	Value  json.RawMessage `json:"value"`
	Offset *int            `json:"offset"`
}

// format is one of the package's formats as the tests see it.
type format interface {
	Parse(b []byte) error
	Append(b []byte) []byte
	Len() int
}

var formats = map[string]func() format{
	"message.json":      func() format { return &Message{} },
	"notification.json": func() format { return &Notice{} },
	"topic.json":        func() format { return &Topic{} },
	"entry.json":        func() format { return &Batch{} },
	"answer.json":       func() format { return &Answers{} },
}

func vectors(t testing.TB, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return list
}

func TestVectors(t *testing.T) {
	for file, fresh := range formats {
		for _, v := range vectors(t, file) {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				raw, err := hex.DecodeString(v.Hex)
				if err != nil {
					t.Fatal(err)
				}
				got := fresh()
				err = got.Parse(raw)
				if v.Offset != nil {
					var e *Error
					if !errors.As(err, &e) {
						t.Fatalf("error %v, want one at byte %d", err, *v.Offset)
					}
					if e.Offset != *v.Offset {
						t.Errorf("%v, want byte %d", err, *v.Offset)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var want any
				if err := json.Unmarshal(v.Value, &want); err != nil {
					t.Fatal(err)
				}
				if value := plain(t, got); !reflect.DeepEqual(value, want) {
					t.Errorf("parsed %v\nwant   %v", value, want)
				}
				check(t, got, raw)
				prefixes(t, fresh, raw, file == "notification.json" || file == "topic.json")
			})
		}
	}
}

type object = map[string]any

// plain is a value in the words of the vectors.
func plain(t testing.TB, f format) any {
	t.Helper()
	var out any
	switch p := f.(type) {
	case *Message:
		media := []object{}
		for _, m := range p.Media {
			media = append(media, object{"type": m.Type, "content": string(m.Content)})
		}
		out = object{"time": p.Time, "kind": p.Kind, "media": media, "sender": string(p.Sender)}
	case *Notice:
		out = object{"time": p.Time, "type": p.Type, "body": string(p.Body)}
	case *Topic:
		channel := strings.Trim(p.Channel.String(), "/")
		out = object{"channel": channel, "tenant": string(p.Tenant), "id": string(p.ID)}
	case *Batch:
		out = plainEntries(p)
	case *Answers:
		list := []object{}
		for _, a := range p.List {
			results := []object{}
			for _, x := range a.Results {
				results = append(results, object{"topic": string(x.Filter), "code": x.Code, "state": x.State})
			}
			list = append(list, object{
				"clientid": string(a.ClientID), "code": a.Code, "revision": a.Revision, "results": results,
			})
		}
		out = list
	}
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func plainEntries(p *Batch) []object {
	list := []object{}
	for _, e := range p.Entries {
		topics := []object{}
		for _, s := range e.Topics {
			topics = append(topics, object{
				"topic": string(s.Filter), "qos": s.QoS, "nl": s.NoLocal, "rap": s.RetainAsPublished,
				"rh": s.RetainHandling, "id": s.ID,
			})
		}
		var wait any
		if e.HasWait {
			wait = e.Wait
		}
		list = append(list, object{
			"target": string(e.Target), "username": e.IsUsername, "action": e.Action,
			"origin": string(e.Origin), "wait": wait, "topics": topics,
		})
	}
	return list
}

// check holds Append and Len against what was parsed.
func check(t testing.TB, f format, raw []byte) {
	t.Helper()
	out := f.Append(nil)
	if string(out) != string(raw) {
		t.Errorf("encoded % x\nwas     % x", out, raw)
	}
	if f.Len() != len(out) {
		t.Errorf("Len is %d, %d bytes were appended", f.Len(), len(out))
	}
}

// prefixes checks that every proper prefix is an error; of formats that end in a field without a length,
// only that it does not panic.
func prefixes(t testing.TB, fresh func() format, raw []byte, open bool) {
	t.Helper()
	for n := range raw {
		if err := fresh().Parse(raw[:n]); err == nil && !open {
			t.Errorf("the first %d bytes of % x are taken", n, raw)
		}
	}
}

func fuzz(f *testing.F, file string) {
	for _, v := range vectors(f, file) {
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := formats[file]()
		err := p.Parse(raw)
		if err == nil {
			check(t, p, raw)
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(raw) {
			t.Errorf("error %v for %d bytes", err, len(raw))
		}
	})
}

func FuzzMessage(f *testing.F)      { fuzz(f, "message.json") }
func FuzzNotification(f *testing.F) { fuzz(f, "notification.json") }
func FuzzTopic(f *testing.F)        { fuzz(f, "topic.json") }
func FuzzEntry(f *testing.F)        { fuzz(f, "entry.json") }
func FuzzAnswer(f *testing.F)       { fuzz(f, "answer.json") }

func TestParseDoesNotAllocate(t *testing.T) {
	m := Message{Time: 1, Kind: WebToIOS, Media: []Media{{Content: []byte(`{"co":"x"}`)}}, Sender: []byte("u1")}
	raw := m.Append(nil)
	var topic Topic
	name := []byte("/e/e1/im/u/u1")
	allocs := testing.AllocsPerRun(100, func() {
		if m.Parse(raw) != nil || topic.Parse(name) != nil {
			t.Fatal("does not parse")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestNamesOfUnknownValues(t *testing.T) {
	for _, s := range []interface{ String() string }{Action(0), Action(9), State(0), State(9), Channel(99)} {
		if s.String() != "unknown" {
			t.Errorf("%T: %q", s, s.String())
		}
	}
	topic := Topic{Channel: ConnectNew, Tenant: []byte("e1")}
	if topic.String() != "/e/e1/connect/new" {
		t.Error(topic.String())
	}
	if err := CheckID([]byte("a/b")); err == nil || err.Error() != "topic: byte 1: id has a level separator or a wildcard" {
		t.Error(err)
	}
}
