package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// webserver answers with what a handler says.
func webserver(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// read is an answer that is a JSON string.
func read(body []byte) (s string, err error) {
	if body == nil {
		return "none", nil
	}
	return s, json.Unmarshal(body, &s)
}

// lookupOf makes the lookup of a webservice with names a login has.
func lookupOf(t *testing.T, h *HTTP, change func(*Options[string])) *Lookup[string] {
	t.Helper()
	s := settings(func(s *Settings) {
		s.HTTP, s.Budget = h, Duration(20*time.Second)
		SetDuration(&h.Timeout, 20*time.Second)
	})
	s.Defaults(Given{})
	names := append(threeNames(), Name{Name: "password", Letter: 'p', Secret: true})
	if err := s.Check("$", names); err != nil {
		t.Fatal(err)
	}
	o := Options[string]{Names: names, HTTP: OK(read), Asked: "clients", Answers: "lists"}
	if change != nil {
		change(&o)
	}
	l, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestRequests is what a webservice gets, and what the answer depends on by it.
func TestRequests(t *testing.T) {
	var seen atomic.Value
	base := webserver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen.Store(strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL, " ", r.Header.Get("Content-Type"), " ", r.Header.Get("X-User"), " ", string(body))))
		_, _ = io.WriteString(w, `"yes"`)
	})
	for i, tt := range []struct {
		h    HTTP
		want string
		uses []int
	}{
		{HTTP{URL: "/a"}, `POST /a application/json  {"clientid":"c\"1","password":"p\u0026w","tenant":"e","username":"u u"}`, []int{0, 1, 2, 3}},
		{
			HTTP{URL: "/a", Body: `{"user":"%u","pw":"%{password}","id":"%c"}`},
			`POST /a application/json  {"user":"u u","pw":"p\u0026w","id":"c\"1"}`,
			[]int{0, 1, 3},
		},
		{
			HTTP{URL: "/a/%u", ContentType: typeForm},
			`POST /a/u%20u application/x-www-form-urlencoded  clientid=c%221&password=p%26w&tenant=e&username=u+u`,
			[]int{0, 1, 2, 3},
		},
		{
			HTTP{URL: "/a", ContentType: typeForm, Body: "u=%u&p=%p"},
			`POST /a application/x-www-form-urlencoded  u=u+u&p=p%26w`,
			[]int{1, 3},
		},
		{HTTP{URL: "/a?x=1", Method: "GET"}, `GET /a?clientid=c%221&tenant=e&username=u+u&x=1`, []int{0, 1, 2}}, // no secrets
		{HTTP{URL: "/a/%u/%e", Method: "GET"}, `GET /a/u%20u/e`, []int{1, 2}},
		{HTTP{URL: "/a/%e", Method: "GET", Headers: map[string]string{"X-User": "<%u>"}}, `GET /a/e  <u u>`, []int{1, 2}},
	} {
		tt.h.URL = base + tt.h.URL
		l := lookupOf(t, &tt.h, nil)
		again := lookupOf(t, &tt.h, nil)
		if l.SameRequest(again) == slices.Contains(tt.uses, 3) { // a hash of a password is one of this process
			t.Errorf("%d: keys are the same: %v", i, l.SameRequest(again))
		}
		a, err := l.Ask(t.Context(), &Question{Values: []string{`c"1`, "u u", "e", "p&w"}})
		if a != "yes" || err != nil || seen.Load() != tt.want || !slices.Equal(l.uses, tt.uses) {
			t.Errorf("%d: %q, %v, asked\n%s, want\n%s; uses %v", i, a, err, seen.Load(), tt.want, l.uses)
		}
	}
	l := lookupOf(t, &HTTP{URL: base, Headers: map[string]string{"X-User": "%u"}}, nil)
	seen.Store("")
	if _, err := l.Ask(t.Context(), &Question{Values: []string{"c", "u\r\nX-Admin: 1", "e", "p"}}); !isFinal(err) || seen.Load() != "" {
		t.Errorf("a name that ends a header: %v, asked %q", err, seen.Load())
	}
}

