package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// shape is what is measured of a package.
type shape struct {
	lines, files int
	types        []typeShape // most methods first
	knot         int
}

// typeShape is what is measured of a type.
type typeShape struct {
	name           string
	methods, files int
}

// measure reads a package; exports is where the compiled packages are that it imports.
func measure(p *listed, exports map[string]string) (*shape, error) {
	set := token.NewFileSet()
	s := &shape{}
	var files []*ast.File
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(set, path, raw, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		s.lines += bytes.Count(raw, []byte("\n"))
	}
	info := &types.Info{
		Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	cfg := types.Config{Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("%s is not compiled", path)
		}
		return os.Open(exports[path])
	})}
	pkg, err := cfg.Check(p.ImportPath, set, files, info)
	if err != nil {
		return nil, err
	}
	s.files, s.types = len(files), methods(set, files)
	s.knot = largest(references(set, pkg, info))
	return s, nil
}

// methods counts the methods of each type, most first.
func methods(set *token.FileSet, files []*ast.File) []typeShape {
	counts, in := map[string]int{}, map[string]map[string]bool{}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			name := receiver(fn.Recv.List[0].Type)
			counts[name]++
			if in[name] == nil {
				in[name] = map[string]bool{}
			}
			in[name][set.File(fn.Pos()).Name()] = true
		}
	}
	var list []typeShape
	for name, n := range counts {
		list = append(list, typeShape{name, n, len(in[name])})
	}
	slices.SortFunc(list, func(a, b typeShape) int {
		return cmp.Or(cmp.Compare(b.methods, a.methods), cmp.Compare(a.name, b.name))
	})
	return list
}

// receiver is the name of the type of a receiver.
func receiver(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.IndexListExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	default:
		return ""
	}
}

// references is which files use what which other files of the package declare: names of the package,
// methods and fields.
func references(set *token.FileSet, pkg *types.Package, info *types.Info) map[string]map[string]bool {
	graph := map[string]map[string]bool{}
	for id, o := range info.Uses {
		if f, ok := o.(*types.Func); ok {
			o = f.Origin()
		}
		if v, ok := o.(*types.Var); ok {
			o = v.Origin()
			if !v.IsField() && o.Parent() != pkg.Scope() {
				continue
			}
		}
		if o.Pkg() != pkg || !o.Pos().IsValid() {
			continue
		}
		from, to := set.File(id.Pos()).Name(), set.File(o.Pos()).Name()
		if from == to {
			continue
		}
		if graph[from] == nil {
			graph[from] = map[string]bool{}
		}
		graph[from][to] = true
	}
	return graph
}

// largest is the size of the largest strongly connected component, by Tarjan; 1 when there is none.
func largest(graph map[string]map[string]bool) int {
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	most := 1
	var visit func(v string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack, on[v] = append(stack, v), true
		for w := range graph[v] {
			if index[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if on[w] {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] != index[v] {
			return
		}
		at := slices.Index(stack, v)
		for _, w := range stack[at:] {
			on[w] = false
		}
		most = max(most, len(stack)-at)
		stack = stack[:at]
	}
	for v := range graph {
		if index[v] == 0 {
			visit(v)
		}
	}
	return most
}
