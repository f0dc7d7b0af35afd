package presub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// HTTPConfig is a webservice. It answers 200 with {"topics":[{"topic":...,"qos":...}]}, or 204 for an empty
// list.
type HTTPConfig struct {
	URL       string            `yaml:"url"`    // %c, %u and %e are put in, escaped
	Method    string            `yaml:"method"` // GET or POST, with a JSON object
	Headers   map[string]string `yaml:"headers"`
	TokenFile string            `yaml:"token_file"` // sent as bearer token
	CAFile    string            `yaml:"ca_file"`
	Timeout   Duration          `yaml:"timeout"`   // of one attempt; 500ms
	Retries   int               `yaml:"retries"`   // after the first attempt, within the budget; 0
	MaxConns  int               `yaml:"max_conns"` // connections, and requests at a time; 64
	Batch     int               `yaml:"batch"`     // clients in one request, see lists; 0: one, and no array
}

// answerMax is the longest answer of a webservice, in bytes.
const answerMax = 8 << 20

// retriesMax is how many retries may be configured.
const retriesMax = 10

func (h *HTTPConfig) defaults() {
	setString(&h.Method, http.MethodPost)
	setDuration(&h.Timeout, 500*time.Millisecond)
	setInt(&h.MaxConns, 64)
}

func (h *HTTPConfig) check(path string) error {
	server, _ := splitURL(h.URL)
	u, err := url.Parse(strings.NewReplacer("%c", "c", "%u", "u", "%e", "e").Replace(h.URL))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return wrong(path+".url", "%q is not an http or https URL", h.URL)
	case placeholders(server):
		return wrong(path+".url", "%q: a client's name cannot say which server is asked", h.URL)
	case h.Retries < 0 || h.Retries > retriesMax:
		return wrong(path+".retries", "retries %d is not 0 to %d", h.Retries, retriesMax)
	case h.MaxConns < 1 || h.MaxConns > connsMax:
		return wrong(path+".max_conns", "max_conns %d is not 1 to %d", h.MaxConns, connsMax)
	case h.Batch < 0 || h.Batch > batchMax:
		return wrong(path+".batch", "batch %d is not 0 to %d", h.Batch, batchMax)
	case h.Batch > 0 && (h.Method != http.MethodPost || placeholders(h.URL)):
		return wrong(path+".batch", "a batch is sent by POST to a URL without %%c, %%u and %%e")
	}
	return oneOf(path+".method", h.Method, http.MethodGet, http.MethodPost)
}

// httpSource asks a webservice.
type httpSource struct {
	cfg    *HTTPConfig
	client *http.Client
	token  string
}

func newHTTPSource(cfg *HTTPConfig, f files) (*httpSource, error) {
	tr := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: cfg.MaxConns, MaxIdleConnsPerHost: cfg.MaxConns,
		IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second,
	}
	s := &httpSource{cfg: cfg, client: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.TokenFile != "" {
		raw, err := f.read(".http.token_file", cfg.TokenFile)
		if err != nil {
			return nil, err
		}
		s.token = strings.TrimSpace(string(raw))
	}
	if cfg.CAFile != "" {
		raw, err := f.read(".http.ca_file", cfg.CAFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(raw) {
			return nil, &fileError{".http.ca_file", fmt.Errorf("%s has no certificate", cfg.CAFile)}
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Limits of settings.
const (
	connsMax = 4096
	batchMax = 1000
)

func (s *httpSource) close() { s.client.CloseIdleConnections() }

// finalError is an answer that another attempt will not mend: it says nothing about other clients.
type finalError struct{ error }

// Unwrap is for errors.Is.
func (f finalError) Unwrap() error { return f.error }

// topics implements source.
func (s *httpSource) topics(ctx context.Context, c *Client) ([]Topic, error) {
	body, err := json.Marshal(about(c))
	if err != nil {
		return nil, finalError{err}
	}
	var list []Topic
	err = s.ask(ctx, c, body, func(answer []byte) (err error) {
		if answer != nil {
			list, err = parseList(answer)
		}
		return err
	})
	return list, err
}

// about is what a webservice is told of a client.
func about(c *Client) map[string]string {
	return map[string]string{"clientid": c.ID, "username": c.Username, "tenant": c.Tenant}
}

// ask sends a request, again after failures, and has the answer read; nil stands for 204.
func (s *httpSource) ask(ctx context.Context, c *Client, body []byte, read func([]byte) error) error {
	for i := 0; ; i++ {
		answer, err := s.attempt(ctx, c, body)
		if err == nil {
			if err = read(answer); err == nil {
				return nil
			}
			err = finalError{err}
		}
		var final finalError
		if errors.As(err, &final) || i >= s.cfg.Retries {
			return err
		}
		pause := time.Duration(float64(10*time.Millisecond<<i) * (0.5 + rand.Float64()))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func (s *httpSource) attempt(ctx context.Context, c *Client, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.cfg.Timeout))
	defer cancel()
	req, err := s.request(ctx, c, body)
	if err != nil {
		return nil, finalError{err}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > answerMax:
		return nil, finalError{errTooMany}
	case resp.StatusCode == http.StatusNoContent:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("the webservice answers %s", resp.Status)
		if resp.StatusCode < 500 && resp.StatusCode != 429 && resp.StatusCode != 408 {
			err = finalError{err}
		}
		return nil, err
	}
	return answer, nil
}

func (s *httpSource) request(ctx context.Context, c *Client, raw []byte) (*http.Request, error) {
	if err := checkNames(s.cfg.URL, c); err != nil {
		return nil, err
	}
	escape := func(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") }
	target := strings.NewReplacer("%c", escape(c.ID), "%u", escape(c.Username), "%e", escape(c.Tenant)).
		Replace(s.cfg.URL)
	var body io.Reader
	if s.cfg.Method == http.MethodPost {
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, s.cfg.Method, target, body)
	if err != nil {
		return nil, err
	}
	if body == nil && !placeholders(s.cfg.URL) {
		q := req.URL.Query()
		q.Set("clientid", c.ID)
		q.Set("username", c.Username)
		q.Set("tenant", c.Tenant)
		req.URL.RawQuery = q.Encode()
	}
	for k, v := range s.cfg.Headers {
		req.Header.Set(k, v)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// parseList reads {"topics":[...]}, the one schema of all lists. What else is there is ignored, since it may
// be for others; a topic that cannot be read is in the list as one that nobody may subscribe to.
func parseList(b []byte) ([]Topic, error) {
	var list struct {
		Topics *[]json.RawMessage `json:"topics"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	if list.Topics == nil {
		return nil, errors.New("the list has no topics")
	}
	out := make([]Topic, len(*list.Topics))
	for i, raw := range *list.Topics {
		if json.Unmarshal(raw, &out[i]) != nil {
			out[i].QoS = badQoS
		}
	}
	return out, nil
}

// badQoS makes a topic one that nobody may subscribe to.
const badQoS = 0xFF
