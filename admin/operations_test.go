package admin

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/broker/presub"
	"noctule/codec"
)

// operationOf asks for an operation until it looks as wanted: "0:effective 1:waiting".
func (x *doorClient) operationOf(location, want string) operation {
	x.t.Helper()
	var op operation
	got := ""
	for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); {
		resp, text := x.do("GET", location, "")
		if err := json.Unmarshal([]byte(text), &op); err != nil || resp.StatusCode != 200 {
			x.t.Fatalf("%s: %d %s", location, resp.StatusCode, text)
		}
		var parts []string
		for _, e := range op.Entries {
			parts = append(parts, fmt.Sprint(e.Entry, ":", e.State))
		}
		got = strings.Join(parts, " ")
	}
	if got != want {
		x.t.Errorf("%s: %s, want %s", location, got, want)
	}
	return op
}

func (x *doorClient) as(id, username string) *brokertest.Client {
	return brokertest.Connect(x.t, x.addr, id, codec.V5, func(p *codec.Connect) {
		p.HasUsername, p.Username = username != "", []byte(username)
	})
}

// TestOperations: what is pending has a Location that tells of each entry, by client and by user, when it takes
// effect, runs out, is withdrawn, and is overtaken by a later request.
func TestOperations(t *testing.T) {
	x := newDoor(t)
	clock := time.Now()
	x.door.operations.now = func() time.Time { return clock }
	x.as("here", "")
	post := func(body string) string {
		t.Helper()
		return x.want(200, "", "POST", "/api/v1/presub", body).Header.Get("Location")
	}
	entry := func(who, action, topics string) string {
		return `{` + who + `,"action":"` + action + `","wait_seconds":600,"topics":[` + topics + `]}`
	}
	const a, b = `{"topic":"a"}`, `{"topic":"b"}`
	if at := post(entry(`"clientid":"here"`, "subscribe", a)); at != "" {
		t.Errorf("nothing is pending, and there is %s", at)
	}
	first := post("[" + entry(`"clientid":"here"`, "subscribe", a) + "," + entry(`"clientid":"c1","request_id":"r7"`, "subscribe", a) + "," +
		entry(`"username":"u1"`, "subscribe", b) + "," + entry(`"clientid":"c2"`, "subscribe", a+","+b) + "," +
		entry(`"clientid":"c3"`, "subscribe", a) + "]")
	if !strings.HasPrefix(first, "/api/v1/operations/") {
		t.Fatalf("Location %q", first)
	}
	x.want(404, "no such operation", "GET", first, "", "Authorization", "Bearer another-"+secret)
	x.operationOf(first, "1:waiting 2:waiting 3:waiting 4:waiting")
	joined := x.want(202, "pending", "PUT", "/api/v1/sessions/c2/subscriptions", `{"topics":[`+b+`],"wait_seconds":600}`).Header.Get("Location")
	post(`{"clientid":"c3","action":"unsubscribe","topics":[` + a + `]}`)
	x.operationOf(first, "1:waiting 2:waiting 3:waiting 4:withdrawn")
	x.as("c1", "")
	x.as("d1", "u1")
	x.as("d2", "u1")
	x.as("c2", "")
	x.operationOf(joined, "0:effective")
	op := x.operationOf(first, "1:effective 2:effective 3:superseded 4:withdrawn")
	if op.State != "done" || len(op.Entries) != 4 || op.Entries[0].RequestID != "r7" || op.Entries[0].Answers[0].RequestID != "r7" ||
		op.Entries[0].Answers[0].Results[0] != (presub.Result{Topic: "a", Code: 0, State: "new"}) {
		t.Errorf("%+v", op)
	}
	for deadline := time.Now().Add(patience); len(op.Entries[1].Answers) < 2 && time.Now().Before(deadline); {
		op = x.operationOf(first, "1:effective 2:effective 3:superseded 4:withdrawn")
	}
	if len(op.Entries[1].Answers) != 2 {
		t.Errorf("the user has two sessions: %+v", op.Entries[1])
	}
	quiet := post(entry(`"clientid":"never"`, "subscribe", a))
	clock = clock.Add(10*time.Minute + 2*operationGrace)
	x.operationOf(quiet, "0:unknown")
	clock = clock.Add(operationKept)
	x.want(404, "no such operation", "GET", quiet, "")
}

