package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"noctule/codec"
)

// Bans are added, end who is connected, are listed by pages and taken out; each change has its audit line, and whoever is
// bound to tenants may not even read them.
func TestBansOverHTTP(t *testing.T) {
	x := newDoorOf(t, "", "crm "+secret+"\nbound "+secret+"-tenant tenant=a\nviewer "+secret+"-ro read-only")
	c := x.as("c", "u")
	x.want(200, `"disconnected":1`, "POST", "/api/v1/bans", `{"kind":"user","name":"u","seconds":60,"reason":"lost phone"}`)
	var d codec.Disconnect
	if c.Version == codec.V5 {
		if c.Want(codec.DISCONNECT, &d); d.Reason != codec.AdministrativeAction {
			t.Errorf("%s", d.Reason)
		}
	}
	c.WantClosed()
	for i := range 5 {
		x.want(200, `"disconnected":0`, "POST", "/api/v1/bans", fmt.Sprintf(`{"kind":"client","name":"c%d"}`, i))
	}
	var names []string
	for path := "/api/v1/bans?limit=2"; path != ""; {
		resp, text := x.do("GET", path, "", "Authorization", "Bearer "+secret+"-ro")
		var page bansPage
		if err := json.Unmarshal([]byte(text), &page); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, text)
		}
		for _, b := range page.Bans {
			names = append(names, b.Kind+" "+b.Name)
			if b.By != "http:crm" || (b.Until != nil) != (b.Kind == "user") {
				t.Errorf("%+v", b)
			}
		}
		if path = ""; page.Next != "" {
			path = "/api/v1/bans?limit=2&cursor=" + page.Next
		}
	}
	if got := strings.Join(names, ", "); got != "user u, client c0, client c1, client c2, client c3, client c4" {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{
		`{"kind":"host","name":"x"}`, `{"kind":"address","name":"x"}`, `{"kind":"user","name":""}`, `{"kind":"user","name":"x","seconds":0}`, `{"what":1}`,
	} {
		x.want(400, "error", "POST", "/api/v1/bans", bad)
	}
	x.want(403, "tenants", "POST", "/api/v1/bans", `{"kind":"user","name":"x"}`, "Authorization", "Bearer "+secret+"-tenant")
	x.want(403, "tenants", "DELETE", "/api/v1/bans/user/u", "", "Authorization", "Bearer "+secret+"-tenant")
	x.want(403, "read-only", "DELETE", "/api/v1/bans/user/u", "", "Authorization", "Bearer "+secret+"-ro")
	x.want(204, "", "DELETE", "/api/v1/bans/user/u", "")
	x.want(404, "no such ban", "DELETE", "/api/v1/bans/user/u", "")
	x.as("c", "u")
	for _, line := range []string{`ban by \"crm\" at http, user \"u\", connections 1, until 20`, `client \"c4\", connections 0`, `unban by \"crm\" at http, user \"u\"`} {
		if x.log.count(line) == 0 {
			t.Errorf("no %q in the log", line)
		}
	}
}
