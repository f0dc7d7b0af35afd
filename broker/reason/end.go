// Package reason is why connections end, CONNECTs are refused and messages dropped, in words of our own:
// MQTT's numbers put different things under one code, and MQTT 3 has next to none. The sets are closed,
// for they are label values of metrics. Beside them are the words that Mosquitto's log has for MQTT's
// codes.
package reason

import (
	"errors"

	"noctule/codec"
	"noctule/wsnet"
)

// End is why a client's connection has ended.
type End uint8

// The reasons for which the connection of a client that was let in ends.
const (
	EndByClient       End = iota // it sent DISCONNECT
	EndLost                      // the connection broke, or was closed without DISCONNECT
	EndKeepAlive                 // nothing came for one and a half times its keep alive
	EndTakenOver                 // another connection came with its client id
	EndMalformed                 // a packet that cannot be read
	EndProtocol                  // a packet that is not allowed there, or a wrong WebSocket frame
	EndTooLarge                  // a packet over max_packet_size, or over what its type may have
	EndReceiveMaximum            // more QoS 2 messages at once than it was told it may send
	EndNotAuthorized             // what it may do has changed: a reload, a user that is gone
	EndNotSupported              // QoS, retain or AUTH that this broker does not offer
	EndQuota                     // answers it does not read, or too much unfinished input
	EndMemory                    // memory_limit
	EndStore                     // persistent state cannot be written; MQTT 3 has no code for it
	EndAdministrative            // an operator has ended it
	EndExpired                   // the time for which it was let in is over
	EndBanned                    // it is in the table of who may not be here
	EndShutdown                  // the broker ends
	EndOther
	Ends // number of reasons
)

// String is the label value in the metrics.
func (r End) String() string {
	return [...]string{
		"client", "connection_lost", "keep_alive_timeout", "taken_over", "malformed_packet", "protocol_error",
		"packet_too_large", "receive_maximum_exceeded", "not_authorized", "not_supported", "quota_exceeded",
		"memory", "store_failing", "administrative", "expired", "banned", "shutdown", "other",
	}[r]
}

// Told is what an MQTT 5 client is told of the reason, beside MQTT's code; mostly "".
func (r End) Told() string {
	if r == EndExpired {
		return "the login has expired"
	}
	return ""
}

// Error is an error that ends a connection for another reason than its code tells.
type Error struct {
	error // a *codec.Error
	why   End
}

// Because is an error that ends a connection for a reason.
func Because(err *codec.Error, why End) Error { return Error{err, why} }

// Unwrap is for errors.As.
func (e Error) Unwrap() error { return e.error }

// Of is the reason code that an error puts on the wire.
func Of(err error) codec.Reason {
	var e *codec.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return codec.UnspecifiedError
}

// EndOfError is the reason of an error that ends a connection.
func EndOfError(err error) End {
	var e Error
	if errors.As(err, &e) {
		return e.why
	}
	return EndOf(Of(err))
}

// EndOf is the reason of a connection that the broker ends.
func EndOf(r codec.Reason) End {
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
	case codec.MaximumConnectTime:
		return EndExpired
	case codec.Banned:
		return EndBanned
	case codec.ServerShuttingDown:
		return EndShutdown
	default:
		return EndOther
	}
}

// EndOfLoss is the reason of a connection that the broker has not ended.
func EndOfLoss(err error) End {
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
