// Command testsum reads `go test -json` on stdin, prints what `go test` prints, and at the end what was
// skipped, grouped by reason, with how to have it. It exits with 1 if a test or a build failed, or nothing
// ran. With the argument -short it says that long tests ran short.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
}

// name is a test, or a package where test is empty.
type name struct{ pkg, test string }

// run is what has been read of one run of `go test`.
type run struct {
	out     io.Writer
	output  map[name]*strings.Builder // of what has not ended
	skipped map[string][]name         // by reason
	ended   int                       // packages
	failed  bool
}

func newRun(out io.Writer) *run {
	return &run{out: out, output: map[name]*strings.Builder{}, skipped: map[string][]name{}}
}

// good reports whether something ran and nothing failed.
func (r *run) good() bool { return !r.failed && r.ended > 0 }

// read follows a run until its end.
func (r *run) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil { // what go says itself
			fmt.Fprintf(r.out, "%s\n", lines.Bytes())
			continue
		}
		r.take(&e)
	}
	return lines.Err()
}

func (r *run) take(e *event) {
	n := name{e.Package, e.Test}
	if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
		r.ended++
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.print(n, e.Output)
	case "build-fail":
		r.failed = true
	case "fail":
		r.failed = true
		fmt.Fprint(r.out, r.end(n))
		if e.Test == "" { // a crash ends tests without a word of their own
			for n := range r.output {
				if n.pkg == e.Package {
					fmt.Fprint(r.out, r.end(n))
				}
			}
		}
	case "pass":
		r.end(n)
	case "skip":
		if text := r.end(n); e.Test != "" {
			why := reason(text)
			r.skipped[why] = append(r.skipped[why], n)
		}
	}
}

// print keeps a test's output until it is known how it ended; a package's own last lines are printed.
func (r *run) print(n name, text string) {
	if n.test == "" {
		if !strings.HasPrefix(text, "=== ") && text != "PASS\n" {
			fmt.Fprint(r.out, text)
		}
		return
	}
	if strings.HasPrefix(text, "=== ") { // RUN, PAUSE, CONT, NAME
		return
	}
	b := r.output[n]
	if b == nil {
		b = &strings.Builder{}
		r.output[n] = b
	}
	b.WriteString(text)
}

func (r *run) end(n name) string {
	b := r.output[n]
	delete(r.output, n)
	if b == nil {
		return ""
	}
	return b.String()
}

var place = regexp.MustCompile(`^\s*[\w.]+\.go:\d+: `)

// reason is what a skipped test said last.
func reason(output string) string {
	why := "no reason given"
	for line := range strings.Lines(output) {
		if at := place.FindString(line); at != "" {
			why = strings.TrimSpace(line[len(at):])
		}
	}
	return why
}

// remedy says how to have what was skipped for a reason.
func remedy(why string) string {
	for _, r := range []struct{ sign, how string }{
		{"is not installed", "`make test-deps`, as root on Debian"},
		{"executable file not found", "`make test-deps`, as root on Debian"},
		{"needs root", "run as root"},
		{"only root", "run as root"},
		{"NOCTULE_TIMED", "`make timed` on a quiet machine"},
		{"make mutations", "`make mutations`"},
	} {
		if strings.Contains(why, r.sign) {
			return r.how
		}
	}
	return "not on this machine"
}

// report prints what was skipped, or shortened.
func (r *run) report(short bool) {
	total := 0
	for _, names := range r.skipped {
		total += len(names)
	}
	if short {
		fmt.Fprintln(r.out, "\nLong tests ran short: `make test SHORT=` runs them in full.")
	}
	if total == 0 {
		fmt.Fprintln(r.out, "\nNothing was skipped.")
		return
	}
	fmt.Fprintf(r.out, "\nSkipped: %d tests.\n", total)
	reasons := slices.SortedFunc(maps.Keys(r.skipped), func(a, b string) int {
		more := cmp.Compare(len(r.skipped[b]), len(r.skipped[a]))
		return cmp.Or(cmp.Compare(remedy(a), remedy(b)), more, cmp.Compare(a, b))
	})
	last := ""
	for _, why := range reasons {
		if how := remedy(why); how != last {
			fmt.Fprintf(r.out, "  To have them: %s\n", how)
			last = how
		}
		names := r.skipped[why]
		fmt.Fprintf(r.out, "  %4d  %s (%s)\n", len(names), why, names[0].test)
	}
}

func main() {
	r := newRun(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r.report(slices.Contains(os.Args[1:], "-short"))
	if !r.good() {
		os.Exit(1)
	}
}
