package codec

// Reason is a reason code of MQTT 5 (2.4); values from 0x80 on are failures.
type Reason uint8

// The reason codes. Some values have a second name in other packets.
const (
	Success                             Reason = 0x00
	NormalDisconnection                 Reason = 0x00
	GrantedQoS0                         Reason = 0x00
	GrantedQoS1                         Reason = 0x01
	GrantedQoS2                         Reason = 0x02
	DisconnectWithWill                  Reason = 0x04
	NoMatchingSubscribers               Reason = 0x10
	NoSubscriptionExisted               Reason = 0x11
	ContinueAuthentication              Reason = 0x18
	ReAuthenticate                      Reason = 0x19
	UnspecifiedError                    Reason = 0x80
	MalformedPacket                     Reason = 0x81
	ProtocolError                       Reason = 0x82
	ImplementationSpecificError         Reason = 0x83
	UnsupportedProtocolVersion          Reason = 0x84
	ClientIdentifierNotValid            Reason = 0x85
	BadUserNameOrPassword               Reason = 0x86
	NotAuthorized                       Reason = 0x87
	ServerUnavailable                   Reason = 0x88
	ServerBusy                          Reason = 0x89
	Banned                              Reason = 0x8A
	ServerShuttingDown                  Reason = 0x8B
	BadAuthenticationMethod             Reason = 0x8C
	KeepAliveTimeout                    Reason = 0x8D
	SessionTakenOver                    Reason = 0x8E
	TopicFilterInvalid                  Reason = 0x8F
	TopicNameInvalid                    Reason = 0x90
	PacketIdentifierInUse               Reason = 0x91
	PacketIdentifierNotFound            Reason = 0x92
	ReceiveMaximumExceeded              Reason = 0x93
	TopicAliasInvalid                   Reason = 0x94
	PacketTooLarge                      Reason = 0x95
	MessageRateTooHigh                  Reason = 0x96
	QuotaExceeded                       Reason = 0x97
	AdministrativeAction                Reason = 0x98
	PayloadFormatInvalid                Reason = 0x99
	RetainNotSupported                  Reason = 0x9A
	QoSNotSupported                     Reason = 0x9B
	UseAnotherServer                    Reason = 0x9C
	ServerMoved                         Reason = 0x9D
	SharedSubscriptionsNotSupported     Reason = 0x9E
	ConnectionRateExceeded              Reason = 0x9F
	MaximumConnectTime                  Reason = 0xA0
	SubscriptionIdentifiersNotSupported Reason = 0xA1
	WildcardSubscriptionsNotSupported   Reason = 0xA2
)

// in is a set of packet types.
type in uint32

func types(ts ...Type) (s in) {
	for _, t := range ts {
		s |= 1 << t
	}
	return s
}

func (s in) has(t Type) bool { return s&(1<<t) != 0 }

type reasonInfo struct {
	name string
	in   in
}

