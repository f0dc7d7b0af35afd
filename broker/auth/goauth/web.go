package goauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"noctule/broker/auth"
	"noctule/broker/lookup"
)

// web is a webservice: the backend http, or what jwt shows tokens to.
type web struct {
	cfg    *HTTP
	jwt    bool
	client *http.Client
	users  *lookup.Lookup[bool]
	supers *lookup.Lookup[bool]
	topics *lookup.Lookup[bool]
}

// answerMax is the longest answer, in bytes.
const answerMax = 64 << 10

func newWeb(cfg *HTTP, c *Chain, name string) *web {
	cache := &c.cfg.Cache
	w := &web{cfg: cfg, jwt: name == "jwt"}
	t := &http.Transport{
		MaxIdleConnsPerHost: connsMax, MaxConnsPerHost: connsMax,
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: !cfg.Verify,
			MinVersion:         tls.VersionTLS12,
		}, //nolint:gosec // the option says so, with a warning
	}
	w.client = &http.Client{
		Transport: t, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	a := about{
		name:   "go-auth " + name,
		budget: cfg.Timeout,
		turns:  connsMax,
		ttl:    cache.Auth,
		jitter: cache.AuthJitter,
		watch:  c.host.Watch, about: "login",
	}
	if w.jwt {
		a.names = []string{"username", "token", "host"}
		w.users = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
			return w.call(ctx, w.cfg.User, v[1], v[2], w.named(v[0]))
		}, nil)
	} else {
		a.names = []string{"username", "password", "clientid"}
		w.users = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
			params := map[string]any{"username": v[0], "password": v[1], "clientid": v[2]}
			return w.call(ctx, w.cfg.User, "", "", params)
		}, nil)
	}
	a.ttl, a.jitter = cache.ACL, cache.ACLJitter
	a.names = []string{"username", "token", "host"}
	a.about = "superuser"
	w.supers = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
		return w.call(ctx, w.cfg.Superuser, v[1], v[2], w.named(v[0]))
	}, nil)
	a.names = []string{"username", "token", "host", "clientid", "topic", "acc"}
	a.about = "acl"
	w.topics = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
		acc, _ := strconv.Atoi(v[5]) // which was made of one
		params := map[string]any{"clientid": v[3], "topic": v[4], "acc": acc}
		maps.Copy(params, w.named(v[0]))
		return w.call(ctx, w.cfg.ACL, v[1], v[2], params)
	}, nil)
	return w
}

// named are the parameters that name a user; with a token there may be none.
func (w *web) named(user string) map[string]any {
	if w.jwt && user == "" {
		return nil
	}
	return map[string]any{"username": user}
}

// login implements backend.
func (w *web) login(ctx context.Context, _ *auth.Login, q *question) (found, error) {
	yes, err := ask(ctx, w.users, q.from, q.user, q.password, q.client)
	return found{yes: yes}, err
}

func (w *web) superuser(ctx context.Context, q *question) (bool, error) {
	if w.cfg.Superuser == "" {
		return false, nil
	}
	return ask(ctx, w.supers, q.from, q.user, q.token, "")
}

// grant says that each topic has to be asked about.
func (*web) grant(
	context.Context,
	*question,
) (*grant, error) {
	return nil, nil
} //nolint:nilnil // as backend says

func (w *web) topic(ctx context.Context, q *question, access int, topic string) (bool, error) {
	return ask(ctx, w.topics, q.from, q.user, q.token, "", q.client, topic, strconv.Itoa(access))
}

func (w *web) close() {
	for _, l := range []*lookup.Lookup[bool]{w.users, w.supers, w.topics} {
		l.Close()
	}
	w.client.CloseIdleConnections()
}

// url is that of a path; host takes the place of the one configured, if that is none.
func (w *web) url(path, host string) string {
	scheme := "http://"
	if w.cfg.TLS {
		scheme = "https://"
	}
	if w.cfg.Host != "" {
		host = w.cfg.Host
	}
	if w.cfg.Port != "" && !strings.Contains(strings.TrimPrefix(host, "["), "]:") &&
		strings.Count(host, ":") != 1 {
		host = net.JoinHostPort(strings.Trim(host, "[]"), w.cfg.Port)
	}
	return scheme + host + path
}

// call asks one path. The errors have nothing of what was sent.
func (w *web) call(ctx context.Context, path, token, host string, params map[string]any) (bool, error) {
	req, err := w.request(ctx, w.url(path, host), params)
	if err != nil {
		return false, lookup.Final{Err: errors.New("the request cannot be made")}
	}
	if w.jwt {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("User-Agent", w.cfg.Agent)
	resp, err := w.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	switch code := resp.StatusCode; {
	case err != nil:
		return false, err
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return false, lookup.StatusError(code)
	case code >= 300 && code < 400:
		return false, lookup.Final{Err: errors.New("the webservice redirects, which is not followed")}
	case code < 200 || code >= 300:
		return false, nil
	}
	return w.read(body)
}

// read is what an answer with a good status says.
func (w *web) read(body []byte) (bool, error) {
	switch {
	case w.cfg.TextAnswer:
		return string(body) == "ok", nil
	case w.cfg.JSONAnswer:
		var answer struct {
			OK bool `json:"ok"`
		}
		if json.Unmarshal(body, &answer) != nil {
			return false, lookup.Final{Err: errors.New("the webservice's answer is no JSON")}
		}
		return answer.OK, nil
	}
	return true, nil
}

// request makes one. A form is posted by the backend http whatever the method is, as by the plug-in.
func (w *web) request(ctx context.Context, to string, params map[string]any) (*http.Request, error) {
	if !w.cfg.Form {
		var body []byte
		body, err := json.Marshal(params) // its keys in their order
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, w.cfg.Method, to, bytes.NewReader(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return req, err
	}
	form := url.Values{}
	for k, v := range params {
		form.Set(k, fmt.Sprint(v))
	}
	method := http.MethodPost
	if w.jwt {
		method = w.cfg.Method
	}
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}
