package presub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"noctule/codec"
)

// from is the address of a peer.
func from(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }

// TestPastTheQueue: who finds no place is refused with the reason of choice, or let in empty only where the file
// says so; the webservice is not blamed.
func TestPastTheQueue(t *testing.T) {
	for _, tt := range []struct {
		settings string
		want     codec.Reason
	}{
		{"on_failure: last_known", codec.ServerUnavailable},
		{"on_failure: refuse", codec.ServerUnavailable},
		{"on_failure: refuse, on_overload: quota_exceeded", codec.QuotaExceeded},
		{"on_failure: last_known, on_overload: quota_exceeded", codec.QuotaExceeded},
		{"on_failure: empty", codec.Success},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := engine(t, "providers: [{name: ws, max_waiting: 100, "+tt.settings+
				", http: {url: 'http://lists', max_conns: 10}}]")
			defer serve(e, &timed{takes: 100 * time.Millisecond})()
			full, empty, refused, reasons := storm(e, 500)
			if full != 110 || empty+refused != 390 || (tt.want == codec.Success) != (empty > 0) || refused > 0 && reasons[tt.want] != refused {
				t.Errorf("%s: %d full, %d empty, %d refused: %v", tt.settings, full, empty, refused, reasons)
			}
			if full, _, _, _ := storm(e, 50); full != 50 {
				t.Errorf("%s: %d of 50 afterwards", tt.settings, full)
			}
		})
	}
}

// TestWaitingEndsWithTheCONNECT: a CONNECT waits as long as the broker bears it, then it is refused.
func TestWaitingEndsWithTheCONNECT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, "providers: [{name: ws, budget: 10s, http: {url: 'http://lists', timeout: 10s, max_conns: 1}}]")
		defer serve(e, &timed{takes: 6 * time.Second})()
		full, empty, refused, _ := storm(e, 10) // which bears 20 s
		if full != 3 || empty != 0 || refused != 7 {
			t.Errorf("%d with their list, %d empty, %d refused", full, empty, refused)
		}
	})
}

// batchService answers batches; clients whose id ends in "x" it does not know.
type batchService struct {
	mu    sync.Mutex
	sizes []int
	wrong bool
}

func (s *batchService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Clients []struct{ ClientID, Username, Tenant string }
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &order)
	s.mu.Lock()
	s.sizes = append(s.sizes, len(order.Clients))
	s.mu.Unlock()
	time.Sleep(100 * time.Millisecond) // of the bubble
	var lists []string
	for _, c := range order.Clients {
		if strings.HasSuffix(c.ClientID, "x") {
			lists = append(lists, `{"error":"unknown"}`)
			continue
		}
		lists = append(lists, `{"topics":[{"topic":"own/`+c.ClientID+`"}]}`)
	}
	if s.wrong {
		lists = lists[1:]
	}
	_, _ = io.WriteString(w, `{"lists":[`+strings.Join(lists, ",")+`]}`)
}

// TestBatch asks about several clients at once: each gets its own list, and a failure that is about one is its
// alone.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, "providers: [{name: ws, on_failure: refuse, http: {url: 'http://lists', batch: 100, max_conns: 2}}]")
		s := &batchService{}
		defer serve(e, s)()
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 2000 {
			id := fmt.Sprint("c", i)
			if i%10 == 9 {
				id += "x"
			}
			wg.Go(func() {
				list, code := e.Grants(context.Background(), Client{ID: id, Address: from(byte(i % 7))})
				if strings.HasSuffix(id, "x") != (code == codec.ServerUnavailable) {
					t.Errorf("%s: %s", id, code)
				}
				if code == codec.Success && filters(list[0].Topics) != "own/"+id+":0" {
					t.Errorf("%s got %s", id, filters(list[0].Topics))
				}
			})
		}
		wg.Wait()
		if d := time.Since(begun); d > 1200*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		for _, n := range s.sizes {
			if n > 100 {
				t.Errorf("%d in a request", n)
			}
		}
		if n := len(s.sizes); n > 24 {
			t.Errorf("%d requests", n)
		}
		s.wrong = true
		if _, code := one(t, e, "c"); code != codec.ServerUnavailable {
			t.Errorf("an answer that is too short: %s", code)
		}
	})
}

// TestBatchSettings names the line of what does not go together.
func TestBatchSettings(t *testing.T) {
	for settings, want := range map[string]string{
		"batch: 1001":              "batch 1001 is not",
		"batch: 10, method: GET":   "a batch is sent by POST",
		"max_conns: -1":            "max_conns -1 is not",
		"max_conns: 5000":          "max_conns 5000 is not",
		"batch: -1, max_conns: 64": "batch -1 is not",
	} {
		_, err := Parse([]byte("providers: [{name: ws, http: {url: 'http://lists', " + settings + "}}]"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", settings, err)
		}
	}
}
