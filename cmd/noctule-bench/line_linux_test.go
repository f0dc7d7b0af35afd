package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type showCmd struct {
	Size  int    `short:"s" default:"3" help:"How large."`
	Shape string `help:"Which."`
	Name  string `arg:"" help:"What."`
}

func (showCmd) Examples() []string { return []string{"show it", "show -s 5 it"} }

func (s *showCmd) Run(said *[]string) error {
	*said = append(*said, s.Name)
	return errNothing
}

var errNothing = errors.New("nothing to show")

type grammar struct {
	Show showCmd `cmd:"" help:"Show something."`
	Deep struct {
		Er struct{} `cmd:"" help:"Down."`
	} `cmd:"" help:"Go down."`
	Help helpCmd `cmd:"" help:"Show the help of a command."`
}

// ran is a program that shows.
func ran(args ...string) (out string, said []string, err error) {
	var b bytes.Buffer
	p := &lineReader{Name: "prog", Summary: "Shows.", Stdout: &b, Stderr: &b}
	err = p.Run(&grammar{}, args, kong.Bind(&said))
	return b.String(), said, err
}

func TestLineRuns(t *testing.T) {
	if out, said, err := ran("show", "it"); out != "" || len(said) != 1 || !errors.Is(err, errNothing) {
		t.Errorf("%q %q %v", out, said, err)
	}
	var usage *usageError
	if _, _, err := ran("show", "it"); errors.As(err, &usage) {
		t.Errorf("%v is an error of the command, not of its line", err)
	}
}

// TestHelp: each way to ask shows the same, with the examples at the end, and runs nothing.
func TestLineHelp(t *testing.T) {
	const want = "Usage: prog show <name> [flags]\n\nShow something.\n"
	const end = "\nExamples:\n  prog show it\n  prog show -s 5 it\n"
	for _, line := range []string{"help show", "show --help", "show -h", "show it --help", "show --help --nonsense"} {
		out, said, err := ran(strings.Fields(line)...)
		if line == "show --help --nonsense" { // an error comes first
			if err == nil {
				t.Errorf("%s: %s", line, out)
			}
			continue
		}
		if err != nil || said != nil || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, end) {
			t.Errorf("%s: %v %q\n%s", line, err, said, out)
		}
	}
	for _, line := range []string{"help", "--help"} {
		out, _, err := ran(strings.Fields(line)...)
		if err != nil || !strings.HasPrefix(out, "Usage: prog <command>\n\nShows.\n") ||
			!strings.Contains(out, "\n  deep ") || strings.Contains(out, "Down") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if out, _, err := ran("help", "deep", "er"); err != nil || !strings.Contains(out, "Down") {
		t.Errorf("%v %s", err, out)
	}
}

func TestLineErrors(t *testing.T) {
	for line, want := range map[string]string{
		"shwo it":              "unexpected argument shwo. Did you mean show?\nTry 'prog --help'.",
		"help shwo":            "unexpected argument shwo. Did you mean show?\nTry 'prog --help'.",
		"deep re":              "unexpected argument re. Did you mean er?\nTry 'prog deep --help'.",
		"help deep re":         "unexpected argument re. Did you mean er?\nTry 'prog deep --help'.",
		"nothing":              "unexpected argument nothing\nTry 'prog --help'.",
		"show it --sizze 4":    "unknown flag --sizze. Did you mean --size?\nTry 'prog show --help'.",
		"show it --sha 4":      "unknown flag --sha. Did you mean --shape?\nTry 'prog show --help'.",
		"show it --completely": "unknown flag --completely\nTry 'prog show --help'.",
		"show it -x":           "unknown flag -x\nTry 'prog show --help'.",
		"show":                 `expected "<name>"` + "\nTry 'prog show --help'.",
		"show it -s many":      `--size: expected a valid 64 bit int but got "many"` + "\nTry 'prog show --help'.",
	} {
		out, said, err := ran(strings.Fields(line)...)
		var usage *usageError
		if !errors.As(err, &usage) || err.Error() != want || out != "" || said != nil {
			t.Errorf("%s: %q, want %q", line, err, want)
		}
	}
}
