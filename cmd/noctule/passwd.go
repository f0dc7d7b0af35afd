package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/cmd/internal/cli"
)

// passwdCommand is `noctule passwd`, which takes the place of mosquitto_passwd: same options, files, prompts
// and messages.
func (c *command) passwdCommand() cli.Command {
	p := &passwd{stdin: os.Stdin, stdout: c.stdout, stderr: c.stderr}
	return cli.Command{
		Name: "passwd", Summary: "Manage password files, as mosquitto_passwd does.",
		Text: `Adds a user to a password file, or changes or deletes one. A running broker reads the
file again at SIGHUP.

The exit code is 0; 2 if the two passwords differ; else 1.`,
		Examples: []string{
			"passwd -c /etc/mosquitto/passwd alice", "passwd -H argon2id /etc/mosquitto/passwd bob",
			"passwd -D /etc/mosquitto/passwd alice", "passwd -U /etc/mosquitto/passwd",
		},
		Args: []cli.Arg{
			{Name: "file", Help: "The password file.", Optional: true},
			{Name: "username", Help: "The user whose password is set, asked for twice.", Optional: true},
			{Name: "password", Help: "With -b, the password.", Optional: true},
		},
		Words: true,
		Flags: p.flags,
		Run:   p.start,
	}
}

// flags are mosquitto_passwd's.
func (p *passwd) flags(f *pflag.FlagSet) {
	f.BoolVarP(&p.batch, "batch", "b", false,
		"The password is on the command line, where others can see it.")
	f.BoolVarP(&p.create, "create", "c", false,
		"Make a new file, in place of one that is there; - is the standard output.")
	f.BoolVarP(&p.remove, "delete", "D", false, "Delete the user.")
	f.VarP(&p.kind, "hash", "H",
		"sha512-pbkdf2, sha512; argon2id, which Mosquitto does not read everywhere; "+
			"bcrypt or scram-sha-256, which it never does.")
	f.VarP(&p.iterations, "iterations", "I", "`N` iterations of sha512-pbkdf2; 1000 without.")
	f.BoolVarP(&p.upgrade, "upgrade", "U", false, "Hash the plain text passwords of a file.")
}

// hashName is the value of -H, and iterations that of -I; both are whatever word comes next, and say what
// mosquitto_passwd says.
type (
	hashName   struct{ kind hash.Kind }
	iterations int
)

// passwdError is an error in mosquitto_passwd's words.
type passwdError string

// Error implements error.
func (e passwdError) Error() string { return string(e) }

// Set implements pflag.Value.
func (h *hashName) Set(v string) error {
	switch v {
	case "sha512-pbkdf2":
		h.kind = hash.PBKDF2
	case "sha512":
		h.kind = hash.SHA512
	case "bcrypt":
		h.kind = hash.Bcrypt
	case "scram-sha-256":
		h.kind = hash.Scram
	case "argon2id":
		h.kind = hash.Argon2id
	default:
		return passwdError(fmt.Sprintf("Unknown hash type '%s'", v))
	}
	return nil
}

// Type implements pflag.Value.
func (h *hashName) Type() string { return "KIND" }

// String implements pflag.Value: what it is without the option.
func (h *hashName) String() string { return "sha512-pbkdf2" }

// Set implements pflag.Value.
func (i *iterations) Set(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return passwdError("Number of iterations must be > 0.")
	}
	*i = iterations(n)
	return nil
}

// Type implements pflag.Value.
func (i *iterations) Type() string { return "N" }

// String implements pflag.Value.
func (i *iterations) String() string { return "" }

// Exit codes of mosquitto_passwd.
const (
	passwdFailed   = 1
	passwdMismatch = 2 // the two passwords differ
)

// badPasswd tells of a command line that cannot be read, and returns the exit code.
func (c *command) badPasswd(err *cli.UsageError) int {
	var text passwdError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &text):
		fmt.Fprintf(c.stderr, "Error: %s\n", text)
	case errors.As(err, &bare) && bare.GetSpecifiedShortnames() != "":
		fmt.Fprintf(c.stderr, "Error: -%s argument given but not enough other arguments.\n",
			bare.GetSpecifiedName())
	default:
		fmt.Fprintf(c.stderr, "Error: %v\n", err)
	}
	return passwdFailed
}

// passwd is one run of `noctule passwd`.
type passwd struct {
	batch, create, remove, upgrade bool
	kind                           hashName
	iterations                     iterations
	file, name, given              string // given: the password of the command line

	stdin          io.Reader
	stdout, stderr io.Writer
	input          *bufio.Reader // of stdin, once a password was asked for
}

