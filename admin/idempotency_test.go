package admin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// keyed makes a request with an Idempotency-Key and reports whether it was worked on, or answered as before.
func (p *replies) keyed(t *testing.T, principal, key, body string, answer int) (worked bool) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/x", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", key)
	p.once(httptest.NewRecorder(), r, &call{grant: grant{principal: principal}, body: []byte(body)},
		func(w http.ResponseWriter, _ *http.Request) {
			worked = true
			_, _ = w.Write(make([]byte, answer))
		})
	return worked
}

// balanced holds the counts against what there is.
func (p *replies) balanced(t *testing.T) {
	t.Helper()
	count, size := 0, int64(0)
	for name, x := range p.of {
		n, own := 0, int64(0)
		for at := x.order.Front(); at != nil; at = at.Next() {
			n++
			own += at.Value.(*reply).counted
		}
		if n == 0 || n != len(x.byKey) || own != x.size {
			t.Errorf("%s: %d in order, %d by key, %d bytes of %d", name, n, len(x.byKey), own, x.size)
		}
		count, size = count+n, size+own
	}
	if count != p.count || size != p.size || count > repliesMax || size > repliesSize {
		t.Errorf("%d answers of %d, %d bytes of %d", count, p.count, size, p.size)
	}
}

// TestKeysAreSharedByPrincipals: whoever makes very many requests with keys, or has very long answers, loses its own
// answers and nobody else's, and loses the oldest first.
func TestKeysAreSharedByPrincipals(t *testing.T) {
	for _, tt := range []struct {
		name      string
		n, answer int
	}{{"many", repliesMax + 100, 1}, {"long", 100, 1 << 20}} {
		p := newReplies()
		for i := range 20 {
			p.keyed(t, "small", fmt.Sprint(i), "", 100)
		}
		for i := range tt.n {
			if !p.keyed(t, "big", fmt.Sprint(i), "", tt.answer) {
				t.Fatalf("%s: %d was not worked on", tt.name, i)
			}
		}
		p.balanced(t)
		for i := range 20 {
			if p.keyed(t, "small", fmt.Sprint(i), "", 100) {
				t.Errorf("%s: answer %d of another has gone", tt.name, i)
			}
		}
		if p.keyed(t, "big", fmt.Sprint(tt.n-1), "", tt.answer) || !p.keyed(t, "big", "0", "", tt.answer) {
			t.Errorf("%s: not the oldest has gone", tt.name)
		}
		if p.keyed(t, "big", "small", "", 1); !p.keyed(t, "small", "small", "", 1) { // a key is of one principal
			t.Errorf("%s: one principal hears the answer to another", tt.name)
		}
		p.balanced(t)
	}
}

// TestKeysEnd: an answer is kept for a day from when it was made, however often it is asked for, and what failed is not.
func TestKeysEnd(t *testing.T) {
	p, now := newReplies(), time.Unix(1_800_000_000, 0)
	p.now = func() time.Time { return now }
	p.keyed(t, "a", "k", "", 1)
	p.keyed(t, "b", "k", "", 1)
	for _, tt := range []struct {
		after  time.Duration
		worked bool
	}{{time.Hour, false}, {22 * time.Hour, false}, {time.Hour, true}, {time.Second, false}} {
		now = now.Add(tt.after)
		if got := p.keyed(t, "a", "k", "", 1); got != tt.worked {
			t.Errorf("after %s more it is worked on: %v", tt.after, got)
		}
		p.balanced(t)
	}
	if p.count != 1 || len(p.of) != 1 { // b's has gone as well
		t.Errorf("%d answers to %d principals", p.count, len(p.of))
	}
}
