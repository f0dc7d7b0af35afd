package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"noctule/codec"
)

// grant is what a client that does not subscribe has of its list.
type grant struct {
	full bool   // the broker has said that all is there
	told bool   // CONNACK has said that something is missing
	got  uint16 // messages on topics of the list
}

// Granted is how the clients of a run that never subscribe came to their lists of topics.
type Granted struct {
	Topics  int           `json:"topics"`     // of each list
	AtOnce  int64         `json:"at_connack"` // had theirs when they were let in
	Later   int64         `json:"later"`      // got it afterwards, without connecting again
	Told    int64         `json:"told"`       // of those not at once: CONNACK said so
	Empty   int64         `json:"empty"`      // let in, and never got it
	Refused int64         `json:"refused"`    // CONNECT was answered with a reason code that says no
	Time    time.Duration `json:"time_ns"`    // from the first CONNECT until the last had its list
	Latency Percentiles   `json:"latency"`    // from the time a connection was due until its list was there

	// Proven is how many of those with a list got the one message that was then published on a topic of it;
	// Twice is how many got it again.
	Proven int64 `json:"proven"`
	Twice  int64 `json:"twice"`

	Down       time.Duration `json:"down_ns,omitempty"`       // the webservice was away so long
	SinceBack  time.Duration `json:"since_back_ns,omitempty"` // from its return until the last had its list
	AtOnceDown int64         `json:"before_return,omitempty"` // had their list when it came back
	Supply     SupplyUse     `json:"supply"`                  // of the webservice
	Logins     *Logins       `json:"connect_topic,omitempty"` // nil: none were made
	Settings   string        `json:"presub_file,omitempty"`   // the broker's, as it was for this run
}

// These are the user properties of CONNACK that say how complete a list is.
const (
	countProperty      = "presub-count"
	incompleteProperty = "presub-incomplete"
)

// admitted looks at CONNACK for the list.
func (c *client) admitted(a *codec.Connack) {
	count := 0
	for id, v := range a.Properties.All() {
		if id != codec.UserProperty {
			continue
		}
		switch string(v.Bytes) {
		case countProperty:
			count, _ = strconv.Atoi(string(v.Pair)) // 0 if it is none
		case incompleteProperty:
			c.grant.told = true
		}
	}
	if !c.grant.told && count > c.group.Granted {
		c.loop.count.atOnce++
		c.complete()
		return
	}
	if c.grant.told {
		c.loop.count.told++
	}
}

// complete counts a client that has its list.
func (c *client) complete() {
	l := c.loop
	c.grant.full = true
	l.count.granted++
	now := l.engine.clock()
	l.grants.record(now-c.began, l.now)
	l.lastGrant = now
	l.engine.progress()
}

// given takes a message that comes by the list.
func (c *client) given(topic, payload []byte) {
	if string(topic) != tellTopic {
		c.grant.got++
		if c.grant.got == 1 {
			c.loop.count.proven++
		} else {
			c.loop.count.twice++
		}
		c.loop.engine.progress()
		return
	}
	if c.grant.full {
		return
	}
	var said struct {
		Count      int
		Incomplete []string
	}
	if json.Unmarshal(payload, &said) == nil && len(said.Incomplete) == 0 && said.Count > c.group.Granted {
		c.complete()
	}
}

// PresubRun is a run of RunPresub.
type PresubRun struct {
	Program   string        // noctule, or where it is
	Clients   int           // that connect and never subscribe
	WebSocket bool          // else TCP
	Topics    int           // of each list, of which there are a thousand
	Latency   time.Duration // of the webservice
	Conns     int           // max_conns
	Batch     int           // clients in a request; 0: one a request
	Timeout   time.Duration // of a request; 0: the broker's default
	Provider  string        // further settings of the provider, as YAML
	Broker    string        // further directives of the broker, a line each
	Down      time.Duration // the webservice is away so long from the first CONNECT on
	Logins    int           // on the connect topic in one second, when all have their lists
	Patience  time.Duration // longest wait for lists and answers; 0: a minute
	Shape     Plan          // how; its groups are set by RunPresub
}

