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

// Publisher publishes answers.
type Publisher interface {
	Publish(ctx context.Context, p broker.Publication) (broker.Result, error)
}

// Message is an entry that a client has published.
type Message struct {
	ClientID, Username string
	Allowed            bool // by an access rule that says so
	Payload            []byte
	ResponseTopic      string
	Correlation        []byte
}

// requestTime bounds the work on one message.
const requestTime = time.Minute

// Control takes a message on ControlTopic over. It returns at once; the reason is for the acknowledgement.
func (e *Engine) Control(m *Message, pub Publisher) codec.Reason {
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
	if !e.later(func(ctx context.Context) { e.control(ctx, c, m, to, pub) }) {
		return codec.QuotaExceeded
	}
	return codec.Success
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

// control answers a message.
func (e *Engine) control(ctx context.Context, c Caller, m *Message, to string, pub Publisher) {
	defer e.guard("answering on the control topic client", m.ClientID)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	reply := func(ctx context.Context, b []byte) {
		var props codec.Properties
		if m.Correlation != nil {
			props = codec.AppendBytesProperty(props, codec.CorrelationData, m.Correlation)
		}
		// What is refused, or late, is the asker's loss: there is nobody else to tell.
		_, _ = pub.Publish(ctx, broker.Publication{Topic: to, Payload: b, QoS: 1, Properties: props})
	}
	list, binary, err := ParseEntries(m.Payload)
	if err != nil {
		e.audit(c, "refused", "reason", err.Error())
		e.metrics.requests.WithLabelValues(string(c.Door), "refused").Inc()
		reply(ctx, failure(err, binary))
		return
	}
	single := len(list) == 1
	answers, err := e.Do(ctx, c, list, func(a Answer) {
		if b, err := EncodeAnswers([]Answer{a}, binary, true); err == nil {
			reply(e.ctx, b) // ctx has ended when control has
		}
	})
	if err != nil {
		reply(ctx, failure(err, binary))
		return
	}
	b, err := EncodeAnswers(answers, binary, single)
	if err != nil {
		b = failure(err, binary)
	}
	reply(ctx, b)
}

// failure is the answer to what could not be worked on at all.
func failure(err error, binary bool) []byte {
	code := behalf.Malformed
	if errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrOrigin) {
		code = behalf.NotAllowed
	}
	if binary {
		return encodeBinary([]Answer{{Code: uint8(code)}})
	}
	b, _ := json.Marshal(&Answer{Code: uint8(code), Error: err.Error(), Results: []Result{}}) // cannot fail
	return b
}

// MayPublish reports whether a client may publish on a topic, as far as the connect topic is concerned: only
// those named may, since whoever does makes others be subscribed.
func (e *Engine) MayPublish(username string, topic []byte) bool {
	c := &e.config().Connect
	if c.Topic == "" || !topictree.MatchFilter([]byte(c.Topic), topic) {
		return true
	}
	return username != "" && slices.Contains(c.Usernames, username)
}

// ConnectTopic is the filter on which Connected is to be called; "" for none.
func (e *Engine) ConnectTopic() string { return e.config().Connect.Topic }

// login is the payload of the connect topic, if it is not the bare client id.
type login struct {
	ClientID string `json:"clientid"`
	Username string `json:"username"`
}

// Connected takes a message of the connect topic over: the client whose id it carries gets its lists, and the
// acknowledgement goes to the topic with "/ack" behind it. The arguments may be loans; it returns at once.
func (e *Engine) Connected(topic, payload []byte, pub Publisher) {
	name := string(topic)
	who, err := parseLogin(string(payload))
	if err != nil {
		e.audit(Caller{Door: Connect, Principal: name}, "refused", "reason", err.Error())
		e.metrics.requests.WithLabelValues(string(Connect), "refused").Inc()
		a := answerOf(&behalf.Answer{Code: behalf.Malformed}, nil)
		e.later(func(ctx context.Context) { e.acknowledge(ctx, name, a, pub) })
		return
	}
	e.later(func(ctx context.Context) { e.connected(ctx, name, who, pub) })
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
func (e *Engine) connected(ctx context.Context, topic string, who login, pub Publisher) {
	defer e.guard("answering the event of client", who.ClientID)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	rules := e.acquire()
	defer e.release(rules.providers...)
	c := Client{ID: who.ClientID, Username: who.Username, Tenant: rules.cfg.tenantOf(topic, who)}
	if c.Username == "" {
		l, err := e.broker.List(ctx, c.ID)
		if errors.Is(err, behalf.ErrNoAnswer) { // asked without the name, providers might give another list
			busy := answerOf(&behalf.Answer{ClientID: c.ID, Code: behalf.Busy}, nil)
			e.told(ctx, topic, &c, busy, pub)
			return
		}
		c.Username = l.Username
	}
	out := Answer{ClientID: c.ID, Results: []Result{}}
	var promises behalf.Promises
	for _, p := range rules.providers {
		if p.cfg.JWT != nil {
			continue // there is no password here
		}
		set, err := p.list(ctx, &c)
		if err != nil {
			out.Code = uint8(behalf.Unavailable)
			out.Error = fmt.Sprintf("provider %s: %v", p.cfg.Name, err)
			continue
		}
		wait := time.Duration(rules.cfg.Pending.DefaultWait)
		r := &behalf.Request{
			ClientID: c.ID, Action: im.Replace, Origin: p.origin, Topics: set, Wait: wait,
			Promises: &promises,
			Later: func(a behalf.Answer) { // on an event loop
				e.later(func(ctx context.Context) { e.acknowledge(ctx, topic, answerOf(&a, nil), pub) })
			},
		}
		for _, a := range e.broker.Apply(ctx, r) {
			x := answerOf(&a, nil)
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
	e.told(ctx, topic, &c, out, pub)
}

// told records and sends what has come of an event.
func (e *Engine) told(ctx context.Context, topic string, c *Client, out Answer, pub Publisher) {
	caller := Caller{Door: Connect, Principal: topic, Allowed: true}
	x := Entry{ClientID: c.ID, Action: im.Replace.String()}
	e.record(caller, &x, &behalf.Origin{Name: "presub"}, []Answer{out})
	e.acknowledge(ctx, topic, out, pub)
}

// tenantOf is the level under the topic's first "+" in the filter, else what the configuration says.
func (c *Config) tenantOf(topic string, who login) string {
	filter, levels := strings.Split(c.Connect.Topic, "/"), strings.Split(topic, "/")
	if i := slices.Index(filter, "+"); i >= 0 && i < len(levels) {
		return levels[i]
	}
	return c.Tenant.of(who.ClientID, who.Username)
}

func (e *Engine) acknowledge(ctx context.Context, topic string, a Answer, pub Publisher) {
	b, err := json.Marshal(&a)
	if err != nil {
		return // strings and numbers only: it cannot fail
	}
	_, _ = pub.Publish(ctx, broker.Publication{Topic: topic + "/ack", Payload: b, QoS: 1})
}

// codeText is the label of a code.
func codeText(code codec.Reason) string { return fmt.Sprintf("0x%02x", byte(code)) }
