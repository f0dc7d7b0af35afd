package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/auth/source"
	"noctule/broker/presub"
	"noctule/cmd/internal/cli"
	"noctule/cmd/internal/conf"
	"noctule/cmd/internal/logs"
)

// checkCommand is `noctule check`. Its file may come after -c too, as that of a start does.
func (c *command) checkCommand() cli.Command {
	file := ""
	return cli.Command{
		Name: "check", Summary: "Say everything that is wrong with a configuration.",
		Text: `Does what a start with a configuration does, without its traces, and prints everything
that is wrong, that is deprecated, has no effect or is not safe: each with file and line. Run it as
root where the broker is started as root: it judges as the user that the broker becomes. It changes
nothing, and a broker that runs does not notice.

The exit code is 0 if a start would work, 3 if not.`,
		Examples: []string{"check /etc/mosquitto/mosquitto.conf"},
		Args:     []cli.Arg{{Name: "file", Help: "The configuration.", Optional: true}},
		Flags: func(f *pflag.FlagSet) {
			f.StringVarP(&file, "config-file", "c", "", "The configuration `FILE`, as for a start.")
		},
		Run: func(l *cli.Line) error {
			if (file == "") == (len(l.Args) == 0) {
				return l.Wrong("expected one configuration")
			}
			return ended(c.check(cmp.Or(file, l.Arg(0))))
		},
	}
}

// exitCode is what a configuration's error ends the program with.
func exitCode(err error) int {
	var e *conf.Error
	var f *auth.FileError
	switch {
	case errors.As(err, &e):
		return e.ExitCode()
	case errors.As(err, &f) && f.Unreadable():
		return exitMissing
	}
	return exitConfig
}

// checking is a run of `noctule check`. It becomes the user that the broker would become and then tries what
// a start does, in the same order, without its traces: files are opened or asked for, never made or written,
// addresses are bound and not listened on. So it agrees with the start whatever the system bases its answer
// on: groups, access control lists, capabilities, mounts.
type checking struct {
	*command
	cfg      *conf.Config
	who      viewer
	wasRoot  bool
	bad      bool // there is an error
	said     map[string]bool
	sockets  []taken
	policies loader
}

// check prints everything that is wrong with a configuration, and what its author may want to know. It
// changes nothing, and a broker that runs does not notice.
func (c *command) check(file string) int {
	k := &checking{
		command: c, wasRoot: os.Geteuid() == 0, said: map[string]bool{},
		policies: *newLoader(),
	}
	var notes []conf.Note
	k.cfg, notes = conf.Check([]string{file}, nil)
	for _, n := range notes {
		k.say(n)
	}
	if k.cfg != nil {
		k.start(file)
	}
	if k.bad {
		return exitConfig
	}
	fmt.Fprintln(c.stdout, "Configuration file is OK.")
	return exitOK
}

// start goes where a start goes.
func (k *checking) start(file string) {
	k.become()
	if f, err := os.Open(file); err == nil {
		_ = f.Close() // it was only read
	} else { // the start reads it before it becomes the user, a reload does not
		k.warns(nil, "'%s': %s. SIGHUP will change nothing.", file,
			k.refusal(file, err, k.readFix("acl_file", file)))
	}
	if err := setUmask(); err != nil {
		k.fails(nil, "%v", err)
	}
	if pid := k.cfg.PIDFile; pid != "" {
		if reason := k.unwritable(pid); reason != "" {
			k.fails(k.cfg.At("pid_file"), "pid_file '%s': %s.", pid, reason)
		}
	}
	if log := k.cfg.Log.File; log != "" {
		if reason := k.unwritable(log); reason != "" { // it does not keep the broker from starting
			k.warns(k.cfg.At("log_dest file"), "log file '%s': %s. The broker runs without it.", log, reason)
		}
	}
	for i := range k.cfg.Listeners {
		k.security(&k.cfg.Listeners[i])
	}
	k.presub()
	k.state()
	for i := range k.cfg.Listeners {
		k.certificates(&k.cfg.Listeners[i])
	}
	k.listeners()
	k.admin()
}

// become takes the user of the start, for good.
func (k *checking) become() {
	who, err := identify(k.cfg.User)
	if err == nil {
		err = who.become()
	}
	if err != nil {
		k.fails(k.cfg.At("user"), "%v", err)
	}
	k.who = newViewer()
	if !k.wasRoot && k.cfg.User != k.who.name {
		k.say(conf.Note{
			Text: fmt.Sprintf("Note: checked for user %s; a start as root becomes %s: check that as root.",
				k.who.name, k.cfg.User),
			Level: broker.LevelNotice,
		})
	}
}

