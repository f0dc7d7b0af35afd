// Package noctule_test holds the repository's own rules: who may import whom, and how long things may be.
package noctule_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rooms is which of our packages each room may import, by prefix. Leaves import nothing of ours.
var rooms = map[string][]string{
	"codec":             {},
	"topictree":         {},
	"internal":          {},
	"wsnet":             {"noctule/internal/"},
	"broker":            {"noctule/broker", "noctule/codec", "noctule/topictree", "noctule/wsnet", "noctule/broker/", "noctule/internal/"},
	"admin":             {"noctule/broker"},
	"bench":             {"noctule/codec"},
	"cmd/noctule-bench": {"noctule/bench", "noctule/codec"},
	"cmd/noctule":       {"noctule/admin", "noctule/broker", "noctule/wsnet", "noctule/codec", "noctule/cmd/internal/"},
	"cmd/internal":      {"noctule/broker", "noctule/wsnet", "noctule/cmd/internal/"},
}

const (
	maxFile     = 800
	maxFunction = 70
)

func TestTidy(t *testing.T) {
	documented := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, raw, parser.ParseComments)
		if err != nil {
			return err
		}
		documented[filepath.Dir(path)] = documented[filepath.Dir(path)] || f.Doc != nil
		if n := bytes.Count(raw, []byte("\n")); n > maxFile {
			t.Errorf("%s has %d lines, at most %d", path, n, maxFile)
		}
		checkImports(t, path, f)
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s has an init function", path)
			}
			lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line
			if lines > maxFunction && fn.Name.Name != "directives" { // a table
				t.Errorf("%s: %s has %d lines, at most %d", path, fn.Name.Name, lines, maxFunction)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package in %s has no comment", dir)
		}
	}
}

func checkImports(t *testing.T, path string, f *ast.File) {
	t.Helper()
	for room, allowed := range rooms {
		if !strings.HasPrefix(filepath.ToSlash(path), room+"/") {
			continue
		}
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			if p == "math/rand" {
				t.Errorf("%s imports %s", path, p)
			}
			if !strings.HasPrefix(p, "noctule/") {
				continue
			}
			ok := false
			for _, a := range allowed {
				ok = ok || p == a || strings.HasSuffix(a, "/") && strings.HasPrefix(p, a)
			}
			if !ok {
				t.Errorf("%s must not import %s", path, p)
			}
		}
	}
}
