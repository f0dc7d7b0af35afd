package reason

// Drop names why a message was not delivered to one receiver.
type Drop uint8

// The reasons a message is dropped for one receiver.
const (
	DropQueueFull    Drop = iota // max_queued_messages or max_queued_bytes reached
	DropSlowReceiver             // QoS 0 to a client whose output buffer is full
	DropExpired                  // Message Expiry Interval passed
	DropTooLarge                 // larger than the client's Maximum Packet Size
	DropOffline                  // QoS 0 to an offline member, or none of a shared group is online
	DropMemory                   // memory_limit: the message would have had to be kept
	DropDenied                   // an ACL denies it: to a receiver, or to be published at all
	Drops                        // number of reasons
)

// String is the label value in the metrics.
func (r Drop) String() string {
	return [...]string{
		"queue_full", "slow_receiver", "expired", "too_large", "offline", "memory", "denied",
	}[r]
}
