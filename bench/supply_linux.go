package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// supply is a webservice that has a list of topics for each client, for a broker that asks for it when the
// client connects. It can be taken away for a while: then nobody listens.
type supply struct {
	// Set by newSupply, then read-only:
	latency time.Duration
	lists   []string // as JSON, by listOf

	// Owned by the goroutine that calls open and close:
	address string
	server  *http.Server
	ended   chan struct{}

	// Atomic:
	requests, asked, now, most, returned atomic.Int64
}

// listsMany is how many lists there are.
const listsMany = 1000

// tellTopic is in every list: what is published there tells a client what it has.
const tellTopic = "$me/subscriptions"

func newSupply(topics int, latency time.Duration) *supply {
	s := &supply{latency: latency, address: "127.0.0.1:0"}
	for i := range listsMany {
		var list []map[string]any
		for k := range topics {
			list = append(list, map[string]any{"topic": granted(i, k), "qos": 1})
		}
		list = append(list, map[string]any{"topic": tellTopic, "qos": 1})
		b, _ := json.Marshal(map[string]any{"topics": list}) // cannot fail
		s.lists = append(s.lists, string(b))
	}
	return s
}

// granted is the k-th topic of a list.
func granted(list, k int) string { return fmt.Sprintf("/e/%03d/im/g/%d", list, k) }

// open lets it listen, after close at the same address.
func (s *supply) open(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	s.address = ln.Addr().String()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.ended = make(chan struct{})
	s.returned.Store(time.Now().UnixNano())
	go func() { // close waits
		defer close(s.ended)
		_ = s.server.Serve(ln) // it ends with close
	}()
	return nil
}

// close cuts all connections and listens no longer.
func (s *supply) close() {
	if s.server == nil {
		return
	}
	_ = s.server.Close() // nobody is to be told
	<-s.ended
	s.server = nil
}

// ServeHTTP answers for one client, or for a batch of them.
func (s *supply) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for {
		most := s.most.Load()
		if n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	s.requests.Add(1)
	type client struct {
		ClientID string `json:"clientid"`
	}
	var ask struct {
		client
		Clients []client `json:"clients"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t := time.NewTimer(s.latency)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if ask.Clients == nil {
		s.asked.Add(1)
		_, _ = io.WriteString(w, s.listFor(ask.ClientID))
		return
	}
	s.asked.Add(int64(len(ask.Clients)))
	lists := make([]string, len(ask.Clients))
	for i, c := range ask.Clients {
		lists[i] = s.listFor(c.ClientID)
	}
	_, _ = io.WriteString(w, `{"lists":[`+strings.Join(lists, ",")+`]}`)
}

// listFor is the list of a client by the number at the end of its id; an empty one without a number.
func (s *supply) listFor(id string) string {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	if err != nil || n < 0 {
		return `{"topics":[]}`
	}
	return s.lists[n%listsMany]
}

// SupplyUse is how a webservice that has lists of topics was asked for them.
type SupplyUse struct {
	Requests int64 `json:"requests"`
	Asked    int64 `json:"asked"` // lists; several a request with the batch form
	Most     int64 `json:"most_at_a_time"`
}

func (s *supply) use() SupplyUse {
	return SupplyUse{Requests: s.requests.Load(), Asked: s.asked.Load(), Most: s.most.Load()}
}

// outage lets the webservice, which was closed, come back when the time is over.
func (s *supply) outage(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	var err error
	for range 100 { // the kernel may hold the address for a moment
		if err = s.open(ctx); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(errors.New("bench: the webservice does not come back"), err)
}
