package codec

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// slowUTF8 is the rule one code point at a time: well-formed [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2], no
// control characters, no non-characters.
func slowUTF8(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		control := r < 0x20 || r >= 0x7F && r < 0xA0
		if control || r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return false
		}
	}
	return true
}

// slowName and slowFilter are the rules of 4.7 in terms of levels.
func slowName(s string) bool {
	return s != "" && len(s) <= 65535 && slowUTF8(s) &&
		!strings.ContainsAny(s, "+#") && strings.Count(s, "/") <= maxSlashes
}

func slowFilter(s string) bool {
	if rest, ok := strings.CutPrefix(s, "$share/"); ok {
		group, filter, ok := strings.Cut(rest, "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") || !slowUTF8(group) {
			return false
		}
		s = filter
	}
	if s == "" || len(s) > 65535 || strings.Count(s, "/") > maxSlashes || !slowUTF8(s) {
		return false
	}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return false
		}
		if strings.Contains(l, "+") && l != "+" {
			return false
		}
	}
	return true
}

func FuzzStrings(f *testing.F) {
	for _, s := range []string{
		"", "a", "a/+/#", "$share/g/a", "aaaaaaaaaaaaaaaa\x7f", "aaaaaaaaaaaaaaa\x00", "äöüäöüäöü", "\uFEFF",
		"\uFFFE", "\uFDD0", "\U0001FFFF", "\xed\xa0\x80", "12345678\xc2\x80", "1234567\xc2\xa0",
		strings.Repeat("/", 201), "a b~", "\u009F\u00A0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := ValidUTF8([]byte(s)); got != slowUTF8(s) {
			t.Errorf("ValidUTF8(%q) %v", s, got)
		}
		if got := CheckTopicName([]byte(s)) == nil; got != slowName(s) {
			t.Errorf("CheckTopicName(%q) %v", s, got)
		}
		if got := CheckTopicFilter([]byte(s)) == nil; got != slowFilter(s) {
			t.Errorf("CheckTopicFilter(%q) %v", s, got)
		}
		if fastTopic([]byte(s)) && !slowName(s) {
			t.Errorf("fastTopic(%q)", s)
		}
	})
}

// FuzzProperties: a block that is accepted for some packet can be taken apart and put together again, and
// each of its properties is found.
func FuzzProperties(f *testing.F) {
	for _, s := range samples() {
		raw := s.p.Append(nil, s.v)
		f.Add(raw, uint8(PUBLISH))
	}
	for id := PropertyID(1); id < propertyEnd; id++ {
		f.Add([]byte(AppendUintProperty(nil, id, 1)), uint8(CONNACK))
		f.Add([]byte(AppendBytesProperty(nil, id, []byte("x"))), uint8(CONNECT))
	}
	f.Add([]byte(user(user(nil))), uint8(willType))
	f.Fuzz(func(t *testing.T, block []byte, kind uint8) {
		typ := Type(kind % uint8(willType+1))
		r := reader{b: Properties(block).AppendTo(nil)}
		p, err := r.properties(typ)
		if err != nil {
			return
		}
		if !bytes.Equal(p, block) || len(r.b) > 0 {
			t.Fatalf("% x became % x", block, []byte(p))
		}
		var again Properties
		count := map[PropertyID]int{}
		for id, v := range p.All() {
			count[id]++
			switch info := properties[id]; {
			case !info.in.has(typ):
				t.Fatalf("property %d in %s", id, typ)
			case count[id] > 1 && (!info.many || id == SubscriptionIdentifier && typ == SUBSCRIBE):
				t.Fatalf("property %d twice", id)
			case info.kind == kindPair:
				again = AppendUserProperty(again, v.Bytes, v.Pair)
			case info.kind == kindString || info.kind == kindBinary:
				again = AppendBytesProperty(again, id, v.Bytes)
				if got, ok := p.Bytes(id); !ok || count[id] == 1 && !bytes.Equal(got, v.Bytes) {
					t.Fatalf("property %d is not found", id)
				}
			default:
				again = AppendUintProperty(again, id, v.Num)
				if got, ok := p.Uint(id); !ok || count[id] == 1 && got != v.Num {
					t.Fatalf("property %d is not found", id)
				}
			}
		}
		if len(again) > len(block) || len(again) < len(block) {
			t.Fatalf("% x became % x", block, []byte(again))
		}
	})
}

// FuzzHeader: what is read of a fixed header is what would be written, or longer than needed.
func FuzzHeader(f *testing.F) {
	for _, raw := range [][]byte{
		{0x10, 0}, {0x30, 0x80, 1}, {0x82, 0xFF, 0xFF, 0xFF, 0x7F}, {0xC0, 0x80, 0x80, 0x80, 0x80}, {0}, {},
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ParseHeader(raw)
		if err != nil {
			for i := range raw { // an error stays one, and comes no later than it must
				if _, err := ParseHeader(raw[:i]); err == nil {
					t.Fatalf("% x is an error, % x is not", raw, raw[:i])
				}
			}
			return
		}
		if h.Size < 2 || h.Size > 5 || h.Len > MaxRemaining {
			t.Fatalf("%+v", h)
		}
		out := AppendHeader(nil, h.Type, h.Flags, h.Len)
		same := len(out) < h.Size || bytes.Equal(out, raw[:h.Size])
		if len(out) > h.Size || !same || len(out) != 1+UvarintLen(h.Len) {
			t.Fatalf("% x is read as %+v and written as % x", raw[:h.Size], h, out)
		}
	})
}
