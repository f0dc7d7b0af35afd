package lookup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// HTTP is a webservice.
type HTTP struct {
	URL    string `yaml:"url"`    // a template; values are put in escaped
	Method string `yaml:"method"` // GET, or POST, which is the default
	// Body is the template of what POST sends; without it, it is an object, or form, of all names.
	Body string `yaml:"body"`
	// ContentType of it: application/json, or application/x-www-form-urlencoded, by which values are escaped.
	ContentType string            `yaml:"content_type"`
	Headers     map[string]string `yaml:"headers"` // templates
	TokenFile   string            `yaml:"token_file"`
	CAFile      string            `yaml:"ca_file"`
	Timeout     Duration          `yaml:"timeout"`   // of one attempt; 500ms
	Retries     int               `yaml:"retries"`   // after the first attempt, within the budget; 0
	MaxConns    int               `yaml:"max_conns"` // connections, and requests at a time; 64
	Batch       int               `yaml:"batch"`     // questions in one request; 0: one, and no array
}

// AnswerMax is the longest answer of a webservice, in bytes.
const AnswerMax = 8 << 20

// Limits of settings.
const (
	connsMax   = 4096
	batchMax   = 1000
	retriesMax = 10
)

// The kinds of bodies.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

func (h *HTTP) defaults() {
	SetString(&h.Method, http.MethodPost)
	SetString(&h.ContentType, typeJSON)
	SetDuration(&h.Timeout, 500*time.Millisecond)
	SetInt(&h.MaxConns, 64)
}

func (h *HTTP) check(path string, names Names) error {
	u, err := names.ParseURL(h.URL)
	if err != nil {
		return Wrong(path+".url", "%v", err)
	}
	switch {
	case h.Retries < 0 || h.Retries > retriesMax:
		return Wrong(path+".retries", "retries %d is not 0 to %d", h.Retries, retriesMax)
	case h.MaxConns < 1 || h.MaxConns > connsMax:
		return Wrong(path+".max_conns", "max_conns %d is not 1 to %d", h.MaxConns, connsMax)
	case h.Batch < 0 || h.Batch > batchMax:
		return Wrong(path+".batch", "batch %d is not 0 to %d", h.Batch, batchMax)
	case h.Batch > 0 && (h.Method != http.MethodPost || !u.Fixed()):
		return Wrong(path+".batch", "a batch is sent by POST to a URL without placeholders")
	case h.Batch > 0 && (h.Body != "" || h.ContentType != typeJSON):
		return Wrong(path+".batch", "a batch has a body of its own, in JSON")
	case h.Body != "" && h.Method != http.MethodPost:
		return Wrong(path+".body", "only POST has a body")
	}
	if _, err := names.Parse(h.Body); err != nil {
		return Wrong(path+".body", "%v", err)
	}
	if err := h.checkHeaders(path, names); err != nil {
		return err
	}
	if err := OneOf(path+".content_type", h.ContentType, typeJSON, typeForm); err != nil {
		return err
	}
	return OneOf(path+".method", h.Method, http.MethodGet, http.MethodPost)
}

func (h *HTTP) checkHeaders(path string, names Names) error {
	for _, k := range slices.Sorted(maps.Keys(h.Headers)) {
		t, err := names.Parse(h.Headers[k])
		if err != nil {
			return Wrong(path+".headers", "%s: %v", k, err)
		}
		if h.Batch > 0 && !t.Fixed() {
			return Wrong(path+".headers", "%s: a batch has one header for all", k)
		}
	}
	return nil
}

// Final is an error that another attempt will not mend, and that says nothing about other questions: it is no
// failure of who was asked.
type Final struct{ Err error } //nolint:errname // it is used as an adjective of errors

// Error implements error.
func (f Final) Error() string { return f.Err.Error() }

// Unwrap is for errors.Is.
func (f Final) Unwrap() error { return f.Err }

// isFinal reports whether it is a Final.
func isFinal(err error) bool {
	var f Final
	return errors.As(err, &f)
}

// ErrTooLong is why an answer is not read.
var ErrTooLong = errors.New("the answer is too long")

// OK reads answers of webservices that say 200 with an answer, or 204, for which read gets nil. Everything
// else is an error, a redirect too, and Final unless the webservice says that it cannot answer now.
func OK[A any](read func(body []byte) (A, error)) func(status int, body []byte) (A, error) {
	return func(status int, body []byte) (a A, err error) {
		switch status {
		case http.StatusNoContent:
			body = nil
		case http.StatusOK:
		default:
			return a, StatusError(status)
		}
		if a, err = read(body); err != nil {
			err = Final{err}
		}
		return a, err
	}
}

// StatusError is the error of a status that is no answer.
func StatusError(status int) error {
	err := fmt.Errorf("the webservice answers %d %s", status, http.StatusText(status))
	if status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
		return Final{err}
	}
	return err
}

// webservice is the Source of an HTTP.
type webservice[A any] struct {
	cfg     *HTTP
	client  *http.Client
	names   Names
	url     *URL
	body    *Template // nil: all names
	headers map[string]*Template
	token   string
	read    func(status int, body []byte) (A, error)
}

