package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/auth/token"
	"noctule/broker/lookup"
	"noctule/broker/lookup/ldap"
	"noctule/broker/lookup/redis"
	"noctule/internal/places"
)

// The names that templates may mention, by their places.
const (
	nameUser = iota
	nameClient
	nameAddress
	namePassword
)

// names are those of a question about a login; the password is for webservices and directories only.
func names(password bool) lookup.Names {
	n := lookup.Names{
		{Name: "username", Letter: 'u'},
		{Name: "clientid", Letter: 'c'},
		{Name: "address"},
		{Name: "password", Secret: true},
	}
	if !password {
		return n[:namePassword]
	}
	return n
}

// rightNames are those of a question about rules.
func rightNames() lookup.Names {
	return lookup.Names{{Name: "username", Letter: 'u'}, {Name: "clientid", Letter: 'c'}, {Name: "acc"}}
}

// groupNames are those of a question about the groups of a user.
func groupNames() lookup.Names {
	return lookup.Names{{Name: "username", Letter: 'u'}, {Name: "clientid", Letter: 'c'}, {Name: "dn"}}
}

// topicNames are those of a question about one topic.
func topicNames() lookup.Names {
	return lookup.Names{
		{Name: "username", Letter: 'u'},
		{Name: "clientid", Letter: 'c'},
		{Name: "topic", Letter: 't'},
		{Name: "access", Letter: 'a'},
		{Name: "acc"},
	}
}

// running is a source at work. What it asks waits, so nothing of it is for a loop but known.
type running struct {
	// Set by newRunning, then read-only:
	cfg       *Settings
	file      string // that has the settings
	e         *Engine
	files     lookup.Files
	passwords *auth.Passwords         // of file
	tokens    *token.Verifier         // of jwt
	keys      *token.Remote           // of jwt, if they have a URL
	users     *lookup.Lookup[*answer] // what is known of a login; nil: of jwt and file
	rights    *lookup.Lookup[*answer] // rules of a user; nil: there are none to be asked for
	superuser *lookup.Lookup[*answer] // nil: nobody is asked
	topics    *lookup.Lookup[*answer] // one topic; nil: nobody is asked
	proofs    *proofs
	decoys    decoys
	failing   *lookup.Digest
	mark      uint64 // of its keys, of jwt

	uses atomic.Int64 // being in force counts as one; without uses it is closed
}

