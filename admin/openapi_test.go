package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"noctule/broker"
	"noctule/broker/presub"
	"noctule/codec/im"
)

// apiDocument is openapi.yaml, with references resolved where they are asked for.
type apiDocument struct {
	t    *testing.T
	root map[string]any
}

func readDocument(t *testing.T) *apiDocument {
	t.Helper()
	d := &apiDocument{t: t}
	if err := yaml.Unmarshal(openAPI, &d.root); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d.root) // numbers and maps as JSON has them
	if err != nil {
		t.Fatal(err)
	}
	d.root = nil
	if err := json.Unmarshal(b, &d.root); err != nil {
		t.Fatal(err)
	}
	return d
}

// at is what is found by these keys; references are followed.
func (d *apiDocument) at(v any, keys ...string) any {
	for _, key := range keys {
		v = d.follow(v).(map[string]any)[key]
	}
	return d.follow(v)
}

func (d *apiDocument) follow(v any) any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return v
	}
	to := d.at(d.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	if to == nil {
		d.t.Fatalf("there is no %s", ref)
	}
	return to
}

// operations are "GET /path" of the document.
func (d *apiDocument) operations() map[string]any {
	out := map[string]any{}
	for path, item := range d.at(d.root, "paths").(map[string]any) {
		for method, op := range d.at(item).(map[string]any) {
			if method != "parameters" {
				out[strings.ToUpper(method)+" "+path] = op
			}
		}
	}
	return out
}

// TestDescribedRoutes: each route is in the document, and no other.
func TestDescribedRoutes(t *testing.T) {
	d := readDocument(t)
	described := d.operations()
	for _, x := range new(Door).routes() {
		name := x.method + " " + x.path
		if described[name] == nil {
			t.Errorf("%s is not described", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("%s is described, and is no route", name)
	}
}

// fields are the keys of a type in JSON, and whether each is always there.
func fields(x reflect.Type) map[string]bool {
	out := map[string]bool{}
	for f := range x.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			maps.Copy(out, fields(f.Type))
		case tag != "-" && f.IsExported():
			out[tag] = options != "omitempty"
		}
	}
	return out
}

// TestDescribedFields: each field of answers and orders is in the document, and no other; what is always there in
// an answer is required.
func TestDescribedFields(t *testing.T) {
	d := readDocument(t)
	orders := []string{"BanOrder", "Entry", "Order", "Move", "JobOrder", "Topic"} // what may be left out is for each to say
	types := map[string]any{
		"Ban": ban{}, "BanOrder": banOrder{}, "Banned": banned{}, "BansPage": bansPage{}, "Topic": presub.Topic{}, "Entry": presub.Entry{}, "Order": order{}, "Move": moveOrder{}, "JobOrder": jobOrder{},
		"Answer": presub.Answer{}, "Result": presub.Result{}, "Listing": listing{}, "Holding": holding{}, "Waiting": waiting{},
		"Operation": operation{}, "Outcome": outcome{}, "SessionsPage": sessionsPage{}, "Session": session{},
		"Disconnected": disconnected{}, "Moved": moved{}, "Explanation": presub.Explanation{}, "Match": presub.Match{}, "Job": job{},
	}
	schemas := d.at(d.root, "components", "schemas").(map[string]any)
	for name := range schemas {
		if types[name] == nil && name != "Lifetime" { // no object
			t.Errorf("schema %s is of no type", name)
		}
	}
	for name, x := range types {
		if schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
			continue
		}
		described := d.at(schemas[name], "properties").(map[string]any)
		required, _ := d.at(schemas[name], "required").([]any)
		for field, always := range fields(reflect.TypeOf(x)) {
			if described[field] == nil {
				t.Errorf("%s of %s is not described", field, name)
			}
			delete(described, field)
			if !slices.Contains(orders, name) && slices.Contains(required, any(field)) != always {
				t.Errorf("%s of %s: required is not %v", field, name, always)
			}
		}
		for field := range described {
			t.Errorf("%s has no field %s", name, field)
		}
	}
}

// witness notes real answers and holds each against the document.
type witness struct {
	*doorClient
	d       *apiDocument
	mux     *http.ServeMux // finds the route
	schemas *jsonschema.Compiler
	seen    map[string]bool // "GET /path 200"
}

