package presub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"noctule/broker/behalf"
)

// Topics that a request asks for may end by themselves. A request says in how long, or when by the system's
// clock, as answers do; here it becomes a time of the broker's clock, the same for all clients of a request,
// so that they go on sharing one list.

// Lifetime is how long a topic is to be there, in seconds; 0: it stays. In JSON it is a number of seconds, or
// a text such as "90s" or "12h".
type Lifetime int64

// lifetimeMax is the longest.
const lifetimeMax = 10 * 365 * 24 * 3600

// UnmarshalJSON implements json.Unmarshaler. Parts of a second count as a whole one.
func (d *Lifetime) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if b[0] == '"' {
		var text string
		var v time.Duration
		if err = json.Unmarshal(b, &text); err == nil {
			v, err = time.ParseDuration(text)
		}
		n = int64(math.Ceil(v.Seconds()))
	}
	if err != nil || n < 1 || n > lifetimeMax {
		const form = "expires_in %s is not 1 to %d seconds, or a text such as \"12h\""
		return fmt.Errorf(form, b[:min(len(b), 40)], int64(lifetimeMax))
	}
	*d = Lifetime(n)
	return nil
}

// Moment is a time in Unix seconds of the system's clock; 0: none. In JSON it is as RFC 3339 has it.
type Moment int64

// MarshalJSON implements json.Marshaler.
func (m Moment) MarshalJSON() ([]byte, error) {
	return time.Unix(int64(m), 0).UTC().AppendFormat(nil, `"`+time.RFC3339+`"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Moment) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	at, err := time.Parse(`"`+time.RFC3339+`"`, string(bytes.TrimSpace(b)))
	if err != nil || at.Unix() <= 0 {
		return fmt.Errorf("expires_at %s is not a time such as \"2030-01-31T12:00:00Z\"", b[:min(len(b), 40)])
	}
	*m = Moment(at.Unix())
	return nil
}

// checkExpiry holds what is said of when topics end against what can be.
func (e *Entry) checkExpiry() error {
	if e.ExpiresIn != 0 && e.Action == "unsubscribe" {
		return fmt.Errorf("expires_in is not for unsubscribe")
	}
	bad := e.ExpiresIn < 0 || e.ExpiresIn > lifetimeMax
	for i := range e.Topics {
		t := &e.Topics[i]
		if t.ExpiresIn != 0 && t.ExpiresAt != 0 {
			return fmt.Errorf("topic %d: expires_in and expires_at", i+1)
		}
		bad = bad || t.ExpiresIn < 0 || t.ExpiresIn > lifetimeMax || t.ExpiresAt < 0
	}
	if bad {
		return fmt.Errorf("expires_in is not 1 to %d seconds", int64(lifetimeMax))
	}
	return nil
}

// lasting reports whether a request says of no topic when it ends.
func lasting(list []Topic, in Lifetime) bool {
	ends := func(t Topic) bool { return t.ExpiresIn != 0 || t.ExpiresAt != 0 }
	return in == 0 && !slices.ContainsFunc(list, ends)
}

// begin is now, in seconds of the broker's clock, rounded up: nothing ends early.
func (e *Engine) begin() int64 {
	if e.b == nil {
		return now().Add(time.Second - 1).Unix()
	}
	return e.b.End(0)
}

// Timed settles when topics end, counted from now, for who asks for them in several batches; in is for those
// that do not say themselves. The list itself is left as it is.
func (e *Engine) Timed(list []Topic, in Lifetime) []Topic { return e.timed(list, in, e.begin()) }

// timed is the same, counted from a time that begin has told.
func (e *Engine) timed(list []Topic, in Lifetime, begin int64) []Topic {
	if lasting(list, in) {
		return list
	}
	list = slices.Clone(list)
	for i := range list {
		t := &list[i]
		switch {
		case t.end != 0: // it is settled
		case t.ExpiresAt != 0 && e.b != nil:
			t.end = e.b.EndAt(time.Unix(int64(t.ExpiresAt), 0))
		case t.ExpiresAt != 0:
			t.end = int64(t.ExpiresAt)
		case t.ExpiresIn != 0:
			t.end = begin + int64(t.ExpiresIn)
		case in != 0:
			t.end = begin + int64(in)
		}
	}
	return list
}

// setOfTopics is topics that may be subscribed to, with when they end.
type setOfTopics struct {
	list []behalf.Topic
	ends []int64 // nil while none ends
}

func (x *setOfTopics) add(t *Topic) {
	if t.end != 0 || x.ends != nil {
		x.ends = append(append(x.ends, make([]int64, len(x.list)-len(x.ends))...), t.end)
	}
	x.list = append(x.list, t.topic())
}

// TopicsOf is topics in the words of JSON; ends is as that of a behalf.Holding.
func TopicsOf(list []behalf.Topic, ends []int64) []Topic {
	out := make([]Topic, 0, len(list))
	for i := range list {
		out = append(out, topicOf(list, ends, i))
	}
	return out
}

// topicOf is one of them.
func topicOf(list []behalf.Topic, ends []int64, i int) Topic {
	t := TopicOf(&list[i])
	if ends != nil {
		t.ExpiresAt = Moment(ends[i])
	}
	return t
}

// topicsEnded hears of topics that have ended by themselves. It implements broker.Options.Ended.
func (e *Engine) topicsEnded(x behalf.Ended) {
	e.metrics.expired.Add(float64(x.Topics))
	id := x.ClientID
	if x.Sessions > 1 {
		id = ""
	}
	e.audit(Caller{Door: ByTime, Principal: x.Origin}, "expired", "clientid", id, "topics", x.Topics,
		"sessions", x.Sessions)
}
