package admin

import (
	"bufio"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// namesTree is a directory whose files hold their own names, and the handler that serves it.
func namesTree(t *testing.T, gate Gate) *api {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "www")
	for _, name := range []string{
		"/index.html", "/secret.html", "/public/index.html", "/public/a.html", "/public/secret/b.html",
		"/public/secret.html", "/private/a.html", "/private/index.html", "/api/v1/x", "/a+b/#", `/back\slash`,
		"/../secret.html", "/../public/a.html", "/public.html", "/%2e%2e", "/public/..a",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out.html": "../secret.html", "up": "..", "public/up": "../.."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return &api{cfg: APIConfig{Version: "2.1.2", Gate: gate}, files: root}
}

// get makes a request for a path that nothing has cleaned; ok is false if it is none for HTTP.
func get(h http.Handler, path string) (w *httptest.ResponseRecorder, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")))
	if err != nil {
		return nil, false
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, true
}

// TestGateIsAskedAboutWhatIsServed asks for what `topic read /public/#` does not grant in every spelling.
func TestGateIsAskedAboutWhatIsServed(t *testing.T) {
	a := namesTree(t, &door{allow: func(l Login) bool { return strings.HasPrefix(l.Path, "/public/") }})
	for _, path := range []string{
		"/secret.html", "/public/../secret.html", "/public/%2e%2e/secret.html", "/public/..%2fsecret.html",
		"/public/%2e./secret.html", "/public/secret/../../secret.html", "/./secret.html", "//secret.html",
		"/public//../secret.html", "/public/./../secret.html", "/public/..%2Fprivate/", "/public/../private/.",
		"/public/../", "/public/..", "/public/../private", "/secret.html/", "/public/..%5csecret.html",
		"/public/%00/../../secret.html", "/public/up/secret.html", "/public/../../secret.html", "/out.html",
		"/up/secret.html", "http://x/public/../secret.html", "/public/../public.html", "/public/../api/v1/version",
		"/public/%2e%2e%2f%2e%2e/secret.html", "/public/%252e%252e/secret.html",
	} {
		w, ok := get(a, path)
		if ok && w.Code != http.StatusUnauthorized && w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	for path, want := range map[string]string{
		"/public/a.html": "/public/a.html", "/./public/a.html": "/public/a.html", "//public//a.html": "/public/a.html",
		"/private/../public/a.html": "/public/a.html", "/public/": "/public/index.html",
		"/public/x/..": "/public/index.html", "/public/secret/../..a": "/public/..a", "/public%2fa.html": "/public/a.html",
	} {
		if w, ok := get(a, path); !ok || w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, w.Body, want)
		}
	}
}

// TestServedIsAskedAbout makes random paths: what is served is always the file whose name the gate was asked
// about, and never one that it refuses.
func TestServedIsAskedAbout(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	words := []string{
		"public", "secret", "secret.html", "a.html", "private", "index.html", ".", "..", "", "api", "v1", "x", "version",
		"up", "%2e%2e", "%2E.", "..%2f", "%2f", "%5c", `\`, "%00", "+", "a+b", "%23", "%252e%252e", "..a", "?", ";",
	}
	d := &door{}
	a := namesTree(t, d)
	var served int
	for range 20_000 {
		deny := words[r.IntN(len(words))]
		d.asked, d.allow = nil, func(l Login) bool { return deny == "" || !strings.Contains(l.Path, deny) }
		var path strings.Builder
		path.WriteString("/")
		for range 1 + r.IntN(6) {
			path.WriteString(words[r.IntN(len(words))])
			if r.IntN(4) != 0 {
				path.WriteString("/")
			}
		}
		w, ok := get(a, path.String())
		if !ok || w.Code != http.StatusOK {
			continue
		}
		served++
		if len(d.asked) != 1 {
			t.Fatalf("%s: the gate was asked %d times", path.String(), len(d.asked))
		}
		name := d.asked[0].Path
		if body := w.Body.String(); body != name && (name != "/api/v1/version" || body != "2.1.2") {
			t.Fatalf("%s: the gate was asked about %s and %s was served", path.String(), name, body)
		}
		if !d.allow(d.asked[0]) {
			t.Fatalf("%s: %s was served and is refused", path.String(), name)
		}
	}
	if served < 500 {
		t.Errorf("only %d paths led to a file", served)
	}
}
