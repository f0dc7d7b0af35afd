package codec

import "bytes"

// maxSlashes is the number of level separators that a topic may have, as in Mosquitto.
const maxSlashes = 200

// topicErr says what is wrong with a topic; nil fields mean nothing is.
func topicErr(detail string) error {
	return &Error{Reason: TopicNameInvalid, Packet: PUBLISH, Detail: detail}
}

// CheckTopicName tells whether b may be a Topic Name: at least one character [MQTT-4.7.3-1], valid UTF-8
// [MQTT-1.5.4-1], no wildcards [MQTT-3.3.2-2], at most 200 slashes and 65535 bytes.
func CheckTopicName(b []byte) error {
	if len(b) == 0 {
		return topicErr("topic is empty [MQTT-4.7.3-1]")
	}
	if len(b) > 65535 {
		return topicErr("topic is longer than 65535 bytes [MQTT-4.7.3-3]")
	}
	slashes := 0
	for _, c := range b {
		switch c {
		case '+', '#':
			return topicErr("wildcard in a topic name [MQTT-3.3.2-2]")
		case '/':
			slashes++
		}
	}
	if slashes > maxSlashes {
		return topicErr("more than 200 levels")
	}
	if !ValidUTF8(b) {
		return topicErr("topic is not valid UTF-8 [MQTT-1.5.4-1]")
	}
	return nil
}

func filterErr(detail string) error {
	return &Error{Reason: TopicFilterInvalid, Packet: SUBSCRIBE, Detail: detail}
}

// inPacket is what CheckTopicFilter says of a filter in a packet.
func inPacket(t Type, err error) error {
	e := err.(*Error) //nolint:errorlint,forcetypeassert // made there, never wrapped
	if e.Reason == ProtocolError {
		return protocol(t, e.Detail)
	}
	return malformed(t, e.Detail)
}

// errNoFilter is a shared subscription of nothing, "$share" alone too, which Mosquitto takes for one.
var errNoFilter = &Error{
	Reason: ProtocolError, Packet: SUBSCRIBE, Detail: "shared subscription without a filter [MQTT-4.8.2-2]",
}

// CheckTopicFilter tells whether b may be a Topic Filter: + alone in its level [MQTT-4.7.1-2], # alone and
// last [MQTT-4.7.1-1], and the form of a shared subscription [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func CheckTopicFilter(b []byte) error { //nolint:cyclop // one check a line
	if group, rest, ok := SplitShare(b); ok {
		if len(rest) == 0 {
			return errNoFilter
		}
		if len(group) == 0 || bytes.ContainsAny(group, "+#") {
			return filterErr("share name is empty or has a wildcard [MQTT-4.8.2-1]")
		}
		if !ValidUTF8(group) {
			return filterErr("share name is not valid UTF-8")
		}
		b = rest
	} else if string(b) == "$share" {
		return errNoFilter
	}
	if len(b) == 0 {
		return filterErr("filter is empty [MQTT-4.7.3-1]")
	}
	if len(b) > 65535 {
		return filterErr("filter is longer than 65535 bytes")
	}
	slashes := 0
	for i, c := range b {
		switch c {
		case '/':
			slashes++
		case '#':
			if i != len(b)-1 || i > 0 && b[i-1] != '/' {
				return filterErr("# is not alone in the last level [MQTT-4.7.1-1]")
			}
		case '+':
			if i > 0 && b[i-1] != '/' || i < len(b)-1 && b[i+1] != '/' {
				return filterErr("+ is not alone in its level [MQTT-4.7.1-2]")
			}
		}
	}
	if slashes > maxSlashes {
		return filterErr("more than 200 levels")
	}
	if !ValidUTF8(b) {
		return filterErr("filter is not valid UTF-8 [MQTT-1.5.4-1]")
	}
	return nil
}

// SplitShare splits a shared subscription "$share/NAME/FILTER"; ok says that b begins with "$share/".
// Without a second slash rest is empty, which CheckTopicFilter refuses.
func SplitShare(b []byte) (group, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '$' {
		return nil, b, false
	}
	tail, ok := bytes.CutPrefix(b, []byte("$share/"))
	if !ok {
		return nil, b, false
	}
	group, rest, _ = bytes.Cut(tail, []byte("/"))
	return group, rest, true
}
