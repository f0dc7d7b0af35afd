package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"noctule/broker"
)

// door admits what it is told to, and keeps what it was asked.
type door struct {
	mu    sync.Mutex
	asked []Login
	allow func(Login) bool
	err   error
}

func (d *door) Allows(_ context.Context, l Login) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, l)
	return d.err == nil && (d.allow == nil || d.allow(l)), d.err
}

// startAPI runs an API with some changes.
func startAPI(t *testing.T, change func(*APIConfig)) string {
	t.Helper()
	cfg := APIConfig{Network: "tcp", Address: "127.0.0.1:0", Version: "2.1.2", Gate: &door{}}
	if change != nil {
		change(&cfg)
	}
	s, err := StartAPI(cfg, source{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func TestAPIVersionAndErrors(t *testing.T) {
	url := startAPI(t, nil)
	tests := []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/api/v1/version", 200, "2.1.2"},
		{"GET", "/api/v1/nonsense", 404, ""},
		{"GET", "/api/", 404, ""},
		{"GET", "/", 404, ""}, // no http_dir
		{"POST", "/api/v1/version", 405, ""},
		{"PUT", "/nonsense", 405, ""},
		{"DELETE", "/", 405, ""},
		{"HEAD", "/api/v1/version", 405, ""},
	}
	for _, tt := range tests {
		resp, body := ask(t, tt.method, url+tt.path)
		if resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s %s: %d %q", tt.method, tt.path, resp.StatusCode, body)
		}
		cors := resp.Header.Get("Access-Control-Allow-Origin")
		if want := map[bool]string{true: "*"}[tt.status == 200]; cors != want {
			t.Errorf("%s %s: Access-Control-Allow-Origin %q", tt.method, tt.path, cors)
		}
	}
}

// TestAPIErrorsEndTheConnection: who does not read an answer is not left waiting for the next.
func TestAPIErrorsEndTheConnection(t *testing.T) {
	d := &door{}
	url := startAPI(t, func(c *APIConfig) { c.Gate = d })
	check := func(request, want string) {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", request)
		text, err := io.ReadAll(c) // until it is ended
		if err != nil {
			t.Fatalf("%s: %v", request, err)
		}
		head, body, _ := strings.Cut(string(text), "\r\n\r\n")
		length := fmt.Sprintf("\r\nContent-Length: %d", len(body))
		if !strings.HasPrefix(head, "HTTP/1.1 "+want) || !strings.Contains(head, "\r\nConnection: close") ||
			!strings.Contains(head, length) && !strings.HasPrefix(request, "HEAD") {
			t.Errorf("%s: %q", request, text)
		}
		if (body != "") != (want == "401 Unauthorized") {
			t.Errorf("%s: %q", request, body)
		}
	}
	check("POST /api/v1/version", "405 Method Not Allowed")
	check("HEAD /api/v1/version", "405 Method Not Allowed")
	check("GET /api/missing", "404 Not Found")
	check("GET /missing", "404 Not Found")
	d.err = errors.New("busy")
	check("GET /x", "503 Service Unavailable")
	d.err, d.allow = nil, func(Login) bool { return false }
	check("GET /x", "401 Unauthorized")
}

func TestAPIListeners(t *testing.T) {
	url := startAPI(t, func(c *APIConfig) {
		list := []APIListener{
			{Port: 1883, Protocol: "mqtt", AllowAnonymous: true},
			{Path: "/x.sock", Protocol: "websockets", TLS: true, MutualTLS: true},
		}
		c.Listeners = func() []APIListener { return list }
	})
	_, body := ask(t, "GET", url+"/api/v1/listeners")
	want := `{
	"listeners": [
		{
			"port": 1883,
			"protocol": "mqtt",
			"tls": false,
			"mtls": false,
			"allow_anonymous": true
		},
		{
			"path": "/x.sock",
			"protocol": "websockets",
			"tls": true,
			"mtls": true,
			"allow_anonymous": false
		}
	]
}`
	if body != want {
		t.Errorf("%s", body)
	}
}

func TestAPISysTree(t *testing.T) {
	resp, body := ask(t, "GET", startAPI(t, nil)+"/api/v1/systree")
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" || !strings.Contains(body, "\n\t\"$SYS/broker/") {
		t.Errorf("%s\n%s", ct, body)
	}
	var got map[string]int64
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	m := source{}.Metrics(t.Context())
	want := map[string]int64{
		"clients/total": 3, "clients/maximum": m.SessionsMaximum, "clients/disconnected": 1, "clients/connected": 2,
		"clients/expired": 18, "messages/stored": 6 + 7 + 9, "store/messages/bytes": 8 + 30, "subscriptions/count": 4,
		"shared_subscriptions/count": 5, "retained messages/count": 6, "messages/received": 10, "messages/sent": 11,
		"bytes/received": 12, "bytes/sent": 13, "publish/bytes/received": 16, "publish/bytes/sent": 17,
		"packet/out/count": 7, "packet/out/bytes": 8, "connections/socket/count": m.ConnectionsTotal,
		"publish/messages/dropped": m.DroppedTotal(), "publish/messages/received": 14, "publish/messages/sent": 15,
		"uptime": 1, "heap/current": m.Heap, "heap/maximum": m.HeapMaximum,
	}
	for k, v := range want {
		if got["$SYS/broker/"+k] != v {
			t.Errorf("%s is %d, want %d", k, got["$SYS/broker/"+k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d topics, want %d: %v", len(got), len(want), got)
	}
}

func TestAPIAsksTheGate(t *testing.T) {
	d := &door{allow: func(l Login) bool { return l.Username == "alice" && l.Password == "p:w" }}
	url := startAPI(t, func(c *APIConfig) { c.Gate = d })
	for _, path := range []string{"/api/v1/version", "/api/v1/nonsense", "/file"} {
		resp, body := ask(t, "GET", url+path)
		if resp.StatusCode != 401 || body != "Not authorised\n" ||
			resp.Header.Get("WWW-Authenticate") != `Basic realm="Mosquitto API"` {
			t.Errorf("%s: %d %q %v", path, resp.StatusCode, body, resp.Header)
		}
	}
	resp, body := ask(t, "GET", strings.Replace(url, "//", "//alice:p%3Aw@", 1)+"/api/v1/version")
	if resp.StatusCode != 200 || body != "2.1.2" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	want := []Login{
		{Path: "/api/v1/version"},
		{Path: "/api/v1/nonsense"},
		{Path: "/file"},
		{Username: "alice", Password: "p:w", Named: true, Path: "/api/v1/version"},
	}
	for i := range want {
		want[i].Address = netip.MustParseAddr("127.0.0.1")
	}
	if !reflect.DeepEqual(d.asked, want) {
		t.Errorf("asked %+v", d.asked)
	}
}

func TestAPIWhoseGateIsBusy(t *testing.T) {
	url := startAPI(t, func(c *APIConfig) { c.Gate = &door{err: errors.New("too many")} })
	if resp, body := ask(t, "GET", url+"/api/v1/version"); resp.StatusCode != 503 || body != "" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestAPIFiles(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "www")
	for name, text := range map[string]string{
		"www/index.html": "<p>index", "www/sub/a.js": "js", "www/sub/index.html": "<p>sub", "secret": "secret", "www2/x": "secret",
	} {
		f := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../secret", "abs": filepath.Join(base, "secret"), "in": "sub/a.js"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	url := startAPI(t, func(c *APIConfig) { c.Dir = dir })
	address := strings.TrimPrefix(url, "http://")
	for path, want := range map[string]string{
		"/": "<p>index", "/index.html": "<p>index", "/sub/a.js": "js", "/in": "js", "/sub/../sub//a.js": "js",
		"/sub": "", "/sub/": "<p>sub", "/nothing": "", "/out": "", "/abs": "", "/../secret": "", "/%2e%2e/secret": "",
		"/../www2/x": "", "/sub/..%2f..%2fsecret": "", "/a%00b": "", "/..": "<p>index", "/api/../index.html": "<p>index",
		"/x/../api/nonsense": "", "/sub/a.js/": "", "/sub%5ca.js": "", "/./index.html": "<p>index", "//sub/./a.js": "js",
		"/sub/..": "<p>index", "/sub/.": "<p>sub", "/sub%2Fa.js": "js", "/sub/%252e%252e/index.html": "",
	} {
		status, body := raw(t, address, path)
		switch {
		case want == "" && (status != 404 || body != ""), want != "" && (status != 200 || body != want):
			t.Errorf("%s: %d %q, want %q", path, status, body, want)
		}
	}
	if _, err := StartAPI(APIConfig{Network: "tcp", Address: "127.0.0.1:0", Gate: &door{}, Dir: base + "/none"},
		source{}); err == nil {
		t.Error("http_dir that does not exist is no error")
	}
}

// raw makes a request whose path no client library cleans.
func raw(t *testing.T, address, path string) (status int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path)
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(text), "\r\n\r\n")
	if _, err := fmt.Sscanf(head, "HTTP/1.0 %d", &status); err != nil {
		t.Fatalf("%v: %q", err, head)
	}
	return status, body
}

func TestAPIOverTLS(t *testing.T) {
	model := httptest.NewUnstartedServer(nil)
	model.StartTLS() // for its certificate
	defer model.Close()
	url := startAPI(t, func(c *APIConfig) { c.TLS = &tls.Config{Certificates: model.TLS.Certificates} })
	resp, err := model.Client().Get(strings.Replace(url, "http:", "https:", 1) + "/api/v1/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "2.1.2" || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %q", err, body)
	}
}

func TestAPINeedsAGate(t *testing.T) {
	if _, err := StartAPI(APIConfig{Network: "tcp", Address: "127.0.0.1:0"}, source{}); err == nil {
		t.Error("no error")
	}
	var m broker.Metrics
	if n := len(m.SysValues()); n != 28 {
		t.Errorf("%d values: is one new, and does the API show it?", n)
	}
}
