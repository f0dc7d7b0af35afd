package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// loginService is a webservice that lets in whose password is the username backwards, with rights to topics
// below its name, and counts.
func loginService(t *testing.T) (url string, down *atomic.Bool) {
	t.Helper()
	down = &atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q map[string]string
		_ = json.NewDecoder(r.Body).Decode(&q)
		switch {
		case down.Load():
			w.WriteHeader(503)
		case q["username"] == "bob":
			w.WriteHeader(404)
		case q["password"] != "right":
			w.WriteHeader(403)
		default:
			_, _ = io.WriteString(w, `{"rules":["readwrite home/%u/#"]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, down
}

// logsIn sends CONNECT with a name and a password and returns the reason of CONNACK.
func logsIn(t *testing.T, addr, user, password string) (*brokertest.Client, codec.Reason) {
	t.Helper()
	c := brokertest.Dial(t, addr, codec.V5)
	return c, c.Connack("c-"+user, withLogin(user, password)).Reason
}

// TestAuthFile starts with an auth_file beside a password file and an ACL file: who decides about whom, what
// may be done, what a failure comes to, and what a reload changes or, if the file is wrong, does not.
func TestAuthFile(t *testing.T) {
	url, down := loginService(t)
	s := newSite(t)
	port := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s.passwords(t, "pw", "local secret")
	s.passwords(t, "others", "bob bobs")
	s.write(t, "acl", "pattern readwrite home/#\n")
	const sources = "sources:\n  - name: web\n    http: {url: 'URL'}\n    cache: {ttl: 0s}\n"
	s.write(t, "auth.yaml", strings.ReplaceAll(sources, "URL", url))
	s.conf(t, fmt.Sprintf("listener %d 127.0.0.1\npassword_file DIR/pw\nacl_file DIR/acl\nauth_file DIR/auth.yaml\n"+
		"log_type all\n", port))
	s.start(t)
	want := func(user, password string, reason codec.Reason) *brokertest.Client {
		t.Helper()
		c, got := logsIn(t, addr, user, password)
		if got != reason {
			t.Errorf("%s with %s: %v, want %v", user, password, got, reason)
		}
		return c
	}
	want("local", "secret", codec.Success)
	want("local", "right", codec.NotAuthorized)
	want("alice", "wrong", codec.NotAuthorized)
	want("bob", "bobs", codec.NotAuthorized)
	c := want("alice", "right", codec.Success)
	publish := func(topic string, reason codec.Reason) {
		t.Helper()
		c.Publish(topic, "x", 1, 1)
		var ack codec.Ack
		if c.Want(codec.PUBACK, &ack); ack.Reason != reason {
			t.Errorf("%s: %v, want %v", topic, ack.Reason, reason)
		}
	}
	publish("home/alice/x", codec.NoMatchingSubscribers)
	publish("home/bob/x", codec.NotAuthorized) // by the webservice's rules
	publish("elsewhere", codec.NotAuthorized)  // by both
	down.Store(true)
	want("alice", "right", codec.ServerUnavailable)
	want("local", "secret", codec.Success)
	down.Store(false)
	s.write(t, "auth.yaml", strings.ReplaceAll(sources, "URL", url)+"  - name: more\n    fill: x\n")
	if log, ok := s.hup(t); ok || !strings.Contains(log, "auth.yaml:6") {
		t.Errorf("a reload of a wrong file: %v, %s", ok, log)
	}
	want("alice", "right", codec.Success)
	s.write(t, "auth.yaml", strings.ReplaceAll(sources, "URL", url)+"  - name: more\n    file: "+s.path("others")+"\n")
	if log, ok := s.hup(t); !ok {
		t.Error(log)
	}
	want("alice", "right", codec.Success)
	want("bob", "bobs", codec.Success)
	want("bob", "right", codec.NotAuthorized)
}
