package admin

import (
	"fmt"
	"testing"

	"noctule/codec"
)

// TestCodeIsWhatIsInEffect: the QoS of an answer is that by which messages come, with the client's own subscription,
// or that of an earlier origin, before the one that was asked for.
func TestCodeIsWhatIsInEffect(t *testing.T) {
	x := newDoor(t)
	c := x.as("c1", "")
	c.Subscribe("own", 0)
	put := func(origin, topic string, qos, code int, state string) {
		t.Helper()
		x.want(200, fmt.Sprintf(`{"topic":"%s","code":%d,"state":"%s"}`, topic, code, state), "POST", "/api/v1/presub",
			fmt.Sprintf(`{"clientid":"c1","origin":"%s","action":"subscribe","topics":[{"topic":"%s","qos":%d}]}`, origin, topic, qos))
	}
	put("first", "own", 2, 0, "existing")
	put("first", "a", 1, 1, "new")
	put("first", "a", 2, 2, "existing")
	put("second", "a", 0, 2, "existing")
	put("second", "b", 1, 1, "new")
	put("first", "b", 2, 2, "existing") // the earlier origin's comes first from now on
	put("second", "b", 0, 2, "existing")
	c.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("a")}})
	c.Want(codec.UNSUBACK, &codec.Unsuback{})
	put("second", "a", 0, 0, "new") // the other is muted
}
