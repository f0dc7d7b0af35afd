package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noctule/broker/auth"
)

// answers is a webservice that says what a test wants.
func answers(t *testing.T, f http.HandlerFunc) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// body reads a request in JSON.
func body(r *http.Request) (m map[string]string) {
	_ = json.NewDecoder(r.Body).Decode(&m)
	return m
}

// TestHTTPStatus is each status of a webservice, and what it comes to.
func TestHTTPStatus(t *testing.T) {
	url, asked := answers(t, func(w http.ResponseWriter, r *http.Request) {
		b := body(r)
		if b["clientid"] != "c-"+b["username"] || b["password"] != "secret" {
			t.Errorf("asked with %v", b)
		}
		var status int
		_, _ = fmt.Sscan(b["username"], &status)
		w.WriteHeader(status)
	})
	b := begin(t, "", "sources: [{name: w, http: {url: '"+url+"/login'}, cache: {ttl: 0s}}]")
	for status, want := range map[int]auth.Verdict{
		200: auth.Allow, 204: auth.Allow, 401: auth.Deny, 403: auth.Deny, 404: auth.Defer,
		500: auth.Ask, 503: auth.Ask, 429: auth.Ask, 408: auth.Ask, 302: auth.Ask, 418: auth.Ask,
	} {
		if p := b.want(fmt.Sprint(status), "secret", want); p != nil && (p.Rules != nil || p.Source != "w") {
			t.Errorf("%d: %+v", status, p)
		}
	}
	n := asked.Load()
	b.want("200", "", auth.Defer) // no password: nobody is asked
	v, _ := b.set.Authenticators[0].(auth.PassSource).Admit(t.Context(), &auth.Login{ClientID: "c"})
	if v != auth.Ignore || asked.Load() != n {
		t.Errorf("without a username: %v, %d questions", v, asked.Load()-n)
	}
	if strings.Contains(b.log.String(), "secret") {
		t.Errorf("the log has a password: %s", b.log)
	}
}

// TestHTTPBody is what a webservice may say beside yes.
func TestHTTPBody(t *testing.T) {
	reply := ""
	url, _ := answers(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, reply) })
	b := begin(t, "", `
sources:
  - name: w
    http: {url: '`+url+`'}
    cache: {ttl: 0s}
    topics: ["write status/%c"]
    group_topics: {staff: ["read staff/#"]}`)
	reply = `{"username":"alice","rules":["read home/%u/#","deny home/+/x"],"groups":["staff"],` +
		`"expires_in":60,"topics":[{"topic":"a"}]}`
	p := b.want("al", "x", auth.Allow)
	if p.Username != "alice" || !p.HasUsername || time.Until(p.Expires) < 58*time.Second || p.PreSubscribe == nil {
		t.Fatalf("%+v", p)
	}
	may(t, p.Rules, "yes read home/alice/y", "no read home/alice/x", "no read home/al/y", "yes read staff/z",
		"yes write status/c-al", "no write status/c-alice")
	reply = `{"superuser":true}`
	may(t, b.want("al", "x", auth.Allow).Rules, "yes write whatever", "yes subscribe #")
	for text, want := range map[string]auth.Verdict{
		`{"result":"deny"}`: auth.Deny, `{"result":"unknown"}`: auth.Defer, `{"result":"allow"}`: auth.Allow,
		"ok": auth.Allow, "": auth.Allow, `{"result":"perhaps"}`: auth.Ask, `{"rules":["fly a"]}`: auth.Ask,
		`{"rules":["read a/#/b"]}`: auth.Ask, `{"expires_in":-1}`: auth.Ask, `{"username":7}`: auth.Ask,
		`{"result":`: auth.Ask,
	} {
		reply = text
		if v, _ := b.admit("al", "x"); v != want {
			t.Errorf("%s: %v, want %v", text, v, want)
		}
	}
}

// TestHTTPForms is how mosquitto-go-auth has webservices answer.
func TestHTTPForms(t *testing.T) {
	reply, status := "", 200
	url, _ := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, reply)
	})
	for _, tt := range []struct {
		form, reply string
		status      int
		want        auth.Verdict
	}{
		{"json", `{"Ok":true,"Error":""}`, 200, auth.Allow},
		{"json", `{"ok":true}`, 200, auth.Allow},
		{"json", `{"Ok":false,"Error":"no"}`, 200, auth.Deny},
		{"json", `{}`, 200, auth.Deny},
		{"json", `<html>`, 200, auth.Ask},
		{"json", `{"Ok":true}`, 400, auth.Deny},
		{"text", "ok", 200, auth.Allow},
		{"text", "no", 200, auth.Deny},
		{"text", "ok", 404, auth.Deny},
		{"text", "ok", 502, auth.Ask},
	} {
		reply, status = tt.reply, tt.status
		b := begin(t, "", "sources: [{name: w, answer: "+tt.form+", cache: {ttl: 0s}, http: {url: '"+url+"'}}]")
		if v, _ := b.admit("u", "p"); v != tt.want {
			t.Errorf("%+v: %v", tt, v)
		}
	}
}

// TestHTTPCache is who is asked how often: a yes is kept longer than a no, and for one password only.
func TestHTTPCache(t *testing.T) {
	url, asked := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if body(r)["password"] != "right" {
			w.WriteHeader(403)
		}
	})
	b := begin(t, "", "sources: [{name: w, http: {url: '"+url+"'}, cache: {ttl: 1h}, refused_ttl: 1h}]")
	for range 3 {
		b.want("u", "right", auth.Allow)
		b.want("u", "wrong", auth.Deny)
		b.want("u", "other", auth.Deny)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d questions for 3 passwords", n)
	}
	b = begin(t, "", "sources: [{name: w, http: {url: '"+url+"'}, cache: {ttl: 1h}, refused_ttl: 0s}]")
	asked.Store(0)
	for range 3 {
		b.want("u", "right", auth.Allow)
		b.want("u", "wrong", auth.Deny)
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("%d questions where a no is not kept", n)
	}
}