// RunPresub starts noctule and a webservice with a list of topics for each client, lets clients connect that
// never subscribe, and tells how they came to their lists: Report.Granted. Afterwards a message is published
// on the last topic of each list, which each client is to get once.
func RunPresub(ctx context.Context, target Target, p PresubRun, opts Options) (*Report, error) {
	if p.Patience <= 0 {
		p.Patience = time.Minute
	}
	s := newSupply(p.Topics, p.Latency)
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer s.close()
	h := &host{opts: CompareOptions{BrokerCPU: -1, GeneratorCPU: -1}}
	broker := p.broker(s.address)
	process, err := h.start(ctx, broker)
	if err != nil {
		return nil, err
	}
	defer process.stop()
	if target.Address = process.tcp; p.WebSocket {
		target.Address, target.WebSocket = process.ws, true
	}
	target.Version = codec.V5
	opts.PID = process.cmd.Process.Pid

	agent, err := newAgent(ctx, process.tcp)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer agent.close()
	plan := p.Shape
	plan.Name = "presub"
	plan.Groups = []Group{{Name: "clients", Count: p.Clients, Granted: p.Topics}}
	plan.presub = &presubRun{PresubRun: p, supply: s, agent: agent}
	report, err := Run(ctx, target, plan, opts)
	if report != nil && report.Granted != nil {
		report.Granted.Settings = broker.Files[presubFile]
	}
	return report, err
}

// presubFile is the name of the broker's presub_file.
const presubFile = "presub.yaml"

// broker is how noctule is started.
func (p *PresubRun) broker(supply string) Broker {
	batch := ""
	if p.Batch > 0 {
		batch = fmt.Sprintf(", batch: %d", p.Batch)
	}
	if p.Timeout > 0 {
		batch += fmt.Sprintf(", timeout: %v", p.Timeout)
	}
	return Broker{
		Name: "noctule", Start: p.Program + " -c {dir}/noctule.conf", WebSocket: true,
		Files: map[string]string{
			"noctule.conf": "listener {tcp} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\n" +
				"user root\nallow_anonymous true\nlog_type error\nlog_dest stderr\n" +
				"presub_file {dir}/" + presubFile + "\n" + p.Broker + "\n",
			presubFile: "connect: {topic: " + loginFilter + ", usernames: [" + agentName + "]}\n" +
				"providers:\n  - name: lists\n" + indented(p.Provider) +
				fmt.Sprintf("    http: {url: 'http://%s/topics', max_conns: %d%s}\n", supply, p.Conns, batch),
		},
	}
}

// indented is YAML as settings of the provider.
func indented(text string) string {
	var b bytes.Buffer
	for line := range bytes.Lines([]byte(text)) {
		fmt.Fprintf(&b, "    %s\n", bytes.TrimRight(line, "\n"))
	}
	return b.String()
}

// presubRun is a PresubRun on its way.
type presubRun struct {
	PresubRun
	supply *supply
	agent  *agent
	back   int64 // clients with their list when the webservice came back
	logins *Logins
}

// leave takes the webservice away, if it is to be, while clients connect. back waits for its return.
func (p *presubRun) leave(ctx context.Context, e *engine) (back func() error) {
	if p == nil || p.Down <= 0 {
		return func() error { return nil }
	}
	p.supply.close()
	var err error
	done := make(chan struct{})
	go func() { // back waits
		defer close(done)
		if err = p.supply.outage(ctx, p.Down); err == nil {
			p.back = e.total().granted
		}
	}()
	return func() error {
		<-done
		return err
	}
}

// waiting waits until all that were let in have their lists.
func (p *presubRun) waiting(ctx context.Context, r *runner) error {
	limited, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	err := r.e.await(limited, 0, func() { r.second("lists") },
		func(c counts) bool { return c.granted+c.ended >= c.ready })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // it is counted as empty
	}
	return err
}

