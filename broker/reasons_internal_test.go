package broker

import (
	"testing"

	"noctule/broker/reason"
	"noctule/codec"
)

// TestStoreHasAReason: MQTT has no code of its own for a store that fails.
func TestStoreHasAReason(t *testing.T) {
	if got := reason.EndOfError(errStore(codec.PUBLISH)); got != EndStore {
		t.Errorf("store: %s", got)
	}
	if r := reason.Of(errStore(codec.PUBLISH)); r != codec.QuotaExceeded {
		t.Errorf("store: %s", r)
	}
}