// TestOperationRunsOut: nobody came.
func TestOperationRunsOut(t *testing.T) {
	x := newDoor(t)
	at := x.want(202, "", "PUT", "/api/v1/sessions/c1/subscriptions", `{"topics":[{"topic":"a"}],"wait_seconds":1}`).Header.Get("Location")
	op := x.operationOf(at, "0:expired")
	if a := op.Entries[0].Answers; len(a) != 1 || a[0].Code != 146 || a[0].Results[0].State != "absent" {
		t.Errorf("%+v", a)
	}
}

// TestOperationsAreBounded: by number and size; whoever has most loses the oldest.
func TestOperationsAreBounded(t *testing.T) {
	o := newOperations()
	add := func(principal string, topics int) *operation {
		x := outcome{State: outcomeWaiting, Until: o.now().Add(time.Minute), topics: map[string]bool{}}
		for i := range topics {
			x.topics[fmt.Sprint(i)] = true
		}
		op := &operation{ID: rand.Text(), principal: principal, Created: o.now(), Entries: []outcome{x}}
		o.add(op)
		return op
	}
	small := add("small", 1)
	for range operationsMax + 10 {
		add("much", 1)
	}
	if _, ok := o.find("small", small.ID); len(o.byID) != operationsMax || !ok {
		t.Errorf("%d operations, the other's is there: %v", len(o.byID), ok)
	}
	for range 20 {
		add("large", 100000)
	}
	if _, ok := o.find("small", small.ID); o.size > operationsSize || !ok {
		t.Errorf("%d bytes, the other's is there: %v", o.size, ok)
	}
	size := int64(0)
	for _, op := range o.byID {
		size += op.size
	}
	if size != o.size {
		t.Errorf("%d bytes are counted, %d are there", o.size, size)
	}
}

// TestReadOnlyTokens change nothing by any route.
func TestReadOnlyTokens(t *testing.T) {
	x := newDoorOf(t, "", "crm "+secret+"\nviewer "+secret+"-2 read-only")
	x.as("c1", "u1")
	viewer := []string{"Authorization", "Bearer " + secret + "-2"}
	for _, route := range x.door.routes() {
		if route.method == http.MethodGet {
			continue
		}
		path := strings.NewReplacer("{clientid}", "c1", "{id}", "x").Replace(route.path)
		x.want(403, "read-only", route.method, path, `{"clientid":"c1","action":"subscribe","topics":[{"topic":"a"}]}`, viewer...)
	}
	x.want(200, `"clientid":"c1"`, "GET", "/api/v1/sessions/c1", "", viewer...)
	x.want(200, `"origins":[{"origin":"client","topics":[]}]`, "GET", "/api/v1/sessions/c1/subscriptions", "", viewer...)
}

const twoTenants = "tenant: {from: username, match: '@(.+)$'}\nacl: bypass"

