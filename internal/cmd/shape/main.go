// Shape prints how large the rooms of a program are and how tangled: for each package its lines and files
// without tests, the types with most methods and in how many files those are, and the largest knot, which is
// how many files refer to each other, directly or by others, so that none of them can be read alone.
//
//	go run ./internal/cmd/shape [-C DIR] [-types N] [PACKAGE ...]
//
// Packages are named as to go list; without any it is those of this module's broker. The numbers of other
// people's programs come from a directory whose module requires them.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
)

func main() {
	dir := flag.String("C", ".", "directory in which packages are looked up")
	types := flag.Int("types", 2, "how many types to print for each package")
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{"./broker/..."}
	}
	if err := run(*dir, patterns, *types, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
}

func run(dir string, patterns []string, types int, out io.Writer) error {
	packages, err := list(dir, patterns)
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\tlines\tfiles\tknot\ttypes (methods in files)")
	for _, p := range packages {
		if p.DepOnly || len(p.GoFiles) == 0 {
			continue
		}
		s, err := measure(&p, exports)
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		var list []string
		for _, t := range s.types[:min(types, len(s.types))] {
			list = append(list, fmt.Sprintf("%s (%d in %d)", t.name, t.methods, t.files))
		}
		text := strings.Join(list, ", ")
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", p.ImportPath, s.lines, s.files, s.knot, text)
	}
	return w.Flush()
}

// list asks go list for packages and all that they need, compiled.
func list(dir string, patterns []string) ([]listed, error) {
	args := append([]string{
		"list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles,DepOnly", "--",
	}, patterns...)
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(raw))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}
