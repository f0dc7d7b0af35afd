package reason

import (
	"errors"

	"noctule/codec"
	"noctule/wsnet"
)

// CloseText is the sentence part with which Mosquitto's log ends "Client ID [address] disconnected: ".
func CloseText(r codec.Reason) string {
	switch r {
	case codec.MalformedPacket:
		return "malformed packet"
	case codec.ProtocolError, codec.TopicAliasInvalid, codec.ReceiveMaximumExceeded:
		return "protocol error"
	case codec.PacketTooLarge:
		return "oversize packet"
	case codec.SessionTakenOver:
		return "session taken over"
	case codec.AdministrativeAction:
		return "administrative action"
	case codec.NotAuthorized:
		return "not authorised"
	case codec.QoSNotSupported, codec.RetainNotSupported, codec.BadAuthenticationMethod:
		return "used disallowed feature (QoS too high, retain not supported, or bad AUTH method)"
	case codec.KeepAliveTimeout:
		return "exceeded timeout"
	case codec.QuotaExceeded:
		return "quota exceeded"
	case codec.ServerBusy:
		return "server busy"
	case codec.MaximumConnectTime:
		return "login expired"
	case codec.Banned:
		return "banned"
	default:
		return "unspecified error"
	}
}

// RefusalText is CloseText for CONNECT.
func RefusalText(r codec.Reason) string {
	switch r {
	case codec.BadUserNameOrPassword:
		return "not authorised"
	case codec.UnsupportedProtocolVersion, codec.ClientIdentifierNotValid, codec.UnspecifiedError:
		return "protocol error"
	default:
		return CloseText(r)
	}
}

// LossText is CloseText for a connection that the broker did not end; "" if it ends as a whole.
func LossText(err error) string {
	switch {
	case errors.Is(err, wsnet.ErrServerClosed):
		return ""
	case errors.Is(err, wsnet.ErrProtocol):
		return "protocol error"
	case errors.Is(err, wsnet.ErrInputGaveWay), errors.Is(err, wsnet.ErrPending):
		return CloseText(codec.QuotaExceeded)
	case errors.Is(err, wsnet.ErrGaveWay):
		return CloseText(codec.ServerBusy)
	default: // whatever way it broke
		return "connection closed by client"
	}
}
