package lookup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"noctule/broker/lookup"
)

// section is what a room has in its file: its own keys, and those of all who ask.
type section struct {
	FailOpen        bool `yaml:"fail_open"`
	lookup.Settings `yaml:",inline"`
}

// verdict is an answer: a room's own type.
type verdict struct{ Allowed, Superuser bool }

// A room that lets users in asks a webservice about their logins. A "no" is an answer; it is cached like a "yes".
func Example() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("asked %s %s\n", r.URL, body)
		if r.URL.Path != "/login/ann" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"superuser":true}`)
	}))
	defer service.Close()
	var s section
	err := lookup.ParseYAML([]byte(`
budget: 5s
key: [username, password]
cache: {ttl: 60s}
http: {url: '`+service.URL+`/login/%u', body: '{"password":"%{password}"}', timeout: 5s, retries: 1}
`), &s)
	if err != nil {
		fmt.Println(err)
		return
	}
	names := lookup.Names{
		{Name: "username", Letter: 'u'}, {Name: "password", Secret: true}, {Name: "clientid", Letter: 'c'},
	}
	s.Defaults(lookup.Given{})
	if err := s.Check("$", names); err != nil {
		fmt.Println(err)
		return
	}
	logins, err := lookup.New(&s.Settings, lookup.Options[verdict]{
		Name: "logins", Names: names,
		HTTP: func(status int, body []byte) (v verdict, err error) {
			switch status {
			case http.StatusOK:
				v.Allowed = true
				return v, json.Unmarshal(body, &v)
			case http.StatusUnauthorized, http.StatusForbidden:
				return v, nil
			}
			return v, lookup.StatusError(status)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer logins.Close()
	for _, values := range [][]string{{"ann", "pw", "c1"}, {"ann", "pw", "c2"}, {"bob", "pw", "c3"}, {"../ann", "", ""}} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // what a CONNECT bears
		v, err := logins.Ask(ctx, &lookup.Question{Values: values})
		cancel()
		fmt.Println(values[0], v.Allowed, v.Superuser, lookup.Outcome(err))
	}
	// Output:
	// asked /login/ann {"password":"pw"}
	// ann true true ok
	// ann true true ok
	// asked /login/bob {"password":"pw"}
	// bob false false ok
	// ../ann false false error
}
