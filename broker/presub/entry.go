package presub

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/codec/im"
)

// Limits of a request.
const (
	entriesMax = 10000
	topicsMax  = 100000 // of all entries

	requestIDMax = 128 // bytes
)

// Topic is one subscription in JSON.
type Topic struct {
	Topic string `json:"topic"`
	QoS   uint8  `json:"qos"`
	NL    bool   `json:"nl,omitempty"`
	RAP   bool   `json:"rap,omitempty"`
	RH    uint8  `json:"rh,omitempty"`
	ID    uint32 `json:"id,omitempty"`
	// ExpiresIn, in requests, and ExpiresAt say when it ends by itself.
	ExpiresIn Lifetime `json:"expires_in,omitempty"`
	ExpiresAt Moment   `json:"expires_at,omitempty"`

	end int64 // the same in seconds of the broker's clock, once Timed has settled it
}

// topic is t in the broker's words.
func (t *Topic) topic() behalf.Topic {
	return behalf.Topic{
		Filter: t.Topic, QoS: t.QoS, NoLocal: t.NL, RetainAsPublished: t.RAP, RetainHandling: t.RH, ID: t.ID,
	}
}

// TopicOf is a topic in the words of JSON.
func TopicOf(t *behalf.Topic) Topic {
	return Topic{
		Topic: t.Filter, QoS: t.QoS, NL: t.NoLocal, RAP: t.RetainAsPublished, RH: t.RetainHandling, ID: t.ID,
	}
}

// Entry is a request for one client, or for all sessions of a user; with both, for the client if it is the
// user's.
type Entry struct {
	ClientID string  `json:"clientid,omitempty"`
	Username string  `json:"username,omitempty"`
	Action   string  `json:"action"`
	Origin   string  `json:"origin,omitempty"` // a name below the requester's own
	Wait     *int    `json:"wait_seconds,omitempty"`
	Topics   []Topic `json:"topics"`
	// ExpiresIn is that of topics that have none of their own.
	ExpiresIn Lifetime `json:"expires_in,omitempty"`
	// RequestID, of at most 128 bytes, comes back in all answers.
	RequestID string `json:"request_id,omitempty"`

	// IfRevision is the revision that the session must have; not part of the entry.
	IfRevision *uint64 `json:"-"`
}

// Result is the answer for one topic.
type Result struct {
	Topic string `json:"topic"`
	Code  uint8  `json:"code"`
	State string `json:"state"`
}

// Answer is the answer for one session.
type Answer struct {
	ClientID  string   `json:"clientid,omitempty"`
	Username  string   `json:"username,omitempty"`
	RequestID string   `json:"request_id,omitempty"` // the entry's
	Revision  uint64   `json:"revision"`
	Code      uint8    `json:"code,omitempty"`  // why nothing was done
	Error     string   `json:"error,omitempty"` // the same in words
	Results   []Result `json:"results"`

	// Entry is the place of the entry in its batch, from 0; not part of the answer.
	Entry int `json:"-"`
}

// ParseEntries reads a batch: one entry or an array of entries in JSON, or the binary form, whose first byte
// is its version. Errors name the byte; where only the contents are wrong, list is there with the error.
func ParseEntries(b []byte) (list []Entry, binary bool, err error) {
	if len(b) > 0 && b[0] == im.Version {
		list, err = parseBinary(b)
		return list, true, err
	}
	list, err = parseJSON(b)
	if err != nil {
		return nil, false, err
	}
	return list, false, CheckEntries(list)
}

func parseJSON(b []byte) ([]Entry, error) {
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		var list []Entry
		err := Decode(b, &list)
		return list, err
	}
	list := make([]Entry, 1)
	err := Decode(b, &list[0])
	return list, err
}

// Decode reads one value in JSON that is all of b and has no unknown fields. Errors name the byte.
func Decode(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); errors.Is(more, io.EOF) {
			return nil
		}
		err = errors.New("something follows")
	}
	return jsonError(err, dec.InputOffset(), len(b))
}

// jsonError adds the place where decoding stopped.
func jsonError(err error, at int64, size int) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
		return fmt.Errorf("entry: byte %d: %q must be %s, not %s", at, kind.Field, kind.Type, kind.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("entry: byte %d: cut off", size)
	}
	return fmt.Errorf("entry: byte %d: %s", at, bytes.TrimPrefix([]byte(err.Error()), []byte("json: ")))
}

