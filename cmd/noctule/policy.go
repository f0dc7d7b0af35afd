package main

import (
	"slices"

	"noctule/broker/auth"
	"noctule/broker/auth/goauth"
	"noctule/broker/auth/scram"
	"noctule/broker/auth/source"
	"noctule/cmd/internal/conf"
)

// loader reads the files that decide about clients, each once.
type loader struct {
	passwords map[string]*auth.Passwords
	acls      map[string]*auth.ACL
	sets      map[string]*source.Set // of auth_file
	goauths   map[*conf.GoAuth]*goauth.Chain
	chains    []*goauth.Chain // of goauths, in the order of their lines
	before    []*goauth.Chain // that a reload takes the place of
	host      goauth.Host
	warnings  []string
}

// newLoader has loaded nothing.
func newLoader() *loader {
	return &loader{
		passwords: map[string]*auth.Passwords{}, acls: map[string]*auth.ACL{},
		goauths: map[*conf.GoAuth]*goauth.Chain{},
	}
}

// securityPlan is what the files of all listeners come to. It ends with use or discard.
type securityPlan struct {
	policies []*auth.Policy // of the listeners, in their order; nil for one that has no files
	warnings []string
	sources  *source.Plan
	chains   []*goauth.Chain
}

// loadPolicies reads the files of all listeners; what they name is asked once from is told to by use. An
// error about a line of a file is an *auth.FileError, or has file and line in it.
func loadPolicies(listeners []conf.Listener, from *logins) (*securityPlan, error) {
	ld := newLoader()
	ld.before, ld.host = from.chains, from.host()
	p := &securityPlan{}
	var err error
	if p.sources, err = ld.sources(listeners, from.engine); err != nil {
		return nil, err
	}
	for i := range listeners {
		policy, err := ld.policy(&listeners[i])
		p.chains = ld.chains
		if err != nil {
			p.discard()
			return nil, err
		}
		p.policies = append(p.policies, policy)
	}
	p.warnings = ld.warnings
	return p, nil
}

// startPolicies are loadPolicies at a start, in force.
func (c *command) startPolicies(cfg *conf.Config, from *logins) ([]*auth.Policy, error) {
	p, err := loadPolicies(cfg.Listeners, from)
	if err != nil {
		return nil, err
	}
	for _, w := range p.warnings {
		c.log.Warn(w)
	}
	from.use(p)
	return p.policies, nil
}

// sources reads the files that auth_file names, each once.
func (ld *loader) sources(listeners []conf.Listener, engine *source.Engine) (*source.Plan, error) {
	ld.sets = map[string]*source.Set{}
	var paths []string
	var files []*source.Config
	for i := range listeners {
		for _, f := range listeners[i].Sources {
			if slices.Contains(paths, f.Path) {
				continue
			}
			file, err := source.Load(f.Path)
			if err != nil {
				return nil, err
			}
			paths, files = append(paths, f.Path), append(files, file)
		}
	}
	plan, err := engine.Prepare(files)
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		ld.sets[path] = plan.Sets[i]
	}
	return plan, nil
}

// policy is what a listener's configuration says about its clients.
func (ld *loader) policy(l *conf.Listener) (*auth.Policy, error) {
	if len(l.Passwords)+len(l.ACLs)+len(l.Sources)+len(l.GoAuth) == 0 {
		return nil, nil
	}
	p := &auth.Policy{AllowAnonymous: l.AllowAnonymous}
	for _, g := range l.GoAuth {
		c, err := ld.chain(g)
		if err != nil {
			return nil, err
		}
		p.Authenticators, p.Authorizers = append(p.Authenticators, c), append(p.Authorizers, c)
	}
	for _, f := range l.Passwords {
		file, err := once(ld, ld.passwords, f.Path, auth.LoadPasswords)
		if err != nil {
			return nil, err
		}
		p.Authenticators = append(p.Authenticators, file)
		if err := offerScram(p, file); err != nil {
			return nil, err
		}
	}
	for _, f := range l.Sources {
		set := ld.sets[f.Path]
		p.Authenticators = append(p.Authenticators, set.Authenticators...)
		for name, m := range set.Methods {
			offerMethod(p, name, m)
		}
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

// offerScram lets the clients of a password file with keys of SCRAM use them.
func offerScram(p *auth.Policy, file *auth.Passwords) error {
	if !file.Scram() {
		return nil
	}
	m, err := scram.New(file, nil)
	if err != nil {
		return err
	}
	offerMethod(p, m.Name(), m)
	return nil
}

// offerMethod adds a method, unless there is one of its name.
func offerMethod(p *auth.Policy, name string, m auth.Method) {
	if p.Methods == nil {
		p.Methods = auth.Methods{}
	}
	if p.Methods[name] == nil {
		p.Methods[name] = m
	}
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
