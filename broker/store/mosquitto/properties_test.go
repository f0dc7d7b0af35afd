package mosquitto_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"noctule/broker/store/mosquitto"
	"noctule/codec"
)

// Each property of a message has a name in the exchange format: one that codec forwards and that is not here is
// lost on an export.
func TestEachPropertyHasAName(t *testing.T) {
	values := [][]byte{{1}, {0, 1}, {0, 0, 0, 1}, {0x81, 1}, {0, 2, 't', '1'}, {0, 1, 'k', 0, 1, 'v'}}
	for id := range codec.PropertyID(128) {
		if !id.Forwarded() {
			continue
		}
		kept := false
		for _, value := range values {
			p := append(codec.Properties{byte(id)}, value...)
			raw, err := json.Marshal(mosquitto.Properties(p))
			var back mosquitto.Properties
			if err == nil {
				err = json.Unmarshal(raw, &back)
			}
			kept = kept || err == nil && bytes.Equal(back, p)
		}
		if !kept {
			t.Errorf("property %d of a message is lost", id)
		}
	}
}