// start does what is asked for.
func (p *passwd) start(l *cli.Line) error {
	if text := p.conflict(); text != "" {
		return ended(p.fail(text))
	}
	want := 2
	switch {
	case p.upgrade:
		want = 1
	case p.batch:
		want = 3
	}
	if len(l.Args) != want {
		l.Help()
		return exit(passwdFailed)
	}
	p.file, p.name, p.given = l.Arg(0), l.Arg(1), l.Arg(2)
	return ended(p.run())
}

// run works on the file; it returns the exit code.
func (p *passwd) run() int {
	file := p.file
	if p.upgrade {
		return p.report(file, auth.HashPlain(file, p.hash))
	}
	name := p.name
	if text := auth.UsernameFault(name); text != "" {
		return p.fail(text)
	}
	if p.remove {
		return p.report(file, auth.DeletePassword(file, name))
	}
	return p.set(file, name)
}

// conflict names two options that exclude each other.
func (p *passwd) conflict() string {
	for _, c := range []struct {
		both bool
		text string
	}{
		{p.create && p.remove, "-c and -D"},
		{p.create && p.upgrade, "-c and -U"},
		{p.remove && p.upgrade, "-D and -U"},
		{p.remove && p.batch, "-b and -D"},
	} {
		if c.both {
			return c.text + " cannot be used together."
		}
	}
	return ""
}

// set makes or changes a user's password.
func (p *passwd) set(file, name string) int {
	if !p.create {
		if _, err := os.Stat(file); err != nil { // before anybody types a password
			return p.report(file, err)
		}
	}
	password, code := p.password()
	if code != 0 {
		return code
	}
	line, err := p.hash(password)
	if err != nil {
		return p.report(file, err)
	}
	switch {
	case p.create && file == "-":
		fmt.Fprintf(p.stdout, "%s:%s\n", name, line)
		return exitOK
	case p.create:
		if code := p.report(file, auth.CreatePasswords(file, name, line)); code != exitOK {
			return code
		}
		fmt.Fprintf(p.stdout, "Adding password for user %s\n", name)
		return exitOK
	}
	updated, err := auth.SetPassword(file, name, line)
	if err != nil {
		return p.report(file, err)
	}
	verb := "Adding"
	if updated {
		verb = "Updating"
	}
	fmt.Fprintf(p.stdout, "%s password for user %s\n", verb, name)
	return exitOK
}

func (p *passwd) hash(password string) (string, error) {
	return hash.New(p.kind.kind, []byte(password), int(p.iterations))
}

// password is the one of the command line, or what is typed twice.
func (p *passwd) password() (text string, code int) {
	if p.batch {
		return p.given, exitOK
	}
	first, ok := p.ask("Password: ")
	if !ok {
		return "", p.fail("Empty password.")
	}
	second, ok := p.ask("Reenter password: ")
	switch {
	case !ok:
		return "", p.fail("Empty password.")
	case first != second:
		_ = p.fail("Passwords do not match.")
		return "", passwdMismatch
	}
	return first, exitOK
}

// ask reads a line without showing it; what is not a terminal is read as it is.
func (p *passwd) ask(prompt string) (line string, ok bool) {
	fmt.Fprint(p.stdout, prompt)
	defer fmt.Fprintln(p.stdout)
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b, err := readHidden(int(f.Fd()))
		return string(b), err == nil && len(b) > 0
	}
	if p.input == nil {
		p.input = bufio.NewReader(p.stdin)
	}
	line, _ = p.input.ReadString('\n') // what came before the end is the line
	line = strings.TrimRight(line, "\r\n")
	return line, line != ""
}

// readHidden reads a line from a terminal that does not show it. An interrupt ends the program, with the
// terminal as it was.
func readHidden(fd int) ([]byte, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	interrupt, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupt, os.Interrupt)
	defer signal.Stop(interrupt)
	defer close(done)
	go func() { // ends with done
		select {
		case <-interrupt:
			_ = term.Restore(fd, state) // the program ends anyway
			os.Exit(passwdFailed)
		case <-done:
		}
	}()
	return term.ReadPassword(fd)
}

func (p *passwd) fail(text string) int {
	fmt.Fprintf(p.stderr, "Error: %s\n", text)
	return passwdFailed
}

// report turns the outcome of a change into a message and an exit code.
func (p *passwd) report(file string, err error) int {
	var bad *auth.FileError
	var path *fs.PathError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, auth.ErrNoUser):
		fmt.Fprintf(p.stderr, "Warning: User %s not found in password file.\n", p.name)
		return passwdFailed
	case errors.Is(err, fs.ErrNotExist):
		return p.fail("Unable to open password file " + file + ". No such file or directory.")
	case errors.As(err, &bad):
		return p.fail(bad.Text)
	case errors.As(err, &path):
		return p.fail(fmt.Sprintf("Unable to open password file %s. %v.", file, path.Err))
	}
	return p.fail(err.Error())
}
