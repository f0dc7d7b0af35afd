package main

import (
	"strings"
	"testing"
)

// events are what `go test -json` says, shortened.
const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: mosquitto is not installed\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"output","Package":"p","Test":"TestB/sub","Output":"    b_test.go:9: mosquitto is not installed\n"}
{"Action":"skip","Package":"p","Test":"TestB/sub"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: needs root for a name space\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestD","Output":"    d_test.go:9: quiet\n"}
{"Action":"pass","Package":"p","Test":"TestD"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p","Elapsed":0.1}
`

func summary(t *testing.T, input string, short bool) (string, *run) {
	t.Helper()
	var out strings.Builder
	r := newRun(&out)
	if err := r.read(strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	r.report(short)
	return out.String(), r
}

func TestSkippedIsGroupedByReason(t *testing.T) {
	got, r := summary(t, events, true)
	want := "ok  \tp\t0.1s\n" +
		"\nLong tests ran short: `make test SHORT=` runs them in full.\n" +
		"\nSkipped: 3 tests.\n" +
		"  To have them: `make test-deps`, as root on Debian\n" +
		"     2  mosquitto is not installed (TestA)\n" +
		"  To have them: run as root\n" +
		"     1  needs root for a name space (TestC)\n"
	if got != want || !r.good() {
		t.Errorf("%v\n%s", r.good(), got)
	}
}

func TestFailuresArePrinted(t *testing.T) {
	for input, want := range map[string]string{
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`: "wrong",
		`{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}`: "p.go:1: no",
		"go: cannot find module": "go: cannot find module",
		"":                       "Nothing was skipped.", // and nothing ran
		`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: x\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p","FailedBuild":""}`: "panic: x",
	} {
		if got, r := summary(t, input, false); r.good() || !strings.Contains(got, want) {
			t.Errorf("%s: %v\n%s", input, r.good(), got)
		}
	}
}
