package broker

import (
	"log/slog"
	"time"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/behalf"
	"noctule/broker/line"
	"noctule/broker/listener"
	"noctule/broker/store"
	"noctule/broker/tally"
	"noctule/codec"
	"noctule/wsnet"
)

// Options are the broker's global settings. The zero value is not useful: start from DefaultOptions. Those
// marked reload:"yes" can change while the broker runs: see Reload.
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
	// limit. One message may exceed it.
	MaxQueuedBytes int64
	// MaxBufferedBytes is the output one client may leave unread before QoS 0 messages to it are dropped
	// and QoS 1 and 2 messages wait in its queue.
	MaxBufferedBytes int
	// MaxPacketSize is the largest packet accepted, in bytes; 0 means the protocol's own limit.
	MaxPacketSize uint32
	// MessageSizeLimit is the largest payload accepted, in bytes; 0 means no limit.
	MessageSizeLimit uint32 `reload:"yes"`
	// MaxKeepAlive is the largest keep alive accepted, in seconds; 0 means no limit.
	MaxKeepAlive uint16
	// RetainAvailable says whether retained messages are kept.
	RetainAvailable bool
	// PersistentClientExpiration caps the session expiry interval; 0 means no cap.
	PersistentClientExpiration time.Duration `reload:"yes"`
	// QueueQoS0 also queues QoS 0 messages for offline sessions.
	QueueQoS0 bool `reload:"yes"`
	// UpgradeOutgoingQoS delivers at the subscription's QoS even when the message was published with less.
	UpgradeOutgoingQoS bool `reload:"yes"`
	// AllowDuplicates delivers one copy per matching subscription to MQTT 3 clients too.
	AllowDuplicates bool `reload:"yes"`
	// MaxSubscriptions bounds the subscriptions of one session, those made by servers included; 0 means no
	// limit.
	MaxSubscriptions int `reload:"yes"`
	// MemoryLimit is how many bytes the process may use before new connections and messages that would be
	// kept are refused; 0 means no limit. The collector's own limit is the program's to set.
	MemoryLimit int64 `reload:"yes"`
	// MemoryUsed measures it; nil asks the Go runtime.
	MemoryUsed func() int64

	// ClientIDPrefixes is what each client id must start with.
	ClientIDPrefixes string `reload:"yes"`
	// OtherUsers says what happens to a CONNECT with the client id of another user's session.
	OtherUsers OtherUsers `reload:"yes"`
	// GlobalMaxClients bounds the sessions, those that are offline included; 0 or less means no limit.
	GlobalMaxClients int
	// CheckRetainSource asks at each delivery of a retained message whether its publisher may still write
	// there.
	CheckRetainSource bool
	// Hashing bounds what checking passwords costs.
	Hashing auth.PoolConfig

	// SysInterval is the time between updates of the $SYS tree, in whole seconds; 0 turns the tree off.
	SysInterval time.Duration `reload:"yes"`
	// Version is what $SYS/broker/version says after "mosquitto version ". That of noctule itself, which
	// $SYS/broker/noctule/version says, is known to the program.
	Version string

	// MaxConnections closes connections over this number, of all listeners, at accept; 0 or less means no
	// limit.
	MaxConnections int

	// MaxInput is how many bytes of packets that are not complete all connections together may hold; 512 MiB
	// by default, or a quarter of MemoryLimit where that is less. The largest of the address with most ends.
	MaxInput int64 `reload:"yes"`

	// ConnectionMessages logs clients that connect and disconnect.
	ConnectionMessages bool `reload:"yes"`
	// Features are parts of the program that add to these options, in order; see Feature. Reload keeps those
	// that New was given.
	Features []Feature
	// Stored are tables that features have. Reload keeps those that New was given.
	Stored []Stored
	// Admitters are asked, in order, about each CONNECT that is acceptable otherwise, off the loops.
	Admitters []Admitter `reload:"yes"`
	// MaxAdmissions is how many CONNECTs may wait for their password to be checked and for Admitters, 16 384
	// by default; a large CONNECT counts for several, 16 KB each. An address has an eighth at most, unless it
	// is of this machine; when all are taken, the newest of the address with most hears that the server is
	// busy.
	MaxAdmissions int

	// Controls take messages over that clients publish to topics which begin with "$", before anybody else
	// sees them; by topic.
	Controls map[string]ControlFunc
	// Guard, when not nil, is asked whether a client may publish a message: Success, NotAuthorized, or
	// QuotaExceeded when there is no room for it, of which it has told those who wait for an answer.
	// ServerBusy says that it could not even do that: then the message is not acknowledged to a client that
	// could not be told. It runs on an event loop, on loans, and must not block.
	Guard func(username string, topic, payload []byte) codec.Reason
	// Private are topics that only some may read.
	Private auth.Privates `reload:"yes"`
	// Describe writes what a client hears about its subscriptions on $me/subscriptions; count is the number
	// of
	// topics, which are left out if they are very many. It runs on an event loop. nil: clients hear nothing.
	Describe func(l *behalf.Listing, count int) []byte
	// Ended hears of subscriptions made on behalf of clients that have ended by themselves. It runs on a
	// goroutine of its own and may block. nil: nobody does.
	Ended func(behalf.Ended)
	// RequestsByUsername keeps the index of sessions by username that requests on behalf of a user need.
	RequestsByUsername bool
	// MaxPending and MaxPendingBytes bound the requests that wait for their clients to connect: their number,
	// and the bytes of their filters.
	MaxPending      int   `reload:"yes"`
	MaxPendingBytes int64 `reload:"yes"`
	// MaxQueuedMemory is how many payload bytes the queues of stored sessions may hold in memory, a message
	// counted in each queue; what is beyond stays in the Store until its client can take it. Then the Store
	// must be a store.Reader. 0 keeps all in memory.
	MaxQueuedMemory int64
	// Store keeps persistent sessions and retained messages across restarts; nil keeps them in memory. It is
	// the broker's alone until Shutdown has returned, and is not closed by it.
	Store store.Store
	// PersistenceSync says when what is acknowledged is durable.
	PersistenceSync PersistenceSync

	// atStart, if a test sets it, is called before each step of the start with a store; its error is the
	// step's.
	atStart func(step string) error

	// Clock is the system's by default.
	Clock *wsnet.Clock
	// Log receives whole lines in Mosquitto's words as messages; its handler filters by the levels below.
	Log *slog.Logger
	// FlushLog returns when what Log has taken is written, or after a time that it bounds: a panic that ends
	// the process waits for it. nil: Log writes at once.
	FlushLog func()
}

