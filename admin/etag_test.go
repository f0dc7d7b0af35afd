package admin

import (
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestETagChangesWithTheBody: also when the client subscribes itself, unsubscribes, or goes.
func TestETagChangesWithTheBody(t *testing.T) {
	x := newDoor(t)
	c := brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	const path = "/api/v1/sessions/c1/subscriptions"
	seen := map[string]bool{}
	fresh := func() string {
		t.Helper()
		tag := x.want(200, "", "GET", path, "").Header.Get("ETag")
		if seen[tag] {
			t.Errorf("%s again", tag)
		}
		seen[tag] = true
		if again := x.want(304, "", "GET", path, "", "If-None-Match", `"x", W/`+tag); again.Header.Get("ETag") != tag {
			t.Errorf("%s, then %s", tag, again.Header.Get("ETag"))
		}
		return tag
	}
	fresh()
	x.want(200, "", "PUT", path, `{"topics":[{"topic":"a"},{"topic":"b"},{"topic":"d"}]}`)
	fresh()
	c.Subscribe("own", 0)
	fresh()
	c.Send(&codec.Unsubscribe{PacketID: 3, Filters: [][]byte{[]byte("a"), []byte("b"), []byte("d")}})
	c.Want(codec.UNSUBACK, nil)
	tag := fresh()
	x.want(200, "", "GET", path, "", "If-None-Match", `"x"`)
	x.want(412, "another", "PUT", path, `{"topics":[]}`, "If-Match", "W/"+tag)
	c.Subscribe("more", 0)
	x.want(412, "another", "PUT", path, `{"topics":[]}`, "If-Match", tag) // it is another body
	x.want(200, "removed", "PUT", path, `{"topics":[]}`, "If-Match", `"none" , `+fresh()+`,W/"1"`)
}

// TestIfMatch has lists, weak tags and revisions [RFC 9110, 13.1.1].
func TestIfMatch(t *testing.T) {
	x := newDoor(t)
	const path = "/api/v1/sessions/c1/subscriptions"
	x.want(202, "pending", "PUT", path, `{"topics":[{"topic":"w"}]}`, "If-Match", `"0"`)
	brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	tag := x.want(200, "", "PUT", path, `{"topics":[{"topic":"a"}]}`).Header.Get("ETag")
	for value, status := range map[string]int{
		tag: 200, `"99", ` + tag: 200, `"a,b",` + tag: 200, ", ," + tag: 200, "*": 200,
		"W/" + tag: 412, `"99"`: 412, `"99", W/` + tag: 412, `"a,` + "1" + `"`: 412, `"7-00"`: 412,
		"x": 400, `"1`: 400, `"1"x`: 400, "W/1": 400, ",": 400, `* , "1"`: 400,
	} {
		x.want(status, "", "PUT", path, `{"topics":[{"topic":"a"}]}`, "If-Match", value)
	}
}
