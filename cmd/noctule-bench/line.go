//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"noctule/cmd/internal/cli"
)

// widest is how wide help gets, however wide the terminal.
const widest = 100

// lineReader is what a command line belongs to.
type lineReader struct {
	Name    string // as it is typed
	Summary string // in a sentence
	Stdout  io.Writer
	Stderr  io.Writer
}

// exampled is what a command may have: what one would type, without the program's name.
type exampled interface{ Examples() []string }

// helpCmd is the command of that name, for a program's grammar.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command; without one, all are listed."`
}

// Run shows the help of a command.
func (h *helpCmd) Run(k *kong.Kong) error {
	_, err := k.Parse(append(h.Command, "--help"))
	return err
}

// Parser makes the parser of a grammar, a pointer to a struct. exit is called when help was shown, and
// returns.
func (p *lineReader) Parser(grammar any, exit func(int), more ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append([]kong.Option{
		kong.Name(p.Name), kong.Description(p.Summary), kong.Writers(p.Stdout, p.Stderr), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{
			Compact: true, NoExpandSubcommands: true, WrapUpperBound: widest,
		}),
		kong.Help(p.help),
	}, more...)...)
}

// Run reads a command line and runs the command that it asks for, which may take what is bound by more. An
// error of the line itself is a usageError.
func (p *lineReader) Run(grammar any, args []string, more ...kong.Option) error {
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
		return &usageError{Err: better(parse), Command: p.commandOf(parse.Context)}
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
	if guess := cli.Guess(typed, words); guess != "" {
		text += "." + guess
	}
	return errors.New(text)
}

// commandOf is as much of a command as a line has named.
func (p *lineReader) commandOf(line *kong.Context) string {
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

// usageError is a command line that cannot be read.
type usageError struct {
	Err     error
	Command string // whose help tells more
}

// Error is the error in a line, and where to read on in the next.
func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nTry '%s --help'.", e.Err, e.Command)
}

// Unwrap is the error alone.
func (e *usageError) Unwrap() error { return e.Err }

// help is kong's, with the examples of the command at the end, where they are on the screen.
func (p *lineReader) help(options kong.HelpOptions, line *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, line); err != nil {
		return err
	}
	node := line.Selected()
	if node == nil || !node.Target.CanAddr() {
		return nil
	}
	e, ok := node.Target.Addr().Interface().(exampled)
	if !ok {
		return nil
	}
	_, err := fmt.Fprintf(p.Stdout, "\nExamples:\n  %s %s\n",
		p.Name, strings.Join(e.Examples(), "\n  "+p.Name+" "))
	return err
}
