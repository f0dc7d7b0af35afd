package presub

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
)

// costOf is what a list takes in a cache, and that all who have it share it.
func costOf(x *behalf.Set) (bytes int, of any) {
	const topicBytes = 40 // of a behalf.Topic beside its filter, with what its filter is rounded up to
	return 128 + topicBytes*x.Len() + x.Bytes(), x
}

// setOfJSON reads what a webservice answers about one client; nil is the empty list.
func (p *provider) setOfJSON(body []byte) (*behalf.Set, error) {
	var list []Topic
	if body != nil {
		var err error
		if list, err = parseList(body); err != nil {
			return nil, err
		}
	}
	return p.setOf(list)
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
		var t struct { // not what only requests may say
			Topic string `json:"topic"`
			QoS   uint8  `json:"qos"`
			NL    bool   `json:"nl"`
			RAP   bool   `json:"rap"`
			RH    uint8  `json:"rh"`
			ID    uint32 `json:"id"`
		}
		if json.Unmarshal(raw, &t) != nil {
			t.QoS = badQoS
		}
		out[i] = Topic{Topic: t.Topic, QoS: t.QoS, NL: t.NL, RAP: t.RAP, RH: t.RH, ID: t.ID}
	}
	return out, nil
}

// badQoS makes a topic one that nobody may subscribe to.
const badQoS = 0xFF

// setOfRows reads the answer of a database: the columns topic and, if it likes, qos, nl, rap, rh and id.
func (p *provider) setOfRows(rows *sql.Rows) (*behalf.Set, error) {
	var list []Topic
	err := lookup.EachRow(rows, func(columns []string, values []sql.NullString) error {
		if len(list) >= topicsMax {
			return errTooMany
		}
		t, err := topicOfRow(columns, values)
		list = append(list, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	set, err := p.setOf(list)
	if err != nil {
		return nil, lookup.Final{Err: err}
	}
	return set, nil
}

// topicOfRow reads one row by the names of its columns.
func topicOfRow(names []string, values []sql.NullString) (Topic, error) {
	var t Topic
	for i, name := range names {
		if !values[i].Valid {
			continue
		}
		v := values[i].String
		var n uint64
		var err error
		switch strings.ToLower(name) {
		case "topic":
			t.Topic = v
		case "qos":
			n, err = strconv.ParseUint(v, 10, 8)
			t.QoS = uint8(n)
		case "rh":
			n, err = strconv.ParseUint(v, 10, 8)
			t.RH = uint8(n)
		case "id":
			n, err = strconv.ParseUint(v, 10, 28)
			t.ID = uint32(n)
		case "nl":
			t.NL, err = strconv.ParseBool(v)
		case "rap":
			t.RAP, err = strconv.ParseBool(v)
		default:
			return t, fmt.Errorf("unknown column %s", name)
		}
		if err != nil {
			return t, fmt.Errorf("column %s: %q is not right", name, v)
		}
	}
	return t, nil
}
