package codec

import "iter"

// PropertyID identifies a property (MQTT 5, 2.2.2.2).
type PropertyID uint8

// The properties.
const (
	PayloadFormat          PropertyID = 1
	MessageExpiry          PropertyID = 2 // seconds
	ContentType            PropertyID = 3
	ResponseTopic          PropertyID = 8
	CorrelationData        PropertyID = 9
	SubscriptionIdentifier PropertyID = 11
	SessionExpiry          PropertyID = 17 // seconds
	AssignedClientID       PropertyID = 18
	ServerKeepAlive        PropertyID = 19 // seconds
	AuthMethod             PropertyID = 21
	AuthData               PropertyID = 22
	RequestProblemInfo     PropertyID = 23
	WillDelay              PropertyID = 24 // seconds
	RequestResponseInfo    PropertyID = 25
	ResponseInfo           PropertyID = 26
	ServerReference        PropertyID = 28
	ReasonString           PropertyID = 31
	ReceiveMaximum         PropertyID = 33
	TopicAliasMaximum      PropertyID = 34
	TopicAlias             PropertyID = 35
	MaximumQoS             PropertyID = 36
	RetainAvailable        PropertyID = 37
	UserProperty           PropertyID = 38
	MaximumPacketSize      PropertyID = 39 // bytes
	WildcardSubAvailable   PropertyID = 40
	SubIDAvailable         PropertyID = 41
	SharedSubAvailable     PropertyID = 42
	propertyEnd            PropertyID = 43
)

// kind is how a value is encoded.
type kind uint8

const (
	kindNone kind = iota
	kindByte
	kindUint16
	kindUint32
	kindUvarint
	kindString
	kindBinary
	kindPair
)

type propertyInfo struct {
	kind kind
	in   in
	many bool   // may occur more than once
	own  bool   // of a PUBLISH, but each server's own: it is not forwarded as it came
	low  uint32 // smallest legal number
	high uint32 // largest legal number; 0 means any
}

var acks = types(PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)

// properties is table 2-4 of MQTT 5.
var properties = [propertyEnd]propertyInfo{
	PayloadFormat:          {kind: kindByte, in: types(PUBLISH, willType), high: 1},
	MessageExpiry:          {kind: kindUint32, in: types(PUBLISH, willType), own: true},
	ContentType:            {kind: kindString, in: types(PUBLISH, willType)},
	ResponseTopic:          {kind: kindString, in: types(PUBLISH, willType)},
	CorrelationData:        {kind: kindBinary, in: types(PUBLISH, willType)},
	SubscriptionIdentifier: {kind: kindUvarint, in: types(PUBLISH, SUBSCRIBE), many: true, own: true, low: 1},
	SessionExpiry:          {kind: kindUint32, in: types(CONNECT, CONNACK, DISCONNECT)},
	AssignedClientID:       {kind: kindString, in: types(CONNACK)},
	ServerKeepAlive:        {kind: kindUint16, in: types(CONNACK)},
	AuthMethod:             {kind: kindString, in: types(CONNECT, CONNACK, AUTH)},
	AuthData:               {kind: kindBinary, in: types(CONNECT, CONNACK, AUTH)},
	RequestProblemInfo:     {kind: kindByte, in: types(CONNECT), high: 1},
	WillDelay:              {kind: kindUint32, in: types(willType)},
	RequestResponseInfo:    {kind: kindByte, in: types(CONNECT), high: 1},
	ResponseInfo:           {kind: kindString, in: types(CONNACK)},
	ServerReference:        {kind: kindString, in: types(CONNACK, DISCONNECT)},
	ReasonString:           {kind: kindString, in: acks | types(CONNACK, DISCONNECT, AUTH)},
	ReceiveMaximum:         {kind: kindUint16, in: types(CONNECT, CONNACK), low: 1},
	TopicAliasMaximum:      {kind: kindUint16, in: types(CONNECT, CONNACK)},
	TopicAlias:             {kind: kindUint16, in: types(PUBLISH), own: true},
	MaximumQoS:             {kind: kindByte, in: types(CONNACK), high: 1},
	RetainAvailable:        {kind: kindByte, in: types(CONNACK), high: 1},
	UserProperty: {
		kind: kindPair, many: true,
		in: acks | types(CONNECT, CONNACK, PUBLISH, willType, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH),
	},
	MaximumPacketSize:    {kind: kindUint32, in: types(CONNECT, CONNACK), low: 1},
	WildcardSubAvailable: {kind: kindByte, in: types(CONNACK), high: 1},
	SubIDAvailable:       {kind: kindByte, in: types(CONNACK), high: 1},
	SharedSubAvailable:   {kind: kindByte, in: types(CONNACK), high: 1},
}

// Properties is a validated, still encoded block of properties without its length. It aliases what it was
// parsed from; nil means none.
type Properties []byte

// Value is one property's value: a number in Num, a string or binary data in Bytes, and a user property's
// name in Bytes and value in Pair.
type Value struct {
	Num   uint32
	Bytes []byte
	Pair  []byte
}

// parse reads one property; r.bad is set when it is cut off.
func (r *reader) property() (id PropertyID, v Value, ok bool) {
	n := r.uvarint()
	if r.bad || n >= uint32(propertyEnd) || properties[n].kind == kindNone {
		return 0, v, false
	}
	id = PropertyID(n)
	switch properties[id].kind {
	case kindByte:
		v.Num = uint32(r.byte())
	case kindUint16:
		v.Num = uint32(r.uint16())
	case kindUint32:
		v.Num = r.uint32()
	case kindUvarint:
		v.Num = r.uvarint()
	case kindString, kindBinary:
		v.Bytes = r.binary()
	case kindPair:
		v.Bytes = r.binary()
		v.Pair = r.binary()
	}
	return id, v, !r.bad
}