// holding is what happens while all are there.
func (p *presubRun) holding(ctx context.Context, r *runner) error {
	limited, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	if p.Logins > 0 {
		names := make([]string, p.Logins)
		prefix := r.e.target.Prefix
		for i := range names {
			names[i] = fmt.Sprintf("%s-%d", prefix, i%p.Clients)
		}
		var err error
		if p.logins, err = p.agent.logIn(limited, names); err != nil {
			return err
		}
	}
	for i := range listsMany {
		if err := p.agent.publish(limited, granted(i, p.Topics-1), []byte("x")); err != nil {
			return err
		}
	}
	err := r.e.await(limited, 0, func() { r.second("proof") },
		func(c counts) bool { return c.proven+c.ended >= c.granted })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // it is counted
	}
	return err
}

// told puts what came of it into the report; the engine has stopped.
func (p *presubRun) told(r *Report, e *engine, c counts) {
	g := &Granted{
		Topics: p.Topics, AtOnce: c.atOnce, Later: c.granted - c.atOnce, Told: c.told, Refused: c.noEntry,
		Empty: c.ready - c.granted, Proven: c.proven, Twice: c.twice,
		Supply: p.supply.use(), Logins: p.logins,
	}
	all, last := newHistogram(), int64(0)
	for _, l := range e.loops {
		all.Merge(l.grants.now)
		last = max(last, l.lastGrant)
	}
	g.Latency = percentiles(all)
	if last > 0 {
		g.Time = time.Duration(last - e.base.UnixNano())
	}
	if p.Down > 0 {
		g.Down, g.AtOnceDown = p.Down, p.back
		g.SinceBack = max(0, time.Duration(last-p.supply.returned.Load()))
	}
	r.Granted = g
}

// Shortfall is what a run of RunPresub was to show and has not; nil if all is well. Refusals are for the
// caller to judge.
func (g *Granted) Shortfall() error {
	var errs []error
	if g.Empty > 0 {
		errs = append(errs, fmt.Errorf("%d clients were let in and never got their list", g.Empty))
	}
	if had := g.AtOnce + g.Later; g.Proven != had || g.Twice > 0 {
		errs = append(errs, fmt.Errorf("of %d clients with a list %d got the message on it, %d of them again",
			had, g.Proven, g.Twice))
	}
	if l := g.Logins; l != nil && l.Answers != l.Sent {
		errs = append(errs, fmt.Errorf("%d logins have %d answers", l.Sent, l.Answers))
	}
	return errors.Join(errs...)
}

// print writes what there is into the rows of a table.
func (g *Granted) print(row func(name, format string, args ...any)) {
	if g == nil {
		return
	}
	row("lists", "%d with CONNACK, %d later, %d let in empty, %d refused; of %d topics",
		g.AtOnce, g.Later, g.Empty, g.Refused, g.Topics)
	row("", "%d were told by CONNACK that theirs is incomplete", g.Told)
	row("last list", "after %v", g.Time.Round(time.Millisecond))
	if g.Down > 0 {
		row("webservice away", "%v, %d had their list then, the last %v after its return",
			g.Down, g.AtOnceDown, g.SinceBack.Round(time.Millisecond))
	}
	row("time to the list", "%s", g.Latency)
	row("proof", "%d got the message on their list, %d again", g.Proven, g.Twice)
	row("webservice", "%d requests for %d lists, %d at a time at most",
		g.Supply.Requests, g.Supply.Asked, g.Supply.Most)
	if l := g.Logins; l != nil {
		row("logins", "%d in %v, acknowledged: %s", l.Sent, l.Sending.Round(time.Millisecond), tally(l.Acks))
		row("", "%d answers after %v, by code: %s", l.Answers, l.Time.Round(time.Millisecond), tally(l.Codes))
	}
}

// tally is counts by name, in a line.
func tally(m map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s: %d", name, m[name]))
	}
	return strings.Join(parts, ", ")
}