func (k *checking) fails(at []conf.Place, format string, args ...any) {
	k.tell(broker.LevelError, at, format, args...)
}

func (k *checking) warns(at []conf.Place, format string, args ...any) {
	k.tell(broker.LevelWarning, at, "Warning: "+format, args...)
}

// tell says something in one line.
func (k *checking) tell(level slog.Level, at []conf.Place, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	k.say(conf.Note{Text: text, Level: level, Places: at})
}

// say prints a note, once.
func (k *checking) say(n conf.Note) {
	if n.Level >= broker.LevelError {
		k.bad = true
		n.Text = "Error: " + strings.TrimPrefix(n.Text, "Error: ")
	}
	text := n.String()
	if k.said[text] {
		return
	}
	k.said[text] = true
	if colours(k.stdout) && n.Level >= broker.LevelWarning {
		text = logs.Paint(n.Level, text)
	}
	fmt.Fprintln(k.stdout, text)
}

// security reads the files that decide about a listener's clients.
func (k *checking) security(l *conf.Listener) {
	for _, f := range l.Passwords {
		if k.readable(f.At(), "password_file", f.Path) {
			_, err := once(&k.policies, k.policies.passwords, f.Path, auth.LoadPasswords)
			k.content(f.At(), "password_file", err)
		}
	}
	for _, f := range l.ACLs {
		if k.readable(f.At(), "acl_file", f.Path) {
			_, err := once(&k.policies, k.policies.acls, f.Path, auth.LoadACL)
			k.content(f.At(), "acl_file", err)
		}
	}
	for _, g := range l.GoAuth {
		k.tryChain(g)
	}
	for _, f := range l.Sources {
		if k.readable(f.At(), "auth_file", f.Path) {
			k.content(f.At(), "auth_file", trySources(f.Path))
		}
	}
	for _, w := range k.policies.warnings {
		if !strings.HasPrefix(w, "Warning: File ") { // readable has said so, with what to do
			k.say(conf.Note{Text: w, Level: broker.LevelWarning})
		}
	}
}

// trySources reads an auth_file and what it names, without using them.
func trySources(path string) error {
	file, err := source.Load(path)
	if err != nil {
		return err
	}
	e := source.New(slog.New(slog.DiscardHandler))
	defer e.Close()
	plan, err := e.Prepare([]*source.Config{file})
	if err == nil {
		plan.Discard()
	}
	return err
}

// content reports what is wrong in a file, at its own line.
func (k *checking) content(at []conf.Place, key string, err error) {
	var f *auth.FileError
	switch {
	case errors.As(err, &f) && f.Line > 0:
		k.fails([]conf.Place{{File: f.Path, Line: f.Line}}, "%s", f.Text)
	case errors.As(err, &f):
		k.fails(at, "%s", f.Text)
	case err != nil:
		k.fails(at, "%s: %v", key, err)
	}
}

// presub reads the files of pre-subscription, and those that they name, without using them.
func (k *checking) presub() {
	cfg := *k.cfg
	if f := cfg.AdminTokenFile; f != "" && k.readable(cfg.At("admin_token_file"), "admin_token_file", f) {
		_, err := admin.LoadTokens(f)
		k.content(cfg.At("admin_token_file"), "admin_token_file", err)
	}
	if f := cfg.PresubFile; f != "" && k.readable(cfg.At("presub_file"), "presub_file", f) {
		rules, err := presub.Load(f)
		if err == nil {
			err = tryRules(rules)
		}
		k.content(cfg.At("presub_file"), "presub_file", err)
	}
}

// certificates reads a listener's TLS files.
func (k *checking) certificates(l *conf.Listener) {
	if l.CertFile == "" {
		return
	}
	good := true
	for _, f := range [...]struct{ key, path string }{
		{"certfile", l.CertFile},
		{"keyfile", l.KeyFile},
		{"cafile", l.CAFile},
		{"capath", l.CAPath},
		{"crlfile", l.CRLFile},
	} {
		if f.path != "" && !k.readable(l.At(f.key), f.key, f.path) {
			good = false
		}
	}
	if !good || l.KeyFile == "" { // which has been said
		return
	}
	_, err := l.Load()
	if key, at := l.Blame(err); err != nil && key != "require_certificate" { // which has been said
		k.fails(at, "%v", err)
	}
	if w := l.Warning(); w != "" {
		k.say(conf.Note{Text: w, Level: broker.LevelWarning, Places: l.At("capath")})
	}
}
