package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// fetch makes a GET; the certificate is not checked.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestHTTPAPI(t *testing.T) {
	cert, key := certificate(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<p>hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	sockets := t.TempDir()
	mqtt, ws, api, secure, closed := freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)
	p := startBroker(t, fmt.Sprintf("per_listener_settings true\nlistener %d 127.0.0.1\nallow_anonymous true\n"+
		"listener %d 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"+
		"listener %d 127.0.0.1\nprotocol http_api\nhttp_dir %s\nallow_anonymous true\n"+
		"listener %d 127.0.0.1\nprotocol http_api\ncertfile %s\nkeyfile %s\nallow_anonymous true\n"+
		"listener %d 127.0.0.1\nprotocol http_api\n"+
		"listener 0 %s/mqtt.sock\ncertfile %s\nkeyfile %s", mqtt, ws, api, dir, secure, cert, key, closed, sockets, cert, key))
	p.await(t, fmt.Sprintf(`^\d+: Opening http api listen socket on port %d\.$`, api))
	brokertest.Connect(t, fmt.Sprintf("127.0.0.1:%d", mqtt), "c", codec.V311, nil)
	for _, base := range []string{fmt.Sprintf("http://127.0.0.1:%d", api), fmt.Sprintf("https://127.0.0.1:%d", secure)} {
		if status, body := fetch(t, base+"/api/v1/version"); status != 200 || body != "2.1.2" {
			t.Errorf("version: %d %q", status, body)
		}
		status, body := fetch(t, base+"/api/v1/systree")
		var tree map[string]int64
		if err := json.Unmarshal([]byte(body), &tree); err != nil || status != 200 {
			t.Fatalf("%d %v %s", status, err, body)
		}
		if tree["$SYS/broker/clients/connected"] != 1 || tree["$SYS/broker/heap/current"] <= 0 || len(tree) != 25 {
			t.Errorf("%s", body)
		}
		_, body = fetch(t, base+"/api/v1/listeners")
		var got any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		one := func(port int, protocol string, tls, anonymous bool) any {
			return map[string]any{"port": float64(port), "protocol": protocol, "tls": tls, "mtls": false, "allow_anonymous": anonymous}
		}
		want := map[string]any{"listeners": []any{
			one(mqtt, "mqtt", false, true), one(ws, "websockets", false, true), one(api, "httpapi", false, true),
			one(secure, "httpapi", true, true), one(closed, "httpapi", false, false),
			map[string]any{
				"path": sockets + "/mqtt.sock", "protocol": "mqtt", "tls": true, "mtls": false, "allow_anonymous": false,
			},
		}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s", body)
		}
	}
	if status, body := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/", api)); status != 200 || body != "<p>hello" {
		t.Errorf("index: %d %q", status, body)
	}
	if status, body := fetch(t, fmt.Sprintf("http://127.0.0.1:%d/api/v1/version", closed)); status != 401 || body != "Not authorised\n" {
		t.Errorf("without anonymous: %d %q", status, body)
	}
}

func TestHTTPAPIOfLocalOnlyMode(t *testing.T) {
	first := newBroker(t, "user root\nsys_interval 0", "-p", fmt.Sprint(freePort(t)))
	first.start(t)
	second := newBroker(t, "user root\nsys_interval 0", "-p", fmt.Sprint(freePort(t)))
	second.start(t) // it cannot have the port as well
	second.await(t, `^\d+: Warning: there is no http api: `)
	if strings.Contains(first.lines(), "no http api") {
		t.Skip("port 9883 is taken by somebody else")
	}
	if status, body := fetch(t, "http://127.0.0.1:9883/api/v1/version"); status != 200 || body != "2.1.2" {
		t.Errorf("%d %q", status, body)
	}
}

func TestHTTPAPIPortInUse(t *testing.T) {
	port := freePort(t)
	conf := fmt.Sprintf("listener %d 127.0.0.1\nprotocol http_api\nuser root\n", port)
	startBroker(t, conf)
	if code, out := outcome(t, "-c", confFile(t, conf)); code != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestMemoryLimitRefuses starts with a limit that the program exceeds by itself.
func TestMemoryLimitRefuses(t *testing.T) {
	port := freePort(t)
	p := startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmemory_limit 1000000", port))
	p.await(t, `^\d+: Warning: memory_limit: \d+ of 1000000 bytes are used\. New clients are refused `)
	if _, ack := greeted(t, fmt.Sprintf("127.0.0.1:%d", port), "c", codec.V5, nil); ack.Reason != codec.QuotaExceeded {
		t.Errorf("CONNACK %s", ack.Reason)
	}
	p.await(t, `^\d+: Client connection from 127\.0\.0\.1 denied: memory_limit exceeded\.$`)
	p = startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmemory_limit 1000000000", freePort(t)))
	if strings.Contains(p.lines(), "memory_limit") {
		t.Errorf("%s", p.lines())
	}
}
