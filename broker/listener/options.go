package listener

import (
	"crypto/tls"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// Options are the settings of one listener. Start from DefaultOptions.
type Options struct {
	// Net says where to listen and with which transport; wsnet.PipeNetwork is for clients of this process
	// only, and its address a name. Tag and OnRefuse belong to the broker.
	Net wsnet.ListenerConfig

	// Policy says who may connect and what they may do. It is read-only; Reload replaces it as a whole.
	Policy *auth.Policy
	// AllowAnonymous admits everybody; it counts only without a Policy.
	AllowAnonymous bool
	// Revoked tells certificates that have been revoked since their client's handshake; nil none. It is
	// called on the loops.
	Revoked func(*tls.ConnectionState) bool
	// UseIdentityAsUsername makes the common name of the client's certificate its username, without a
	// password; UseSubjectAsUsername the whole subject. On listeners without TLS they mean nothing.
	UseIdentityAsUsername, UseSubjectAsUsername bool
	// UseUsernameAsClientID makes the username the client id; clients without one are refused.
	UseUsernameAsClientID bool
	// MountPoint is put before each topic of the clients, without a slash, and taken off what they receive.
	MountPoint string
	// AcceptVersions are the protocol levels that may connect; 0 means all.
	AcceptVersions Versions
	// AllowZeroLengthClientID gives clients without a client id a generated one.
	AllowZeroLengthClientID bool
	// AutoIDPrefix starts each generated client id.
	AutoIDPrefix string
	// MaxQoS is the highest QoS for publishing and subscribing on this listener, 0 to 2.
	MaxQoS uint8
	// MaxTopicAlias is the number of topic aliases a client may use towards the broker.
	MaxTopicAlias uint16
	// MaxTopicAliasBroker is the number of topic aliases the broker uses towards a client that offers them.
	MaxTopicAliasBroker uint16
}

// Versions is a set of protocol levels, a bit for each.
type Versions uint8

// VersionsOf is a set.
func VersionsOf(list ...codec.Version) Versions {
	var s Versions
	for _, v := range list {
		s |= 1 << v
	}
	return s
}

// Has reports whether v may connect.
func (s Versions) Has(v codec.Version) bool { return s == 0 || s>>v&1 != 0 }

// DefaultOptions are those of Mosquitto 2.1 for a `listener` line: no anonymous clients.
func DefaultOptions() Options {
	return Options{
		AllowZeroLengthClientID: true,
		AutoIDPrefix:            "auto-",
		MaxQoS:                  2,
		MaxTopicAlias:           10,
		MaxTopicAliasBroker:     10,
	}
}
