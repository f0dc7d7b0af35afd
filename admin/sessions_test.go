package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestSessionsByPages lists all, and those of a user, each once; a page may be asked for again.
func TestSessionsByPages(t *testing.T) {
	x := newDoor(t)
	for i := range 25 {
		x.as(fmt.Sprintf("c%02d", i), fmt.Sprint("u", i%5))
	}
	read := func(query string) (ids []string, pages int) {
		t.Helper()
		path := "/api/v1/sessions?" + query
		for path != "" {
			resp, text := x.do("GET", path, "")
			var page sessionsPage
			if err := json.Unmarshal([]byte(text), &page); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
			}
			if pages == 1 { // it was asked for before: the answer is the same
				if _, again := x.do("GET", path, ""); again != text {
					t.Errorf("%s: %s, then %s", path, text, again)
				}
			}
			for _, s := range page.Sessions {
				ids = append(ids, s.ClientID)
			}
			pages++
			path = ""
			if page.Next != "" {
				path = "/api/v1/sessions?limit=7&cursor=" + page.Next
			}
		}
		return ids, pages
	}
	all, pages := read("limit=7")
	seen := map[string]bool{}
	for _, id := range all {
		seen[id] = true
	}
	if len(all) != 25 || len(seen) != 25 || pages != 4 {
		t.Errorf("%d sessions, %d of them different, in %d pages", len(all), len(seen), pages)
	}
	if ids, _ := read("username=u3"); len(ids) != 5 {
		t.Errorf("u3 has %v", ids)
	}
	if ids, _ := read("username=u3&username=u4"); len(ids) != 10 {
		t.Errorf("u3 and u4 have %v", ids)
	}
	x.want(400, "limit", "GET", "/api/v1/sessions?limit=0", "")
	x.want(400, "limit", "GET", "/api/v1/sessions?limit=1001", "")
	x.want(410, "begin anew", "GET", "/api/v1/sessions?cursor=none.2", "")
	_, text := x.do("GET", "/api/v1/sessions?limit=1", "")
	_, cursor, _ := strings.Cut(text, `"next":"`)
	cursor = strings.TrimSuffix(cursor, `"}`)
	x.want(410, "begin anew", "GET", "/api/v1/sessions?cursor="+cursor, "", "Authorization", "Bearer another-"+secret)
	x.want(410, "begin anew", "GET", "/api/v1/sessions?cursor="+strings.Replace(cursor, ".2", ".3", 1), "")
	_, text = x.do("GET", "/api/v1/sessions?limit=1", "", "Authorization", "Bearer another-"+secret)
	_, cursor, _ = strings.Cut(text, `"next":"`)
	for range 2 * pagesMax {
		x.want(200, "next", "GET", "/api/v1/sessions?limit=1", "")
	}
	x.want(200, "sessions", "GET", "/api/v1/sessions?limit=1&cursor="+strings.TrimSuffix(cursor, `"}`), "",
		"Authorization", "Bearer another-"+secret)
	if n := len(x.door.pages.open); n > pagesMax {
		t.Errorf("%d listings are open", n)
	}
	x.want(200, `"clientid":"c00","username":"u0","connected":true,`, "GET", "/api/v1/sessions/c00", "")
	x.want(404, "no such session", "GET", "/api/v1/sessions/nobody", "")
}

// TestEndOverHTTP ends connections of a client and of a user: reason 0x98; the session stays, the will is sent or not.
func TestEndOverHTTP(t *testing.T) {
	x := newDoor(t)
	watch := x.as("watch", "")
	watch.Subscribe("will/#", 0)
	with := func(id, user string) *brokertest.Client {
		return brokertest.Connect(t, x.addr, id, codec.V5, func(p *codec.Connect) {
			p.Properties = codec.AppendUintProperty(nil, codec.SessionExpiry, 600)
			p.HasUsername, p.Username = true, []byte(user)
			p.HasWill, p.Will = true, codec.Will{Topic: []byte("will/" + id), Payload: []byte("gone")}
		})
	}
	ended := func(c *brokertest.Client) {
		t.Helper()
		var p codec.Disconnect
		if c.Want(codec.DISCONNECT, &p); p.Reason != codec.AdministrativeAction {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
	}
	a, b, c := with("a", "u"), with("b", "u"), with("c", "u")
	x.want(200, `{"disconnected":1}`, "DELETE", "/api/v1/sessions/a/connection?will=false", "")
	ended(a)
	x.want(404, "not connected", "DELETE", "/api/v1/sessions/a/connection", "")
	x.want(200, `"clientid":"a","username":"u","connected":false`, "GET", "/api/v1/sessions/a", "")
	x.want(200, `{"disconnected":2}`, "DELETE", "/api/v1/connections?username=u", "")
	ended(b)
	ended(c)
	for range 2 {
		var p codec.Publish
		if watch.Want(codec.PUBLISH, &p); string(p.Topic) == "will/a" {
			t.Error("the will of a is sent")
		}
	}
	x.want(400, "username", "DELETE", "/api/v1/connections", "")
	x.want(400, "will", "DELETE", "/api/v1/sessions/b/connection?will=maybe", "")
	x.want(404, "not connected", "DELETE", "/api/v1/sessions/nobody/connection", "")
	if x.log.count("disconnect by") == 0 {
		t.Error("no audit line")
	}
}
