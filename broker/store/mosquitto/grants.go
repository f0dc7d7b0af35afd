package mosquitto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"noctule/broker/store"
)

// What servers have subscribed clients to is in the JSON too, in our words: Mosquitto has no such thing.

func (x *exporter) list(v *Visitor) func(*store.Set) error {
	return func(r *store.Set) error {
		l := List{Key: hex.EncodeToString(r.Key[:]), Topics: []ListTopic{}}
		for i := range r.Topics {
			t := &r.Topics[i]
			out := ListTopic{
				Topic: t.Filter, QoS: t.Options & 3, Options: t.Options &^ 3, Identifier: t.ID,
			}
			if t.End != 0 {
				out.Expires = t.End + (x.ahead+999)/1000 // never early
			}
			l.Topics = append(l.Topics, out)
		}
		return v.List(&l)
	}
}

func (x *exporter) grant(v *Visitor) func(*store.Grant) error {
	return func(r *store.Grant) error {
		g := Grant{
			Client: x.ids[r.Session], Origin: r.Origin, Place: r.Place, Revision: r.Revision,
			Unsubscribe: policies()[r.Unsubscribe], Bypass: r.Bypass, PerConnect: r.PerConnect,
			Muted: r.Muted,
		}
		if r.Set != (store.SetKey{}) {
			g.List = hex.EncodeToString(r.Set[:])
		}
		return v.Grant(&g)
	}
}

// lists are those of a source, by their keys.
type lists map[store.SetKey]*List

// list takes one of a source; it is written with the first grant that refers to it.
func (i *importer) list(l *List) error {
	if key, err := parseKey(l.Key); err != nil || key == (store.SetKey{}) {
		i.report.note("list %q: no key", l.Key)
	} else {
		kept := *l
		i.lists[key] = &kept
	}
	return nil
}

// granted puts a grant into the store, and the list that it refers to.
func (i *importer) granted(g *Grant) error {
	r, err := i.grant(g)
	if err != nil {
		i.report.note("subscriptions of %q by %q: %v", g.Client, g.Origin, err)
		return nil
	}
	if r.Set != (store.SetKey{}) {
		l, there := i.lists[r.Set]
		if !there {
			i.report.note("subscriptions of %q by %q: list %q is not there", g.Client, g.Origin, g.List)
			return nil
		}
		if l != nil {
			i.putList(r.Set, l)
			i.lists[r.Set] = nil // it is written
		}
	}
	i.b.PutGrant(r)
	i.report.Grants++
	return i.flush(batchBytes)
}

// parseKey reads the key of a list; an empty text is none.
func parseKey(text string) (key store.SetKey, err error) {
	raw, err := hex.DecodeString(text)
	if err == nil && len(raw) != 0 && len(raw) != len(key) {
		err = fmt.Errorf("a key of %d bytes", len(raw))
	}
	copy(key[:], raw)
	return key, err
}

func (i *importer) grant(g *Grant) (*store.Grant, error) {
	number := i.sessions[g.Client]
	all := policies()
	policy := slices.Index(all[:], g.Unsubscribe)
	key, err := parseKey(g.List)
	switch {
	case number == 0:
		return nil, errNoSession
	case g.Origin == "" || policy < 0:
		return nil, fmt.Errorf("client-unsubscribe is %q", g.Unsubscribe)
	case err != nil:
		return nil, err
	}
	return &store.Grant{
		Session: number, Origin: g.Origin, Place: g.Place, Revision: g.Revision, Set: key,
		Unsubscribe: uint8(policy), Bypass: g.Bypass, PerConnect: g.PerConnect, Muted: g.Muted,
	}, nil
}

// putList writes a list without what nobody may subscribe to.
func (i *importer) putList(key store.SetKey, l *List) {
	r := &store.Set{Key: key}
	for k := range l.Topics {
		t := &l.Topics[k]
		if err := validFilter(t.Topic, t.QoS); err != nil {
			i.report.note("list %q, topic %q: %v", l.Key, t.Topic, err)
			continue
		}
		if t.Options>>4 > 2 || t.Identifier > identifierMost || t.Expires < 0 {
			i.report.note("list %q, topic %q: options 0x%02x, identifier %d, expires %d", l.Key, t.Topic,
				t.Options, t.Identifier, t.Expires)
			continue
		}
		r.Topics = append(r.Topics, store.SetTopic{
			Filter: t.Topic, Options: t.QoS | t.Options&0x3C, ID: t.Identifier, End: t.Expires,
		})
	}
	i.b.PutSet(r)
	i.report.Lists++
}

var errNoSession = errors.New("it has no session")

// identifierMost is the highest Subscription Identifier (MQTT 5, 3.8.2.1.2).
const identifierMost = 268435455
