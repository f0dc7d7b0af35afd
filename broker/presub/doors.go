package presub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"noctule/broker"
	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
	"noctule/topictree"
)

// ControlTopic is where entries are published; answers go to ControlTopic + "/response", or to the Response
// Topic of an MQTT 5 request.
const ControlTopic = "$CONTROL/presub/v1"

// publisher publishes answers.
type publisher interface {
	Publish(ctx context.Context, p broker.Publication) (broker.Result, error)
}

// Message is an entry that a client has published.
type Message struct {
	ClientID, Username string
	Allowed            bool // by an access rule that says so
	Payload            []byte
	ResponseTopic      string
	MayAnswer          bool // who asks may publish on ResponseTopic
	Correlation        []byte
}

// requestTime bounds the work on one message.
const requestTime = time.Minute

// Control takes a message on ControlTopic over. It returns at once; the reason is for the acknowledgement.
// What is taken is answered; so is what finds no room, with QuotaExceeded: ServerBusy says that there is not
// even room for that answer.
func (e *Engine) Control(m *Message) codec.Reason {
	c := Caller{
		Door: MQTT, Principal: m.principal(),
		Allowed: m.Allowed || m.Username != "" && slices.Contains(e.config().Control.Usernames, m.Username),
	}
	if !c.Allowed {
		_, _ = e.Do(e.ctx, c, nil, nil) // the audit line
		return codec.NotAuthorized
	}
	to, ok := m.answerTo()
	if !ok {
		return codec.TopicNameInvalid
	}
	if to == m.ResponseTopic && to != ControlTopic+"/response" && !m.MayAnswer {
		e.refuse(c, errNotItsTopic)
		return codec.NotAuthorized
	}
	size := len(m.Payload) + len(to) + len(m.Correlation)
	if e.entries.submit(c.Principal, size, func(ctx context.Context) { e.control(ctx, c, m, to) }) {
		return codec.Success
	}
	e.refuse(c, errOverload)
	busy := failure(errOverload, len(m.Payload) > 0 && m.Payload[0] == im.Version)
	told := e.answers.submit(c.Principal, len(busy)+len(to)+len(m.Correlation), func(context.Context) {
		e.reply(m, to, busy)
	})
	if !told {
		return codec.ServerBusy
	}
	return codec.QuotaExceeded
}

// errNotItsTopic is why a request is refused whose answer would be published where its sender may not.
var errNotItsTopic = errors.New("presub: no right to publish on the Response Topic")

// errOverload is why a request is refused that finds no room.
var errOverload = errors.New("presub: too many requests wait")

// refuse counts and logs what a door refuses.
func (e *Engine) refuse(c Caller, err error) {
	e.audit(c, "refused", "reason", err.Error())
	e.metrics.requests.WithLabelValues(string(c.Door), "refused").Inc()
}

// lost logs an answer that there was no room for.
func (e *Engine) lost(c Caller, what string) {
	const text = "Pre-subscription: too much waits, %s for %q at %s is not sent"
	e.unsent.Add(fmt.Sprintf(text, what, c.Principal, c.Door))
}

func (m *Message) principal() string {
	if m.Username != "" {
		return m.Username
	}
	return m.ClientID
}

// answerTo is where the answer goes; false when the request names a topic that is not its to choose.
func (m *Message) answerTo() (string, bool) {
	usual := ControlTopic + "/response"
	if m.ResponseTopic == "" || m.ResponseTopic == usual {
		return usual, true
	}
	return m.ResponseTopic, m.ResponseTopic[0] != '$' && codec.CheckTopicName([]byte(m.ResponseTopic)) == nil
}

// reply publishes the answer to a message. It has a time of its own, since the work may have used up its.
func (e *Engine) reply(m *Message, to string, b []byte) {
	var props codec.Properties
	if m.Correlation != nil {
		props = codec.AppendBytesProperty(props, codec.CorrelationData, m.Correlation)
	}
	e.publish(broker.Publication{Topic: to, Payload: b, QoS: 1, Properties: props})
}

// publish publishes an answer. What the broker refuses is logged: there is nobody else to tell.
func (e *Engine) publish(p broker.Publication) {
	ctx, cancel := context.WithTimeout(e.ctx, requestTime)
	defer cancel()
	if r, err := e.out.Publish(ctx, p); err != nil && !r.Accepted && e.ctx.Err() == nil {
		e.unsent.Add(fmt.Sprintf("Pre-subscription: an answer on %s was not published: %v", p.Topic, err))
	}
}

// control answers a message.
func (e *Engine) control(ctx context.Context, c Caller, m *Message, to string) {
	defer e.guard("answering on the control topic client", m.ClientID)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	list, binary, err := ParseEntries(m.Payload)
	if err != nil {
		e.refuse(c, err)
		e.reply(m, to, failure(err, binary, list...))
		return
	}
	single := len(list) == 1
	answers, err := e.Do(ctx, c, list, func(a Answer) {
		if b, err := EncodeAnswers([]Answer{a}, binary, true); err == nil {
			e.reply(m, to, b)
		}
	})
	if err != nil {
		e.reply(m, to, failure(err, binary, list...))
		return
	}
	b, err := EncodeAnswers(answers, binary, single)
	if err != nil {
		b = failure(err, binary)
	}
	e.reply(m, to, b)
}

