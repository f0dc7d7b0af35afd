package offer

import (
	"testing"

	"noctule/codec"
)

// A PUBLISH has the limit of the settings alone, others theirs where that is less; the header counts.
func TestCheckSize_MQTT_3_2_2_15(t *testing.T) {
	for i, x := range []struct {
		kind codec.Type
		size int
		most uint32
		ok   bool
	}{
		{codec.PUBLISH, 1 << 20, 0, true},
		{codec.PUBLISH, 1000, 1000, true},
		{codec.PUBLISH, 1001, 1000, false},
		{codec.SUBSCRIBE, listSizeMax, 0, true},
		{codec.UNSUBSCRIBE, listSizeMax + 1, 1 << 20, false},
		{codec.CONNECT, 1001, 1000, false},
		{codec.PUBACK, controlSizeMax, 0, true},
		{codec.PINGREQ, controlSizeMax + 1, 0, false},
	} {
		if err := CheckSize(codec.Header{Type: x.kind, Size: 3, Len: x.size - 3}, x.most); (err == nil) != x.ok {
			t.Errorf("%d: %v", i, err)
		}
	}
}
