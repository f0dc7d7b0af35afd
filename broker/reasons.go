package broker

import "noctule/broker/reason"

// Why connections end, CONNECTs are refused and messages are dropped: the reasons are told in broker/reason,
// and these are their names here.
type (
	EndReason     = reason.End
	RefusalReason = reason.Refusal
	DropReason    = reason.Drop
)

// The numbers of reasons.
const (
	EndReasons     = reason.Ends
	RefusalReasons = reason.Refusals
	DropReasons    = reason.Drops
)

// The reasons.
const (
	EndByClient       = reason.EndByClient
	EndLost           = reason.EndLost
	EndKeepAlive      = reason.EndKeepAlive
	EndTakenOver      = reason.EndTakenOver
	EndMalformed      = reason.EndMalformed
	EndProtocol       = reason.EndProtocol
	EndTooLarge       = reason.EndTooLarge
	EndReceiveMaximum = reason.EndReceiveMaximum
	EndNotAuthorized  = reason.EndNotAuthorized
	EndNotSupported   = reason.EndNotSupported
	EndQuota          = reason.EndQuota
	EndMemory         = reason.EndMemory
	EndStore          = reason.EndStore
	EndAdministrative = reason.EndAdministrative
	EndExpired        = reason.EndExpired
	EndBanned         = reason.EndBanned
	EndShutdown       = reason.EndShutdown
	EndOther          = reason.EndOther

	RefusedNotAuthorized = reason.RefusedNotAuthorized
	RefusedVersion       = reason.RefusedVersion
	RefusedClientID      = reason.RefusedClientID
	RefusedKeepAlive     = reason.RefusedKeepAlive
	RefusedMalformed     = reason.RefusedMalformed
	RefusedProtocol      = reason.RefusedProtocol
	RefusedNotConnect    = reason.RefusedNotConnect
	RefusedTooLarge      = reason.RefusedTooLarge
	RefusedNotSupported  = reason.RefusedNotSupported
	RefusedBusy          = reason.RefusedBusy
	RefusedQuota         = reason.RefusedQuota
	RefusedMemory        = reason.RefusedMemory
	RefusedUnavailable   = reason.RefusedUnavailable
	RefusedTimeout       = reason.RefusedTimeout
	RefusedShutdown      = reason.RefusedShutdown
	RefusedBanned        = reason.RefusedBanned
	RefusedOther         = reason.RefusedOther

	DropQueueFull    = reason.DropQueueFull
	DropSlowReceiver = reason.DropSlowReceiver
	DropExpired      = reason.DropExpired
	DropTooLarge     = reason.DropTooLarge
	DropOffline      = reason.DropOffline
	DropMemory       = reason.DropMemory
	DropDenied       = reason.DropDenied
)