// failure is the answer to what could not be worked on at all; with the request id if it is one entry.
func failure(err error, binary bool, list ...Entry) []byte {
	code := behalf.Malformed
	if errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrOrigin) {
		code = behalf.NotAllowed
	}
	if errors.Is(err, errOverload) {
		code = behalf.TooMuch
	}
	if binary {
		return encodeBinary([]Answer{{Code: uint8(code)}})
	}
	a := Answer{Code: uint8(code), Error: err.Error(), Results: []Result{}}
	if len(list) == 1 && len(list[0].RequestID) <= requestIDMax {
		a.RequestID = list[0].RequestID
	}
	b, _ := json.Marshal(&a) // cannot fail
	return b
}

// MayPublish says whether a client may publish a message now, as far as the connect topic is concerned: only
// those named may, since whoever does makes others be subscribed. Where too many logins wait it answers as
// Control does. It may be called on an event loop; its arguments may be loans.
func (e *Engine) MayPublish(username string, topic, payload []byte) codec.Reason {
	c := &e.config().Connect
	if c.Topic == "" || !topictree.MatchFilter([]byte(c.Topic), topic) {
		return codec.Success
	}
	if username == "" || !slices.Contains(c.Usernames, username) {
		return codec.NotAuthorized
	}
	if name := string(topic); !e.logins.roomy(name, len(topic)+len(payload)) {
		return e.full(name, payload)
	}
	if len(topic)+len(payload) <= authorKeyMax {
		e.authors.Add(authorKey(topic, payload), username)
	}
	return codec.Success
}

// authorsMax is how many logins may be on their way from who may publish them to who hears them.
const authorsMax = 8192

// authorKeyMax is how long topic and payload of a login may be for its author to be known.
const authorKeyMax = 1024

// authorKey is what a login is known by on the way.
func authorKey(topic, payload []byte) string { return string(topic) + "\x00" + string(payload) }

// full answers a login that finds no room.
func (e *Engine) full(topic string, payload []byte) codec.Reason {
	e.refuse(Caller{Door: Connect, Principal: topic}, errOverload)
	who, _ := parseLogin(string(payload))
	a := answerOf(&behalf.Answer{ClientID: who.ClientID, Code: behalf.TooMuch}, nil)
	if !e.acknowledgeLater(topic, &a) {
		return codec.ServerBusy
	}
	return codec.QuotaExceeded
}

// ConnectTopic is the filter on which Connected is to be called; "" for none.
func (e *Engine) ConnectTopic() string { return e.config().Connect.Topic }

// login is the payload of the connect topic, if it is not the bare client id.
type login struct {
	ClientID string `json:"clientid"`
	Username string `json:"username"`

	author string // who says so
}

// Connected takes a message of the connect topic over: the client whose id it carries gets its lists, and the
// acknowledgement goes to the topic with "/ack" behind it. The arguments may be loans; it returns at once.
func (e *Engine) Connected(topic, payload []byte) {
	name := string(topic)
	who, err := parseLogin(string(payload))
	if err != nil {
		e.refuse(Caller{Door: Connect, Principal: name}, err)
		a := answerOf(&behalf.Answer{Code: behalf.Malformed}, nil)
		e.acknowledgeLater(name, &a)
		return
	}
	key := authorKey(topic, payload)
	who.author, _ = e.authors.Peek(key) // nobody's, if it has not come from a client
	e.authors.Remove(key)
	do := func(ctx context.Context) { e.connected(ctx, name, who) }
	if !e.logins.submit(name, len(topic)+len(payload), do) { // it has not come from a client: MayPublish
		e.full(name, payload)
	}
}

func parseLogin(payload string) (login, error) {
	var l login
	if strings.HasPrefix(payload, "{") {
		if err := json.Unmarshal([]byte(payload), &l); err != nil {
			return l, err
		}
	} else {
		l.ClientID = payload
	}
	if l.ClientID == "" || len(l.ClientID) > 65535 || !codec.ValidUTF8([]byte(l.ClientID+l.Username)) {
		return l, errors.New("no client id")
	}
	return l, nil
}

