package topictree

import "bytes"

// MatchFilter reports whether a valid filter, not a shared subscription, matches a topic name
// [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1]. It is the definition that Index is tested against.
func MatchFilter(filter, topic []byte) bool {
	if len(filter) > 0 && len(topic) > 0 && topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, fRest, fMore := bytes.Cut(filter, []byte("/"))
		if string(f) == "#" {
			return true
		}
		t, tRest, tMore := bytes.Cut(topic, []byte("/"))
		if string(f) != "+" && !bytes.Equal(f, t) {
			return false
		}
		switch {
		case !fMore && !tMore:
			return true
		case fMore && !tMore:
			return string(fRest) == "#"
		case !fMore:
			return false
		}
		filter, topic = fRest, tRest
	}
}

func hasWildcard(filter []byte) bool {
	return bytes.IndexByte(filter, '+') >= 0 || bytes.IndexByte(filter, '#') >= 0
}