func newWitness(t *testing.T, x *doorClient) *witness {
	w := &witness{doorClient: x, d: readDocument(t), mux: http.NewServeMux(), seen: map[string]bool{}}
	for _, r := range x.door.routes() {
		w.mux.HandleFunc(r.method+" "+r.path, func(http.ResponseWriter, *http.Request) {})
	}
	w.schemas = jsonschema.NewCompiler()
	w.schemas.DefaultDraft(jsonschema.Draft2020)
	w.schemas.AssertFormat()
	if err := w.schemas.AddResource("api.json", any(w.d.root)); err != nil {
		t.Fatal(err)
	}
	return w
}

// call makes a request whose answer must have a status and be as it is described.
func (w *witness) call(status int, method, path, body string, pairs ...string) *http.Response {
	w.t.Helper()
	resp, text := w.do(method, path, body, pairs...)
	if resp.StatusCode != status {
		w.t.Errorf("%s %s: %d %s, want %d", method, path, resp.StatusCode, text, status)
		return resp
	}
	_, route := w.mux.Handler(resp.Request)
	name := fmt.Sprint(route, " ", status)
	w.seen[name] = true
	op := w.d.operations()[route]
	responses, _ := w.d.at(op, "responses").(map[string]any)
	described, _ := w.d.follow(responses[fmt.Sprint(status)]).(map[string]any)
	if described == nil {
		w.t.Errorf("%s is not described", name)
		return resp
	}
	for _, header := range []string{"Location", "ETag", "Retry-After"} {
		headers, _ := described["headers"].(map[string]any)
		if resp.Header.Get(header) != "" && headers[header] == nil && status != 503 {
			w.t.Errorf("%s: the header %s is not described", name, header)
		}
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	content, _ := described["content"].(map[string]any)
	if len(content) == 0 {
		if text != "" {
			w.t.Errorf("%s: a body is not described: %s", name, text)
		}
		return resp
	}
	form, ok := content[kind].(map[string]any)
	if !ok {
		w.t.Errorf("%s: %q is not described", name, kind)
		return resp
	}
	if form["schema"] != nil {
		w.valid(name, route, status, text)
	}
	return resp
}

// valid holds a body against its schema.
func (w *witness) valid(name, route, status any, text string) {
	w.t.Helper()
	method, path, _ := strings.Cut(route.(string), " ")
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	at := "#/paths/" + escape.Replace(path) + "/" + strings.ToLower(method) + "/responses/" + fmt.Sprint(status)
	r := w.d.root["paths"].(map[string]any)[path].(map[string]any)[strings.ToLower(method)].(map[string]any)["responses"]
	if ref, ok := r.(map[string]any)[fmt.Sprint(status)].(map[string]any)["$ref"].(string); ok {
		at = ref
	}
	schema, err := w.schemas.Compile("api.json" + at + "/content/application~1json/schema")
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		w.t.Errorf("%s: %v in %s", name, err, text)
	}
}