// newRunning makes the source of checked settings.
func newRunning(cfg *Settings, file string, e *Engine) (*running, error) {
	r := &running{cfg: cfg, file: file, e: e, files: make(lookup.Files)}
	r.uses.Store(1)
	r.failing = lookup.NewDigest(e.tell)
	r.proofs = newProofs(&cfg.Cache, time.Duration(cfg.Refused))
	if err := r.open(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// open makes what it asks.
func (r *running) open() (err error) {
	s := r.cfg
	switch {
	case s.JWT != nil:
		err = r.openTokens()
	case s.File != "":
		if _, err = r.files.Read(".file", s.File); err == nil {
			r.passwords, err = auth.LoadPasswords(s.File)
		}
	case s.Redis != nil:
		err = r.openRedis()
	case s.LDAP != nil:
		err = r.openLDAP()
	case s.SQL != nil:
		err = r.openSQL()
	default:
		o := r.options("login", names(true))
		o.HTTP = readHTTP(s.Answer)
		r.users, err = lookup.New(&s.Settings, o)
	}
	if err != nil {
		return err
	}
	if r.superuser, err = r.openAsked("superuser", s.Superuser, names(false)); err != nil {
		return err
	}
	r.topics, err = r.openAsked("acl", s.ACL, topicNames())
	return err
}

// openAsked makes who else is asked; nil if nobody is.
func (r *running) openAsked(about string, a *Asked, n lookup.Names) (*lookup.Lookup[*answer], error) {
	if a == nil {
		return nil, nil
	}
	o := r.options(about, n)
	o.HTTP, o.SQL = readHTTP(a.Answer), readTruth
	l, err := lookup.New(&a.Settings, o)
	return l, below(err, "."+about)
}

// below is an error of a file that settings further down name.
func below(err error, path string) error {
	if f, ok := err.(*lookup.FileError); ok { //nolint:errorlint // as New returns it
		return &lookup.FileError{Path: path + f.Path, Err: f.Err}
	}
	return err
}

// options say how others are asked.
func (r *running) options(about string, n lookup.Names) lookup.Options[*answer] {
	refused := time.Duration(r.cfg.Refused)
	return lookup.Options[*answer]{
		Name: r.cfg.Name, Names: n, Files: r.files, Cost: cost, Last: r.cfg.OnFailure == LastKnown,
		Dial: r.e.dial,
		Lives: func(a *answer) time.Duration {
			left := time.Duration(0)
			if !a.expires.IsZero() {
				left = max(a.expires.Sub(now()), 1)
			}
			if a.verdict != auth.Allow && (left == 0 || refused < left) {
				left = max(refused, 1)
			}
			return left
		},
		Events: r.e.metrics.events(r.cfg.Name, about, r.e.circuit),
	}
}

func (r *running) openSQL() (err error) {
	s := r.cfg
	o := r.options("login", names(false))
	o.SQL = readUser(hash.Form{TextSalt: s.TextSalt})
	if r.users, err = lookup.New(&s.Settings, o); err != nil || s.RulesQuery == "" {
		return err
	}
	q := *s.SQL
	q.Query = s.RulesQuery
	rules := s.Settings
	rules.SQL, rules.Key = &q, nil
	o = r.options("rules", rightNames())
	o.SQL = readRules(s.byAccess())
	r.rights, err = lookup.New(&rules, o)
	return err
}

// byAccess reports whether rules are asked for by access.
func (s *Settings) byAccess() bool {
	return s.SQL != nil && slices.Contains(lookup.Mentioned(s.RulesQuery), "acc")
}

func (r *running) openRedis() error {
	s, d := r.cfg, r.cfg.Redis
	get := func(key, field string) []string {
		if field == "" {
			return []string{"GET", key}
		}
		return []string{"HGET", key, field}
	}
	commands := [][]string{get(d.Key, d.Field)}
	if key := cmp.Or(d.SuperuserKey, d.Key); d.SuperuserKey != "" || d.SuperuserField != "" {
		commands = append(commands, get(key, d.SuperuserField))
	}
	users, err := redis.New(&d.Config, ".redis", r.files, redis.Query[*answer]{
		Names: names(false), Commands: commands, Read: d.readUser(hash.Form{TextSalt: s.TextSalt}),
	})
	if err != nil {
		return err
	}
	o := r.options("login", names(false))
	r.users = lookup.Over(&s.Settings, lookup.Source[*answer](users), d.MaxConns, o)
	if len(d.Rules) == 0 {
		return nil
	}
	commands = nil
	for _, x := range d.Rules {
		commands = append(commands, []string{"SMEMBERS", x.Key})
	}
	rights, err := redis.New(&d.Config, ".redis", r.files, redis.Query[*answer]{
		Names: rightNames(), Commands: commands, Read: d.readRules,
	})
	if err != nil {
		return err
	}
	rules := s.Settings
	rules.Key = nil
	o = r.options("rules", rightNames())
	r.rights = lookup.Over(&rules, lookup.Source[*answer](rights), d.MaxConns, o)
	return nil
}

func (r *running) openLDAP() error {
	s, d := r.cfg, r.cfg.LDAP
	server, err := ldap.Open(&d.Config, ".ldap", r.files)
	if err != nil {
		return err
	}
	dir := &directory{cfg: d, server: server}
	if err := dir.parse(); err != nil {
		return err
	}
	users := r.options("login", names(true))
	r.users = lookup.Over(&s.Settings, lookup.Source[*answer](dir), d.MaxConns, users)
	if d.Groups == nil {
		return nil
	}
	rules := s.Settings
	rules.Key = nil
	r.rights = lookup.Over(&rules, lookup.Source[*answer](members{dir}), d.MaxConns,
		r.options("rules", rightNames()))
	return nil
}

// close gives up what it holds.
func (r *running) close() {
	for _, l := range r.lookups() {
		l.Close()
	}
	if r.keys != nil {
		r.keys.Close()
	}
	r.failing.Close()
}

// lookups are those that there are, by what they are about.
func (r *running) lookups() map[string]*lookup.Lookup[*answer] {
	m := map[string]*lookup.Lookup[*answer]{
		"login": r.users, "rules": r.rights, "superuser": r.superuser, "acl": r.topics,
	}
	maps.DeleteFunc(m, func(_ string, l *lookup.Lookup[*answer]) bool { return l == nil })
	return m
}

// fit reports whether it is asked about a login.
func (r *running) fit(l *auth.Login) bool {
	return (r.cfg.For == nil || r.cfg.For.fit(l)) && !r.cfg.NotFor.fit(l)
}

// admit decides about a login that fits.
func (r *running) admit(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	switch {
	case r.tokens != nil:
		return r.admitToken(ctx, l)
	case !l.HasUsername:
		return auth.Ignore, nil
	case len(l.Password) == 0: // as none; to a directory it would be nobody in particular, and that is taken
		return auth.Defer, nil
	case r.passwords != nil:
		return r.admitFile(ctx, l)
	}
	a, err := r.about(ctx, l)
	if err != nil {
		return r.failed(l, err)
	}
	v, known := a.verdict, a.verdict == auth.Allow
	if r.keepsHashes() {
		h := a.hash
		if !known {
			h = r.decoys.of(l.Username)
		} else {
			r.decoys.note(l.Username, h)
		}
		ok, told := r.prove(ctx, l, h, known)
		switch {
		case !told:
			return auth.Ask, nil
		case known && !ok:
			v = auth.Deny
		}
	}
	if v != auth.Allow {
		return v, nil
	}
	return r.pass(ctx, l, a)
}

// keepsHashes reports whether it has stored passwords, which are compared here.
func (r *running) keepsHashes() bool { return r.cfg.SQL != nil || r.cfg.Redis != nil }

// about is what it says of a login. With LastKnown an old answer takes the place of one that cannot be had.
func (r *running) about(ctx context.Context, l *auth.Login) (*answer, error) {
	q := &lookup.Question{
		Values: []string{nameUser: l.Username, nameClient: l.ClientID, nameAddress: textOf(l)},
		From:   places.Peer{Addr: l.Address, Trusted: l.Local},
	}
	if !r.keepsHashes() {
		q.Values = append(q.Values, string(l.Password))
	}
	return r.ask(ctx, r.users, q)
}

func textOf(l *auth.Login) string {
	if !l.Address.IsValid() {
		return ""
	}
	return l.Address.String()
}

func (r *running) ask(ctx context.Context, l *lookup.Lookup[*answer], q *lookup.Question) (*answer, error) {
	a, err := l.Ask(ctx, q)
	if err != nil && r.cfg.OnFailure == LastKnown {
		if last, ok := l.Last(q); ok {
			return last, nil
		}
	}
	return a, err
}

// failed is what a login comes to that nobody has answered for.
func (r *running) failed(l *auth.Login, err error) (auth.Verdict, *auth.Pass) {
	r.e.metrics.logins.WithLabelValues(r.cfg.Name, "failed").Inc()
	r.failing.Add(fmt.Sprintf("Logins: source %s does not answer: %v", r.cfg.Name, err))
	if r.cfg.OnFailure != Open || !ctxLives(err) {
		return auth.Ask, nil
	}
	p := &auth.Pass{Source: r.cfg.Name, Mark: r.markOf(l.Username)}
	w := who{l.ClientID, l.Username}
	p.Rules = r.rulesOf(w, &answer{}, nil) // what the file says holds
	if r.topics != nil {
		p.Rules = r.e.asking.hold(r, w, p.Rules)
	}
	return auth.Allow, p
}

// ctxLives reports that it was not for us to end.
func ctxLives(err error) bool { return lookup.Outcome(err) != "canceled" }

// pass is what a client gets that is let in.
func (r *running) pass(ctx context.Context, l *auth.Login, a *answer) (auth.Verdict, *auth.Pass) {
	p := &auth.Pass{
		Source: r.cfg.Name, Expires: a.expires, PreSubscribe: a.topics, Groups: a.groups,
		Mark: r.markOf(l.Username),
	}
	w := who{l.ClientID, l.Username}
	if a.username != "" {
		p.Username, p.HasUsername, w.username = a.username, true, a.username
	}
	from := places.Peer{Addr: l.Address, Trusted: l.Local}
	super := a.superuser
	if r.superuser != nil {
		s, err := r.ask(ctx, r.superuser, &lookup.Question{
			Values: []string{nameUser: w.username, nameClient: w.clientID, nameAddress: textOf(l)},
			From:   from,
		})
		if err != nil {
			return r.failed(l, err)
		}
		super = super || s.verdict == auth.Allow
	}
	if super {
		p.Rules = all{}
		return auth.Allow, p
	}
	var err error
	if p.Rules, p.Groups, err = r.entitle(ctx, w, a, from); err != nil {
		return r.failed(l, err)
	}
	return auth.Allow, p
}

// entitle makes the rules of a client that is let in; nil where it has nothing to say about topics.
func (r *running) entitle(
	ctx context.Context, w who, a *answer, from places.Peer,
) (rules auth.Rules, groups []string, err error) {
	groups = a.groups
	if r.rights != nil {
		rights, err := r.askRights(ctx, w, from)
		if err != nil {
			return nil, nil, err
		}
		groups = append(slices.Clone(groups), rights.groups...)
		rules = r.e.lives.hold(r, w, a, r.rulesOf(w, a, rights))
	} else {
		rules = r.rulesOf(w, a, nil)
	}
	if r.topics != nil {
		rules = r.e.asking.hold(r, w, rules)
	}
	return rules, groups, nil
}

// askRights asks for the rules of a user.
func (r *running) askRights(ctx context.Context, w who, from places.Peer) (*answer, error) {
	one := func(acc string) (*answer, error) {
		values := []string{w.username, w.clientID, acc}
		return r.ask(ctx, r.rights, &lookup.Question{Values: values, From: from})
	}
	if !r.cfg.byAccess() {
		return one("")
	}
	sum := &answer{verdict: auth.Allow, listed: true}
	for _, access := range []auth.Access{auth.Read, auth.Write, auth.Subscribe} {
		a, err := one(strconv.Itoa(access.Number()))
		if err != nil {
			return nil, err
		}
		for _, x := range a.rules {
			sum.rules = append(sum.rules, rule{access, x.filter})
		}
	}
	if !slices.ContainsFunc(sum.rules, func(x rule) bool { return x.access == auth.Subscribe }) {
		sum.rules = append(sum.rules, rule{auth.Subscribe, nowhere})
	}
	return sum, nil
}

// nowhere is a filter that nobody subscribes to: with it alone there are no subscriptions.
const nowhere = "$noctule/none"

// rulesOf are the rules of one client, of all that says something about them; nil if nothing does.
func (r *running) rulesOf(w who, a, rights *answer) auth.Rules {
	s := r.cfg
	if len(s.Topics) == 0 && len(s.GroupTopics) == 0 && !a.listed && (rights == nil || !rights.listed) {
		return nil
	}
	list := slices.Clone(a.rules)
	groups := a.groups
	if rights != nil {
		list = append(list, rights.rules...)
		groups = append(slices.Clone(groups), rights.groups...)
	}
	lines := slices.Clone(s.Topics)
	for _, g := range groups {
		lines = append(lines, s.GroupTopics[g]...)
	}
	for _, line := range lines {
		if x, err := parseLine(line); err == nil { // they were checked
			list = append(list, x)
		}
	}
	return rulesOf(list, w)
}

// admitFile decides by a password file.
func (r *running) admitFile(ctx context.Context, l *auth.Login) (auth.Verdict, *auth.Pass) {
	h := r.passwords.Stored(l.Username)
	if h == nil {
		v := auth.Defer
		if auth.Compute(ctx, l, func() bool { v = r.passwords.Authenticate(l); return true }) != 0 {
			return auth.Ask, nil
		}
		return v, nil
	}
	ok, told := r.prove(ctx, l, h, true)
	switch {
	case !told:
		return auth.Ask, nil
	case !ok:
		return auth.Deny, nil
	}
	return r.pass(ctx, l, &answer{verdict: auth.Allow})
}

// markOf is a number that changes when what decided about a user does, as far as that can be told.
func (r *running) markOf(username string) uint64 {
	switch {
	case r.passwords != nil:
		return r.passwords.Mark(username)
	case r.tokens != nil:
		return r.mark
	}
	return 1
}

// markKeys works out the mark of keys for tokens.
func (r *running) markKeys() {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		sum := r.files[name]
		h.Write(sum[:])
	}
	if x := r.cfg.JWT.Remote; x != nil {
		h.Write([]byte(x.URL))
	}
	fmt.Fprintf(h, "\x00%s\x00%q", r.cfg.JWT.Issuer, r.cfg.JWT.Audiences)
	r.mark = binary.LittleEndian.Uint64(h.Sum(nil)) | 1
}
