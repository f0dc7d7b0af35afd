package presub

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"noctule/broker"
	"noctule/broker/brokertest"
	"noctule/codec"
)

func TestLifetimesInJSON(t *testing.T) {
	for text, want := range map[string]Lifetime{
		`1`: 1, `3600`: 3600, `"90s"`: 90, `"12h"`: 43200, `"1h30m"`: 5400, `"1ms"`: 1, `"1500ms"`: 2, `315360000`: lifetimeMax, `null`: 0,
		`0`: -1, `-1`: -1, `315360001`: -1, `1.5`: -1, `1e3`: -1, `""`: -1, `"1"`: -1, `"-1s"`: -1, `"0s"`: -1, `"87601h"`: -1, `true`: -1,
		`{}`: -1, `[]`: -1, `"9999999h"`: -1, `99999999999999999999`: -1, `"\ud800"`: -1,
	} {
		var got struct {
			In Lifetime `json:"in"`
		}
		switch err := json.Unmarshal([]byte(`{"in":`+text+`}`), &got); {
		case want >= 0 && (err != nil || got.In != want):
			t.Errorf("%s: %d, %v", text, got.In, err)
		case want < 0 && (err == nil || !strings.Contains(err.Error(), "expires_in")):
			t.Errorf("%s is %d: %v", text, got.In, err)
		}
	}
	at := Moment(1900000000)
	raw, err := json.Marshal(at)
	var again Moment
	if string(raw) != `"2030-03-17T17:46:40Z"` || err != nil || json.Unmarshal(raw, &again) != nil || again != at {
		t.Errorf("%s, %v, then %d", raw, err, again)
	}
	for _, text := range []string{`1900000000`, `""`, `"2030"`, `"1969-01-01T00:00:00Z"`, `"1970-01-01T00:00:00Z"`, `{}`} {
		if json.Unmarshal([]byte(text), &again) == nil {
			t.Errorf("%s is %d", text, again)
		}
	}
}

