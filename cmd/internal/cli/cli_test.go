package cli

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
	Help Help `cmd:"" help:"Show the help of a command."`
}

// run is a program that shows.
func run(args ...string) (out string, said []string, err error) {
	var b bytes.Buffer
	p := &Program{Name: "prog", Summary: "Shows.", Stdout: &b, Stderr: &b}
	err = p.Run(&grammar{}, args, kong.Bind(&said))
	return b.String(), said, err
}

func TestRun(t *testing.T) {
	if out, said, err := run("show", "it"); out != "" || len(said) != 1 || !errors.Is(err, errNothing) {
		t.Errorf("%q %q %v", out, said, err)
	}
	var usage *UsageError
	if _, _, err := run("show", "it"); errors.As(err, &usage) {
		t.Errorf("%v is an error of the command, not of its line", err)
	}
}

// TestHelp: each way to ask shows the same, with the examples at the end, and runs nothing.
func TestHelp(t *testing.T) {
	const want = "Usage: prog show <name> [flags]\n\nShow something.\n"
	const end = "\nExamples:\n  prog show it\n  prog show -s 5 it\n"
	for _, line := range []string{"help show", "show --help", "show -h", "show it --help", "show --help --nonsense"} {
		out, said, err := run(strings.Fields(line)...)
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
		out, _, err := run(strings.Fields(line)...)
		if err != nil || !strings.HasPrefix(out, "Usage: prog <command>\n\nShows.\n") ||
			!strings.Contains(out, "\n  deep ") || strings.Contains(out, "Down") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if out, _, err := run("help", "deep", "er"); err != nil || !strings.Contains(out, "Down") {
		t.Errorf("%v %s", err, out)
	}
}

func TestUsageErrors(t *testing.T) {
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
		out, said, err := run(strings.Fields(line)...)
		var usage *UsageError
		if !errors.As(err, &usage) || err.Error() != want || out != "" || said != nil {
			t.Errorf("%s: %q, want %q", line, err, want)
		}
	}
}

func TestGuess(t *testing.T) {
	words := []string{"--port", "--config-file", "check", "db", "passwd", "presub", "p2p", "pub", "sub", "-c"}
	for typed, want := range map[string]string{
		"":             "",
		"-":            "",
		"x":            "",
		"-x":           "",
		"bd":           " Did you mean db?",
		"pbu":          " Did you mean pub?",
		"pus":          " Did you mean pub?",
		"ub":           " Did you mean db or pub or sub?",
		"p2":           " Did you mean p2p?",
		"-port":        " Did you mean --port?",
		"--cofnig-fil": " Did you mean --config-file?",
		"chekc":        " Did you mean check?",
		"--check":      " Did you mean check?",
		"pass":         " Did you mean passwd?",
		"--conf":       " Did you mean --config-file?",
		"nonsense":     "",
		"-c":           " Did you mean -c?",
	} {
		if got := Guess(typed, words); got != want {
			t.Errorf("%q:%s, want%s", typed, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "ab", 2},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "adc", 1},
		{"abc", "abcd", 1},
		{"abc", "ac", 1},
		{"kitten", "sitting", 3},
		{"ab", "ba", 1},
		{"check", "chekc", 1},
	} {
		if d, e := distance(tt.a, tt.b), distance(tt.b, tt.a); d != tt.want || e != tt.want {
			t.Errorf("%q and %q: %d and %d, want %d", tt.a, tt.b, d, e, tt.want)
		}
	}
}
