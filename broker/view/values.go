package view

import (
	"net/netip"
	"time"

	"noctule/codec"
)

// Client is a session, and its connection if there is one, as they were when they were asked.
type Client struct {
	ID        string
	Username  string
	Connected bool
	// Address is the client's, zero while offline, for unix sockets and pipes; Listener is where it came in.
	Address   netip.AddrPort
	Listener  string
	Version   codec.Version
	KeepAlive time.Duration // 0: none
	WebSocket bool
	TLS       bool
	Bridge    bool
	Will      bool // it has one that is still to come
	// Expiry is how long the session outlives its connection, SessionForever for no end. OfflineSince is when
	// that began, to the second, zero while connected.
	Expiry       time.Duration
	OfflineSince time.Time
	Stored       bool // the session survives a restart

	Subscriptions int   // its own
	Granted       int   // made by servers
	Queued        int   // messages that wait
	QueuedBytes   int64 // their payloads
	QueueFull     bool  // no more may wait
	Inflight      int   // sent, and not acknowledged
}

// SessionForever is the Expiry of a session that does not end by itself.
const SessionForever = time.Duration(1<<63 - 1)

// Subscription is one that a client has made.
type Subscription struct {
	Filter            string // as the broker knows it, with the mount point, and $share/ if it is shared
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	Identifier        uint32 // 0: none
}

// Share is a shared subscription.
type Share struct {
	Group, Filter string
	Members       int
}
