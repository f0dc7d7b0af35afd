package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// silentPage is a page that connects with a session that lasts, never subscribes, and tells its server what it sees.
const silentPage = `<!doctype html><title>silent</title><script src="mqtt.min.js"></script><script>
let before = Promise.resolve()
const say = (text) => { before = before.then(() => fetch('/saw', { method: 'POST', body: text })) }
const client = mqtt.connect('ws://127.0.0.1:%d/mqtt', {
  protocolVersion: 5, clientId: 'page', username: 'alice', clean: false, reconnectPeriod: 300,
  properties: { sessionExpiryInterval: 3600 } })
client.on('connect', (ack) => say('connected ' + ack.sessionPresent))
client.on('message', (topic, payload) => say(topic + ' ' + payload))
</script>`

// pageServer is a webservice with a list of topics, and the server of a page.
type pageServer struct {
	*httptest.Server
	down atomic.Bool
	list atomic.Value // string: topics as JSON
	saw  chan string
}

func servePage(t *testing.T, ws int) *pageServer {
	t.Helper()
	library := "testdata/node/node_modules/mqtt/dist/mqtt.min.js"
	if !isFile(library) {
		if os.Getenv("CI") == "true" {
			t.Fatal("MQTT.js is not installed")
		}
		t.Skip("MQTT.js is not installed: run npm ci in cmd/noctule/testdata/node")
	}
	s := &pageServer{saw: make(chan string, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, silentPage, ws) })
	mux.HandleFunc("GET /mqtt.min.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, library) })
	mux.HandleFunc("POST /saw", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.saw <- string(b)
	})
	mux.HandleFunc("POST /topics", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case s.down.Load():
			panic(http.ErrAbortHandler) // the connection is cut
		case strings.Contains(string(b), `"clientid":"page"`):
			fmt.Fprintf(w, `{"topics":[%s]}`, s.list.Load())
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// until reads what the page tells until something is as it should be.
func (s *pageServer) until(t *testing.T, what string, is func(string) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case text := <-s.saw:
			if is(text) {
				return
			}
		case <-deadline:
			t.Fatalf("the page does not tell: %s", what)
		}
	}
}

// A page in a real browser never subscribes. It gets everything that is published with QoS 1 while the broker is
// stopped and started, while the webservice that has its list is away, and what is on its list anew when the
// webservice is back, without connecting again.
func TestSilentPageMissesNothing(t *testing.T) {
	chromium := program(t, "chromium")
	tcp, ws, dir := freePort(t), freePort(t), t.TempDir()
	s := servePage(t, ws)
	topic := func(name string) string { return fmt.Sprintf(`{"topic":%q,"qos":1}`, name) }
	s.list.Store(topic("im/a") + "," + topic("$me/subscriptions"))
	yaml := filepath.Join(dir, "presub.yaml")
	text := fmt.Sprintf("providers: [{name: lists, http: {url: '%s/topics'}}]\n", s.URL)
	if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := persistent(tcp, dir) + fmt.Sprintf("listener %d 127.0.0.1\nprotocol websockets\npresub_file %s\n", ws, yaml)
	broker := startBroker(t, conf)
	publish := func(topic, payload string) {
		t.Helper()
		c := brokertest.Dial(t, fmt.Sprintf("127.0.0.1:%d", tcp), codec.V5)
		c.Connack("", nil)
		c.Publish(topic, payload, 1, 1)
		c.Want(codec.PUBACK, &codec.Ack{Type: codec.PUBACK})
		c.Disconnect()
	}
	exactly := func(want string) {
		t.Helper()
		s.until(t, want, func(text string) bool { return text == want })
	}
	openPage(t, chromium, s.URL)
	exactly("connected false")
	publish("im/a", "first")
	exactly("im/a first")

	s.down.Store(true)
	broker.stop(t, syscall.SIGTERM)
	startBroker(t, conf)
	for i := range 3 { // with the page, or before it is back
		publish("im/a", fmt.Sprint("after the start ", i))
	}
	var saw []string
	s.until(t, "messages after the start", func(text string) bool {
		if text != "connected true" && !strings.HasPrefix(text, "$me/") {
			saw = append(saw, text)
		}
		return text == "im/a after the start 2"
	})
	want := []string{"im/a after the start 0", "im/a after the start 1", "im/a after the start 2"}
	if !slices.Equal(saw, want) {
		t.Errorf("after a start of the broker the page saw %q", saw)
	}
	publish("im/a", "while the webservice is away")
	exactly("im/a while the webservice is away")

	s.list.Store(topic("im/a") + "," + topic("im/b") + "," + topic("$me/subscriptions"))
	s.down.Store(false)
	s.until(t, "the list with im/b", func(text string) bool {
		return strings.HasPrefix(text, "$me/subscriptions ") && strings.Contains(text, `"im/b"`) &&
			!strings.Contains(text, "incomplete")
	})
	publish("im/b", "on the new list")
	exactly("im/b on the new list")
	publish("im/a", "last")
	exactly("im/a last")
}

// openPage has a browser without a window show a page until the test ends.
func openPage(t *testing.T, chromium, url string) {
	t.Helper()
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
		"--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
		"--user-data-dir="+t.TempDir(), url)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}