// TestDescribedAnswers makes each route answer with each status that is described, and holds the answers against
// the document.
func TestDescribedAnswers(t *testing.T) {
	x := newDoorOf(t, "pending: {max: 40}", "crm "+secret+"\nother another-"+secret+"\nviewer "+secret+"-ro read-only\nbound "+secret+"-tenant tenant=a\nnew new-"+secret)
	w := newWitness(t, x)
	c1 := x.as("c1", "u1")
	c1.Subscribe("own/#", 1)
	x.as("c9", "u9").Disconnect()
	const sub, presubPath, jobsPath, topics = "/api/v1/sessions/c1/subscriptions", "/api/v1/presub", "/api/v1/presub/jobs", `{"topics":[{"topic":"a","qos":1,"nl":true,"rap":true,"rh":1,"id":7}]}`
	w.call(200, "GET", "/api/v1/openapi.yaml", "")
	w.call(200, "PUT", sub, topics)
	w.call(200, "GET", sub, "")
	tag := w.call(200, "GET", sub, "").Header.Get("ETag")
	w.call(304, "GET", sub, "", "If-None-Match", tag)
	w.call(412, "PUT", sub, topics, "If-Match", `"77"`)
	w.call(412, "DELETE", sub, "", "If-Match", `"77"`)
	w.call(403, "PUT", sub+"?origin=presub:x", topics)
	w.call(404, "PUT", "/api/v1/sessions/nobody/subscriptions", `{"topics":[{"topic":"a"}],"wait_seconds":0}`)
	op := w.call(202, "PUT", "/api/v1/sessions/late/subscriptions", topics).Header.Get("Location")
	w.call(200, "GET", "/api/v1/sessions/late/subscriptions", "")
	w.call(404, "GET", "/api/v1/sessions/nobody/subscriptions", "")
	w.call(200, "POST", presubPath, `[{"clientid":"late2","action":"subscribe","request_id":"r","topics":[{"topic":"a"},{"topic":"#/x"}]},{"username":"u7","action":"subscribe","topics":[{"topic":"a"}]}]`)
	batch := im.Batch{Entries: []im.Entry{{Target: []byte("c1"), Action: im.Replace}}}
	w.call(200, "POST", presubPath, string(batch.Append(nil)))
	w.call(200, "GET", "/api/v1/presub/pending", "")
	w.call(200, "GET", op, "")
	x.as("late", "")
	x.operationOf(op, "0:effective")
	w.call(200, "GET", op, "")
	w.call(404, "GET", "/api/v1/operations/none", "")
	w.call(200, "GET", presubPath+"/explain?clientid=c1&topic=own/a", "")
	w.call(404, "GET", presubPath+"/explain?clientid=nobody&topic=a", "")
	w.call(200, "GET", "/api/v1/sessions?limit=1", "")
	w.call(410, "GET", "/api/v1/sessions?cursor=none", "")
	w.call(200, "GET", "/api/v1/sessions/c1", "")
	w.call(404, "GET", "/api/v1/sessions/nobody", "")
	w.call(200, "POST", presubPath+"/move", `{"origin":"","from":[{"topic":"a"}],"to":[{"topic":"z"}]}`)
	w.call(403, "POST", presubPath+"/move", `{"origin":"presub:none","from":[{"topic":"a"}],"to":[]}`)
	w.call(403, "POST", presubPath, `{"clientid":"c1","origin":"presub:x","action":"replace","topics":[]}`)
	at := w.call(202, "POST", jobsPath, `{"clientids":["c1","nobody"],"action":"replace","wait_seconds":0,"topics":[{"topic":"a"}]}`).Header.Get("Location")
	w.call(200, "GET", at, "")
	w.call(200, "GET", jobsPath, "")
	w.call(200, "DELETE", at, "")
	w.call(404, "GET", jobsPath+"/none", "")
	w.call(404, "DELETE", jobsPath+"/none", "")
	w.call(200, "DELETE", sub+"?topic=z", "")
	w.call(404, "DELETE", "/api/v1/sessions/nobody/subscriptions", "")
	w.call(403, "DELETE", sub+"?origin=presub:x", "")
	w.call(404, "DELETE", "/api/v1/sessions/nobody/connection", "")
	w.call(200, "DELETE", "/api/v1/sessions/late/connection", "")
	w.call(200, "DELETE", "/api/v1/connections?username=u1", "")
	w.bans()
	for path, method := range map[string]string{
		"/api/v1/sessions?limit=0": "GET", "/api/v1/bans?limit=0": "GET", "/api/v1/bans?cursor=!": "GET", presubPath + "/explain?clientid=c1": "GET", "/api/v1/connections": "DELETE",
		"/api/v1/sessions/c1/connection?will=x": "DELETE",
	} {
		w.call(400, method, path, "")
	}
	w.full()
	w.common()
	w.stopped()
	w.closed()
	for name, op := range w.d.operations() {
		for status := range w.d.at(op, "responses").(map[string]any) {
			if name := name + " " + status; !w.seen[name] {
				t.Errorf("%s is described, and was not seen", name)
			}
		}
	}
}

// bans are added, listed and taken out.
func (w *witness) bans() {
	const path = "/api/v1/bans"
	w.call(200, "POST", path, `{"kind":"address","name":"198.51.100.0/24","seconds":60,"reason":"r"}`)
	w.call(200, "POST", path, `{"kind":"client","name":"a/b"}`)
	w.call(200, "GET", path, "")
	w.call(200, "GET", path+"?limit=1", "")
	w.call(204, "DELETE", path+"/client/a%2Fb", "")
	w.call(204, "DELETE", path+"/address/198.51.100.0%2F24", "")
	w.call(404, "DELETE", path+"/user/x", "")
	w.call(404, "DELETE", path+"/kind/x", "")
	w.call(403, "GET", path, "", "Authorization", "Bearer "+secret+"-tenant")
	for i := range 200_000 { // half of all is the most that one may have
		_, _, err := w.b.Ban(w.t.Context(), broker.Ban{Kind: broker.BanToken, Name: fmt.Sprint(i), By: "http:crm"})
		if errors.Is(err, broker.ErrBansFull) {
			break
		}
	}
	w.call(429, "POST", path, `{"kind":"user","name":"x"}`)
}

