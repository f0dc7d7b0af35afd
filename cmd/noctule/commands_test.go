package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"noctule/cmd/internal/cli"
)

// typed runs the program in this process.
func typed(args ...string) (code int, stdout, stderr string) {
	var out, log bytes.Buffer
	c := &command{stdout: &out, stderr: &log}
	code = c.run(args)
	return code, out.String(), log.String()
}

// TestEveryCommandHasHelp walks the commands: "help X" and "X --help" say the same, in 80 columns, with a
// summary, how it is used, and an example.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(path []string, list []cli.Command)
	walk = func(path []string, list []cli.Command) {
		for _, cmd := range list {
			words := append(path[:len(path):len(path)], cmd.Name)
			name := strings.Join(words, " ")
			code, long, stderr := typed(append(words, "--help")...)
			if code != exitOK || stderr != "" || !strings.HasPrefix(long, "Usage: noctule "+name) {
				t.Errorf("%s --help: exit %d %s\n%s", name, code, stderr, long)
			}
			if _, text, _ := typed(append([]string{"help"}, words...)...); text != long && name != "help" {
				t.Errorf("help %s:\n%s\n--help:\n%s", name, text, long)
			}
			if !strings.HasSuffix(cmd.Summary, ".") || !strings.Contains(long, "\nExamples:\n  noctule ") && name != "help" {
				t.Errorf("%s: no summary %q or no example in\n%s", name, cmd.Summary, long)
			}
			for line := range strings.Lines(long) {
				if len(line) > 81 {
					t.Errorf("%s: %d columns: %s", name, len(line)-1, line)
				}
			}
			if cmd.Flags != nil {
				set := pflag.NewFlagSet("", pflag.ContinueOnError)
				cmd.Flags(set)
				set.VisitAll(func(f *pflag.Flag) {
					if f.Usage == "" {
						t.Errorf("%s: --%s has no help", name, f.Name)
					}
				})
			}
			for _, a := range cmd.Args {
				if a.Help == "" {
					t.Errorf("%s: %s has no help", name, a.Name)
				}
			}
			walk(words, cmd.Commands)
		}
	}
	c := &command{}
	walk(nil, c.program().All())
	_, brief, _ := typed("-h")
	if code, text, stderr := typed("help"); code != exitOK || text != brief || stderr != "" {
		t.Errorf("help: exit %d %s\n%s\n-h:\n%s", code, stderr, text, brief)
	}
	for line := range strings.Lines(brief) {
		if len(line) > 101 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

// TestTypos has lines that mean something else than they say, and exit codes that scripts know.
func TestTypos(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.conf")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"chekc x":                      "Error: Unknown option 'chekc'.\nDid you mean check?\n\n",
		"pass":                         "Error: Unknown option 'pass'.\nDid you mean passwd?\n\n",
		"--confg-file x":               "Error: Unknown option '--confg-file'.\nDid you mean --config-file?\n\n",
		"-port 5":                      "Error: Unknown option '-port'.\nDid you mean --port?\n\n",
		"--vers":                       "Error: Unknown option '--vers'.\nDid you mean --version?\n\n",
		"--port=5":                     "Error: Unknown option '--port=5'.\nThe value is a word of its own: --port 5\n\n",
		"-v check x":                   "Error: Unknown option 'check'.\nA command comes before all options: noctule check ...\n\n",
		file:                           "Error: Unknown option '" + file + "'.\nA configuration comes after -c: noctule -c " + file + "\n\n",
		"-x":                           "Error: Unknown option '-x'.\n\n",
		"check -c a b":                 "Error: expected one configuration\nTry 'noctule check --help'.\n",
		"check":                        "Error: expected one configuration\nTry 'noctule check --help'.\n",
		"check a b":                    "Error: unexpected argument b\nTry 'noctule check --help'.\n",
		"db":                           "Error: expected one of check, stats, dump, compact, export, import, backup\nTry 'noctule db --help'.\n",
		"db exprot x":                  "Error: unexpected argument exprot. Did you mean export?\nTry 'noctule db --help'.\n",
		"presub explain --tokn-file x": "Error: unknown flag --tokn-file. Did you mean --token-file?\nTry 'noctule presub explain --help'.\n",
		"help pressub":                 "Error: unexpected argument pressub. Did you mean presub?\nTry 'noctule --help'.\n",
		"passwd --itrations 5 p u":     "Error: unknown flag --itrations. Did you mean --iterations?\nTry 'noctule passwd --help'.\n",
	} {
		code := exitConfig
		if strings.HasPrefix(line, "passwd") {
			code = passwdFailed
		}
		got, _, stderr := typed(strings.Fields(line)...)
		if got != code || !strings.HasPrefix(stderr, want) { // the broker's own lines end with that it terminates
			t.Errorf("%s: exit %d, want %d, with\n%s\nwant\n%s", line, got, code, stderr, want)
		}
	}
}

// TestCheckLikeAStart: the file may come after -c.
func TestCheckLikeAStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.conf") // of one that is there, root becomes another user
	code, out, log := typed("check", file)
	for _, args := range [][]string{{"check", "-c", file}, {"check", "--config-file=" + file}} {
		if c, text, stderr := typed(args...); c != code || text != out || stderr != log {
			t.Errorf("%q: exit %d %s%s, want %d %s%s", args, c, text, stderr, code, out, log)
		}
	}
}

// TestPasswordLikeAnOption: what follows the file is no option, as for mosquitto_passwd.
func TestPasswordLikeAnOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p")
	for _, args := range [][]string{{"-c", "-b", file, "-D", "-H"}, {"-b", "-H", "sha512", file, "--help", "--"}} {
		if code, out, text := typed(append([]string{"passwd"}, args...)...); code != exitOK || text != "" {
			t.Errorf("%q: exit %d %s%s", args, code, out, text)
		}
	}
	if text := readFile(t, file); !strings.HasPrefix(text, "-D:$7$") || !strings.Contains(text, "\n--help:$6$") {
		t.Errorf("%s", text)
	}
}

// TestExplainAsksThePortOfTheQuickstart holds its default address against the configuration to begin with.
func TestExplainAsksThePortOfTheQuickstart(t *testing.T) {
	_, rest, ok := strings.Cut(readFile(t, "../../deploy/quickstart.conf"), "\nadmin_listener ")
	address, _, _ := strings.Cut(rest, "\n")
	if !ok || explainURL != "http://"+strings.TrimSpace(address) {
		t.Errorf("explain asks %q, the quickstart listens on %q", explainURL, address)
	}
}
