// Package cli is what the command lines of our programs have in common, on top of kong: help with examples at
// its end, a command that shows it, errors that say where to read on, and guesses of what was meant.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// widest is how wide help gets, however wide the terminal.
const widest = 100

// Program is what a command line belongs to.
type Program struct {
	Name    string // as it is typed
	Summary string // in a sentence
	Stdout  io.Writer
	Stderr  io.Writer
}

// Examples is what a command may have: what one would type, without the program's name.
type Examples interface{ Examples() []string }

// Help is the command of that name, for a program's grammar.
type Help struct {
	Command []string `arg:"" optional:"" help:"The command; without one, all are listed."`
}

// Run shows the help of a command.
func (h *Help) Run(k *kong.Kong) error {
	_, err := k.Parse(append(h.Command, "--help"))
	return err
}

// Parser makes the parser of a grammar, a pointer to a struct. exit is called when help was shown, and
// returns.
func (p *Program) Parser(grammar any, exit func(int), more ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append([]kong.Option{
		kong.Name(p.Name), kong.Description(p.Summary), kong.Writers(p.Stdout, p.Stderr), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{
			Compact: true, NoExpandSubcommands: true, WrapUpperBound: widest,
		}),
		kong.Help(p.help),
	}, more...)...)
}

// Run reads a command line and runs the command that it asks for, which may take what is bound by more. An
// error of the line itself is a UsageError.
func (p *Program) Run(grammar any, args []string, more ...kong.Option) error {
	shown := false
	k, err := p.Parser(grammar, func(int) { shown = true }, more...)
	if err != nil {
		return err
	}
	line, err := k.Parse(args)
	if shown {
		return nil
	}
	if err == nil {
		err = line.Run()
	}
	if shown { // by the command help, which parses its words
		return nil
	}
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		return &UsageError{Err: better(parse), Command: p.commandOf(parse.Context)}
	}
	return err
}

// better is an error of kong's with our guess in the place of its own, which takes a letter for near to any
// other.
func better(parse *kong.ParseError) error {
	text, _, ok := strings.Cut(parse.Error(), ", did you mean")
	if !ok || parse.Context == nil {
		return parse.Unwrap()
	}
	node := parse.Context.Selected()
	if node == nil {
		node = parse.Context.Model.Node
	}
	typed := text[strings.LastIndexByte(text, ' ')+1:]
	var words []string
	for _, child := range node.Children {
		words = append(words, child.Name)
	}
	if strings.HasPrefix(typed, "-") {
		words = nil
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				words = append(words, "--"+flag.Name)
			}
		}
	}
	if guess := Guess(typed, words); guess != "" {
		text += "." + guess
	}
	return errors.New(text)
}

// commandOf is as much of a command as a line has named.
func (p *Program) commandOf(line *kong.Context) string {
	if line == nil || line.Selected() == nil {
		return p.Name
	}
	words := []string{p.Name}
	for _, step := range line.Path {
		if step.Command != nil {
			words = append(words, step.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

// UsageError is a command line that cannot be read.
type UsageError struct {
	Err     error
	Command string // whose help tells more
}

// Error is the error in a line, and where to read on in the next.
func (e *UsageError) Error() string {
	return fmt.Sprintf("%v\nTry '%s --help'.", e.Err, e.Command)
}

// Unwrap is the error alone.
func (e *UsageError) Unwrap() error { return e.Err }

// help is kong's, with the examples of the command at the end, where they are on the screen.
func (p *Program) help(options kong.HelpOptions, line *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, line); err != nil {
		return err
	}
	node := line.Selected()
	if node == nil || !node.Target.CanAddr() {
		return nil
	}
	e, ok := node.Target.Addr().Interface().(Examples)
	if !ok {
		return nil
	}
	_, err := fmt.Fprintf(p.Stdout, "\nExamples:\n  %s %s\n",
		p.Name, strings.Join(e.Examples(), "\n  "+p.Name+" "))
	return err
}

// Guess names those of words that are nearest to one that was mistyped, or begin with it: "Did you mean ...?"
// with a blank before it; "" if none is near. Dashes in front do not count.
func Guess(typed string, words []string) string {
	typed = strings.TrimLeft(typed, "-")
	best := min(2, (len(typed)+1)/3)
	var near []string
	for _, w := range words {
		name := strings.TrimLeft(w, "-")
		d := distance(typed, name)
		if len(typed) > 1 && strings.HasPrefix(name, typed) {
			d = min(d, 1)
		}
		if d < best {
			near = nil
		}
		if d <= best {
			best = d
			near = append(near, w)
		}
	}
	if near == nil {
		return ""
	}
	return " Did you mean " + strings.Join(near, " or ") + "?"
}

// distance is how many letters must be put in, left out, changed or swapped with their neighbour to make b of
// a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j]: of the first i letters of a and the first j of b
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
				continue
			}
			rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
			}
		}
	}
	return rows[len(a)][len(b)]
}
