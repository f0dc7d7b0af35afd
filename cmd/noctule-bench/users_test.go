//go:build linux

package main

import (
	"slices"
	"testing"

	"noctule/bench"
)

func TestParseUsers(t *testing.T) {
	got, err := parseUsers("# all\nann:secret\r\n\nbob:a:b\neve:")
	want := []bench.User{{Name: "ann", Password: "secret"}, {Name: "bob", Password: "a:b"}, {Name: "eve"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "# nobody\n", "ann", ":secret"} {
		if _, err := parseUsers(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