// Log levels, one per log_type of Mosquitto, in slog's order; see broker/line.
const (
	LevelInternal    = line.Internal
	LevelDebug       = line.Debug
	LevelUnsubscribe = line.Unsubscribe
	LevelSubscribe   = line.Subscribe
	LevelWebSockets  = line.WebSockets
	LevelInfo        = line.Info
	LevelNotice      = line.Notice
	LevelWarning     = line.Warning
	LevelError       = line.Error
)

// Metrics is a snapshot of the broker's counters and gauges, summed over its loops.
type Metrics = tally.Metrics

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

// maxInput is MaxInput or its default.
func (o *Options) maxInput() int64 {
	n := o.MaxInput
	if n <= 0 {
		n = 512 << 20
	}
	if o.MemoryLimit > 0 {
		n = min(n, o.MemoryLimit/4)
	}
	return n
}

// Admitter answers for a CONNECT, off the loops.
type Admitter = admit.Admitter

// Admission is a CONNECT that waits for an answer.
type Admission = admit.Admission

// AdmissionStats tell of CONNECTs that wait for an answer.
type AdmissionStats = admit.Stats

// OtherUsers says what happens to a CONNECT with the client id of another user's session.
type OtherUsers = admit.OtherUsers

// The values of other_user_session; see admit.OtherUsers.
const (
	FreshSession  = admit.FreshSession
	RefuseSession = admit.RefuseSession
	ResumeSession = admit.ResumeSession
)

// ListenerOptions are the settings of one listener. Start from DefaultListenerOptions.
type ListenerOptions = listener.Options

// DefaultListenerOptions are those of Mosquitto 2.1 for a `listener` line: no anonymous clients.
func DefaultListenerOptions() ListenerOptions { return listener.DefaultOptions() }

// Control is a PUBLISH to a topic below $CONTROL/ that a part of the program has taken over. It may be kept.
type Control struct {
	ClientID, Username string
	// Allowed says that an access rule lets the client publish there; without any rules nothing does.
	Allowed       bool
	Topic         string
	Payload       []byte
	ResponseTopic string // MQTT 5; "" none
	MayAnswer     bool   // the client itself may publish on ResponseTopic
	Correlation   []byte // MQTT 5 Correlation Data; nil none
}

// ControlFunc takes a Control over; it runs on an event loop and must not block. The reason is the
// publisher's acknowledgement.
type ControlFunc func(c *Control) codec.Reason

// Feature is a part of the program beside the broker, such as pre-subscription: it has its say in the
// options, and does the rest by the broker's doors. Options.Features has them.
type Feature interface {
	// Options adds to the options what the feature needs: hooks, limits. New calls it before anything else,
	// and Reload again, on what it was given, for those options that Reload replaces; what the feature wants
	// by then it has been told by the program before. It may add to lists and maps, and must not keep o.
	Options(o *Options)
	// Attach gives the feature the broker at the end of New, which has its loops and its state by then, but
	// no listener. Its error is New's. The feature is the program's to close, after Shutdown.
	Attach(b *Broker) error
}

// Stored is a table of Options.Store that belongs to a feature: New shows what is in it before Attach.
type Stored struct {
	Table store.Table
	// Take gets each record. The bytes are a loan that ends with the call.
	Take func(key, value []byte)
}
