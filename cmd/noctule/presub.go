package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/presub"
	"noctule/cmd/internal/conf"
	"noctule/codec"
)

// presubscription ties the engine of pre-subscription to the broker. nil: nothing is configured.
type presubscription struct {
	engine *presub.Engine
	tokens *admin.Tokens
	b      *broker.Broker
	tap    *broker.Tap
}

// loadPresub reads presub_file and admin_token_file and puts the engine's hooks into the broker's options.
func (c *command) loadPresub(cfg *conf.Config) (*presubscription, error) {
	if cfg.PresubFile == "" && cfg.AdminTokenFile == "" {
		return nil, nil
	}
	p := &presubscription{}
	rules, err := presub.Parse(nil)
	if cfg.PresubFile != "" {
		rules, err = presub.Load(cfg.PresubFile)
	}
	if err != nil {
		return nil, err
	}
	if cfg.AdminTokenFile != "" {
		if p.tokens, err = admin.LoadTokens(cfg.AdminTokenFile); err != nil {
			return nil, err
		}
	}
	if p.engine, err = presub.New(rules, c.log); err != nil {
		return nil, err
	}
	o := &cfg.Options
	o.RequestsByUsername = true
	o.MaxPending, o.MaxPendingBytes = rules.Pending.Max, rules.Pending.MaxBytes
	o.Describe = presub.Describe
	if len(rules.Providers) > 0 {
		o.Admitters = append(o.Admitters, p)
	}
	if p.engine.ConnectTopic() != "" {
		o.Guard = p.engine.MayPublish
	}
	if o.Controls == nil {
		o.Controls = make(map[string]broker.ControlFunc)
	}
	o.Controls[presub.ControlTopic] = p.control
	return p, nil
}

// checkPresub reads the files of pre-subscription without using them.
func checkPresub(cfg *conf.Config) error {
	if cfg.PresubFile != "" {
		if _, err := presub.Load(cfg.PresubFile); err != nil {
			return err
		}
	}
	if cfg.AdminTokenFile != "" {
		if _, err := admin.LoadTokens(cfg.AdminTokenFile); err != nil {
			return err
		}
	}
	return nil
}

// attach gives the engine its broker, which has no clients yet.
func (p *presubscription) attach(b *broker.Broker) error {
	if p == nil {
		return nil
	}
	p.b = b
	p.engine.Attach(b)
	topic := p.engine.ConnectTopic()
	if topic == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	p.tap, err = b.Tap(ctx, topic, func(topic, payload []byte) { p.engine.Connected(topic, payload, b) })
	return err
}

// parts are what the admin listener serves for it.
func (p *presubscription) parts() []admin.Part {
	if p == nil {
		return nil
	}
	return []admin.Part{admin.Presub(p.engine, p.tokens)}
}

func (p *presubscription) close() {
	if p == nil {
		return
	}
	if p.tap != nil {
		p.tap.Close()
	}
	p.engine.Close()
}

// Admit implements broker.Admitter.
func (p *presubscription) Admit(ctx context.Context, a *broker.Admission) codec.Reason {
	grants, r := p.engine.Grants(
		ctx,
		presub.Client{ID: a.ClientID, Username: a.Username, Password: a.Password},
	)
	a.Grants = append(a.Grants, grants...)
	return r
}

// control takes a message on the control topic over.
func (p *presubscription) control(c *broker.Control) codec.Reason {
	return p.engine.Control(&presub.Message{
		ClientID: c.ClientID, Username: c.Username, Allowed: c.Allowed, Payload: c.Payload,
		ResponseTopic: c.ResponseTopic, Correlation: c.Correlation,
	}, p.b)
}

const presubUsage = `Usage: noctule presub explain [-u URL] [-t TOKENFILE] CLIENTID TOPIC

Says by which subscriptions a client gets what is published on a topic. URL is that of the admin listener,
by default http://127.0.0.1:9090; TOKENFILE has a bearer token, which may be in NOCTULE_TOKEN instead.
`

// presub is the command of that name.
func (c *command) presub(args []string) int {
	base, token := "http://127.0.0.1:9090", os.Getenv("NOCTULE_TOKEN")
	if len(args) == 0 || args[0] != "explain" {
		fmt.Fprint(c.stderr, presubUsage)
		return exitConfig
	}
	args = args[1:]
	for len(args) > 2 && (args[0] == "-u" || args[0] == "-t") {
		if args[0] == "-u" {
			base = strings.TrimRight(args[1], "/")
		} else {
			raw, err := os.ReadFile(args[1])
			if err != nil {
				fmt.Fprintf(c.stderr, "Error: %v\n", err)
				return exitConfig
			}
			token = lastWord(string(raw))
		}
		args = args[2:]
	}
	if len(args) != 2 {
		fmt.Fprint(c.stderr, presubUsage)
		return exitConfig
	}
	x, err := fetchExplanation(base, token, args[0], args[1])
	if err != nil {
		fmt.Fprintf(c.stderr, "Error: %v\n", err)
		return 1
	}
	printExplanation(c.stdout, x)
	return exitOK
}

// lastWord is the token of a file with a token, or with a name and a token.
func lastWord(s string) string {
	if words := strings.Fields(s); len(words) > 0 {
		return words[min(1, len(words)-1)]
	}
	return ""
}

func fetchExplanation(base, token, clientID, topic string) (*presub.Explanation, error) {
	q := url.Values{"clientid": {clientID}, "topic": {topic}}
	req, err := http.NewRequest(http.MethodGet, base+"/api/v1/presub/explain?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
		var e struct{ Error string }
		if json.Unmarshal(body, &e) != nil || e.Error == "" {
			e.Error = resp.Status
		}
		return nil, errors.New(e.Error)
	}
	x := &presub.Explanation{}
	if err := json.Unmarshal(body, x); err != nil {
		return nil, err
	}
	return x, nil
}

func printExplanation(w io.Writer, x *presub.Explanation) {
	if !x.Session {
		fmt.Fprintf(w, "%s has no session.\n", x.ClientID)
		return
	}
	state := "offline"
	if x.Connected {
		state = "connected"
	}
	fmt.Fprintf(w, "%s (username %q) is %s, revision %d.\n", x.ClientID, x.Username, state, x.Revision)
	for _, m := range x.Matches {
		note := ""
		switch {
		case m.Muted:
			note = ", which the client has unsubscribed from"
		case !m.Effective:
			note = ", by which nothing comes: an earlier one has the same filter"
		}
		fmt.Fprintf(w, "  %s of %s, QoS %d%s\n", m.Topic.Topic, m.Origin, m.QoS, note)
	}
	switch {
	case x.Denied && x.Copies == 0:
		fmt.Fprintf(w, "It may not read %s.\n", x.Topic)
	case x.Copies == 0:
		fmt.Fprintf(w, "Nothing that is published on %s comes to it.\n", x.Topic)
	default:
		fmt.Fprintf(w, "It gets %d of each message published on %s.\n", x.Copies, x.Topic)
	}
}