func newWebservice[A any](cfg *HTTP, o *Options[A]) (*webservice[A], error) {
	tr := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: cfg.MaxConns, MaxIdleConnsPerHost: cfg.MaxConns,
		IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second,
		DialContext: o.Dial,
	}
	s := &webservice[A]{
		cfg: cfg, names: o.Names, read: o.HTTP, headers: make(map[string]*Template),
		client: &http.Client{
			Transport:     tr,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	var err error
	if s.url, err = o.Names.ParseURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.Body != "" {
		if s.body, err = o.Names.Parse(cfg.Body); err != nil {
			return nil, err
		}
	}
	for k, v := range cfg.Headers {
		if s.headers[k], err = o.Names.Parse(v); err != nil {
			return nil, err
		}
	}
	if cfg.TokenFile != "" {
		if s.token, err = o.Files.Secret(".http.token_file", cfg.TokenFile); err != nil {
			return nil, err
		}
	}
	if cfg.CAFile != "" {
		raw, err := o.Files.Read(".http.ca_file", cfg.CAFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(raw) {
			return nil, &FileError{".http.ca_file", fmt.Errorf("%s has no certificate", cfg.CAFile)}
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Close implements Source.
func (s *webservice[A]) Close() { s.client.CloseIdleConnections() }

// query reports whether GET says all names in the query, since the URL says none.
func (s *webservice[A]) query() bool { return s.cfg.Method == http.MethodGet && s.url.Fixed() }

// Uses implements Source.
func (s *webservice[A]) Uses() []int {
	list := s.url.whole.Uses()
	for _, t := range s.headers {
		list = append(list, t.Uses()...)
	}
	switch {
	case s.query():
		list = append(list, s.names.all(false)...)
	case s.cfg.Method != http.MethodPost:
	case s.body != nil:
		list = append(list, s.body.Uses()...)
	default:
		list = append(list, s.names.all(true)...)
	}
	return list
}

// Ask implements Source.
func (s *webservice[A]) Ask(ctx context.Context, q *Question) (A, error) {
	var out A
	err := s.ask(ctx, q, s.bodyOf(q), func(status int, answer []byte) (err error) {
		out, err = s.read(status, answer)
		return err
	})
	return out, err
}

// about is what a webservice is told of a question.
func (s *webservice[A]) about(q *Question) map[string]string {
	m := make(map[string]string, len(s.names))
	for i := range s.names {
		m[s.names[i].Name] = q.Values[i]
	}
	return m
}

// bodyOf is what POST sends; "" for GET.
func (s *webservice[A]) bodyOf(q *Question) string {
	form := s.cfg.ContentType == typeForm
	switch {
	case s.cfg.Method != http.MethodPost:
		return ""
	case s.body != nil && form:
		return s.body.Expand(q.Values, url.QueryEscape)
	case s.body != nil:
		return s.body.Expand(q.Values, inJSON)
	case form:
		v := url.Values{}
		for name, value := range s.about(q) {
			v.Set(name, value)
		}
		return v.Encode()
	}
	b, _ := json.Marshal(s.about(q)) // of strings, which has no errors
	return string(b)
}

// ask sends a request, again after failures, and has the answer read.
func (s *webservice[A]) ask(
	ctx context.Context, q *Question, body string, read func(int, []byte) error,
) error {
	for i := 0; ; i++ {
		err := s.attempt(ctx, q, body, read)
		if err == nil || isFinal(err) || i >= s.cfg.Retries {
			return err
		}
		timer := time.NewTimer(time.Duration(float64(10*time.Millisecond<<i) * (0.5 + rand.Float64())))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (s *webservice[A]) attempt(
	ctx context.Context, q *Question, body string, read func(int, []byte) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.cfg.Timeout))
	defer cancel()
	req, err := s.request(ctx, q, body)
	if err != nil {
		return Final{err}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, AnswerMax+1))
	switch {
	case err != nil:
		return err
	case len(answer) > AnswerMax:
		return Final{ErrTooLong}
	}
	return read(resp.StatusCode, answer)
}

func (s *webservice[A]) request(ctx context.Context, q *Question, body string) (*http.Request, error) {
	target, err := s.url.Expand(q.Values)
	if err != nil {
		return nil, err
	}
	var from io.Reader
	if s.cfg.Method == http.MethodPost {
		from = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, s.cfg.Method, target, from)
	if err != nil {
		return nil, err
	}
	if s.query() {
		v := req.URL.Query()
		for _, i := range s.names.all(false) {
			v.Set(s.names[i].Name, q.Values[i])
		}
		req.URL.RawQuery = v.Encode()
	}
	for k, t := range s.headers {
		v := t.Expand(q.Values, plain)
		if strings.ContainsFunc(v, isControl) {
			return nil, fmt.Errorf("the value %q cannot be in a header", v)
		}
		req.Header.Set(k, v)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if from != nil {
		req.Header.Set("Content-Type", s.cfg.ContentType)
	}
	req.Header.Set("Accept", typeJSON)
	return req, nil
}

// isControl is what would end a header.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }
