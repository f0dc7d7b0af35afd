package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// auditLog is a log that the test reads.
type auditLog struct {
	mu  sync.Mutex
	buf strings.Builder
}

// Write implements io.Writer.
func (l *auditLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// count is how many lines have a part.
func (l *auditLog) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

// TestRefusedCallsAreAudited has a line and a count for each way to be refused at this door, once each.
func TestRefusedCallsAreAudited(t *testing.T) {
	x := newDoor(t)
	const path = "/api/v1/sessions/c1/subscriptions"
	x.want(400, "", "PUT", path, "{")
	x.want(400, "", "DELETE", path, `{"topics":[]}`)
	x.want(400, "", "POST", "/api/v1/presub", "[")
	x.want(400, "", "POST", "/api/v1/presub/jobs", "{}")
	x.want(413, "", "PUT", path, strings.Repeat(" ", bodyMax+1))
	x.want(202, "", "PUT", path, `{"topics":[{"topic":"a"}]}`, "Idempotency-Key", "k")
	x.want(422, "", "PUT", path, `{"topics":[]}`, "Idempotency-Key", "k")
	x.want(403, "", "PUT", path, `{"topics":[],"origin":"presub:x"}`)
	x.want(403, "", "POST", "/api/v1/presub/move", `{"origin":"presub:x","from":[{"topic":"a"}],"to":[]}`)
	if n := x.log.count("Pre-subscription: refused by "); n != 8 {
		t.Errorf("%d lines, want 8:\n%s", n, x.log.buf.String())
	}
	for range 20 {
		x.want(401, "", "PUT", path, "", "Authorization", "Bearer wrong-"+secret)
	}
	if n := x.log.count("Pre-subscription: denied by "); n < 1 || n > 10 || x.log.count("from ") < 1 {
		t.Errorf("%d lines of 20 calls without a token", n)
	}
	_, text := x.do("GET", "/metrics", "")
	for _, part := range []string{`{door="http",outcome="refused"} 8`, `{door="http",outcome="denied"} 20`} {
		if !strings.Contains(text, "noctule_presub_requests_total"+part) {
			t.Errorf("no %s", part)
		}
	}
	if x.log.count(secret) != 0 {
		t.Error("a token is in the log")
	}
}

// TestDenialsSayHowManyHadNoLine counts what goes without a line.
func TestDenialsSayHowManyHadNoLine(t *testing.T) {
	var x denials
	now := time.Unix(1000, 0)
	for i := range 5 {
		if _, ok := x.next(now); ok != (i == 0) {
			t.Errorf("call %d: %v", i, ok)
		}
	}
	if more, ok := x.next(now.Add(denialEvery)); !ok || more != 4 {
		t.Errorf("%d %v", more, ok)
	}
}

// TestJobIsTwoLines whatever the number of its targets, and tells codes.
func TestJobIsTwoLines(t *testing.T) {
	x := newDoor(t)
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprint("c", i))
	}
	ids, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	r, text := x.do("POST", "/api/v1/presub/jobs",
		fmt.Sprintf(`{"clientids":%s,"action":"subscribe","topics":[{"topic":"a","qos":1},{"topic":"#/b"}]}`, ids))
	var j job
	for end := time.Now().Add(patience); j.Ended == nil && time.Now().Before(end); {
		_, text = x.do("GET", r.Header.Get("Location"), "")
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			t.Fatal(err)
		}
	}
	if j.Codes["0x01"] != 50 || j.Codes["0x8f"] != 50 {
		t.Errorf("%s", text)
	}
	if n := x.log.count("Pre-subscription: "); n != 2 || x.log.count("job ends by") != 1 {
		t.Errorf("%d lines:\n%s", n, x.log.buf.String())
	}
}
