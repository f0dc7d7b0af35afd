package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"noctule/admin"
	"noctule/broker/presub"
	"noctule/cmd/internal/cli"
	"noctule/cmd/internal/conf"
)

// presubscription is pre-subscription with its door for HTTP. nil: nothing was configured at the start.
type presubscription struct {
	engine *presub.Engine
	door   *admin.Door
}

// loadPresub reads presub_file and admin_token_file and makes pre-subscription a feature of the broker.
func (c *command) loadPresub(cfg *conf.Config) (*presubscription, error) {
	if cfg.PresubFile == "" && cfg.AdminTokenFile == "" {
		return nil, nil
	}
	rules, tokens, err := presubFiles(cfg)
	if err != nil {
		return nil, err
	}
	p := &presubscription{}
	if p.engine, err = presub.New(rules, c.log); err != nil {
		return nil, err
	}
	p.door = admin.Presub(p.engine, tokens)
	cfg.Options.Features = append(cfg.Options.Features, p.engine)
	return p, nil
}

// presubFiles reads presub_file and admin_token_file; tokens is nil without the latter.
func presubFiles(cfg *conf.Config) (rules *presub.Config, tokens *admin.Tokens, err error) {
	if cfg.PresubFile == "" {
		rules, err = presub.Parse(nil)
	} else {
		rules, err = presub.Load(cfg.PresubFile)
	}
	if err == nil && cfg.AdminTokenFile != "" {
		tokens, err = admin.LoadTokens(cfg.AdminTokenFile)
	}
	return rules, tokens, err
}

// checkPresub reads the files of pre-subscription, and those that they name, without using them.
func checkPresub(cfg *conf.Config) error {
	rules, _, err := presubFiles(cfg)
	if err != nil {
		return err
	}
	return tryRules(rules)
}

// tryRules reads what rules name.
func tryRules(rules *presub.Config) error {
	e, err := presub.New(rules, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	e.Close()
	return nil
}

// presubPlan is what a reload has read for pre-subscription.
type presubPlan struct {
	plan   *presub.Plan
	tokens *admin.Tokens
}

// prepare reads what cfg names for a reload, and changes nothing. Pre-subscription that
// was not there at the start needs a restart: note says so.
func (p *presubscription) prepare(cfg *conf.Config) (next *presubPlan, note string, err error) {
	if p == nil {
		var keys []string
		if cfg.PresubFile != "" {
			keys = append(keys, "presub_file")
		}
		if cfg.AdminTokenFile != "" {
			keys = append(keys, "admin_token_file")
		}
		if keys != nil {
			note = "The new value of " + strings.Join(keys, " and ") + " takes effect after a restart."
		}
		return nil, note, nil
	}
	rules, tokens, err := presubFiles(cfg)
	if err != nil {
		return nil, "", err
	}
	plan, err := p.engine.Prepare(rules)
	if err != nil {
		return nil, "", err
	}
	return &presubPlan{plan: plan, tokens: tokens}, "", nil
}

// use puts in force what prepare has read. The connect topic follows later, with listen.
func (p *presubscription) use(next *presubPlan) {
	if p == nil {
		return
	}
	p.door.SetTokens(next.tokens)
	p.engine.Use(next.plan)
}

// listen hears the connect topic that is in force.
func (p *presubscription) listen() error {
	if p == nil {
		return nil
	}
	return p.engine.Listen()
}

// parts are what the admin listener serves for it.
func (p *presubscription) parts() []admin.Part {
	if p == nil {
		return nil
	}
	return []admin.Part{p.door}
}

func (p *presubscription) close() {
	if p == nil {
		return
	}
	p.engine.Close()
}

// presubCommand is `noctule presub`.
func (c *command) presubCommand() cli.Command {
	explain := c.explainCommand()
	return cli.Command{
		Name: "presub", Summary: "Explain subscriptions that the broker makes for clients.",
		Examples: explain.Examples,
		Commands: []cli.Command{explain},
	}
}

// explain is a run of `noctule presub explain`.
type explain struct{ url, tokenFile string }

func (c *command) explainCommand() cli.Command {
	x := &explain{}
	return cli.Command{
		Name: "explain", Summary: "Say by which subscriptions a client gets what is published on a topic.",
		Text: `Asks a running broker, by the API of its admin_listener, for the subscriptions of a
client that match a topic: its own, and those that the broker has made for it, each with where it
comes from (docs/presub.md).

The exit code is 0; 1 if the broker cannot be asked; 3 if the command line or the token file is
wrong.`,
		Examples: []string{"presub explain -t admin.token alice-phone /e/e1/im/g/g1"},
		Args: []cli.Arg{
			{Name: "clientid", Help: "The client."}, {Name: "topic", Help: "What is published on."},
		},
		Words: true,
		Flags: func(f *pflag.FlagSet) {
			f.StringVarP(&x.url, "url", "u", explainURL, "The `URL` of admin_listener.")
			f.StringVarP(&x.tokenFile, "token-file", "t", "", "A `FILE` with a token of the API, "+
				"or a line of admin_token_file; by default NOCTULE_TOKEN of the environment is the token.")
		},
		Run: func(l *cli.Line) error { return x.run(c, l.Arg(0), l.Arg(1)) },
	}
}

// explainURL is the address of the configuration to begin with.
const explainURL = "http://127.0.0.1:9884"

// run asks and prints.
func (x *explain) run(c *command, clientID, topic string) error {
	token := os.Getenv("NOCTULE_TOKEN")
	if x.tokenFile != "" {
		raw, err := os.ReadFile(x.tokenFile)
		if err != nil {
			fmt.Fprintf(c.stderr, "Error: %v\n", err)
			return exit(exitConfig)
		}
		token = lastWord(string(raw))
	}
	e, err := fetchExplanation(strings.TrimRight(x.url, "/"), token, clientID, topic)
	if err != nil {
		fmt.Fprintf(c.stderr, "Error: %v\n", err)
		return exit(1)
	}
	printExplanation(c.stdout, e)
	return nil
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
		printNotes(w, x)
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
	printNotes(w, x)
	switch {
	case x.Denied && x.Copies == 0:
		fmt.Fprintf(w, "It may not read %s.\n", x.Topic)
	case x.Copies == 0:
		fmt.Fprintf(w, "Nothing that is published on %s comes to it.\n", x.Topic)
	default:
		fmt.Fprintf(w, "It gets %d of each message published on %s.\n", x.Copies, x.Topic)
	}
}

func printNotes(w io.Writer, x *presub.Explanation) {
	for _, note := range x.Notes {
		fmt.Fprintf(w, "  %s.\n", note)
	}
}
