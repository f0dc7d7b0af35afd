// Package testdoc holds parts of documents to what the code says.
package testdoc

import (
	"os"
	"strings"
	"testing"
)

// Hold compares what a document has between two marks, which are lines, with what the code says: want. If
// update is set it writes that there; renew is the command that does so, and is part of the first mark:
//
//	<!-- RENEW writes what follows -->
//	...
//	<!-- end of what is written -->
func Hold(t *testing.T, document, renew, want string, update bool) {
	t.Helper()
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+renew+" writes what follows -->\n", "<!-- end of what is written -->\n"
	head, rest, ok := strings.Cut(string(raw), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Fatalf("%s has lost its marks", document)
	case old == want:
	case !update:
		t.Errorf("%s is not what the code says: %s", document, renew)
	default:
		if err := os.WriteFile(document, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