func TestWrongExpiries(t *testing.T) {
	for text, part := range map[string]string{
		`{"clientid":"c","action":"unsubscribe","expires_in":5,"topics":[{"topic":"a"}]}`:                                   "not for unsubscribe",
		`{"clientid":"c","action":"subscribe","topics":[{"topic":"a","expires_in":5,"expires_at":"2030-01-01T00:00:00Z"}]}`: "topic 1: expires_in and expires_at",
		`{"clientid":"c","action":"subscribe","expires_in":"soon","topics":[{"topic":"a"}]}`:                                "byte",
		`{"clientid":"c","action":"subscribe","expires_at":"2030-01-01T00:00:00Z","topics":[{"topic":"a"}]}`:                "unknown field",
	} {
		if _, _, err := ParseEntries([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, e := range []Entry{
		{ClientID: "c", Action: "subscribe", ExpiresIn: -1, Topics: []Topic{{Topic: "a"}}},
		{ClientID: "c", Action: "subscribe", ExpiresIn: lifetimeMax + 1, Topics: []Topic{{Topic: "a"}}},
		{ClientID: "c", Action: "subscribe", Topics: []Topic{{Topic: "a", ExpiresIn: -1}}},
		{ClientID: "c", Action: "subscribe", Topics: []Topic{{Topic: "a", ExpiresAt: -1}}},
	} {
		if CheckEntries([]Entry{e}) == nil {
			t.Errorf("%+v is taken", e)
		}
	}
}

// clocked is a system whose time the test moves.
func clocked(t *testing.T, yaml string) (*system, *brokertest.Clock) {
	clock := brokertest.NewClock()
	return newSystemWith(t, yaml, func(o *broker.Options, _ *broker.ListenerOptions) { o.Clock = clock.Source() }), clock
}

// TestEntriesExpire goes through the door of MQTT: an entry, and a topic of it, say when they end; the client hears
// on $me/subscriptions when, and that it has happened, Explain tells it, and the audit has both.
func TestEntriesExpire(t *testing.T) {
	x, clock := clocked(t, "control: {usernames: [agent]}")
	agent, c := x.connect("agent", "agent"), x.connect("c", "u")
	c.Subscribe("$me/subscriptions", 0)
	told := func(parts ...string) {
		t.Helper()
		var p codec.Publish
		c.Want(codec.PUBLISH, &p)
		for _, part := range parts {
			if !strings.Contains(string(p.Payload), part) {
				t.Errorf("%s, want %s", p.Payload, part)
			}
		}
	}
	told(`"count":0`)
	entry := `{"clientid":"c","action":"replace","expires_in":"1m","topics":[{"topic":"a"},{"topic":"b","expires_in":3600},{"topic":"d","expires_at":%q}]}`
	at := func(after time.Duration) string {
		return time.UnixMilli(clock.Source().Wall()).Add(after).UTC().Format(time.RFC3339)
	}
	if r := send(agent, fmt.Appendf(nil, entry, at(2*time.Hour)), nil); r != 0 {
		t.Fatal(r)
	}
	first, second, third := at(time.Minute), at(time.Hour), at(2*time.Hour)
	told(`"count":3`, `{"origin":"api:agent","topic":"a","qos":0,"expires_at":"`+first+`"}`, second, third)
	why, err := x.e.Explain(t.Context(), "c", "a")
	if err != nil || len(why.Matches) != 1 || time.Unix(int64(why.Matches[0].ExpiresAt), 0).UTC().Format(time.RFC3339) != first ||
		!strings.Contains(strings.Join(why.Notes, "\n"), "a of api:agent ends at "+first) {
		t.Errorf("%+v, %v", why, err)
	}
	clock.Advance(t, x.b, time.Minute)
	told(`"count":2`, second, third)
	clock.Advance(t, x.b, 59*time.Minute)
	told(`"count":1`, third)
	clock.Advance(t, x.b, time.Hour)
	told(`"count":0`)
	if why, err = x.e.Explain(t.Context(), "c", "a"); err != nil || len(why.Matches) != 0 {
		t.Errorf("%+v, %v", why, err)
	}
	for _, line := range []string{
		`Pre-subscription: replace by \"agent\" at mqtt, clientid \"c\", origin \"api:agent\", topics 3, expires_in \"1m0s\", sessions 1`,
		`Pre-subscription: expired by \"api:agent\" at expiry, clientid \"c\", topics 1, sessions 1`,
	} {
		x.untilLogged(line)
	}
}

// TestBatchesExpireTogether: what a batch, or who settles a list for several, gives many clients is one list, though
// time goes on between them.
func TestBatchesExpireTogether(t *testing.T) {
	x, clock := clocked(t, "")
	caller := Caller{Door: Go, Principal: "crm", Allowed: true}
	list := x.e.Timed([]Topic{{Topic: "a"}, {Topic: "b", ExpiresIn: 7}}, 60)
	for i := range 20 {
		id := fmt.Sprint("c", i)
		x.connect(id, "")
		e := []Entry{{ClientID: id, Action: "subscribe", ExpiresIn: 60, Topics: list}}
		if _, err := x.e.Do(t.Context(), caller, e, nil); err != nil {
			t.Fatal(err)
		}
		clock.Pass(t, x.b, 100*time.Millisecond)
	}
	if m := brokertest.Settle(t, x.b); m.Sets > 2 || m.Granted != 40 { // one a loop
		t.Errorf("%d sets, %d topics", m.Sets, m.Granted)
	}
	if _, err := x.e.Move(t.Context(), caller, "", []Topic{{Topic: "a", ExpiresIn: 5}}, nil); err == nil {
		t.Error("moved")
	}
}

// TestListsOfProvidersStay: what only requests may say is ignored in the list of a webservice, as all that it does
// not know, whatever is there.
func TestListsOfProvidersStay(t *testing.T) {
	list, err := parseList([]byte(`{"topics":[{"topic":"a","expires_in":5},{"topic":"b","qos":1,"expires_in":{},"expires_at":7}]}`))
	if err != nil || len(list) != 2 || list[0] != (Topic{Topic: "a"}) || list[1] != (Topic{Topic: "b", QoS: 1}) {
		t.Errorf("%+v, %v", list, err)
	}
}

// untilLogged waits for a line, which may come from a goroutine of its own.
func (x *system) untilLogged(line string) {
	x.t.Helper()
	for deadline := time.Now().Add(brokertest.Timeout); !strings.Contains(x.log.String(), line); brokertest.Settle(x.t, x.b) {
		if time.Now().After(deadline) {
			x.t.Fatalf("no line %s in %s", line, x.log.String())
		}
	}
}
