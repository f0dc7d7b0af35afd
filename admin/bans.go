package admin

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"time"

	"noctule/broker"
	"noctule/broker/presub"
)

// The table of who may not be here.

// ban is an entry in JSON.
type ban struct {
	Kind   string     `json:"kind"` // token, user, client or address
	Name   string     `json:"name"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"` // without: for ever
	By     string     `json:"by"`
	Reason string     `json:"reason,omitempty"`
}

func banOf(b *broker.Ban) ban {
	x := ban{Kind: b.Kind.String(), Name: b.Name, Since: b.Since.UTC(), By: b.By, Reason: b.Reason}
	if !b.Until.IsZero() {
		at := b.Until.UTC()
		x.Until = &at
	}
	return x
}

// banOrder is the body that adds an entry.
type banOrder struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Seconds *int64 `json:"seconds"` // for how long; without: for ever
	Reason  string `json:"reason"`
}

// banned is what adding an entry has come to.
type banned struct {
	ban
	Disconnected int `json:"disconnected"`
}

// bansPage is a page of entries.
type bansPage struct {
	Bans []ban  `json:"bans"`
	Next string `json:"next,omitempty"` // the cursor of the next page; without it this is the last
}

// banSeconds is the longest time of an entry that ends.
const banSeconds = 100 * 365 * 24 * 3600

// banKind reads a kind.
func banKind(text string) (broker.BanKind, bool) {
	for _, k := range []broker.BanKind{broker.BanToken, broker.BanUser, broker.BanClient, broker.BanAddress} {
		if k.String() == text {
			return k, true
		}
	}
	return 0, false
}

// addBan adds an entry and ends whom it names.
func (d *Door) addBan(w http.ResponseWriter, r *http.Request, c *call) {
	var o banOrder
	if err := presub.Decode(c.body, &o); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	kind, ok := banKind(o.Kind)
	switch {
	case !ok:
		fail(w, http.StatusBadRequest, "kind is token, user, client or address")
		return
	case o.Seconds != nil && (*o.Seconds < 1 || *o.Seconds > banSeconds):
		fail(w, http.StatusBadRequest, "seconds is 1 to "+strconv.Itoa(banSeconds))
		return
	}
	b := broker.Ban{Kind: kind, Name: o.Name, Reason: o.Reason}
	if o.Seconds != nil {
		b.Until = time.Now().Add(time.Duration(*o.Seconds) * time.Second)
	}
	b, n, err := d.e.Ban(r.Context(), c.caller(), b)
	switch {
	case err == nil:
		respond(w, http.StatusOK, &banned{banOf(&b), n})
	case errors.Is(err, broker.ErrBansFull):
		fail(w, http.StatusTooManyRequests, "there are too many bans")
	case errors.Is(err, broker.ErrBan):
		fail(w, http.StatusBadRequest, err.Error())
	default:
		banFailed(w, err)
	}
}

// removeBan takes an entry out.
func (d *Door) removeBan(w http.ResponseWriter, r *http.Request, c *call) {
	kind, ok := banKind(r.PathValue("kind"))
	if !ok {
		fail(w, http.StatusNotFound, "kind is token, user, client or address")
		return
	}
	ok, err := d.e.Unban(r.Context(), c.caller(), kind, r.PathValue("name"))
	switch {
	case err != nil:
		banFailed(w, err)
	case !ok:
		fail(w, http.StatusNotFound, "no such ban")
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// listBans answers with a page, by kind and name.
func (d *Door) listBans(w http.ResponseWriter, r *http.Request, c *call) {
	limit, ok := limitOf(w, r)
	if !ok {
		return
	}
	var after broker.BanCursor
	if text := r.URL.Query().Get("cursor"); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(raw) == 0 {
			fail(w, http.StatusBadRequest, "not a cursor")
			return
		}
		after = broker.BanCursor{Kind: broker.BanKind(raw[0]), Name: string(raw[1:])}
	}
	list, next, err := d.e.Bans(c.caller(), after, limit)
	if err != nil {
		banFailed(w, err)
		return
	}
	out := bansPage{Bans: make([]ban, 0, len(list))}
	for i := range list {
		out.Bans = append(out.Bans, banOf(&list[i]))
	}
	if next != nil {
		out.Next = base64.RawURLEncoding.EncodeToString(append([]byte{byte(next.Kind)}, next.Name...))
	}
	respond(w, http.StatusOK, &out)
}

// banFailed answers a call that was not done, or of which that is not known.
func banFailed(w http.ResponseWriter, err error) {
	if errors.Is(err, presub.ErrTenants) {
		fail(w, http.StatusForbidden, err.Error())
		return
	}
	unanswered(w)
}
