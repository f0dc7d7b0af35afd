package presub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"noctule/broker/behalf"
	"noctule/topictree"
)

// Match is one subscription that a topic matches.
type Match struct {
	Origin   string `json:"origin"`
	Revision uint64 `json:"revision,omitempty"`
	Topic
	Muted bool `json:"muted,omitempty"` // the client has unsubscribed from it
	// Effective says that messages come by this one; of several with the same filter one does.
	Effective bool `json:"effective"`
}

// Explanation says why a client gets, or does not get, what is published on a topic.
type Explanation struct {
	ClientID  string  `json:"clientid"`
	Username  string  `json:"username,omitempty"`
	Topic     string  `json:"topic"`
	Session   bool    `json:"session"`
	Connected bool    `json:"connected"`
	Revision  uint64  `json:"revision"`
	Denied    bool    `json:"denied"` // access rules forbid the client to read it
	Copies    int     `json:"copies"` // of a message that the client gets
	Matches   []Match `json:"matches"`
	// Notes say in words what else has a part in it.
	Notes []string `json:"notes,omitempty"`
}

// Explain looks the subscriptions of a client through. It is an explanation too that there is no session; the
// error is behalf.ErrNoAnswer.
func (e *Engine) Explain(ctx context.Context, clientID, topic string) (Explanation, error) {
	out := Explanation{ClientID: clientID, Topic: topic, Matches: []Match{}}
	l, err := e.broker.List(ctx, clientID)
	if errors.Is(err, behalf.ErrNoSession) {
		out.noteWaiting(&l, topic)
		e.noteProviders(ctx, &out)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Session, out.Connected, out.Username, out.Revision = true, l.Connected, l.Username, l.Revision
	full := l.Mount + topic
	out.Denied = l.MayRead != nil && !l.MayRead([]byte(full))
	seen := map[string]bool{}
	for _, h := range l.Holdings {
		for i := range h.Topics {
			t := &h.Topics[i]
			if !covers(t, full) {
				continue
			}
			m := Match{Origin: h.Origin, Revision: h.Revision, Topic: topicOf(h.Topics, h.Ends, i)}
			m.Muted = slices.Contains(h.Muted, t.Filter)
			m.Effective = !m.Muted && !seen[t.Filter]
			if m.Effective {
				seen[t.Filter] = true
			}
			if m.Effective && (!out.Denied || h.Bypass) {
				out.Copies++
			}
			out.Matches = append(out.Matches, m)
		}
	}
	out.noteMatches()
	out.noteWaiting(&l, topic)
	out.noteIncomplete(&l)
	e.noteQueue(ctx, &out)
	e.noteDenied(&out, full)
	e.noteProviders(ctx, &out)
	return out, nil
}

// noteProviders tells of the providers that are not asked for the client's list, or do not answer.
func (e *Engine) noteProviders(ctx context.Context, x *Explanation) {
	r := e.rules.Load()
	c := Client{ID: x.ClientID, Username: x.Username, Tenant: r.cfg.Tenant.of(x.ClientID, x.Username)}
	candidate := e.candidate(ctx, &c, x.Session)
	for i := range r.cfg.Providers {
		p := &r.cfg.Providers[i]
		if why := p.whyNot(&candidate); why != "" {
			x.Notes = append(x.Notes, fmt.Sprintf("provider %s is not asked: %s", p.Name, why))
		} else {
			r.providers[i].noteTrouble(x)
		}
	}
}

// noteWaiting tells of requests that will bring the topic with the client's next CONNECT.
func (x *Explanation) noteWaiting(l *behalf.Listing, topic string) {
	for i := range l.Pending {
		p := &l.Pending[i]
		for j := range p.Topics {
			if t := &p.Topics[j]; covers(t, topic) {
				x.Notes = append(x.Notes, fmt.Sprintf("%s of %s waits for its next CONNECT until %s",
					t.Filter, p.Origin, p.Until.UTC().Format(time.RFC3339)))
			}
		}
	}
}

// noteMatches tells what limits the subscriptions by which messages come.
func (x *Explanation) noteMatches() {
	note := func(m *Match, text string) {
		x.Notes = append(x.Notes, fmt.Sprintf("%s of %s %s", m.Topic.Topic, m.Origin, text))
	}
	for i := range x.Matches {
		m := &x.Matches[i]
		if !m.Effective {
			continue
		}
		if strings.HasPrefix(m.Topic.Topic, "$share/") {
			note(m, "is shared: each message goes to one client of the group")
		}
		if m.NL {
			note(m, "is No Local: what the client publishes itself does not come back")
		}
		if m.ExpiresAt != 0 {
			note(m, "ends at "+time.Unix(int64(m.ExpiresAt), 0).UTC().Format(time.RFC3339))
		}
		if !x.Connected && m.QoS == 0 {
			note(m, "is QoS 0 and the client is offline: nothing is kept, unless queue_qos0_messages says so")
		}
	}
}

// covers reports whether a subscription, shared or not, is for a topic.
func covers(t *behalf.Topic, topic string) bool {
	filter := t.Filter
	if t.IsShared() {
		rest := filter[len("$share/"):]
		for i := range rest {
			if rest[i] == '/' {
				filter = rest[i+1:]
				break
			}
		}
	}
	return topictree.MatchFilter([]byte(filter), []byte(topic))
}

// Describe is what a client hears of its subscriptions; count is the number of topics, of which the listing
// may have none. It is for broker.Options.
func Describe(l *behalf.Listing, count int) []byte {
	type item struct {
		Origin string `json:"origin"`
		Topic
	}
	out := struct {
		Revision uint64 `json:"revision"`
		Count    int    `json:"count"`
		Topics   []item `json:"topics,omitempty"`
		// Incomplete is the origins whose lists have not come yet.
		Incomplete []string `json:"incomplete,omitempty"`
	}{Revision: l.Revision, Count: count}
	for _, h := range l.Holdings {
		if h.Late {
			out.Incomplete = append(out.Incomplete, h.Origin)
		}
		for i := range h.Topics {
			out.Topics = append(out.Topics, item{h.Origin, topicOf(h.Topics, h.Ends, i)})
		}
	}
	b, _ := json.Marshal(&out) // strings and numbers: it cannot fail
	return b
}
