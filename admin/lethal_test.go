package admin

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"noctule/broker"
	"noctule/internal/testcrash"
)

// faulty is a Gate that panics.
type faulty struct{}

// Allows implements Gate.
func (faulty) Allows(context.Context, Login) (bool, error) { panic("a gate's fault") }

// A panic of an HTTP handler ends the process, as it shares state with the broker: net/http alone would end
// the request. Log and stderr name the request first, without what may be secret in it.
func TestHandlerPanicEndsProcess(t *testing.T) {
	if testcrash.Child() != "" {
		o := broker.DefaultOptions()
		o.Log = slog.New(slog.NewTextHandler(testcrash.Log(t), nil))
		b, err := broker.New(o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := StartAPI(APIConfig{Network: "tcp", Address: "127.0.0.1:0", Gate: faulty{}}, b)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(http.MethodGet, "http://"+s.Addr().String()+"/api/v1/version?token=hunter2", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("joe", "hunter2")
		resp, err := http.DefaultClient.Do(r)
		t.Fatalf("it goes on: %v %v", resp, err)
	}
	stderr, dir := testcrash.Run(t)
	log := testcrash.ReadLog(t, dir)
	for name, text := range map[string]string{
		"stderr": stderr, "the log": strings.ReplaceAll(log, `\"`, `"`),
	} {
		for _, want := range []string{"a gate's fault", `HTTP "GET" "/api/v1/version" of [127.0.0.1:`, "lethal_test.go"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not tell %s:\n%s", name, want, text)
			}
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s tells what is secret:\n%s", name, text)
		}
	}
}

// http.ErrAbortHandler is how a handler ends its request, and nothing else.
func TestAbortedRequestEndsAlone(t *testing.T) {
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("panic %v", v)
		}
	}()
	lethal{http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), func(string, any, []byte) {}}.
		ServeHTTP(nil, nil)
}