// connected looks the lists of a client up and applies them.
func (e *Engine) connected(ctx context.Context, topic string, who login) {
	defer e.guard("answering the event of client", who.ClientID)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	rules := e.acquire()
	defer e.release(rules.providers...)
	c := Client{ID: who.ClientID, Username: who.Username, Tenant: rules.cfg.tenantOf(topic, who)}
	named := c.Username != ""
	t := &account{topic: topic, author: who.author, c: &c}
	if !named {
		l, err := e.broker.List(ctx, c.ID)
		if errors.Is(err, behalf.ErrNoAnswer) { // asked without the name, providers might give another list
			busy := answerOf(&behalf.Answer{ClientID: c.ID, Code: behalf.Busy}, nil)
			e.told(t, busy)
			return
		}
		c.Username, named = l.Username, err == nil
	}
	out := Answer{ClientID: c.ID, Results: []Result{}}
	var promises behalf.Promises
	candidate := e.candidate(ctx, &c, named)
	for i, p := range rules.providers {
		if p.cfg.JWT != nil { // there is no password here
			continue
		}
		if rules.cfg.Providers[i].whyNot(&candidate) != "" { // what is not known yet is with CONNECT
			continue
		}
		set, err := p.list(ctx, &c)
		if err != nil {
			out.Code = uint8(behalf.Unavailable)
			out.Error = fmt.Sprintf("provider %s: %v", p.cfg.Name, err)
			t.note(p, "failed")
			continue
		}
		wait := time.Duration(rules.cfg.Pending.DefaultWait)
		r := &behalf.Request{
			ClientID: c.ID, Username: c.Username,
			Action: im.Replace, Origin: p.origin, Topics: set, Wait: wait,
			Promises: &promises,
			Later: func(a behalf.Answer) { // on an event loop
				x := answerOf(&a, nil)
				e.acknowledgeEnded(t, p.origin.Name, &x)
			},
		}
		for _, a := range e.broker.Apply(ctx, r) {
			x := answerOf(&a, nil)
			t.note(p, outcome([]Answer{x}))
			out.Results = append(out.Results, x.Results...)
			out.Revision = max(out.Revision, x.Revision)
			if x.Code != 0 {
				out.Code, out.Error = x.Code, x.Error
			}
		}
	}
	if !promises.Wait(ctx) {
		out = answerOf(&behalf.Answer{ClientID: c.ID, Code: behalf.Busy}, nil)
	}
	e.told(t, out)
}

// account is what has come of an event, for the audit.
type account struct {
	topic, author string
	c             *Client
	providers     []string // with their outcomes
}

func (t *account) note(p *provider, outcome string) {
	t.providers = append(t.providers, p.cfg.Name+": "+outcome)
}

// caller is who has said that a client has logged in; its line names the topic too.
func (t *account) caller() Caller {
	principal := t.author
	if principal == "" {
		principal = t.topic
	}
	return Caller{Door: Connect, Principal: principal, Allowed: true, Quiet: true}
}

// told records and sends what has come of an event.
func (e *Engine) told(t *account, out Answer) {
	caller := t.caller()
	x := Entry{ClientID: t.c.ID, Action: im.Replace.String()}
	e.record(caller, &x, &behalf.Origin{Name: "presub"}, []Answer{out}, 0)
	e.audit(caller, x.Action, "topic", t.topic, "clientid", t.c.ID, "username", t.c.Username,
		"providers", strings.Join(t.providers, "; "), "revision", out.Revision, "reason", out.Error)
	e.acknowledge(t.topic, &out)
}

// acknowledgeEnded answers a login whose client came later, or not at all.
func (e *Engine) acknowledgeEnded(t *account, origin string, a *Answer) {
	x, caller := *a, t.caller()
	caller.Quiet = false
	ok := e.answers.submit(t.topic, len(t.topic)+x.size(), func(context.Context) {
		e.ended(caller, origin, &x)
		e.acknowledge(t.topic, &x)
	})
	if !ok {
		e.lost(caller, "the answer about client "+x.ClientID)
	}
}

// tenantOf is the level under the topic's first "+" in the filter, else what the configuration says.
func (c *Config) tenantOf(topic string, who login) string {
	filter, levels := strings.Split(c.Connect.Topic, "/"), strings.Split(topic, "/")
	if i := slices.Index(filter, "+"); i >= 0 && i < len(levels) {
		return levels[i]
	}
	return c.Tenant.of(who.ClientID, who.Username)
}

// acknowledge answers a login.
func (e *Engine) acknowledge(topic string, a *Answer) {
	b, err := json.Marshal(a)
	if err != nil {
		return // strings and numbers only: it cannot fail
	}
	e.publish(broker.Publication{Topic: topic + "/ack", Payload: b, QoS: 1})
}

// acknowledgeLater is acknowledge for event loops; false, which is logged, when too much waits.
func (e *Engine) acknowledgeLater(topic string, a *Answer) bool {
	x := *a
	ok := e.answers.submit(topic, len(topic)+x.size(), func(context.Context) { e.acknowledge(topic, &x) })
	if !ok {
		e.lost(Caller{Door: Connect, Principal: topic}, "the answer about client "+x.ClientID)
	}
	return ok
}

// size is about how many bytes an answer takes.
func (a *Answer) size() int {
	n := 128 + len(a.ClientID) + len(a.Username) + len(a.Error)
	for i := range a.Results {
		n += 64 + len(a.Results[i].Topic)
	}
	return n
}

// codeText is the label of a code.
func codeText(code codec.Reason) string { return fmt.Sprintf("0x%02x", byte(code)) }
