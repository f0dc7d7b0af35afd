package broker

import (
	"log/slog"
	"time"

	"noctule/wsnet"
)

// Options are the broker's global settings. The zero value is not useful: start from DefaultOptions.
type Options struct {
	// Loops is the number of event loops; 0 means one per processor, at most 64.
	Loops int
	// Portable selects the goroutine-per-connection poller where epoll exists too.
	Portable bool

	// MaxInflight is the number of QoS 1 and 2 messages that may be in flight to one client; 0 means no
	// limit. It is also the Receive Maximum told to MQTT 5 clients.
	MaxInflight uint16
	// MaxInflightBytes bounds the payload bytes in flight to one client; 0 means no limit. One message may
	// exceed it.
	MaxInflightBytes int64
	// MaxQueuedMessages is the number of messages that may wait behind the window of one client; 0 means no
	// limit.
	MaxQueuedMessages int
	// MaxQueuedBytes bounds the payload bytes that may wait behind the window of one client; 0 means no
	// limit.
	MaxQueuedBytes int64
	// MaxBufferedBytes is the output one client may leave unread before QoS 0 messages to it are dropped
	// and QoS 1 and 2 messages wait in its queue.
	MaxBufferedBytes int
	// MaxPacketSize is the largest packet accepted, in bytes; 0 means the protocol's own limit.
	MaxPacketSize uint32
	// MessageSizeLimit is the largest payload accepted, in bytes; 0 means no limit.
	MessageSizeLimit uint32
	// MaxKeepAlive is the largest keep alive accepted, in seconds; 0 means no limit.
	MaxKeepAlive uint16
	// RetainAvailable says whether retained messages are kept.
	RetainAvailable bool
	// PersistentClientExpiration caps the session expiry interval; 0 means no cap.
	PersistentClientExpiration time.Duration
	// QueueQoS0 also queues QoS 0 messages for offline sessions.
	QueueQoS0 bool
	// UpgradeOutgoingQoS delivers at the subscription's QoS even when the message was published with less.
	UpgradeOutgoingQoS bool
	// AllowDuplicates delivers one copy per matching subscription to MQTT 3 clients too.
	AllowDuplicates bool
	// MaxSubscriptions bounds the subscriptions of one session; 0 means no limit.
	MaxSubscriptions int

	// SysInterval is the time between updates of the $SYS tree, in whole seconds; 0 turns the tree off.
	SysInterval time.Duration
	// Version is what $SYS/broker/version says after "mosquitto version ".
	Version string

	// ConnectionMessages logs clients that connect and disconnect.
	ConnectionMessages bool
	// Admitters are asked, in order, about each CONNECT that is acceptable otherwise, off the loops.
	Admitters []Admitter

	// Controls take messages over that clients publish to topics which begin with "$", before anybody else
	// sees them; by topic.
	Controls map[string]ControlFunc
	// RequestsByUsername keeps the index of sessions by username that requests on behalf of a user need.
	RequestsByUsername bool
	// MaxPending and MaxPendingBytes bound the requests that wait for their clients to connect: their number,
	// and the bytes of their filters.
	MaxPending      int
	MaxPendingBytes int64

	// Clock is the system's by default.
	Clock *wsnet.Clock
	// Log receives whole lines in Mosquitto's words as messages; its handler filters by the levels below.
	Log *slog.Logger
}

// Log levels, one per log_type of Mosquitto, in slog's order.
const (
	LevelDebug       = slog.LevelDebug     // log_type debug
	LevelUnsubscribe = slog.LevelDebug + 1 // log_type unsubscribe
	LevelSubscribe   = slog.LevelDebug + 2 // log_type subscribe
	LevelInfo        = slog.LevelInfo      // log_type information
	LevelNotice      = slog.LevelInfo + 2  // log_type notice
	LevelWarning     = slog.LevelWarn      // log_type warning
	LevelError       = slog.LevelError     // log_type error
)

// DefaultOptions are those of Mosquitto 2.1 without a configuration file.
func DefaultOptions() Options {
	return Options{
		MaxInflight:        20,
		MaxQueuedMessages:  1000,
		MaxBufferedBytes:   1 << 20,
		MaxPacketSize:      2000000,
		RetainAvailable:    true,
		AllowDuplicates:    true,
		SysInterval:        10 * time.Second,
		Version:            "2.1.2",
		ConnectionMessages: true,
		MaxPending:         10000,
		MaxPendingBytes:    16 << 20,
		Log:                slog.New(slog.DiscardHandler),
	}
}

// ListenerOptions are the settings of one listener. Start from DefaultListenerOptions.
type ListenerOptions struct {
	// Net says where to listen and with which transport. Tag and OnRefuse belong to the broker.
	Net wsnet.ListenerConfig

	// AllowAnonymous admits clients that send no username.
	AllowAnonymous bool
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

// DefaultListenerOptions are those of Mosquitto 2.1 for a `listener` line: no anonymous clients.
func DefaultListenerOptions() ListenerOptions {
	return ListenerOptions{
		AllowZeroLengthClientID: true,
		AutoIDPrefix:            "auto-",
		MaxQoS:                  2,
		MaxTopicAlias:           10,
		MaxTopicAliasBroker:     10,
	}
}
