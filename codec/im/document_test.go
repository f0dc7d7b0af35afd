package im

import (
	"encoding/hex"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const document = "../../docs/formats.md"

func readDocument(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// table is the cells of a table of the document, without its heading.
func table(t *testing.T, name string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(readDocument(t), "<!-- table: "+name+" -->\n")
	if !ok {
		t.Fatalf("%s has no table %q", document, name)
	}
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	if len(rows) < 3 {
		t.Fatalf("%s: table %q is empty", document, name)
	}
	return rows[2:]
}

// numbered is a table whose first column is numbers: the other columns by them, the first few joined by a space.
func numbered(t *testing.T, name string, columns int) map[int]string {
	t.Helper()
	out := map[int]string{}
	for _, row := range table(t, name) {
		n, err := strconv.ParseUint(row[0], 0, 64)
		if err != nil {
			t.Fatalf("table %q: %v", name, err)
		}
		if _, twice := out[int(n)]; twice {
			t.Errorf("table %q has %d twice", name, n)
		}
		out[int(n)] = strings.Join(row[1:1+columns], " ")
	}
	return out
}

// names are the words in backquotes of a cell.
func names(cell string) (list []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// wantTable holds a table against the values that the package has and the names that they have here.
func wantTable[K ~uint8](t *testing.T, name string, got map[int]string, want map[K]string) {
	t.Helper()
	w := map[int]string{}
	for k, v := range want {
		w[int(k)] = v
	}
	if !reflect.DeepEqual(got, w) {
		t.Errorf("table %q has\n%v, want\n%v", name, got, w)
	}
}

// wantTaken holds a table against what Parse takes, for each value of a byte.
func wantTaken(t *testing.T, name string, got map[int]string, values int, taken func(n byte) bool) {
	t.Helper()
	for n := range values {
		if _, ok := got[n]; ok != taken(byte(n)) {
			t.Errorf("table %q has %d: %t, Parse takes it: %t", name, n, ok, !ok)
		}
	}
}

func TestDocumentOfMessages(t *testing.T) {
	kinds := numbered(t, "kinds", 2)
	wantTable(t, "kinds", kinds, map[Kind]string{
		WebToIOS: "Web iOS", WebToWeb: "Web Web", WebToAndroid: "Web Android",
		IOSToWeb: "iOS Web", IOSToIOS: "iOS iOS", IOSToAndroid: "iOS Android",
		AndroidToWeb: "Android Web", AndroidToIOS: "Android iOS", AndroidToAndroid: "Android Android",
	})
	message := func(m Message) bool { return new(Message).Parse(m.Append(nil)) == nil }
	part := Media{Content: []byte("x")}
	wantTaken(t, "kinds", kinds, 16, func(n byte) bool {
		return message(Message{Kind: Kind(n), Media: []Media{part}, Sender: []byte("u")})
	})
	media := numbered(t, "media", 1)
	wantTable(t, "media", media, map[MediaType]string{
		Text: "text", Image: "image", Audio: "audio", Video: "video", Word: "word", Slide: "ppt",
	})
	wantTaken(t, "media", media, 256, func(n byte) bool {
		p := Media{Type: MediaType(n), Content: []byte("x")}
		return message(Message{Kind: WebToWeb, Media: []Media{p}, Sender: []byte("u")})
	})
}

func TestDocumentOfNotifications(t *testing.T) {
	types := numbered(t, "notifications", 1)
	wantTable(t, "notifications", types, map[NoticeType]string{
		ForcedOffline:   "forced offline: the same kind of terminal has logged in elsewhere",
		ContactsChanged: "contacts changed", PresenceChanged: "presence changed", ProfileChanged: "profile changed",
		GroupChanged: "group changed", MemberJoined: "member joined", MemberLeft: "member left",
		GroupDissolved: "group dissolved",
	})
	for _, row := range table(t, "notifications") {
		n, _ := strconv.ParseUint(row[0], 0, 8)
		bare := new(Notice).Parse([]byte{0, 0, 0, 0, byte(n)}) == nil
		if bare != (row[2] == "nothing") {
			t.Errorf("0x%02x: body %q, taken without: %t", n, row[2], bare)
		}
	}
	wantTaken(t, "notifications", types, 256, func(n byte) bool { return NoticeType(n).Known() })
	wantTable(t, "status", numbered(t, "status", 1), map[Status]string{
		PCOnline: "PC online", MobileOnline: "mobile online", WebOnline: "Web online", Offline: "offline",
	})
}

func TestDocumentOfEntries(t *testing.T) {
	actions := numbered(t, "actions", 1)
	wantTable(t, "actions", actions, map[Action]string{
		Subscribe: Subscribe.String(), Unsubscribe: Unsubscribe.String(), Replace: Replace.String(),
	})
	wantTaken(t, "actions", actions, 16, func(n byte) bool {
		e := Entry{Target: []byte("c"), Action: Action(n), Topics: []Subscription{{Filter: []byte("a")}}}
		return new(Batch).Parse((&Batch{Entries: []Entry{e}}).Append(nil)) == nil
	})
	bits := numbered(t, "action bits", 1)
	for bit, word := range map[int]string{hasWait: "wait", hasOrigin: "origin", forUsername: "username", 0x10: "reserved"} {
		if !strings.Contains(bits[bit], word) {
			t.Errorf("action bit 0x%02x is %q, want the %s", bit, bits[bit], word)
		}
	}
	options := numbered(t, "options", 1)
	for bit, word := range map[int]string{
		qosMask: "QoS", noLocal: "No Local", retainAsPublished: "Retain As Published", 3 << retainShift: "Retain Handling",
		hasIdentifier: "Identifier follows", reservedOption: "reserved",
	} {
		if !strings.Contains(options[bit], word) {
			t.Errorf("options 0x%02x are %q, want %s", bit, options[bit], word)
		}
	}
	if len(bits) != 4 || len(options) != 6 {
		t.Errorf("%d bits of the action, %d of the options", len(bits), len(options))
	}
	states := numbered(t, "states", 1)
	wantTable(t, "states", states, map[State]string{
		New: New.String(), Existing: Existing.String(), Removed: Removed.String(), Absent: Absent.String(),
		Pending: Pending.String(),
	})
	wantTaken(t, "states", states, 256, func(n byte) bool {
		list := []Answer{{Results: []Result{{State: State(n)}}}}
		return new(Answers).Parse((&Answers{List: list}).Append(nil)) == nil
	})
}

func TestDocumentOfTopics(t *testing.T) {
	rows := table(t, "channels")
	if len(rows) != int(channels) {
		t.Fatalf("%d rows, there are %d channels", len(rows), channels)
	}
	for c := range channels {
		p := Topic{Channel: c, Tenant: []byte("{tenant}")}
		if c != ConnectNew {
			p.ID = []byte("{id}")
		}
		want := [2]string{"`" + strings.Trim(c.String(), "/") + "`", "`" + p.String() + "`"}
		if got := [2]string(rows[c][:2]); got != want {
			t.Errorf("row %d is %v, want %v", c, got, want)
		}
	}
}

func TestDocumentOfLimits(t *testing.T) {
	want := map[string]int{
		"bytes of a tenant or an id in a topic": idMax,
		"parts of a message":                    MediaMax,
		"bytes of a content":                    math.MaxUint32,
		"bytes of a sender":                     math.MaxUint8,
		"entries of a batch":                    math.MaxUint16,
		"bytes of a target or a filter":         math.MaxUint16,
		"bytes of an origin":                    math.MaxUint8,
		"seconds of a wait":                     math.MaxUint32,
		"topics of an entry":                    math.MaxUint16,
		"Subscription Identifier":               268435455,
		"answers; results of an answer":         math.MaxUint16,
	}
	got := map[string]int{}
	for _, row := range table(t, "limits") {
		got[row[0]], _ = strconv.Atoi(row[1])
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("limits are\n%v, want\n%v", got, want)
	}
	if CheckID(make([]byte, idMax+1)) == nil || CheckID([]byte(strings.Repeat("x", idMax))) != nil {
		t.Error("the longest id is another")
	}
}

// TestDocumentShowsVectors: each example of the document is a vector, and its bytes are that vector's.
func TestDocumentShowsVectors(t *testing.T) {
	shown := map[string]bool{}
	blocks := regexp.MustCompile("(?s)```\n(.*?)```\n").FindAllStringSubmatch(readDocument(t), -1)
	for _, m := range blocks {
		first, rest, _ := strings.Cut(m[1], "\n")
		file, name, ok := strings.Cut(first, ": ")
		if !ok {
			t.Fatalf("an example begins with %q", first)
		}
		var hexed strings.Builder
		for line := range strings.Lines(rest) {
			digits, _, _ := strings.Cut(line, "  ")
			hexed.WriteString(strings.ReplaceAll(digits, " ", ""))
		}
		got := hexed.String()
		if want := vectorNamed(t, file, name); got != want.Hex {
			t.Errorf("%s is\n%s, the vector\n%s", first, got, want.Hex)
		}
		shown[file] = true
	}
	for file := range formats {
		if !shown[file] {
			t.Errorf("no example of %s", file)
		}
	}
}

func vectorNamed(t *testing.T, file, name string) vector {
	t.Helper()
	for _, v := range vectors(t, file) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("%s has no vector %q", file, name)
	return vector{}
}

// TestVectorsAreWellFormed: a vector has either a value or an offset, and a name of its own.
func TestVectorsAreWellFormed(t *testing.T) {
	for file := range formats {
		seen := map[string]bool{}
		for _, v := range vectors(t, file) {
			if seen[v.Name] {
				t.Errorf("%s has %q twice", file, v.Name)
			}
			seen[v.Name] = true
			if _, err := hex.DecodeString(v.Hex); err != nil || (v.Value == nil) == (v.Offset == nil) {
				t.Errorf("%s: %q: %v, value %v, offset %v", file, v.Name, err, v.Value, v.Offset)
			}
		}
	}
}
