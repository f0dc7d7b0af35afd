package broker

import (
	"errors"

	"noctule/codec"
	"noctule/wsnet"
)

// Why connections end and CONNECTs are refused, in words of our own: MQTT's numbers put different things
// under one code, and MQTT 3 has next to none. Both sets are closed, for they are label values of metrics.

// EndReason is why a client's connection has ended.
type EndReason uint8

// The reasons for which the connection of a client that was let in ends.
const (
	EndByClient       EndReason = iota // it sent DISCONNECT
	EndLost                            // the connection broke, or was closed without DISCONNECT
	EndKeepAlive                       // nothing came for one and a half times its keep alive
	EndTakenOver                       // another connection came with its client id
	EndMalformed                       // a packet that cannot be read
	EndProtocol                        // a packet that is not allowed there, or a wrong WebSocket frame
	EndTooLarge                        // a packet over max_packet_size, or over what its type may have
	EndReceiveMaximum                  // more QoS 2 messages at once than it was told it may send
	EndNotAuthorized                   // what it may do has changed: a reload, a user that is gone
	EndNotSupported                    // QoS, retain or AUTH that this broker does not offer
	EndQuota                           // answers it does not read, or too much unfinished input
	EndMemory                          // memory_limit
	EndStore                           // persistent state cannot be written; MQTT 3 has no code for it
	EndAdministrative                  // an operator has ended it
	EndShutdown                        // the broker ends
	EndOther
	EndReasons // number of reasons
)

// String is the label value in the metrics.
func (r EndReason) String() string {
	return [...]string{
		"client", "connection_lost", "keep_alive_timeout", "taken_over", "malformed_packet", "protocol_error",
		"packet_too_large", "receive_maximum_exceeded", "not_authorized", "not_supported", "quota_exceeded",
		"memory", "store_failing", "administrative", "shutdown", "other",
	}[r]
}

// ending is an error that ends a connection for another reason than its code tells.
type ending struct {
	error // a *codec.Error
	why   EndReason
}

// Unwrap is for errors.As.
func (e ending) Unwrap() error { return e.error }

// endOfError is the reason of an error that ends a connection.
func endOfError(err error) EndReason {
	var e ending
	if errors.As(err, &e) {
		return e.why
	}
	return endOf(reasonOf(err))
}

// endOf is the reason of a connection that the broker ends.
func endOf(r codec.Reason) EndReason {
	switch r {
	case codec.KeepAliveTimeout:
		return EndKeepAlive
	case codec.SessionTakenOver:
		return EndTakenOver
	case codec.MalformedPacket:
		return EndMalformed
	case codec.ProtocolError, codec.TopicAliasInvalid, codec.TopicNameInvalid, codec.TopicFilterInvalid,
		codec.PayloadFormatInvalid:
		return EndProtocol
	case codec.PacketTooLarge:
		return EndTooLarge
	case codec.ReceiveMaximumExceeded:
		return EndReceiveMaximum
	case codec.NotAuthorized:
		return EndNotAuthorized
	case codec.QoSNotSupported, codec.RetainNotSupported, codec.BadAuthenticationMethod:
		return EndNotSupported
	case codec.QuotaExceeded, codec.ServerBusy:
		return EndQuota
	case codec.AdministrativeAction:
		return EndAdministrative
	case codec.ServerShuttingDown:
		return EndShutdown
	default:
		return EndOther
	}
}

// endOfLoss is the reason of a connection that the broker has not ended.
func endOfLoss(err error) EndReason {
	switch {
	case errors.Is(err, wsnet.ErrServerClosed):
		return EndShutdown
	case errors.Is(err, wsnet.ErrProtocol):
		return EndProtocol
	case errors.Is(err, wsnet.ErrInputGaveWay), errors.Is(err, wsnet.ErrPending):
		return EndQuota
	default:
		return EndLost
	}
}

// RefusalReason is why a connection does not become a client's.
type RefusalReason uint8

// The reasons for which a CONNECT, or what comes in its place, is refused.
const (
	RefusedNotAuthorized RefusalReason = iota // user, password, certificate, address, or anonymous
	RefusedVersion                            // a protocol version that is unknown, or not accepted here
	RefusedClientID                           // an empty one that is not allowed, or another user's session
	RefusedKeepAlive                          // longer than max_keepalive, which MQTT 3 cannot be told
	RefusedMalformed                          // CONNECT cannot be read
	RefusedProtocol                           // CONNECT says what it must not say
	RefusedNotConnect                         // the first packet is another, or no MQTT at all
	RefusedTooLarge                           // CONNECT, or the payload of its will
	RefusedNotSupported                       // a will with QoS, retain or topic that is not offered; AUTH
	RefusedBusy                               // too many clients, or too many whose login is being checked
	RefusedQuota                              // a provider of lists of topics says so
	RefusedMemory                             // memory_limit
	RefusedUnavailable                        // persistent state or a provider fails
	RefusedTimeout                            // no CONNECT came in time
	RefusedShutdown                           // the broker ends
	RefusedOther
	RefusalReasons // number of reasons
)

// String is the label value in the metrics.
func (r RefusalReason) String() string {
	return [...]string{
		"not_authorized", "protocol_version", "client_id", "keep_alive", "malformed_packet", "protocol_error",
		"not_connect", "packet_too_large", "not_supported", "server_busy", "quota_exceeded", "memory",
		"unavailable", "timeout", "shutdown", "other",
	}[r]
}

// refusalOf is the reason of a CONNECT that p is; p may have been read in part only.
func (s *shard) refusalOf(p *codec.Connect, r codec.Reason) RefusalReason {
	switch r {
	case codec.BadUserNameOrPassword, codec.NotAuthorized, codec.Banned:
		return RefusedNotAuthorized
	case codec.UnsupportedProtocolVersion:
		return RefusedVersion
	case codec.ClientIdentifierNotValid:
		if s.keptAliveTooLong(p) {
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

// keptAliveTooLong reports a CONNECT whose keep alive is too long for a client that cannot be told another.
func (s *shard) keptAliveTooLong(p *codec.Connect) bool {
	limit := s.opts.MaxKeepAlive
	return p.Version != codec.V5 && limit > 0 && (p.KeepAlive == 0 || p.KeepAlive > limit)
}