// TestKeySetting: what the answer depends on can be less than what is sent.
func TestKeySetting(t *testing.T) {
	var calls atomic.Int64
	base := webserver(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(w, `"yes"`)
	})
	s := settings(func(s *Settings) {
		s.HTTP = &HTTP{URL: base, Timeout: Duration(20 * time.Second)}
		s.Budget, s.Key, s.Cache.TTL = Duration(20*time.Second), []string{"tenant", "username"}, Duration(time.Hour)
	})
	s.Defaults(Given{})
	l, err := New(s, Options[string]{Names: threeNames(), HTTP: OK(read)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i, q := range [][]string{{"c1", "u1", "e"}, {"c2", "u1", "e"}, {"c1", "u2", "e"}, {"c1", "u1", "f"}, {"c9", "u2", "e"}, {"", "u1e", ""}} {
		if _, err := l.Ask(t.Context(), &Question{Values: q}); err != nil {
			t.Fatal(i, err)
		}
	}
	if calls.Load() != 4 {
		t.Errorf("%d calls", calls.Load())
	}
}

// TestOwnReader: a status can be an answer.
func TestOwnReader(t *testing.T) {
	status := http.StatusForbidden
	base := webserver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	l := lookupOf(t, &HTTP{URL: base, Retries: 1}, func(o *Options[string]) {
		o.HTTP = func(status int, _ []byte) (string, error) {
			switch status {
			case http.StatusOK:
				return "yes", nil
			case http.StatusUnauthorized, http.StatusForbidden:
				return "no", nil
			}
			return "", StatusError(status)
		}
	})
	q := &Question{Values: []string{"c", "u", "e", "p"}}
	for _, tt := range []struct {
		status int
		want   string
		final  bool
	}{{200, "yes", false}, {403, "no", false}, {404, "", true}, {302, "", true}, {429, "", false}, {503, "", false}} {
		status = tt.status
		if a, err := l.Ask(t.Context(), q); a != tt.want || isFinal(err) != tt.final || (err == nil) != (a != "") {
			t.Errorf("%d: %q, %v", tt.status, a, err)
		}
	}
}

// TestAnswersAreBounded, and a redirect is not followed: it could take the token elsewhere.
func TestAnswersAreBounded(t *testing.T) {
	var calls, elsewhere atomic.Int64
	other := webserver(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	base := webserver(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path == "/r" {
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.Copy(w, io.LimitReader(zeros{}, AnswerMax+1))
	})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(" sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := Files{}
	q := &Question{Values: []string{"c", "u", "e", "p"}}
	l := lookupOf(t, &HTTP{URL: base + "/r", TokenFile: token, Retries: 3}, func(o *Options[string]) { o.Files = files })
	if _, err := l.Ask(t.Context(), q); !isFinal(err) || elsewhere.Load() != 0 || len(files) != 1 {
		t.Errorf("redirect: %v, %d calls there, files %v", err, elsewhere.Load(), files)
	}
	l = lookupOf(t, &HTTP{URL: base, Retries: 3}, nil)
	if _, err := l.Ask(t.Context(), q); !errors.Is(err, ErrTooLong) || calls.Load() != 2 {
		t.Errorf("too long: %v after %d calls", err, calls.Load())
	}
	var f *FileError
	s := settings(func(s *Settings) { s.HTTP = &HTTP{URL: base, TokenFile: token + "x"} })
	if _, err := New(s, Options[string]{Names: threeNames(), HTTP: OK(read)}); !errors.As(err, &f) || f.Path != ".http.token_file" {
		t.Errorf("%v", err)
	}
}

// zeros is a stream without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestBatchOfTwo asks several in one request, and reads the answer of each.
func TestBatchOfTwo(t *testing.T) {
	base := webserver(t, func(w http.ResponseWriter, r *http.Request) {
		var order struct{ Clients []struct{ ClientID string } }
		_ = json.NewDecoder(r.Body).Decode(&order)
		var out []string
		for _, c := range order.Clients {
			switch c.ClientID {
			case "x":
				out = append(out, `{"error":"unknown"}`)
			case "bad":
				out = append(out, `7`)
			default:
				out = append(out, `"`+c.ClientID+`"`)
			}
		}
		_, _ = io.WriteString(w, `{"lists":[`+strings.Join(out, ",")+`]}`)
	})
	l := lookupOf(t, &HTTP{URL: base, Batch: 10}, nil)
	list, err := l.many.AskMany(context.Background(), []*Question{ask("a", 1).and("p"), ask("x", 1).and("p"), ask("bad", 1).and("p"), ask("b", 1).and("p")})
	if err != nil || list[0].Answer != "a" || !isFinal(list[1].Err) || !isFinal(list[2].Err) || list[3].Answer != "b" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range []string{`{}`, `{"lists":[]}`, `{"lists":["a","b"]}`, `[`, ``, `{"lists":7}`} {
		if _, err := l.source.(batches[string]).parse([]byte(bad), 1); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// and is a question with one value more.
func (q *Question) and(v string) *Question {
	return &Question{Values: append(slices.Clone(q.Values), v), From: q.From}
}
