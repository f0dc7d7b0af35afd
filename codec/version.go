package codec

// Version is the protocol level of a connection.
type Version uint8

// The protocol levels [MQTT-3.1.2-2].
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a control packet type, the upper four bits of the first byte.
type Type uint8

// The control packet types (MQTT 5, 2.1.2).
const (
	CONNECT Type = 1 + iota
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
	willType // properties of a Will, in the table of properties only
)

// String is the name in the specification.
func (t Type) String() string {
	names := [...]string{
		"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
		"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH", "will",
	}
	if int(t) >= len(names) {
		return "unknown"
	}
	return names[t]
}
