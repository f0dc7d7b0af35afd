package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Three files are a knot, one leans on them, and one is alone.
func TestShape(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"a.go":   "package m\n\ntype T[X any] struct{ n int }\n\nfunc (t *T[X]) a() { t.b() }\n",
		"b.go":   "package m\n\nfunc (t *T[X]) b() { c(t.n) }\n\nfunc (t T[X]) bb() {}\n",
		"c.go":   "package m\n\nimport \"fmt\"\n\nfunc c(n int) { fmt.Print(n); new(T[int]).a() }\n",
		"d.go":   "package m\n\nfunc d() { c(1) }\n",
		"e.go":   "package m\n\ntype U struct{}\n\nfunc (U) e() { n := 1; _ = n }\n",
		// Not counted:
		"a_test.go": "package m\n\nfunc (U) test() { d() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := run(dir, []string{"./..."}, 2, &out); err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(out.String(), "\n")
	if got, want := strings.Join(strings.Fields(line), " "), "m 23 5 3 T (3 in 2), U (1 in 1)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := run(dir, []string{"./none"}, 2, &out); err == nil {
		t.Error("a package that is not there is measured")
	}
}
