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
	"broker":            {"noctule/broker", "noctule/codec", "noctule/codec/im", "noctule/topictree", "noctule/wsnet", "noctule/broker/", "noctule/internal/"},
	"broker/behalf":     {"noctule/codec", "noctule/codec/im"},
	"broker/presub":     {"noctule/broker/", "noctule/codec", "noctule/codec/im", "noctule/topictree"},
	"admin":             {"noctule/internal/", "noctule/broker", "noctule/broker/behalf", "noctule/broker/presub", "noctule/codec"},
	"bench":             {"noctule/bench/plot", "noctule/codec"},
	"cmd/noctule-bench": {"noctule/bench", "noctule/bench/", "noctule/codec"},
	"broker/auth":       {"noctule/codec", "noctule/internal/", "noctule/topictree"},
	"cmd/noctule":       {"noctule/admin", "noctule/broker", "noctule/broker/", "noctule/wsnet", "noctule/codec", "noctule/cmd/internal/", "noctule/internal/"},
	"cmd/internal":      {"noctule/broker", "noctule/broker/store/mosquitto", "noctule/wsnet", "noctule/cmd/internal/"},
}

const (
	maxFile     = 800
	maxFunction = 70
	maxLine     = 110 // with tabs of four
)

// longLines are files that are tables, a row a line.
var longLines = map[string]bool{"cmd/internal/conf/directives.go": true}

// tables are the package variables that are not errors: they are never written.
var tables = map[string]bool{
	"codec.reasons": true, "codec.properties": true, "codec.acks": true,
	"wsnet.classes":   true,
	"main.csvColumns": true, "main.latencyOf": true, "main.numberOf": true, "main.presets": true,
	"main.page": true, "bench.shippedBrokers": true, "bench.comparePage": true, "plot.CSS": true,
}

func TestTidy(t *testing.T) {
	documented := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || path == "bench/peers") {
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
		checkLines(t, path, raw)
		checkVariables(t, path, f)
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
			if lines > maxFunction {
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

func checkLines(t *testing.T, path string, raw []byte) {
	t.Helper()
	if longLines[filepath.ToSlash(path)] {
		return
	}
	for i, line := range strings.Split(string(raw), "\n") {
		if strings.Contains(line, `help:"`) { // a row of a table of flags
			continue
		}
		if n := len([]rune(strings.ReplaceAll(line, "\t", "    "))); n > maxLine {
			t.Errorf("%s:%d has %d columns, at most %d", path, i+1, n, maxLine)
		}
	}
}

// checkVariables refuses package variables that could change: only errors and listed tables may be there.
func checkVariables(t *testing.T, path string, f *ast.File) {
	t.Helper()
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for _, name := range v.Names {
				lower := strings.ToLower(name.Name)
				if name.Name != "_" && !compiled(v) && !strings.HasPrefix(lower, "err") && !tables[f.Name.Name+"."+name.Name] {
					t.Errorf("%s: package variable %s", path, name.Name)
				}
			}
		}
	}
}

// compiled reports whether a variable is a regular expression or a template, made once.
func compiled(v *ast.ValueSpec) bool {
	if len(v.Values) != 1 {
		return false
	}
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	fn, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (fn.Sel.Name == "MustCompile" || fn.Sel.Name == "Must")
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
