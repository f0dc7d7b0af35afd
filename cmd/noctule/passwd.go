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

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/cmd/internal/cli"
)

// passwdCmd is `noctule passwd`, which takes the place of mosquitto_passwd: same options, files, prompts and
// messages.
type passwdCmd struct {
	Batch      bool       `short:"b" help:"The password is on the command line, where others can see it."`
	Create     bool       `short:"c" help:"Make a new file, in place of one that is there; - is the standard output."`
	Delete     bool       `short:"D" help:"Delete the user."`
	Hash       hashName   `short:"H" default:"sha512-pbkdf2" help:"sha512-pbkdf2, sha512, or argon2id, which Mosquitto itself does not read everywhere."`
	Iterations iterations `short:"I" placeholder:"N" help:"Iterations of sha512-pbkdf2; 1000 without."`
	Upgrade    bool       `short:"U" help:"Hash the plain text passwords of a file."`

	File     *string `arg:"" optional:"" passthrough:"partial" help:"The password file."`
	Username *string `arg:"" optional:"" help:"The user whose password is set; it is asked for twice."`
	Password *string `arg:"" optional:"" help:"With -b, the password."`
}

// Help tells more.
func (passwdCmd) Help() string {
	return `Adds a user to a password file, or changes or deletes one. A running broker reads the
file again at SIGHUP.

The exit code is 0; 2 if the two passwords differ; else 1.`
}

// Examples shows how.
func (passwdCmd) Examples() []string {
	return []string{
		"passwd -c /etc/mosquitto/passwd alice", "passwd -H argon2id /etc/mosquitto/passwd bob",
		"passwd -D /etc/mosquitto/passwd alice", "passwd -U /etc/mosquitto/passwd",
	}
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

// Decode implements kong.MapperValue.
func (h *hashName) Decode(ctx *kong.DecodeContext) error {
	v, err := nextWord(ctx, "-H")
	if err != nil {
		return err
	}
	switch v {
	case "sha512-pbkdf2":
		h.kind = hash.PBKDF2
	case "sha512":
		h.kind = hash.SHA512
	case "argon2id":
		h.kind = hash.Argon2id
	default:
		return passwdError(fmt.Sprintf("Unknown hash type '%s'", v))
	}
	return nil
}

// Decode implements kong.MapperValue.
func (i *iterations) Decode(ctx *kong.DecodeContext) error {
	v, err := nextWord(ctx, "-I")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return passwdError("Number of iterations must be > 0.")
	}
	*i = iterations(n)
	return nil
}

// nextWord is the value of an option.
func nextWord(ctx *kong.DecodeContext, option string) (string, error) {
	if ctx.Scan.Peek().IsEOL() {
		return "", passwdError(option + " argument given but not enough other arguments.")
	}
	return ctx.Scan.Pop().String(), nil
}

// Exit codes of mosquitto_passwd.
const (
	passwdFailed   = 1
	passwdMismatch = 2 // the two passwords differ
)

// badPasswd tells of a command line that cannot be read, and returns the exit code.
func (c *command) badPasswd(err *cli.UsageError) int {
	var text passwdError
	if errors.As(err, &text) {
		fmt.Fprintf(c.stderr, "Error: %s\n", text)
	} else {
		fmt.Fprintf(c.stderr, "Error: %v\n", err)
	}
	return passwdFailed
}

// passwd is one run of passwdCmd.
type passwd struct {
	passwdCmd

	stdin          io.Reader
	stdout, stderr io.Writer
	input          *bufio.Reader // of stdin, once a password was asked for
}

// Run does what is asked for.
func (x *passwdCmd) Run(c *command, k *kong.Context) error {
	p := &passwd{passwdCmd: *x, stdin: os.Stdin, stdout: c.stdout, stderr: c.stderr}
	if text := x.conflict(); text != "" {
		return ended(p.fail(text))
	}
	words := 0
	for _, w := range []*string{x.File, x.Username, x.Password} {
		if w != nil {
			words++
		}
	}
	want := 2
	switch {
	case x.Upgrade:
		want = 1
	case x.Batch:
		want = 3
	}
	if words != want {
		return errors.Join(k.PrintUsage(false), exit(passwdFailed))
	}
	return ended(p.run())
}

// run works on the file; it returns the exit code.
func (p *passwd) run() int {
	file := *p.File
	if p.Upgrade {
		return p.report(file, auth.HashPlain(file, p.hash))
	}
	name := *p.Username
	if text := auth.UsernameFault(name); text != "" {
		return p.fail(text)
	}
	if p.Delete {
		return p.report(file, auth.DeletePassword(file, name))
	}
	return p.set(file, name)
}

// conflict names two options that exclude each other.
func (x *passwdCmd) conflict() string {
	for _, c := range []struct {
		both bool
		text string
	}{
		{x.Create && x.Delete, "-c and -D"},
		{x.Create && x.Upgrade, "-c and -U"},
		{x.Delete && x.Upgrade, "-D and -U"},
		{x.Delete && x.Batch, "-b and -D"},
	} {
		if c.both {
			return c.text + " cannot be used together."
		}
	}
	return ""
}

// set makes or changes a user's password.
func (p *passwd) set(file, name string) int {
	if !p.Create {
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
	case p.Create && file == "-":
		fmt.Fprintf(p.stdout, "%s:%s\n", name, line)
		return exitOK
	case p.Create:
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
	return hash.New(p.Hash.kind, []byte(password), int(p.Iterations))
}

// password is the one of the command line, or what is typed twice.
func (p *passwd) password() (text string, code int) {
	if p.Batch {
		return *p.Password, exitOK
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
		fmt.Fprintf(p.stderr, "Warning: User %s not found in password file.\n", *p.Username)
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
