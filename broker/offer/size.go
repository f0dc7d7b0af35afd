package offer

import (
	"math"

	"noctule/codec"
)

// Packets that are not PUBLISH are small; so are their limits, as Mosquitto's. CONNECT, AUTH, SUBSCRIBE and
// UNSUBSCRIBE have the larger one.
const (
	listSizeMax    = 100000
	controlSizeMax = 10000
)

// CheckSize holds a packet against Maximum Packet Size [MQTT-3.2.2-15], 0 for none, before its body is read.
func CheckSize(h codec.Header, most uint32) error {
	limit := math.MaxInt
	switch h.Type {
	case codec.PUBLISH:
	case codec.SUBSCRIBE, codec.UNSUBSCRIBE, codec.CONNECT, codec.AUTH:
		limit = listSizeMax
	default:
		limit = controlSizeMax
	}
	if n := int(most); n > 0 {
		limit = min(limit, n)
	}
	if h.Size+h.Len > limit {
		return &codec.Error{
			Reason: codec.PacketTooLarge, Packet: h.Type, Detail: "larger than Maximum Packet Size",
		}
	}
	return nil
}
