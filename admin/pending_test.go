package admin

import (
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestPendingOverHTTP sees, lists and deletes what waits for clients and users that are not there; what is
// deleted does not come later.
func TestPendingOverHTTP(t *testing.T) {
	x := newDoor(t)
	path := func(id string) string { return "/api/v1/sessions/" + id + "/subscriptions" }
	const all = "/api/v1/presub/pending"
	const two = `{"topics":[{"topic":"a"},{"topic":"b","qos":1}]}`
	other := []string{"Authorization", "Bearer another-" + secret}
	x.want(200, "[]", "GET", all, "")
	for _, id := range []string{"c1", "c2", "c3", "c4"} {
		x.want(202, "pending", "PUT", path(id), two)
	}
	x.want(202, "pending", "PUT", path("c1")+"?origin=s", `{"topics":[{"topic":"s"}]}`)
	x.want(202, "pending", "PUT", path("c1"), `{"topics":[{"topic":"o"}]}`, other...)
	for _, name := range []string{"u1", "u2", "u3"} {
		x.want(200, "pending", "POST", "/api/v1/presub",
			`{"username":"`+name+`","action":"subscribe","topics":[{"topic":"a"},{"topic":"b"}]}`)
	}
	x.want(200, `"session":false,"connected":false,"revision":0,"origins":[],"pending":[{"clientid":"c1","origin":"api:crm","action":"replace","until":`,
		"GET", path("c1"), "")
	x.want(200, `"count":2,"topics":[{"topic":"a","qos":0},{"topic":"b","qos":1}]}`, "GET", path("c2"), "")
	x.want(200, `{"username":"u1","origin":"api:crm","action":"subscribe"`, "GET", all, "")
	x.want(200, `[{"clientid":"c1","origin":"api:other","action":"replace"`, "GET", all, "", other...)

	x.want(200, `[{"topic":"a","code":0,"state":"removed"},{"topic":"b","code":0,"state":"removed"}]`, "DELETE", path("c1"), "")
	x.want(200, `[{"topic":"a","code":0,"state":"removed"},{"topic":"z","code":17,"state":"absent"}]`, "DELETE", path("c2")+"?topic=a&topic=z", "")
	x.want(200, `"state":"removed"`, "PUT", path("c3"), `{"topics":[]}`)
	x.want(404, "no such session", "DELETE", path("c3"), "")
	x.want(404, "no such session", "GET", path("c3"), "")
	entry := func(name, rest string) string { return `{"username":"` + name + `",` + rest + "}" }
	x.want(200, `[{"topic":"a","code":0,"state":"removed"},{"topic":"b","code":0,"state":"removed"}]`, "POST", "/api/v1/presub",
		entry("u1", `"action":"replace","topics":[]`))
	x.want(200, `[{"topic":"b","code":0,"state":"removed"}]`, "POST", "/api/v1/presub",
		entry("u2", `"action":"unsubscribe","wait_seconds":0,"topics":[{"topic":"b"}]`))
	x.want(200, `"code":146`, "POST", "/api/v1/presub", entry("u1", `"action":"unsubscribe","topics":[{"topic":"a"}]`))

	for _, tt := range []struct{ id, user, part string }{
		{"c1", "", `{"origin":"client","topics":[]},{"origin":"api:other","revision":1,"topics":[{"topic":"o","qos":0}]},{"origin":"api:crm/s"`},
		{"c2", "", `"topics":[{"topic":"b","qos":1}]}]`},
		{"c3", "", `"origins":[{"origin":"client","topics":[]}]}`},
		{"c4", "", `"topics":[{"topic":"a","qos":0},{"topic":"b","qos":1}]}]`},
		{"d1", "u1", `"origins":[{"origin":"client","topics":[]}]}`},
		{"d2", "u2", `"topics":[{"topic":"a","qos":0}]}],"pending":[{"username":"u2"`}, // and for her next one
		{"d3", "u3", `"topics":[{"topic":"a","qos":0},{"topic":"b","qos":0}]}]`},
	} {
		brokertest.Connect(t, x.addr, tt.id, codec.V5, func(p *codec.Connect) {
			p.HasUsername, p.Username = tt.user != "", []byte(tt.user)
		})
		x.want(200, tt.part, "GET", path(tt.id), "")
	}
}