// TestOnFailure is what logins come to when nobody answers.
func TestOnFailure(t *testing.T) {
	broken := atomic.Bool{}
	url, _ := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
		}
	})
	for how, want := range map[string][2]auth.Verdict{
		Closed: {auth.Ask, auth.Ask}, Open: {auth.Allow, auth.Allow}, LastKnown: {auth.Allow, auth.Ask},
	} {
		broken.Store(false)
		b := begin(t, "", "sources: [{name: w, on_failure: "+how+", cache: {ttl: 0s}, http: {url: '"+url+"'}}]")
		b.want("known", "p", auth.Allow)
		broken.Store(true)
		b.want("known", "p", want[0])
		b.want("new", "p", want[1])
		b.want("known", "another password", want[1])
	}
	b := begin(t, "", "sources: [{name: w, on_failure: open, topics: ['read a'], http: {url: '"+url+"'}}]")
	may(t, b.want("new", "p", auth.Allow).Rules, "yes read a", "no read b")
}

// TestSelectors is who is asked about.
func TestSelectors(t *testing.T) {
	url, asked := answers(t, func(http.ResponseWriter, *http.Request) {})
	b := begin(t, "", "sources: [{name: w, http: {url: '"+url+"'}, for: {username: 'dev-*'}, not_for: {clientid: c-dev-9}}]")
	b.want("dev-1", "p", auth.Allow)
	for _, user := range []string{"alice", "dev-9"} {
		b.want(user, "p", auth.Ignore)
	}
	if asked.Load() != 1 {
		t.Errorf("%d questions", asked.Load())
	}
}

// TestACL asks about topics: once each while the answers are kept, and a subscription has to be granted for
// both, to subscribe and to read.
func TestACL(t *testing.T) {
	noReads := atomic.Bool{}
	var acl atomic.Int64
	url, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			return
		}
		acl.Add(1)
		q := body(r)
		own := strings.HasPrefix(strings.TrimPrefix(q["topic"], "$share/g/"), "home/"+q["username"]+"/")
		if !own || q["access"] == "read" && (noReads.Load() || strings.HasSuffix(q["topic"], "hidden")) {
			w.WriteHeader(403)
		}
	})
	const text = `
sources:
  - name: w
    http: {url: 'URL/login'}
    acl: {http: {url: 'URL/acl'}, cache: {ttl: 1h}}`
	b := begin(t, "", strings.ReplaceAll(text, "URL", url))
	p := b.want("alice", "x", auth.Allow)
	r := p.Rules.(auth.Asker)
	may(t, r, "yes write home/alice/a", "no write home/bob/a", "yes subscribe home/alice/#",
		"no subscribe home/#", "no subscribe home/alice/hidden", "yes subscribe $share/g/home/alice/s")
	for topic, want := range map[string]auth.Verdict{
		"home/alice/x/y": auth.Allow, "home/bob/x": auth.Ask, "home": auth.Ask,
	} {
		if v := r.Check(auth.Read, []byte(topic)); v != want { // a delivery asks nobody
			t.Errorf("read %s: %v", topic, v)
		}
	}
	n := acl.Load()
	may(t, r, "yes write home/alice/a", "no write home/bob/a", "yes write home/alice/a")
	if acl.Load() != n {
		t.Error("asked again while the answer is kept")
	}
	topic := []byte("home/alice/x")
	if a := testing.AllocsPerRun(100, func() { r.Check(auth.Read, topic); r.Check(auth.Write, topic) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
	// Who comes again goes on with what was granted.
	again := b.want("alice", "x", auth.Allow).Rules
	may(t, again, "yes read home/alice/later")
	giveUp := []byte("home/alice/#")
	if v := again.Check(auth.Unsubscribe, giveUp); v != auth.Ask {
		t.Errorf("%v", v)
	}
	if v := again.(auth.Asker).Ask(t.Context(), auth.Unsubscribe, giveUp); v != auth.Allow {
		t.Error("a filter may not be given up")
	}
	if v := again.Check(auth.Read, topic); v == auth.Allow {
		t.Error("what was given up is delivered")
	}
	may(t, again, "yes read home/alice/s") // of the group
}

// TestACLBase has rules of the login's answer and the webservice's word both hold.
func TestACLBase(t *testing.T) {
	url, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			_, _ = io.WriteString(w, `{"rules":["write a"]}`)
		}
	})
	const text = "sources: [{name: w, http: {url: 'URL/login'}, acl: {http: {url: 'URL/acl'}}}]"
	b := begin(t, "", strings.ReplaceAll(text, "URL", url))
	may(t, b.want("u", "p", auth.Allow).Rules, "yes write a", "no write b")
}

// TestHanging is a webservice that accepts and says nothing for 30 s: logins end with the budget, the circuit
// spares those that come later, and what waits is bounded.
func TestHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}
		b := dialing(t, silent, "sources: [{name: w, http: {url: 'http://w/', max_conns: 4}, max_waiting: 20}]")
		begun := time.Now()
		const logins = 200
		ended := make(chan auth.Verdict, logins)
		for i := range logins {
			go func() {
				v, _ := b.admit(fmt.Sprint("u", i), "p")
				ended <- v
			}()
		}
		synctest.Wait()
		if n := b.first().users.Waiting(); n > 20 {
			t.Errorf("%d wait", n)
		}
		for range logins {
			if v := <-ended; v != auth.Ask {
				t.Errorf("%v", v)
			}
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("the last one was told after %v", took)
		}
	})
}
