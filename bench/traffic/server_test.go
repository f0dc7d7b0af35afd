package traffic

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	address, s := web(t, mux)
	v := &server{at: places{web: address}}
	for path, want := range map[string]bool{"": true, "/ready": true, "/later": false} {
		if got := v.answers(limited(t), path); got != want {
			t.Errorf("with the path %q: %v", path, got)
		}
	}
	s.Close()
	for _, path := range []string{"", "/ready"} {
		if v.answers(limited(t), path) {
			t.Errorf("a closed server answers, path %q", path)
		}
	}
}

// TestStacks asks that every text of every stack is complete.
func TestStacks(t *testing.T) {
	at, err := freePlaces()
	if err != nil || at.tcp == at.web {
		t.Fatalf("%v, %v", at, err)
	}
	for _, s := range stacks("/noctule") {
		texts := append(append([]string{}, s.start...), s.env...)
		for _, f := range s.files {
			texts = append(texts, f)
		}
		for _, text := range texts {
			got := fill(text, "/d", "/p", at)
			for _, hole := range []string{"{dir}", "{program}", "{tcp}", "{web}"} {
				if strings.Contains(got, hole) {
					t.Errorf("%s: %s is left in %s", s.name, hole, got)
				}
			}
		}
		if len(s.ways) != 2 || len(s.start) == 0 {
			t.Errorf("%s: %d ways", s.name, len(s.ways))
		}
	}
}