// CheckEntries holds entries against the limits, and against what the schema cannot say.
func CheckEntries(list []Entry) error {
	if len(list) == 0 || len(list) > entriesMax {
		return fmt.Errorf("entry: %d entries, 1 to %d are allowed", len(list), entriesMax)
	}
	topics := 0
	for i := range list {
		e := &list[i]
		topics += len(e.Topics)
		_, ok := actionOf(e.Action)
		switch {
		case e.ClientID == "" && e.Username == "":
			return fmt.Errorf("entry %d: a clientid or username is needed", i+1)
		case !codec.ValidUTF8([]byte(e.ClientID + e.Username)):
			return fmt.Errorf("entry %d: clientid or username is no MQTT string", i+1)
		case !ok:
			return fmt.Errorf("entry %d: action %q is not subscribe, unsubscribe or replace", i+1, e.Action)
		case e.Topics == nil: // to replace by nothing, [] has to be said
			return fmt.Errorf("entry %d: there is no list of topics", i+1)
		case len(e.Topics) == 0 && e.Action != im.Replace.String():
			return fmt.Errorf("entry %d: no topic", i+1)
		case e.Wait != nil && (*e.Wait < 0 || *e.Wait > 86400):
			return fmt.Errorf("entry %d: wait_seconds %d is not 0 to 86400", i+1, *e.Wait)
		case len(e.RequestID) > requestIDMax:
			return fmt.Errorf("entry %d: a request_id of more than %d bytes", i+1, requestIDMax)
		case topics > topicsMax:
			return fmt.Errorf("entry %d: more than %d topics", i+1, topicsMax)
		}
		if err := e.checkExpiry(); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return nil
}

func actionOf(name string) (im.Action, bool) {
	for a := im.Subscribe; a <= im.Replace; a++ {
		if a.String() == name {
			return a, true
		}
	}
	return 0, false
}

func parseBinary(b []byte) ([]Entry, error) {
	var p im.Batch
	if err := p.Parse(b); err != nil {
		return nil, err
	}
	list := make([]Entry, 0, len(p.Entries))
	for i := range p.Entries {
		e := &p.Entries[i]
		x := Entry{Action: e.Action.String(), Origin: string(e.Origin), Topics: []Topic{}}
		if e.IsUsername {
			x.Username = string(e.Target)
		} else {
			x.ClientID = string(e.Target)
		}
		if e.HasWait {
			wait := int(e.Wait)
			x.Wait = &wait
		}
		for _, s := range e.Topics {
			x.Topics = append(x.Topics, Topic{
				Topic: string(s.Filter), QoS: s.QoS, NL: s.NoLocal, RAP: s.RetainAsPublished,
				RH: s.RetainHandling, ID: s.ID,
			})
		}
		list = append(list, x)
	}
	return list, CheckEntries(list)
}

// setOf is the topics of a request that may be subscribed to, and the results of the others.
func setOf(list []Topic) (*behalf.Set, []behalf.Result) {
	var good setOfTopics
	var bad []behalf.Result
	for i := range list {
		t := list[i].topic()
		if code := t.Check(); code != codec.Success {
			bad = append(bad, behalf.Result{Filter: t.Filter, Code: code, State: im.Absent})
			continue
		}
		good.add(&list[i])
	}
	return behalf.NewEndingSet(good.list, good.ends), bad
}

// order is the place of each filter in a request; nil: as it comes.
type order map[string]int

func orderOf(list []Topic) order {
	if len(list) < 2 {
		return nil
	}
	o := make(order, len(list))
	for i := range list {
		if _, twice := o[list[i].Topic]; !twice {
			o[list[i].Topic] = i
		}
	}
	return o
}

// sort puts results in the order of the request, as SUBACK has its codes [MQTT-3.9.3-1]; what was not asked
// for by name, as what a replace removes, comes last.
func (o order) sort(list []Result) {
	if len(list) < 2 {
		return
	}
	place := func(r *Result) int {
		if i, ok := o[r.Topic]; ok {
			return i
		}
		return math.MaxInt
	}
	slices.SortStableFunc(list, func(a, b Result) int { return cmp.Compare(place(&a), place(&b)) })
}

// answerOf is an answer in the words of JSON.
func answerOf(a *behalf.Answer, bad []behalf.Result) Answer {
	out := Answer{ClientID: a.ClientID, Revision: a.Revision, Code: uint8(a.Code), Results: []Result{}}
	if a.Code != behalf.Done {
		out.Error = a.Code.String()
		if a.Limit != "" {
			out.Error += ": " + a.Limit
		}
	}
	for _, list := range [][]behalf.Result{a.Results, bad} {
		for _, r := range list {
			out.Results = append(
				out.Results,
				Result{Topic: r.Filter, Code: uint8(r.Code), State: r.State.String()},
			)
		}
	}
	return out
}

// EncodeAnswers writes answers in the form in which they were asked for: binary, or JSON, where the answer to
// a single entry that has one answer is no array.
func EncodeAnswers(list []Answer, binary, single bool) ([]byte, error) {
	if binary {
		return encodeBinary(list), nil
	}
	if single && len(list) == 1 {
		return json.Marshal(&list[0])
	}
	return json.Marshal(list)
}

func encodeBinary(list []Answer) []byte {
	var p im.Answers
	for i := range list {
		a := &list[i]
		x := im.Answer{ClientID: []byte(a.ClientID), Code: a.Code, Revision: a.Revision}
		for _, r := range a.Results {
			x.Results = append(
				x.Results,
				im.Result{Filter: []byte(r.Topic), Code: r.Code, State: stateOf(r.State)},
			)
		}
		p.List = append(p.List, x)
	}
	return p.Append(make([]byte, 0, p.Len()))
}

func stateOf(name string) im.State {
	for s := im.New; s <= im.Pending; s++ {
		if s.String() == name {
			return s
		}
	}
	return im.Absent
}

// wait is how long an entry may wait for its client, and whether it says so itself.
func (e *Entry) wait(usual time.Duration) (d time.Duration, explicit bool) {
	if e.Wait == nil {
		return usual, false
	}
	return time.Duration(*e.Wait) * time.Second, *e.Wait > 0
}
