package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var errNothing = errors.New("nothing to show")

// run is a program that shows.
func run(args ...string) (out string, said []string, err error) {
	var b bytes.Buffer
	var size int
	p := &Program{Name: "prog", Summary: "Shows.", Stdout: &b, Commands: []Command{
		{
			Name: "show", Summary: "Show something.", Text: "It is " + strings.Repeat("shown ", 20) + ".\n\nWell.",
			Examples: []string{"show it", "show -s 5 it"},
			Args:     []Arg{{Name: "name", Help: "What."}, {Name: "place", Help: "Where.", Optional: true}},
			Flags: func(f *pflag.FlagSet) {
				f.IntVarP(&size, "size", "s", 3, "How `LARGE`.")
				f.String("shape", "", "Which.")
			},
			Run: func(l *Line) error {
				said = append(said, l.Arg(0), l.Arg(1), strings.Repeat("+", size))
				return errNothing
			},
		},
		{
			Name: "say", Summary: "Say words.", Words: true,
			Args:  []Arg{{Name: "word", Help: "What."}, {Name: "word", Help: "What else.", Optional: true}},
			Flags: func(f *pflag.FlagSet) { f.BoolP("loud", "l", false, "Loudly.") },
			Run: func(l *Line) error {
				said = l.Args
				return nil
			},
		},
		{Name: "deep", Summary: "Go down.", Commands: []Command{{Name: "er", Summary: "Down."}}},
	}}
	err = p.Run(args)
	return b.String(), said, err
}

func TestRun(t *testing.T) {
	for line, want := range map[string]string{
		"show it":                    "it,,+++",
		"show it there -s 1":         "it,there,+",
		"show --size=1 it":           "it,,+",
		"show -s1 -- -s":             "-s,,+",
		"say -l --help":              "", // help
		"say word -l":                "word,-l",
		"say -l word --help":         "word,--help",
		"say -- --help --nonsense=1": "--help,--nonsense=1",
	} {
		out, said, err := run(strings.Fields(line)...)
		var usage *UsageError
		if got := strings.Join(said, ","); got != want || errors.As(err, &usage) || (out != "") != (want == "") {
			t.Errorf("%s: %q, want %q, %v\n%s", line, got, want, err, out)
		}
	}
	if _, _, err := run("show", "it"); !errors.Is(err, errNothing) {
		t.Errorf("%v is not the error of the command", err)
	}
}

// TestHelp: each way to ask shows the same, and runs nothing.
func TestHelp(t *testing.T) {
	const want = `Usage: prog show <name> [<place>] [flags]

Show something.

It is shown shown shown shown shown shown shown shown shown shown shown shown
shown shown shown shown shown shown shown shown .

Well.

Arguments:
  <name>     What.
  <place>    Where.

Flags:
  -h, --help           Show this help.
  -s, --size LARGE     How LARGE. (default 3)
      --shape string   Which.

Examples:
  prog show it
  prog show -s 5 it
`
	for _, line := range []string{"help show", "show --help", "show -h", "show it --help", "help show --help"} {
		if out, said, err := run(strings.Fields(line)...); err != nil || said != nil || out != want {
			t.Errorf("%s: %v %q\n%s", line, err, said, out)
		}
	}
	for _, line := range []string{"help", "--help", "-h"} {
		out, _, err := run(line)
		if err != nil || !strings.HasPrefix(out, "Usage: prog <command>\n\nShows.\n\nCommands:\n  show    Show something.\n") ||
			strings.Contains(out, "Down") {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if out, _, err := run("help", "deep", "er"); err != nil || !strings.Contains(out, "prog deep er\n\nDown.") {
		t.Errorf("%v %s", err, out)
	}
	if out, _, err := run("help", "help"); err != nil || !strings.Contains(out, "prog help [<command>]\n") {
		t.Errorf("%v %s", err, out)
	}
}

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"":                      "expected one of show, say, deep, help\nTry 'prog --help'.",
		"deep":                  "expected one of er\nTry 'prog deep --help'.",
		"-x":                    "unknown flag -x\nTry 'prog --help'.",
		"deep --hepl":           "unknown flag --hepl. Did you mean --help?\nTry 'prog deep --help'.",
		"shwo it":               "unexpected argument shwo. Did you mean show?\nTry 'prog --help'.",
		"help shwo":             "unexpected argument shwo. Did you mean show?\nTry 'prog --help'.",
		"deep re":               "unexpected argument re. Did you mean er?\nTry 'prog deep --help'.",
		"help deep re":          "unexpected argument re. Did you mean er?\nTry 'prog deep --help'.",
		"nothing":               "unexpected argument nothing\nTry 'prog --help'.",
		"show it --sizze 4":     "unknown flag --sizze. Did you mean --size?\nTry 'prog show --help'.",
		"show it --sha 4":       "unknown flag --sha. Did you mean --shape?\nTry 'prog show --help'.",
		"show --help --utterly": "unknown flag --utterly\nTry 'prog show --help'.",
		"show it -x":            "unknown flag -x\nTry 'prog show --help'.",
		"show it --size":        "--size needs a value\nTry 'prog show --help'.",
		"show":                  `expected "<name>"` + "\nTry 'prog show --help'.",
		"show a b c":            "unexpected argument c\nTry 'prog show --help'.",
		"show it -s many": `--size: strconv.ParseInt: parsing "many": invalid syntax` +
			"\nTry 'prog show --help'.",
	} {
		out, said, err := run(strings.Fields(line)...)
		var usage *UsageError
		if !errors.As(err, &usage) || err.Error() != want || out != "" || said != nil {
			t.Errorf("%s: %q, want %q %q", line, err, want, out)
		}
	}
}