// properties reads a block with its length and holds it against the table, in one pass.
func (r *reader) properties(t Type) (Properties, error) {
	block := r.take(int(r.uvarint()))
	if r.bad {
		return nil, malformed(t, "properties are cut off")
	}
	if len(block) == 0 {
		return nil, nil
	}
	var seen uint64
	in := reader{b: block}
	for len(in.b) > 0 {
		id, v, ok := in.property()
		if !ok {
			return nil, malformed(t, "property is unknown or cut off [MQTT-2.2.2-2]")
		}
		info := &properties[id]
		if !info.in.has(t) {
			return nil, malformed(t, "property does not belong into this packet (MQTT 5, 2.2.2.2)")
		}
		if seen&(1<<id) != 0 && (!info.many || id == SubscriptionIdentifier && t == SUBSCRIBE) {
			return nil, protocol(t, "property occurs twice")
		}
		seen |= 1 << id
		if err := checkValue(t, id, info, v); err != nil {
			return nil, err
		}
	}
	return Properties(block), nil
}

func checkValue(t Type, id PropertyID, info *propertyInfo, v Value) error {
	switch info.kind {
	case kindString:
		if !ValidUTF8(v.Bytes) {
			return malformed(t, "property is not valid UTF-8 [MQTT-1.5.4-1]")
		}
		if id == ResponseTopic {
			if CheckTopicName(v.Bytes) != nil {
				return protocol(t, "Response Topic is not a topic name [MQTT-3.3.2-14]")
			}
		}
	case kindPair:
		if !ValidUTF8(v.Bytes) || !ValidUTF8(v.Pair) {
			return malformed(t, "user property is not valid UTF-8 [MQTT-1.5.4-1]")
		}
	case kindBinary, kindNone:
	default:
		if id == SubscriptionIdentifier && v.Num == 0 { // as Mosquitto; a protocol error by 3.8.2.1.2
			return malformed(t, "Subscription Identifier 0")
		}
		if v.Num < info.low || info.high > 0 && v.Num > info.high {
			return protocol(t, "property value is not legal")
		}
		if id == TopicAlias && v.Num == 0 {
			return &Error{Reason: TopicAliasInvalid, Packet: t, Detail: "Topic Alias 0 [MQTT-3.3.2-8]"}
		}
	}
	return nil
}

// All yields each property in wire order.
func (p Properties) All() iter.Seq2[PropertyID, Value] {
	return func(yield func(PropertyID, Value) bool) {
		r := reader{b: p}
		for len(r.b) > 0 {
			id, v, ok := r.property()
			if !ok || !yield(id, v) {
				return
			}
		}
	}
}

// first finds the first occurrence of a property.
func (p Properties) first(id PropertyID) (v Value, ok bool) {
	r := reader{b: p}
	for len(r.b) > 0 {
		got, v, ok := r.property()
		if !ok {
			return Value{}, false
		}
		if got == id {
			return v, true
		}
	}
	return Value{}, false
}

// Uint returns the first occurrence of a numeric property.
func (p Properties) Uint(id PropertyID) (v uint32, ok bool) {
	x, ok := p.first(id)
	return x.Num, ok
}

// Bytes returns the first occurrence of a string or binary property.
func (p Properties) Bytes(id PropertyID) (v []byte, ok bool) {
	x, ok := p.first(id)
	return x.Bytes, ok
}

// Forwarded reports whether a server passes the property of a PUBLISH on as it came. What it sets itself for
// each receiver is not: Message Expiry Interval [MQTT-3.3.2-6], Topic Alias [MQTT-3.3.2-7], Subscription
// Identifier [MQTT-3.3.4-3].
func (id PropertyID) Forwarded() bool {
	return id < propertyEnd && properties[id].in.has(PUBLISH) && !properties[id].own
}

// Forwarded returns those of p, of a PUBLISH or a Will, that are forwarded: byte for byte and in their order
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]. It is p itself where
// nothing is left out, else appended to buf.
func (p Properties) Forwarded(buf Properties) Properties {
	r := reader{b: p}
	from := 0 // what is before has been appended, or left out
	for len(r.b) > 0 {
		at := len(p) - len(r.b)
		id, _, ok := r.property()
		if !ok {
			break
		}
		if !id.Forwarded() {
			buf = append(buf, p[from:at]...)
			from = len(p) - len(r.b)
		}
	}
	if from == 0 {
		return p
	}
	return append(buf, p[from:]...)
}

// AppendUintProperty appends a numeric property.
func AppendUintProperty(p Properties, id PropertyID, v uint32) Properties {
	p = append(p, byte(id))
	switch properties[id].kind {
	case kindByte:
		return append(p, byte(v))
	case kindUint16:
		return append(p, byte(v>>8), byte(v))
	case kindUvarint:
		return appendUvarint(p, v)
	default:
		return append(p, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
}

// AppendBytesProperty appends a string or binary property of at most 65535 bytes.
func AppendBytesProperty(p Properties, id PropertyID, v []byte) Properties {
	return appendBinary(append(p, byte(id)), v)
}

// AppendUserProperty appends a user property; name and value are at most 65535 bytes each.
func AppendUserProperty(p Properties, name, value []byte) Properties {
	return appendBinary(appendBinary(append(p, byte(UserProperty)), name), value)
}

// AppendTo appends the block with its length.
func (p Properties) AppendTo(b []byte) []byte { return append(appendUvarint(b, uint32(len(p))), p...) }

// Len is what AppendTo appends.
func (p Properties) Len() int { return UvarintLen(len(p)) + len(p) }
