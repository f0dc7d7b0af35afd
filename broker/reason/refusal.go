package reason

import "noctule/codec"

// Refusal is why a connection does not become a client's.
type Refusal uint8

// The reasons for which a CONNECT, or what comes in its place, is refused.
const (
	RefusedNotAuthorized Refusal = iota // user, password, certificate, address, or anonymous
	RefusedVersion                      // a protocol version that is unknown, or not accepted here
	RefusedClientID                     // an empty one that is not allowed, or another user's session
	RefusedKeepAlive                    // longer than max_keepalive, which MQTT 3 cannot be told
	RefusedMalformed                    // CONNECT cannot be read
	RefusedProtocol                     // CONNECT says what it must not say
	RefusedNotConnect                   // the first packet is another, or no MQTT at all
	RefusedTooLarge                     // CONNECT, or the payload of its will
	RefusedNotSupported                 // a will with QoS, retain or topic that is not offered; AUTH
	RefusedBusy                         // too many clients, or too many whose login is being checked
	RefusedQuota                        // a provider of lists of topics says so
	RefusedMemory                       // memory_limit
	RefusedUnavailable                  // persistent state or a provider fails
	RefusedTimeout                      // no CONNECT came in time
	RefusedShutdown                     // the broker ends
	RefusedBanned                       // it is in the table of who may not be here, or an Admitter says so
	RefusedOther
	Refusals // number of reasons
)

// String is the label value in the metrics.
func (r Refusal) String() string {
	return [...]string{
		"not_authorized", "protocol_version", "client_id", "keep_alive", "malformed_packet", "protocol_error",
		"not_connect", "packet_too_large", "not_supported", "server_busy", "quota_exceeded", "memory",
		"unavailable", "timeout", "shutdown", "banned", "other",
	}[r]
}

// RefusalOf is the reason of a CONNECT that p is, where its keep alive may be so long; p may have been
// read in part only.
func RefusalOf(p *codec.Connect, r codec.Reason, maxKeepAlive uint16) Refusal {
	switch r {
	case codec.BadUserNameOrPassword, codec.NotAuthorized:
		return RefusedNotAuthorized
	case codec.Banned:
		return RefusedBanned
	case codec.UnsupportedProtocolVersion:
		return RefusedVersion
	case codec.ClientIdentifierNotValid:
		if KeptAliveTooLong(p, maxKeepAlive) {
			return RefusedKeepAlive
		}
		return RefusedClientID
	case codec.UnspecifiedError:
		if len(p.ClientID) == 0 && p.Version == codec.V5 {
			return RefusedClientID
		}
		return RefusedOther
	case codec.MalformedPacket:
		return RefusedMalformed
	case codec.ProtocolError, codec.PayloadFormatInvalid:
		return RefusedProtocol
	case codec.PacketTooLarge:
		return RefusedTooLarge
	case codec.QoSNotSupported, codec.RetainNotSupported, codec.BadAuthenticationMethod,
		codec.TopicNameInvalid:
		return RefusedNotSupported
	case codec.ServerBusy:
		return RefusedBusy
	case codec.QuotaExceeded:
		return RefusedQuota
	case codec.ServerUnavailable:
		return RefusedUnavailable
	case codec.ServerShuttingDown:
		return RefusedShutdown
	default:
		return RefusedOther
	}
}

// KeptAliveTooLong reports a CONNECT whose keep alive is longer than a limit, if there is one, from a client
// that cannot be told another.
func KeptAliveTooLong(p *codec.Connect, limit uint16) bool {
	return p.Version != codec.V5 && limit > 0 && (p.KeepAlive == 0 || p.KeepAlive > limit)
}

// HasCode says that MQTT 3 has a return code for a refusal; without one the connection is only closed
// [MQTT-3.2.2-6].
func HasCode(r codec.Reason) bool {
	return r != codec.QoSNotSupported && r != codec.RetainNotSupported && r != codec.TopicNameInvalid
}

// ConnackCode is the number of a refusal on the wire.
func ConnackCode(v codec.Version, r codec.Reason) byte {
	ack := codec.Connack{Reason: r}
	return ack.Append(nil, v)[3]
}