// TestTenantTokens see and change clients of their tenant alone, also where who a client is is not known yet.
func TestTenantTokens(t *testing.T) {
	x := newDoorOf(t, twoTenants, "crm "+secret+"\none "+secret+"-1 tenant=e1")
	x.as("c1", "ann@e1")
	x.as("c2", "bob@e2")
	x.as("c0", "")
	one := []string{"Authorization", "Bearer " + secret + "-1"}
	list := `{"topics":[{"topic":"a"}]}`
	sub := func(id string) string { return "/api/v1/sessions/" + id + "/subscriptions" }
	x.want(200, `"state":"new"`, "PUT", sub("c1"), list, one...)
	x.want(200, `"api:one"`, "GET", sub("c1"), "", one...)
	for _, id := range []string{"c2", "c0", "nobody"} {
		x.want(403, `"code":135`, "PUT", sub(id), list, one...)
		x.want(403, `"code":135`, "DELETE", sub(id), "", one...)
		x.want(403, `"code":135`, "PUT", sub(id), list, append(one, "If-Match", `"77"`)...)
		x.want(404, "no such session", "GET", sub(id), "", one...)
		x.want(404, "no such session", "GET", "/api/v1/sessions/"+id, "", one...)
		x.want(404, "not connected", "DELETE", "/api/v1/sessions/"+id+"/connection", "", one...)
		x.want(404, `"session":false,"connected":false,"revision":0,"denied":false,"copies":0,"matches":[]}`, "GET",
			"/api/v1/presub/explain?topic=a&clientid="+id, "", one...)
	}
	entry := func(who string) string { return `{` + who + `,"action":"subscribe","topics":[{"topic":"b"}]}` }
	for who, want := range map[string]string{
		`"username":"ann@e1"`: `"state":"new"`, `"username":"bob@e2"`: `"code":135`, `"clientid":"c2"`: `"code":135`,
		`"clientid":"c2","username":"ann@e1"`: `"code":135`, `"clientid":"c1","username":"bob@e2"`: `"code":135`,
		`"clientid":"late","username":"eve@e1"`: `"state":"pending"`, `"username":"u@e1"`: `"state":"pending"`,
	} {
		x.want(200, want, "POST", "/api/v1/presub", entry(who), one...)
	}
	x.as("late", "mallory@e2")
	x.want(200, `"origins":[{"origin":"client","topics":[]}]`, "GET", sub("late"), "")
	x.want(403, "no right", "POST", "/api/v1/presub/move", `{"origin":"","from":[{"topic":"a"}],"to":[]}`, one...)
	x.want(200, `{"sessions":[{"clientid":"c1","username":"ann@e1"`, "GET", "/api/v1/sessions", "", one...)
	x.want(200, `{"sessions":[]}`, "GET", "/api/v1/sessions?username=bob@e2", "", one...)
	x.want(200, `{"disconnected":0}`, "DELETE", "/api/v1/connections?username=bob@e2", "", one...)
	x.want(200, `"disconnected":1`, "DELETE", "/api/v1/sessions/c1/connection", "", one...)
}

// TestTokensChangeUnderAListing: a listing that a token has begun ends when the tokens are replaced, and a job that
// its principal may not have any more is stopped.
func TestTokensChangeUnderAListing(t *testing.T) {
	x := newDoorOf(t, twoTenants, "crm "+secret)
	x.as("c1", "ann@e1")
	x.as("c2", "bob@e2")
	_, text := x.do("GET", "/api/v1/sessions?limit=1", "")
	_, cursor, _ := strings.Cut(text, `"next":"`)
	stopped := false
	x.door.jobs.list = []*job{{Principal: "crm", cancel: func() { stopped = true }}}
	tokens, err := LoadTokens(tokenFile(t, 0o600, "crm "+secret+" tenant=e1"))
	if err != nil {
		t.Fatal(err)
	}
	x.door.SetTokens(tokens)
	x.want(410, "begin anew", "GET", "/api/v1/sessions?cursor="+strings.TrimSuffix(cursor, `"}`), "")
	x.want(200, `{"sessions":[{"clientid":"c1"`, "GET", "/api/v1/sessions", "")
	if !stopped {
		t.Error("a job of all tenants goes on")
	}
}

// TestTenantsOfTokens: whose a client is, by each way to say it.
func TestTenantsOfTokens(t *testing.T) {
	for _, tt := range []struct{ tenant, id, user, want string }{
		{"{value: e1}", "c1", "", "new"},
		{"{value: e2}", "c1", "", ""},
		{"{from: clientid, match: '^(.+)-'}", "e1-c", "", "new"},
		{"{from: clientid, match: '^(.+)-'}", "e2-c", "", ""},
		{"{from: clientid, match: '^(.+)-'}", "", "u", ""}, // whatever their client ids are
		{"", "c1", "", ""},
	} {
		yaml := ""
		if tt.tenant != "" {
			yaml = "tenant: " + tt.tenant
		}
		x := newDoorOf(t, yaml, "one "+secret+" tenant=e1")
		x.as(max(tt.id, "c"), "u")
		body := `{"clientid":"` + tt.id + `","username":"` + tt.user + `","action":"subscribe","topics":[{"topic":"a"}]}`
		want := `"state":"new"`
		if tt.want == "" {
			want = `"code":135`
		}
		x.want(200, want, "POST", "/api/v1/presub", body)
	}
}
