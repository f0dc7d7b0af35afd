package im

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// keysOf are the JSON keys of a content or body, sorted; none for no JSON.
func keysOf(t *testing.T, raw []byte) (object, []string) {
	t.Helper()
	if len(raw) == 0 {
		return nil, nil
	}
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return o, slices.Sorted(maps.Keys(o))
}

// TestVectorsShowWholeContents: the codec does not look into JSON, so nothing else keeps the vectors, which
// others take for examples, to what the document says about it: a file has name and size.
func TestVectorsShowWholeContents(t *testing.T) {
	needs := numbered(t, "media", 2)
	for _, v := range vectors(t, "message.json") {
		raw, _ := hex.DecodeString(v.Hex)
		var m Message
		if m.Parse(raw) != nil {
			continue
		}
		for i, part := range m.Media {
			want := names(needs[int(part.Type)])
			o, keys := keysOf(t, part.Content)
			if !slices.Equal(keys, want) {
				t.Errorf("%s: media %d of type %d has %v, want %v", v.Name, i+1, part.Type, keys, want)
			}
			if part.Type == Text {
				continue
			}
			if size, ok := o["ml"].(string); !ok || !isSize(size) {
				t.Errorf("%s: media %d has size %v, want decimal digits in a string", v.Name, i+1, o["ml"])
			}
		}
	}
}

func isSize(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// TestVectorsShowWholeNotices: the same for notifications.
func TestVectorsShowWholeNotices(t *testing.T) {
	needs := numbered(t, "notifications", 2)
	seen := map[NoticeType]bool{}
	for _, v := range vectors(t, "notification.json") {
		raw, _ := hex.DecodeString(v.Hex)
		var p Notice
		if p.Parse(raw) != nil {
			continue
		}
		seen[p.Type] = true
		_, keys := keysOf(t, p.Body)
		for _, k := range names(needs[int(p.Type)]) {
			if !slices.Contains(keys, k) {
				t.Errorf("%s: no %q in %s", v.Name, k, p.Body)
			}
		}
	}
	for n := range 256 {
		if x := NoticeType(n); x.Known() && !seen[x] {
			t.Errorf("no vector shows a notification 0x%02x", n)
		}
	}
}