// full has too much of what is bounded.
func (w *witness) full() {
	for i := range 50 {
		resp, _ := w.do("PUT", fmt.Sprintf("/api/v1/sessions/w%d/subscriptions", i), `{"topics":[{"topic":"a"}]}`)
		if resp.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	w.call(429, "PUT", "/api/v1/sessions/w99/subscriptions", `{"topics":[{"topic":"a"}]}`)
	w.door.jobs.list = nil
	for range jobsMax {
		w.door.jobs.list = append(w.door.jobs.list, &job{Principal: "crm", cancel: func() {}})
	}
	w.call(429, "POST", "/api/v1/presub/jobs", `{"clientids":["a"],"action":"replace","topics":[]}`)
	w.door.jobs.list = nil
}

// filled is the path of a route for something.
func filled(path string) string {
	return strings.NewReplacer("{clientid}", "c1", "{id}", "x", "{kind}", "user", "{name}", "x").Replace(path)
}

// common makes the calls that all routes answer alike.
func (w *witness) common() {
	long := strings.Repeat(" ", bodyMax+1)
	routes := w.door.routes()
	sort.Slice(routes, func(i, j int) bool { return routes[i].path < routes[j].path })
	for _, r := range routes {
		path := filled(r.path)
		w.call(401, r.method, path, "", "Authorization", "")
		if r.method == http.MethodGet {
			continue
		}
		w.call(403, r.method, path, "", "Authorization", "Bearer "+secret+"-ro")
		w.call(400, r.method, path, "{", "Idempotency-Key", strings.Repeat("k", 256))
		key := r.method + path
		w.door.replies.begin("crm", key, &reply{})
		w.call(422, r.method, path, "", "Idempotency-Key", key)
		w.underway(r.method, path)
		if w.d.at(w.d.operations()[r.method+" "+r.path], "responses", "413") != nil {
			w.call(413, r.method, path, long)
		}
	}
}

// underway makes a call whose first one has not been answered.
func (w *witness) underway(method, path string) {
	w.t.Helper()
	inside, leave := make(chan struct{}), make(chan struct{})
	c := &call{grant: grant{principal: "crm"}}
	req, err := http.NewRequest(method, path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	key := "under way " + method + path
	req.Header.Set("Idempotency-Key", key)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.door.replies.once(&discarded{header: http.Header{}}, req, c, func(http.ResponseWriter, *http.Request) {
			close(inside)
			<-leave
		})
	}()
	<-inside
	w.call(409, method, path, "", "Idempotency-Key", key)
	close(leave)
	<-done
}

// discarded is an answer that nobody reads.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header       { return d.header }
func (*discarded) Write(b []byte) (int, error) { return len(b), nil }
func (*discarded) WriteHeader(int)             {}

// stopped asks after the broker has ended.
func (w *witness) stopped() {
	if err := w.b.Shutdown(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	for name, op := range w.d.operations() {
		if w.d.at(op, "responses", "503") == nil {
			continue
		}
		method, path, _ := strings.Cut(name, " ")
		body := ""
		switch {
		case method == http.MethodPut:
			body = `{"topics":[{"topic":"a"}]}`
		case method == http.MethodPost && strings.HasSuffix(path, "/bans"):
			body = `{"kind":"user","name":"x"}`
		case strings.HasSuffix(path, "/move"):
			body = `{"origin":"","from":[{"topic":"a"}]}`
		case strings.HasSuffix(path, "/explain"):
			path += "?clientid=c1&topic=a"
		case strings.HasSuffix(path, "/connections"):
			path += "?username=u1"
		}
		w.call(503, method, filled(path), body)
	}
}

// closed asks when there are no tokens.
func (w *witness) closed() {
	w.door.SetTokens(nil)
	for _, r := range w.door.routes() {
		if w.d.at(w.d.operations()[r.method+" "+r.path], "responses", "404") != nil {
			w.call(404, r.method, filled(r.path), "")
		}
	}
}

// TestDescriptionIsServed as it is in the source.
func TestDescriptionIsServed(t *testing.T) {
	x := newDoor(t)
	resp, text := x.do("GET", "/api/v1/openapi.yaml", "")
	if resp.Header.Get("Content-Type") != "application/yaml" || text != strings.TrimSpace(string(openAPI)) {
		t.Errorf("%v: %d bytes of %d", resp.Header, len(text), len(openAPI))
	}
}
