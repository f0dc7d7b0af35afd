package admin

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"noctule/broker/brokertest"
)

// TestSubscriptionsExpire: all doors of HTTP take when topics end, answers are as they are described, a listing has
// the same tag until something ends, and its topics may be sent back as they are.
func TestSubscriptionsExpire(t *testing.T) {
	x := newDoor(t)
	w := newWitness(t, x)
	x.as("c1", "u1")
	const sub = "/api/v1/sessions/c1/subscriptions"
	get := func() (l listing, tag string) {
		t.Helper()
		tag = w.call(200, "GET", sub, "").Header.Get("ETag")
		_, text := x.do("GET", sub, "")
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		return l, tag
	}
	w.call(200, "PUT", sub, `{"expires_in":"1h","topics":[{"topic":"a","qos":1},{"topic":"b","expires_in":7200}]}`)
	l, tag := get()
	topics := l.Origins[1].Topics
	for i, in := range []time.Duration{time.Hour, 2 * time.Hour} {
		left := time.Until(time.Unix(int64(topics[i].ExpiresAt), 0))
		if left < in-brokertest.Timeout || left > in+2*time.Second || topics[i].ExpiresIn != 0 {
			t.Errorf("%+v: %s are left", topics[i], left)
		}
	}
	back, err := json.Marshal(map[string]any{"topics": topics})
	if err != nil {
		t.Fatal(err)
	}
	w.call(200, "PUT", sub, string(back), "If-Match", tag)
	if again, other := get(); again.Revision != l.Revision || other != tag {
		t.Errorf("revision %d, then %d; %s, then %s", l.Revision, again.Revision, tag, other)
	}
	w.call(200, "GET", "/api/v1/presub/explain?clientid=c1&topic=a", "")
	w.call(200, "DELETE", sub, string(back))
	if left, _ := get(); len(left.Origins[1].Topics) != 0 {
		t.Errorf("%+v", left.Origins)
	}
	w.call(202, "PUT", "/api/v1/sessions/late/subscriptions", `{"expires_in":60,"topics":[{"topic":"a"}]}`)
	w.call(200, "GET", "/api/v1/sessions/late/subscriptions", "")
	w.call(200, "GET", "/api/v1/presub/pending", "")
	for _, body := range []string{`{"expires_in":0,"topics":[]}`, `{"expires_in":"soon","topics":[]}`, `{"expires_at":5,"topics":[]}`} {
		w.call(400, "PUT", sub, body)
	}
	w.call(400, "DELETE", sub, `{"expires_in":5,"topics":[{"topic":"a"}]}`)
	w.call(400, "POST", "/api/v1/presub/move", `{"origin":"api:crm","from":[{"topic":"a","expires_in":5}],"to":[]}`)
	w.call(200, "POST", "/api/v1/presub", `{"clientid":"c1","action":"replace","expires_in":1,"topics":[{"topic":"soon"}]}`)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // by the system's clock
		if l, _ = get(); len(l.Origins[1].Topics) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", l.Origins)
		}
	}
}

// TestJobsExpireTogether: what a job gives ends at one time for all its targets, and is one list.
func TestJobsExpireTogether(t *testing.T) {
	x := newDoor(t)
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("c", i))
		x.as(ids[i], "")
	}
	targets, _ := json.Marshal(ids)
	at := x.want(202, "", "POST", "/api/v1/presub/jobs",
		`{"clientids":`+string(targets)+`,"action":"replace","expires_in":"24h","topics":[{"topic":"a"},{"topic":"b"}]}`).Header.Get("Location")
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, text := x.do("GET", at, ""); strings.Contains(text, `"done":50`) {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(text)
		}
	}
	if m := brokertest.Settle(t, x.b); m.Granted != 100 || m.Sets > int64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%d topics, %d sets", m.Granted, m.Sets)
	}
	if n := x.log.count(`expires_in \"24h0m0s\", targets 50`); n != 1 {
		t.Errorf("%d lines", n)
	}
	x.want(400, "not for unsubscribe", "POST", "/api/v1/presub/jobs",
		`{"clientids":["c1"],"action":"unsubscribe","expires_in":5,"topics":[{"topic":"a"}]}`)
}
