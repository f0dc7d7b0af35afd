package main

import (
	"slices"

	"noctule/broker/auth"
	"noctule/cmd/internal/conf"
)

// loader reads the files that decide about clients, each once.
type loader struct {
	passwords map[string]*auth.Passwords
	acls      map[string]*auth.ACL
	warnings  []string
}

// loadPolicies reads the files of all listeners. The policies are those of the listeners, in their order; nil
// for one that has no files. An error is an *auth.FileError.
func loadPolicies(listeners []conf.Listener) (policies []*auth.Policy, warnings []string, err error) {
	ld := &loader{passwords: map[string]*auth.Passwords{}, acls: map[string]*auth.ACL{}}
	for i := range listeners {
		p, err := ld.policy(&listeners[i])
		if err != nil {
			return nil, nil, err
		}
		policies = append(policies, p)
	}
	return policies, ld.warnings, nil
}

// policy is what a listener's configuration says about its clients.
func (ld *loader) policy(l *conf.Listener) (*auth.Policy, error) {
	if len(l.Passwords) == 0 && len(l.ACLs) == 0 {
		return nil, nil
	}
	p := &auth.Policy{AllowAnonymous: l.AllowAnonymous}
	for _, f := range l.Passwords {
		file, err := once(ld, ld.passwords, f.Path, auth.LoadPasswords)
		if err != nil {
			return nil, err
		}
		p.Authenticators = append(p.Authenticators, file)
	}
	for _, f := range l.ACLs {
		file, err := once(ld, ld.acls, f.Path, auth.LoadACL)
		if err != nil {
			return nil, err
		}
		p.Authorizers = append(p.Authorizers, file)
	}
	return p, nil
}

// warner is a file that may have warnings.
type warner interface{ Warnings() []string }

// once loads a file if it is not among those loaded.
func once[F warner](ld *loader, loaded map[string]F, path string, load func(string) (F, error)) (F, error) {
	if f, ok := loaded[path]; ok {
		return f, nil
	}
	f, err := load(path)
	if err != nil {
		return f, err
	}
	loaded[path] = f
	for _, w := range f.Warnings() {
		if !slices.Contains(ld.warnings, w) {
			ld.warnings = append(ld.warnings, w)
		}
	}
	return f, nil
}
