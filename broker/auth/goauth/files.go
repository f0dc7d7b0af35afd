package goauth

import (
	"context"
	"errors"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/codec"
)

// files is the backend of a password file and an access list.
type files struct {
	passwords *auth.Passwords // nil: none
	list      *access         // nil: none
	alone     bool            // no other backend: without a list everything is allowed
}

// openFiles reads them.
func (c *Chain) openFiles(b *Backend) (backend, error) {
	f := &files{alone: len(c.cfg.Backends) == 1}
	var known func(string) bool
	if b.Files.Passwords != "" {
		form := auth.PasswordForm{Form: hash.Form{TextSalt: b.TextSalt}, LastCounts: true}
		var err error
		if f.passwords, err = form.Load(b.Files.Passwords); err != nil {
			return nil, err
		}
		c.warnings = append(c.warnings, f.passwords.Warnings()...)
		known = func(user string) bool { return f.passwords.Stored(user) != nil }
	}
	if b.Files.ACL != "" {
		list, err := loadAccess(b.Files.ACL, known)
		if err != nil {
			return nil, err
		}
		f.list = list
		c.warnings = append(c.warnings, list.warnings...)
	}
	return f, nil
}

func (f *files) login(ctx context.Context, l *auth.Login, q *question) (x found, err error) {
	if f.passwords == nil {
		return found{}, nil
	}
	as := auth.Login{
		ClientID: l.ClientID, Username: q.user, Password: l.Password, HasUsername: true, HasPassword: true,
		Address: l.Address, Local: l.Local,
	}
	err = compute(ctx, l, func() bool {
		v := f.passwords.Authenticate(&as)
		x.yes, x.known = v == auth.Allow, v == auth.Deny
		return x.known
	})
	x.mark = f.passwords.Mark(q.user)
	return x, err
}

// errBusy is why a password was not compared.
var errBusy = errors.New("too many passwords wait to be compared")

// compute has a password compared where the broker does that.
func compute(ctx context.Context, l *auth.Login, work func() (failed bool)) error {
	if r := auth.Compute(ctx, l, work); r != codec.Success {
		return errBusy
	}
	return nil
}

func (*files) superuser(context.Context, *question) (bool, error) { return false, nil }

func (f *files) grant(_ context.Context, q *question) (*grant, error) {
	switch {
	case f.list != nil:
		return f.list.of(names{q.user, q.client}), nil
	case f.alone:
		return grantAll(), nil
	}
	return &grant{rules: nothing(), subs: nothing()}, nil
}

func (*files) topic(context.Context, *question, int, string) (bool, error) { return false, nil }

func (*files) close() {}
