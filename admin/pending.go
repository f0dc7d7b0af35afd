package admin

import (
	"net/http"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/presub"
)

// waiting is a request that waits for its client in JSON.
type waiting struct {
	ClientID string         `json:"clientid,omitempty"`
	Username string         `json:"username,omitempty"`
	Origin   string         `json:"origin"`
	Action   string         `json:"action"` // subscribe or replace
	Until    time.Time      `json:"until"`
	Count    int            `json:"count"`
	Topics   []presub.Topic `json:"topics,omitempty"` // where one client is asked for
}

func waitingOf(x *behalf.Pending) waiting {
	w := waiting{
		ClientID: x.ClientID, Username: x.Username, Origin: x.Origin, Action: "subscribe",
		Until: x.Until.UTC(), Count: x.Count, Topics: presub.TopicsOf(x.Topics, x.Ends),
	}
	if x.Whole {
		w.Action = "replace"
	}
	return w
}

// pending lists what the principal has waiting.
func (d *Door) pending(w http.ResponseWriter, r *http.Request, c *call) {
	list, err := d.e.Pending(r.Context(), c.caller())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "the broker is too busy")
		return
	}
	out := make([]waiting, 0, len(list))
	for i := range list {
		out = append(out, waitingOf(&list[i]))
	}
	respond(w, http.StatusOK, out)
}
