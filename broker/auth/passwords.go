package auth

import (
	"errors"
	"hash/maphash"
	"io"
	"strings"

	"noctule/broker/auth/hash"
)

// Passwords is a password file. It is immutable.
type Passwords struct {
	users    map[string]*hash.Hash
	decoys   []*hash.Hash // what unknown users are compared with
	seed     maphash.Seed
	form     PasswordForm
	warnings []string
}

const passwordFile = "password file"

// LoadPasswords reads a password file, Mosquitto's, htpasswd's or that of mosquitto-go-auth: lines
// "username:hash" with the forms of package hash, comments with # in the first column. Lines
// without a colon are skipped; an empty or repeated username and anything but a known hash are errors, all
// of them *FileError.
func LoadPasswords(path string) (*Passwords, error) { return PasswordForm{}.Load(path) }

// PasswordForm is how a password file is read that is not Mosquitto's own.
type PasswordForm struct {
	hash.Form
	LastCounts bool // of several lines of a user the last one counts, instead of an error
}

// Load is LoadPasswords in this form.
func (f PasswordForm) Load(path string) (*Passwords, error) {
	p := newPasswords()
	p.form = f
	s := &source{path: path, what: passwordFile}
	if err := s.read(func(line string) error { return p.add(s, line) }); err != nil {
		return nil, err
	}
	p.warnings = s.warnings
	return p, nil
}

// readPasswords reads what would be in a file.
func readPasswords(r io.Reader) (*Passwords, error) {
	p := newPasswords()
	s := &source{path: "-", what: passwordFile}
	return p, s.scan(r, func(line string) error { return p.add(s, line) })
}

func newPasswords() *Passwords {
	return &Passwords{users: make(map[string]*hash.Hash), seed: maphash.MakeSeed()}
}

func (p *Passwords) add(s *source, line string) error {
	name, rest, ok := strings.Cut(line, ":")
	if !ok {
		return nil
	}
	name = strings.TrimSpace(name)
	text := strings.TrimSpace(hash.Cut(rest))
	switch {
	case name == "":
		return s.fail("Empty username in password file '%s'.", s.path)
	case len(name) > 65535:
		return s.fail("Invalid line in password file '%s', username too long.", s.path)
	case p.users[name] != nil && !p.form.LastCounts:
		return s.fail("Duplicate user '%s' in password file '%s'.", name, s.path)
	case text == "":
		return s.fail("Invalid line in password file '%s'.", s.path)
	}
	h, err := p.form.Parse(text)
	if weak, ok := errors.AsType[*hash.WeakError](err); ok {
		return s.fail("Unable to decode line in password file '%s'. %s is not taken: %s.",
			s.path, weak.Name, weak.Why)
	}
	if err != nil {
		return s.fail("Unable to decode line in password file '%s'.", s.path)
	}
	p.users[name] = h
	p.decoys = append(p.decoys, h)
	return nil
}

// Warnings are what is worth telling about the file, whole log lines.
func (p *Passwords) Warnings() []string { return p.warnings }

// Len is the number of users.
func (p *Passwords) Len() int { return len(p.users) }

// Stored is what is stored for a username; nil if it is not there.
func (p *Passwords) Stored(username string) *hash.Hash { return p.users[username] }

// Scram reports whether a user's entry has keys of SCRAM.
func (p *Passwords) Scram() bool {
	for _, h := range p.users {
		if _, ok := h.Scram(); ok {
			return true
		}
	}
	return false
}

// Slow reports whether Authenticate would hash.
func (p *Passwords) Slow(l *Login) bool {
	return l.HasUsername && len(l.Password) > 0 && !l.Identified && len(p.users) > 0
}

// Mark is a number that changes with the user's line; 0 for users that are not there.
func (p *Passwords) Mark(username string) uint64 {
	h := p.users[username]
	if h == nil {
		return 0
	}
	return h.Mark()
}

// Authenticate compares the password. It has no opinion on clients without a username. Those that it does not
// know it defers to others, which is no if there are none, after hashing for the time that a known one would
// take. An empty password is as none, as for Mosquitto, even if the file has its hash.
func (p *Passwords) Authenticate(l *Login) Verdict {
	if !l.HasUsername {
		return Ignore
	}
	h, known := p.users[l.Username]
	switch {
	case len(p.users) == 0 || len(l.Password) == 0 && !known:
		return Defer
	case len(l.Password) == 0:
		return Deny
	case !known:
		// The same unknown name always costs the same, and all of them together what the file's users cost.
		h = p.decoys[maphash.String(p.seed, l.Username)%uint64(len(p.decoys))]
	}
	switch ok := h.Matches(l.Password); {
	case !known:
		return Defer
	case ok:
		return Allow
	}
	return Deny
}
