package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
)

// An offline session gets what was granted to it over MQTT, though the broker was killed since, and the client never
// subscribes; what was revoked stays so. The tools know what is stored.
func TestGrantsSurviveKill(t *testing.T) {
	sub, pub, rr := program(t, "mosquitto_sub"), program(t, "mosquitto_pub"), program(t, "mosquitto_rr")
	port, dir := freePort(t), t.TempDir()
	yaml := filepath.Join(dir, "presub.yaml")
	if err := os.WriteFile(yaml, []byte("control: {usernames: [agent]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := persistent(port, dir) + "presub_file " + yaml + "\n"
	at := []string{"-h", "127.0.0.1", "-p", fmt.Sprint(port)}
	run := func(name string, args ...string) string {
		t.Helper()
		return runClient(t, name, append(at[:4:4], args...)...)
	}
	ask := func(want, entry string) {
		t.Helper()
		got := run(rr, "-u", "agent", "-q", "1", "-W", "20", "-t", "$CONTROL/presub/v1", "-e", "$CONTROL/presub/v1/response",
			"-m", entry)
		if !strings.Contains(got, want) {
			t.Fatalf("answer %s, want %s", got, want)
		}
	}
	phone := []string{"-V", "5", "-x", "3600", "-c", "-i", "phone", "-q", "1", "-t", "unused"}

	p := startBroker(t, conf)
	run(sub, append(phone, "-E")...)
	ask(`"state":"new"`, `{"clientid":"phone","action":"subscribe","topics":[{"topic":"im/a","qos":1},{"topic":"im/b","qos":1}]}`)
	ask(`"state":"removed"`, `{"clientid":"phone","action":"unsubscribe","topics":[{"topic":"im/b"}]}`)
	for i := range 2 {
		p.stop(t, syscall.SIGKILL)
		p = startBroker(t, conf)
		for _, topic := range []string{"im/b", "im/a"} {
			run(pub, "-q", "1", "-t", topic, "-m", fmt.Sprint("message ", i))
		}
		if got := run(sub, append(phone, "-C", "1", "-W", "20", "-F", "%t %p")...); got != fmt.Sprintf("im/a message %d\n", i) {
			t.Errorf("phone got %q", got)
		}
		run(sub, append(phone, "-E")...) // its SUBACK comes when its PUBACK before is on disk
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	checkStoredGrants(t, dir)
}

// checkStoredGrants has the tools look at a file with one list and one grant.
func checkStoredGrants(t *testing.T, dir string) {
	t.Helper()
	file, again := filepath.Join(dir, "noctule.db"), filepath.Join(dir, "again.db")
	state := filepath.Join(dir, "state.json")
	for _, tt := range []struct{ args, want string }{
		{"dump " + file, `"im/a" options 0x01 id 0`},
		{"dump " + file, `"api:agent" place 0 revision`},
		{"compact " + file, ""}, // until then, or until a broker has folded it, all is in the log
		{"stats " + file, "grants                  1 keys"},
		{"stats " + file, "sets                    1 keys"},
		{"check " + file, "no problems"},
		{"export " + file, `"topic": "im/a"`},
		{"export " + file + " " + state, ""},
		{"import " + again + " " + state, "1 lists of subscriptions made by servers, 1 times"},
		{"check " + again, "no problems"},
		{"dump " + again, `"api:agent" place 0 revision`},
	} {
		code, text := outcome(t, append([]string{"db"}, strings.Fields(tt.args)...)...)
		if code != exitOK || !strings.Contains(text, tt.want) {
			t.Errorf("db %s: exit %d: %s", tt.args, code, text)
		}
	}
}

// A grant without its list, which no crash can leave, is told by check and stops the start.
func TestGrantWithoutListIsDamage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "noctule.db")
	s, err := bolt.Open(file, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	b.PutSession(&store.Session{Number: 1, ClientID: "c", Expiry: 100, OfflineAt: 1 << 40})
	b.PutGrant(&store.Grant{Session: 1, Origin: "api:x", Set: store.SetKey{1}})
	if err := errors.Join(s.Commit(b.Bytes()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if code, text := outcome(t, "db", "check", file); code != exitConfig || !strings.Contains(text, "list 01000000") {
		t.Errorf("exit %d: %s", code, text)
	}
	code, text := outcome(t, "-c", confFile(t, persistent(freePort(t), dir)+"user root\n"))
	if code != exitConfig || !strings.Contains(text, "a grant refers to a list of topics that is not there") {
		t.Errorf("exit %d: %s", code, text)
	}
}

// A browser comes back with another client id each time, and is its user's all the same: in an outage of the
// webservice, and after a kill of the broker in it, it has the last list that was known.
func TestLastKnownListSurvivesKill(t *testing.T) {
	sub, pub := program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	port, dir := freePort(t), t.TempDir()
	lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"topics":[{"topic":"im`+r.URL.Path+`","qos":1}]}`)
	}))
	defer lists.Close()
	yaml := filepath.Join(dir, "presub.yaml")
	text := "providers: [{name: ws, budget: 20s, http: {timeout: 20s, method: GET, url: '" + lists.URL + "/%u'}}]"
	if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := persistent(port, dir) + "presub_file " + yaml + "\n"
	at := []string{"-h", "127.0.0.1", "-p", fmt.Sprint(port)}
	browser := 0
	visit := func(user string) {
		t.Helper()
		browser++
		id := fmt.Sprintf("mqttjs_%d", browser)
		cmd := exec.Command(sub, append(at[:4:4], "-i", id, "-u", user, "-t", "ready", "-v", "-C", "2", "-W", "20")...)
		out := runLines(t, cmd)
		out.want("^ready ")
		runClient(t, pub, append(at[:4:4], "-q", "1", "-t", "im/"+user, "-m", id)...)
		out.want("^im/" + user + " " + id + "$")
	}
	p := startBroker(t, conf)
	runClient(t, pub, append(at[:4:4], "-r", "-t", "ready", "-m", "x")...)
	visit("ann")
	visit("bob")
	lists.Close()
	visit("ann")
	// What is stored before something that was acknowledged is on the disk with it.
	runClient(t, pub, append(at[:4:4], "-q", "1", "-r", "-t", "ready", "-m", "y")...)
	p.stop(t, syscall.SIGKILL)
	p = startBroker(t, conf)
	visit("bob")
	visit("ann")
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	file, copied := filepath.Join(dir, "noctule.db"), filepath.Join(dir, "copy.db")
	for _, tt := range []struct{ args, want string }{
		{"dump " + file, `answers: provider "ws" question `},
		{"dump " + file, `"im/ann" options 0x01 id 0`},
		{"check " + file, "no problems"},
		{"backup " + file + " " + copied, ""},
		{"compact " + copied, ""},
		{"stats " + copied, "answers                 4 keys"},
	} {
		code, text := outcome(t, append([]string{"db"}, strings.Fields(tt.args)...)...)
		if code != exitOK || !strings.Contains(text, tt.want) {
			t.Errorf("db %s: exit %d: %s", tt.args, code, text)
		}
	}
}
