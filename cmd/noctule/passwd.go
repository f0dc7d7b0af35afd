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

	"golang.org/x/term"

	"noctule/broker/auth"
)

// passwd is `noctule passwd`, which takes the place of mosquitto_passwd: same options, files, prompts and
// messages.
type passwd struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	input          *bufio.Reader // of stdin, once a password was asked for

	kind                         auth.Kind
	iterations                   int
	batch, create, remove, plain bool
	rest                         []string // what follows the options
}

// Exit codes of mosquitto_passwd.
const (
	passwdFailed   = 1
	passwdMismatch = 2 // the two passwords differ
)

const passwdUsage = `Manages password files, as mosquitto_passwd does.

Usage: noctule passwd [-H HASH] [-I ITERATIONS] [-c | -D] FILE USERNAME
       noctule passwd [-H HASH] [-I ITERATIONS] [-c] -b FILE USERNAME PASSWORD
       noctule passwd [-H HASH] [-I ITERATIONS] -U FILE
 -b : the password is on the command line, where others can see it.
 -c : make a new file, in place of one that is there; - is the standard output.
 -D : delete the user.
 -H : sha512-pbkdf2 (the default), sha512 or argon2id, which Mosquitto itself does not read everywhere.
 -I : iterations of sha512-pbkdf2.
 -U : hash the plain text passwords of a file.
`

// run is the subcommand; it returns the exit code.
func (p *passwd) run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(p.stdout, passwdUsage)
		return passwdFailed
	}
	if err := p.parse(args); err != nil {
		return p.fail(err.Error())
	}
	if text := p.conflict(); text != "" {
		return p.fail(text)
	}
	want := 2
	switch {
	case p.plain:
		want = 1
	case p.batch:
		want = 3
	}
	if len(p.rest) != want {
		fmt.Fprint(p.stdout, passwdUsage)
		return passwdFailed
	}
	file := p.rest[0]
	if p.plain {
		return p.report(file, auth.HashPlain(file, p.hash))
	}
	name := p.rest[1]
	if text := auth.UsernameFault(name); text != "" {
		return p.fail(text)
	}
	if p.remove {
		return p.report(file, auth.DeletePassword(file, name))
	}
	return p.set(file, name)
}

// parse reads the options; they are separate words.
func (p *passwd) parse(args []string) error {
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-b":
			p.batch = true
		case "-c":
			p.create = true
		case "-D":
			p.remove = true
		case "-U":
			p.plain = true
		case "-H", "-I":
			if i+1 == len(args) {
				return fmt.Errorf("%s argument given but not enough other arguments.", args[i])
			}
			if err := p.value(args[i], args[i+1]); err != nil {
				return err
			}
			i++
		default:
			p.rest = args[i:]
			return nil
		}
	}
	return nil
}

func (p *passwd) value(option, v string) error {
	if option == "-I" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return errors.New("Number of iterations must be > 0.")
		}
		p.iterations = n
		return nil
	}
	switch v {
	case "sha512-pbkdf2":
		p.kind = auth.PBKDF2
	case "sha512":
		p.kind = auth.SHA512
	case "argon2id":
		p.kind = auth.Argon2id
	default:
		return fmt.Errorf("Unknown hash type '%s'", v)
	}
	return nil
}

// conflict names two options that exclude each other.
func (p *passwd) conflict() string {
	for _, c := range []struct {
		both bool
		text string
	}{
		{p.create && p.remove, "-c and -D"},
		{p.create && p.plain, "-c and -U"},
		{p.remove && p.plain, "-D and -U"},
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
	hash, err := p.hash(password)
	if err != nil {
		return p.report(file, err)
	}
	switch {
	case p.create && file == "-":
		fmt.Fprintf(p.stdout, "%s:%s\n", name, hash)
		return exitOK
	case p.create:
		if code := p.report(file, auth.CreatePasswords(file, name, hash)); code != exitOK {
			return code
		}
		fmt.Fprintf(p.stdout, "Adding password for user %s\n", name)
		return exitOK
	}
	updated, err := auth.SetPassword(file, name, hash)
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
	return auth.HashPassword(p.kind, []byte(password), p.iterations)
}

// password is the one of the command line, or what is typed twice.
func (p *passwd) password() (text string, code int) {
	if p.batch {
		return p.rest[2], exitOK
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
		fmt.Fprintf(p.stderr, "Warning: User %s not found in password file.\n", p.rest[1])
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
