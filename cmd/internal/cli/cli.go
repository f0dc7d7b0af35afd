// Package cli is the command lines of programs that are to stay small: commands and their options, on top
// of pflag, help with examples at its end, a command that shows it, errors that say where to read on, and
// guesses of what was meant. Parsers that call methods by name, and text/template, keep each exported method
// of the program in it, which costs the broker megabytes.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// width is how wide help is.
const width = 80

// Program is what a command line belongs to.
type Program struct {
	Name     string // as it is typed
	Summary  string // in a sentence
	Commands []Command
	Stdout   io.Writer
}

// Command is one command of a program, or a group of them.
type Command struct {
	Name     string
	Summary  string   // in a sentence
	Text     string   // more than that, in paragraphs; "" for none
	Examples []string // what one would type, without the program's name
	Args     []Arg
	// Words says that nothing behind the first argument is an option.
	Words bool
	// Flags defines the options; nil if there are none.
	Flags func(f *pflag.FlagSet)
	// Run has as many arguments as Args allows.
	Run func(l *Line) error
	// Commands are those of a group, which has nothing else than them, a text and examples.
	Commands []Command
}

// Arg is an argument of a command. Those that may be left out are the last ones.
type Arg struct {
	Name     string
	Help     string
	Optional bool
}

// Line is a command line that has been read.
type Line struct {
	Args []string

	p    *Program
	path []*Command
}

// Arg is one of the arguments; "" if it was left out.
func (l *Line) Arg(i int) string {
	if i < len(l.Args) {
		return l.Args[i]
	}
	return ""
}

// Help shows how the command is used.
func (l *Line) Help() { l.p.help(l.path) }

// Wrong is the error of a line that says too much or too little.
func (l *Line) Wrong(text string) error { return l.usage(errors.New(text)) }

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

// All is the commands with the one that shows their help.
func (p *Program) All() []Command {
	return append(p.Commands[:len(p.Commands):len(p.Commands)], Command{
		Name: "help", Summary: "Show the help of a command.",
		Args: []Arg{{Name: "command", Help: "The command; without one, all are listed.", Optional: true}},
	})
}

// Run reads a command line and runs the command that it asks for. An error of the line itself is a
// UsageError.
func (p *Program) Run(args []string) error {
	if len(args) > 0 && args[0] == "help" && !wantsHelp(args[1:]) {
		args = append(args[1:len(args):len(args)], "--help")
	}
	l := &Line{p: p}
	list := p.All()
	for len(args) > 0 && len(list) > 0 && !strings.HasPrefix(args[0], "-") {
		next := find(list, args[0])
		if next == nil {
			return l.fault("unexpected argument "+args[0], args[0], names(list))
		}
		l.path = append(l.path, next)
		args, list = args[1:], next.Commands
	}
	if len(list) > 0 { // a group, or nothing
		switch {
		case len(args) == 0:
			return l.fault("expected one of "+strings.Join(names(list), ", "), "", nil)
		case !wantsHelp(args[:1]):
			return l.fault("unknown flag "+args[0], args[0], []string{"--help"})
		}
		l.Help()
		return nil
	}
	return l.run(args)
}

// wantsHelp reports whether there is nothing but a wish for help.
func wantsHelp(args []string) bool { return len(args) == 1 && (args[0] == "-h" || args[0] == "--help") }

func find(list []Command, name string) *Command {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func names(list []Command) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// run reads what is behind the name of the command.
func (l *Line) run(args []string) error {
	cmd := l.path[len(l.path)-1]
	set, help := flagsOf(cmd)
	if err := set.Parse(args); err != nil {
		return l.flagFault(set, err)
	}
	if *help {
		l.Help()
		return nil
	}
	l.Args = set.Args()
	for i, a := range cmd.Args {
		if i >= len(l.Args) && !a.Optional {
			return l.fault(fmt.Sprintf("expected %q", a.form()), "", nil)
		}
	}
	if len(l.Args) > len(cmd.Args) {
		return l.fault("unexpected argument "+l.Args[len(cmd.Args)], "", nil)
	}
	return cmd.Run(l)
}

func flagsOf(cmd *Command) (set *pflag.FlagSet, help *bool) {
	set = pflag.NewFlagSet(cmd.Name, pflag.ContinueOnError)
	set.SortFlags = false
	set.SetInterspersed(!cmd.Words)
	set.Usage = func() {}
	set.SetOutput(io.Discard)
	help = set.BoolP("help", "h", false, "Show this help.")
	if cmd.Flags != nil {
		cmd.Flags(set)
	}
	return set, help
}

// flagFault is an error of pflag's, in our words.
func (l *Line) flagFault(set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &invalid):
		return l.usage(fmt.Errorf("--%s: %w", invalid.GetFlag().Name, errors.Unwrap(invalid)))
	case errors.As(err, &bare):
		return l.usage(&wordedError{"--" + bare.GetFlag().Name + " needs a value", err})
	case !errors.As(err, &unknown):
		return l.usage(err)
	case unknown.GetSpecifiedShortnames() != "":
		return l.fault("unknown flag -"+unknown.GetSpecifiedName(), "", nil)
	}
	var words []string
	set.VisitAll(func(f *pflag.Flag) { words = append(words, "--"+f.Name) })
	name := "--" + unknown.GetSpecifiedName()
	return l.fault("unknown flag "+name, name, words)
}

// wordedError is an error of pflag's that says something else.
type wordedError struct {
	text string
	err  error
}

// Error is our words.
func (e *wordedError) Error() string { return e.text }

// Unwrap is pflag's error.
func (e *wordedError) Unwrap() error { return e.err }

// fault is an error of the line, with a guess among words at what was meant by what was typed.
func (l *Line) fault(text, typed string, words []string) error {
	if guess := Guess(typed, words); guess != "" {
		text += "." + guess
	}
	return l.usage(errors.New(text))
}

func (l *Line) usage(err error) error { return &UsageError{Err: err, Command: l.name()} }

// name is the command, from the program on.
func (l *Line) name() string {
	words := []string{l.p.Name}
	for _, c := range l.path {
		words = append(words, c.Name)
	}
	return strings.Join(words, " ")
}