// reasons says what each code is called and in which packets it is legal (MQTT 5, table 2-6).
var reasons = map[Reason]reasonInfo{
	Success: {
		"Success", types(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH),
	},
	GrantedQoS1:            {"Granted QoS 1", types(SUBACK)},
	GrantedQoS2:            {"Granted QoS 2", types(SUBACK)},
	DisconnectWithWill:     {"Disconnect with Will Message", types(DISCONNECT)},
	NoMatchingSubscribers:  {"No matching subscribers", types(PUBACK, PUBREC)},
	NoSubscriptionExisted:  {"No subscription existed", types(UNSUBACK)},
	ContinueAuthentication: {"Continue authentication", types(AUTH)},
	ReAuthenticate:         {"Re-authenticate", types(AUTH)},
	UnspecifiedError: {
		"Unspecified error",
		types(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	},
	MalformedPacket: {"Malformed Packet", types(CONNACK, DISCONNECT)},
	ProtocolError:   {"Protocol Error", types(CONNACK, DISCONNECT)},
	ImplementationSpecificError: {
		"Implementation specific error",
		types(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	},
	UnsupportedProtocolVersion: {"Unsupported Protocol Version", types(CONNACK)},
	ClientIdentifierNotValid:   {"Client Identifier not valid", types(CONNACK)},
	BadUserNameOrPassword:      {"Bad User Name or Password", types(CONNACK)},
	NotAuthorized: {
		"Not authorized", types(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT),
	},
	ServerUnavailable:        {"Server unavailable", types(CONNACK)},
	ServerBusy:               {"Server busy", types(CONNACK, DISCONNECT)},
	Banned:                   {"Banned", types(CONNACK)},
	ServerShuttingDown:       {"Server shutting down", types(CONNACK, DISCONNECT)},
	BadAuthenticationMethod:  {"Bad authentication method", types(CONNACK, DISCONNECT)},
	KeepAliveTimeout:         {"Keep Alive timeout", types(DISCONNECT)},
	SessionTakenOver:         {"Session taken over", types(DISCONNECT)},
	TopicFilterInvalid:       {"Topic Filter invalid", types(SUBACK, UNSUBACK, DISCONNECT)},
	TopicNameInvalid:         {"Topic Name invalid", types(CONNACK, PUBACK, PUBREC, DISCONNECT)},
	PacketIdentifierInUse:    {"Packet Identifier in use", types(PUBACK, PUBREC, SUBACK, UNSUBACK)},
	PacketIdentifierNotFound: {"Packet Identifier not found", types(PUBREL, PUBCOMP)},
	ReceiveMaximumExceeded:   {"Receive Maximum exceeded", types(DISCONNECT)},
	TopicAliasInvalid:        {"Topic Alias invalid", types(DISCONNECT)},
	PacketTooLarge:           {"Packet too large", types(CONNACK, PUBACK, PUBREC, DISCONNECT)},
	MessageRateTooHigh:       {"Message rate too high", types(DISCONNECT)},
	QuotaExceeded:            {"Quota exceeded", types(CONNACK, PUBACK, PUBREC, SUBACK, DISCONNECT)},
	AdministrativeAction:     {"Administrative action", types(DISCONNECT)},
	PayloadFormatInvalid:     {"Payload format invalid", types(CONNACK, PUBACK, PUBREC, DISCONNECT)},
	RetainNotSupported:       {"Retain not supported", types(CONNACK, DISCONNECT)},
	QoSNotSupported:          {"QoS not supported", types(CONNACK, DISCONNECT)},
	UseAnotherServer:         {"Use another server", types(CONNACK, DISCONNECT)},
	ServerMoved:              {"Server moved", types(CONNACK, DISCONNECT)},
	SharedSubscriptionsNotSupported: {
		"Shared Subscriptions not supported",
		types(SUBACK, DISCONNECT),
	},
	ConnectionRateExceeded: {"Connection rate exceeded", types(CONNACK, DISCONNECT)},
	MaximumConnectTime:     {"Maximum connect time", types(DISCONNECT)},
	SubscriptionIdentifiersNotSupported: {
		"Subscription Identifiers not supported",
		types(SUBACK, DISCONNECT),
	},
	WildcardSubscriptionsNotSupported: {
		"Wildcard Subscriptions not supported",
		types(SUBACK, DISCONNECT),
	},
}

// String is the name in the specification.
func (r Reason) String() string {
	if i, ok := reasons[r]; ok {
		return i.name
	}
	return "unknown reason"
}

// Legal reports whether r may stand in a packet of type t.
func (r Reason) Legal(t Type) bool { return reasons[r].in.has(t) }

// ConnackV3 is the return code of MQTT 3 that comes nearest to a refusal of MQTT 5.
func (r Reason) ConnackV3() byte {
	switch r {
	case Success:
		return 0
	case UnsupportedProtocolVersion:
		return 1
	case ClientIdentifierNotValid:
		return 2
	case BadUserNameOrPassword:
		return 4
	case NotAuthorized, Banned, BadAuthenticationMethod, QoSNotSupported, RetainNotSupported, PacketTooLarge:
		return 5
	default:
		return 3
	}
}
