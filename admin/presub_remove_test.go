package admin

import (
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestDeleteNamesItsTopics ends what the body or the query names, and all of the origin only when neither
// names any.
func TestDeleteNamesItsTopics(t *testing.T) {
	x := newDoor(t)
	brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	const path = "/api/v1/sessions/c1/subscriptions"
	left := func() string {
		t.Helper()
		_, text := x.do("GET", path, "")
		var names []string
		for _, part := range strings.Split(text, `{"topic":"`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			names = append(names, name)
		}
		return strings.Join(names, " ")
	}
	for _, origin := range []string{"", "s"} {
		x.want(200, "results", "PUT", path+"?origin="+origin,
			`{"topics":[{"topic":"a"},{"topic":"b"},{"topic":"c"},{"topic":"d"}]}`)
	}
	for _, tt := range []struct {
		query, body string
		status      int
		left        string
	}{
		{"", `{"topics":[{"topic":"a"}]}`, 200, "b c d a b c d"},
		{"?topic=b", `{"topics":[{"topic":"c"}]}`, 200, "d a b c d"},
		{"", `{"topics":[]}`, 400, "d a b c d"}, // not a way to say all
		{"", `{"topics":[],"origin":"s"}`, 400, "d a b c d"},
		{"?origin=s", `{"origin":"x"}`, 400, "d a b c d"},
		{"?origin=s&origin=x", "", 400, "d a b c d"},
		{"?origin=presub:x", "", 403, "d a b c d"},
		{"?origin=s&topic=a", "", 200, "d b c d"},
		{"?topic=nothing", "", 200, "d b c d"},
		{"?origin=s", `{"topics":[{"topic":"b"}],"origin":"s"}`, 200, "d c d"},
		{"?origin=s", "", 200, "d"},
		{"", `{}`, 200, ""},
	} {
		x.want(tt.status, "", "DELETE", path+tt.query, tt.body)
		if got := left(); got != tt.left {
			t.Errorf("DELETE %s %s leaves %q, want %q", tt.query, tt.body, got, tt.left)
		}
	}
}

// TestResultsInTheOrderOfTheRequest holds for PUT, DELETE and entries, refused topics among the others
// [MQTT-3.9.3-1]; what is removed without being named comes last.
func TestResultsInTheOrderOfTheRequest(t *testing.T) {
	x := newDoor(t)
	brokertest.Connect(t, x.addr, "c1", codec.V5, nil)
	const path = "/api/v1/sessions/c1/subscriptions"
	const list = `"topics":[{"topic":"z"},{"topic":"#/bad"},{"topic":"b"},{"topic":"+"},{"topic":"a"},{"topic":"z"}]`
	order := func(method, path, body, want string) {
		t.Helper()
		_, text := x.do(method, path, body)
		_, text, _ = strings.Cut(text, `"results":`)
		at := -1
		for name := range strings.FieldsSeq(want) {
			next := strings.Index(text, `"topic":"`+name+`"`)
			if next <= at {
				t.Errorf("%s %s: %s, want the order %s", method, body, text, want)
			}
			at = next
		}
	}
	order("PUT", path, "{"+list+"}", "z #/bad b + a")
	order("PUT", path, `{"topics":[{"topic":"z"},{"topic":"c"}]}`, "z c")
	order("PUT", path, `{"topics":[{"topic":"y"},{"topic":"c"}]}`, "y c z")
	order("DELETE", path+"?topic=y&topic=none&topic=c", "", "y none c")
	order("POST", "/api/v1/presub", `{"clientid":"c1","action":"subscribe",`+list+"}", "z #/bad b + a")
	order("POST", "/api/v1/presub", `{"clientid":"c2","action":"subscribe",`+list+"}", "z #/bad b + a") // pending
}

// TestRetryAfter is said with what is refused for the time being [RFC 9110, 10.2.3].
func TestRetryAfter(t *testing.T) {
	x := newDoor(t)
	for range jobsMax {
		x.door.jobs.list = append(x.door.jobs.list, &job{Principal: "crm", cancel: func() {}})
	}
	r := x.want(429, "100", "POST", "/api/v1/presub/jobs", `{"clientids":["a"],"action":"replace","topics":[]}`)
	if r.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
}
