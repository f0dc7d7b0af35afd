package admin

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// TestHealth: each state of a broker, as those see it who decide by the status code, and by who reads.
func TestHealth(t *testing.T) {
	hangs, fails := errors.New("event loop 1 has not turned for 11s"), errors.New("persistent state cannot be written")
	for _, tt := range []struct {
		name          string
		src           Source // nil: it is starting
		alive, ready  int
		health, readi string
	}{
		{"starting", nil, 200, 503, "ok\n", "the broker is starting\n"},
		{"well", source{}, 200, 200, "ok\n", "ok\n"},
		{"store fails", source{unready: fails}, 200, 503, "ok\n", fails.Error() + "\n"},
		{"hangs", source{dead: hangs, unready: hangs}, 503, 503, hangs.Error() + "\n", hangs.Error() + "\n"},
	} {
		s, err := Start("127.0.0.1:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.src != nil {
			s.Use(tt.src)
		}
		url := "http://" + s.Addr().String()
		if resp, body := ask(t, http.MethodGet, url+"/healthz"); resp.StatusCode != tt.alive || body != tt.health {
			t.Errorf("%s: /healthz %s %q", tt.name, resp.Status, body)
		}
		resp, body := ask(t, http.MethodGet, url+"/readyz")
		if resp.StatusCode != tt.ready || body != tt.readi || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: /readyz %s %q", tt.name, resp.Status, body)
		}
		want := http.StatusOK
		if tt.src == nil {
			want = http.StatusServiceUnavailable
		}
		if resp, body := ask(t, http.MethodGet, url+"/metrics"); resp.StatusCode != want {
			t.Errorf("%s: /metrics %s %q", tt.name, resp.Status, body)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
