package source

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"noctule/broker/auth"
	"noctule/broker/auth/token"
	"noctule/broker/lookup"
	"noctule/broker/lookup/ldap"
	"noctule/broker/lookup/redis"
	"noctule/internal/regular"
)

// Config is auth.yaml.
type Config struct {
	// Sources are asked in their order.
	Sources []Settings `yaml:"sources"`

	file string // "" if it was not loaded
	raw  []byte
}

// Settings are those of one source: exactly one of JWT, HTTP, SQL, Redis, LDAP and File.
type Settings struct {
	Name      string `yaml:"name"`
	OnFailure string `yaml:"on_failure"` // closed, open or last_known: see Failure
	// For and NotFor select the clients that it is asked about; nil: all, and none.
	For    Selectors `yaml:"for"`
	NotFor Selectors `yaml:"not_for"`
	// Topics are rules of everybody whom it lets in: lines as behind "topic" in an ACL file, in which %u is
	// the username and %c the client id. GroupTopics are those of the members of groups.
	Topics      []string            `yaml:"topics"`
	GroupTopics map[string][]string `yaml:"group_topics"`
	// Refresh is how old the rules of a client may be before they are asked for again; 5m.
	Refresh lookup.Duration `yaml:"refresh"`
	// Refused is how long a no, and that a user is not known, is kept; 5s.
	Refused lookup.Duration `yaml:"refused_ttl"`

	JWT   *JWT   `yaml:"jwt"`
	Redis *Redis `yaml:"redis"`
	LDAP  *LDAP  `yaml:"ldap"`
	File  string `yaml:"file"` // a password file

	// Settings are http and sql, and what is said of asking: budget, max_waiting, key, cache.
	lookup.Settings `yaml:",inline"`
	// Answer is how a webservice answers: status (which is the default), json or text. See readHTTP.
	Answer string `yaml:"answer"`
	// RulesQuery is for sql: its rows are rules, in the columns access and topic. Where it mentions %{acc} it
	// is asked once for each access, and its rows are topics.
	RulesQuery string `yaml:"rules_query"`
	// TextSalt says how salts are written in the hashes of sql and redis: see hash.Form.
	TextSalt bool `yaml:"text_salt"`
	// Superuser is asked about each user that is let in: by http, yes or no, or by sql, whose first column
	// says it. A superuser has all rights that this source has to give.
	Superuser *Asked `yaml:"superuser"`
	// ACL is asked by http, about each topic.
	ACL *Asked `yaml:"acl"`
}

// Asked is who else is asked.
type Asked struct {
	lookup.Settings `yaml:",inline"`
	Answer          string `yaml:"answer"`
}

// JWT takes tokens in the place of passwords: one of the keys is set.
type JWT struct {
	SecretFile string              `yaml:"secret_file"`     // HS256, HS384, HS512
	KeyFile    string              `yaml:"public_key_file"` // PEM: RS, PS, ES, EdDSA
	SetFile    string              `yaml:"jwks_file"`       // a JSON Web Key Set
	Remote     *token.RemoteConfig `yaml:"jwks"`            // one of a URL
	// NoWill says that a will is not sent when the end of the token ends the connection.
	NoWill bool `yaml:"no_will"`

	token.Config  `yaml:",inline"`
	token.Mapping `yaml:",inline"`
}

// Redis says where users are. Words are templates with %u and %c.
type Redis struct {
	redis.Config `yaml:",inline"`
	// Key has the stored password: of GET, or with Field of HGET.
	Key   string `yaml:"key"`
	Field string `yaml:"field"`
	// SuperuserKey has "true" or "1" for a superuser, with SuperuserField of HGET.
	SuperuserKey   string     `yaml:"superuser_key"`
	SuperuserField string     `yaml:"superuser_field"`
	Rules          []RedisSet `yaml:"rules"`
}

// RedisSet is a set of rules: lines, or with Access (read, write, readwrite, subscribe, deny) topics.
type RedisSet struct {
	Key    string `yaml:"key"`
	Access string `yaml:"access"`
}

// LDAP says how users are found: by DN, or by Search with the name of who searches.
type LDAP struct {
	ldap.Config `yaml:",inline"`
	DN          string      `yaml:"dn"` // "uid=%u,ou=people,dc=example,dc=org"
	Search      *LDAPSearch `yaml:"search"`
	// Groups finds the groups of a user; the filter may have %{dn} too. Attribute has their names; cn.
	Groups *LDAPSearch `yaml:"groups"`
}

// LDAPSearch is where entries are, and which.
type LDAPSearch struct {
	Base      string `yaml:"base"`
	Filter    string `yaml:"filter"` // "(uid=%u)"
	Attribute string `yaml:"attribute"`
}

// The failures: what a login, or a question about a topic, comes to when nobody answers.
const (
	Closed    = "closed"     // nobody gets in, and the connection ends: it may come again
	Open      = "open"       // who was not refused gets in, and may do what is asked about
	LastKnown = "last_known" // the last answer counts that this process has had; without one it is closed
)

// Selector says which clients it fits: those that all of its settings fit.
type Selector struct {
	Username lookup.Patterns `yaml:"username"`
	ClientID lookup.Patterns `yaml:"clientid"`
	Address  lookup.Prefixes `yaml:"address"`
}

// Selectors are one or several; they fit if one of them does.
type Selectors []Selector

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (s *Selectors) UnmarshalYAML(n ast.Node) (err error) {
	*s, err = lookup.Selectors(n, (*Selector).none, "username, clientid, address")
	return err
}

// none reports whether nothing is selected by, which would fit everybody.
func (x *Selector) none() bool { return len(x.Username)+len(x.ClientID)+len(x.Address) == 0 }

// fit reports whether one of them fits a login.
func (s Selectors) fit(l *auth.Login) bool {
	for i := range s {
		x := &s[i]
		if (x.Username == nil || x.Username.Fit(l.Username)) &&
			(x.ClientID == nil || x.ClientID.Fit(l.ClientID)) &&
			(x.Address == nil || l.Address.IsValid() && x.Address.Fit(l.Address)) {
			return true
		}
	}
	return false
}

// Load reads auth.yaml. Errors of what is in it are *auth.FileError.
func Load(path string) (*Config, error) {
	raw, err := regular.ReadFile(path)
	if err != nil {
		return nil, &auth.FileError{Path: path, Text: err.Error(), Err: err}
	}
	c, err := Parse(raw)
	if err != nil {
		return nil, inFile(path, err)
	}
	c.file = path
	return c, nil
}

// Parse reads the contents of auth.yaml.
func Parse(raw []byte) (*Config, error) {
	c := &Config{raw: raw}
	if err := lookup.ParseYAML(raw, c); err != nil {
		return nil, err
	}
	given := lookup.GivenIn(raw)
	for i := range c.Sources {
		if err := c.Sources[i].zeros(pathOf(i), given.Item("sources", i)); err != nil {
			return nil, lookup.WithLine(raw, err)
		}
	}
	if err := c.complete(given); err != nil {
		return nil, lookup.WithLine(raw, err)
	}
	return c, nil
}

// Complete sets defaults and checks what was not read from a file.
func (c *Config) Complete() error { return c.complete(lookup.Given{}) }

// at puts file and line in front of an error that was found later.
func (c *Config) at(err error) error {
	err = lookup.WithLine(c.raw, err)
	if c.file != "" {
		err = inFile(c.file, err)
	}
	return err
}

// inFile is an error that begins with a place, "[3:5] text", as one of a file.
func inFile(path string, err error) error {
	f := &auth.FileError{Path: path, Text: err.Error()}
	var column int
	if _, bad := fmt.Sscanf(f.Text, "[%d:%d]", &f.Line, &column); bad == nil {
		_, f.Text, _ = strings.Cut(f.Text, "] ")
	}
	return f
}

func pathOf(i int) string { return fmt.Sprintf("$.sources[%d]", i) }

// nameBytes are those of the names of sources.
const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func (c *Config) complete(given lookup.Given) error {
	names := map[string]bool{}
	for i := range c.Sources {
		s, path := &c.Sources[i], pathOf(i)
		s.defaults(given.Item("sources", i))
		if s.Name == "" || strings.Trim(s.Name, nameBytes) != "" {
			const text = "source %d: the name %q is not one of letters, digits, . _ -"
			return lookup.Wrong(path+".name", text, i+1, s.Name)
		}
		if names[s.Name] {
			return lookup.Wrong(path+".name", "source %s is there twice", s.Name)
		}
		names[s.Name] = true
		if err := s.check(path); err != nil {
			return err
		}
	}
	return nil
}

// zeros refuses a 0 where there is no such thing as none.
func (s *Settings) zeros(path string, given lookup.Given) error {
	if err := given.NoZero(path, "refresh", s.Refresh == 0); err != nil {
		return err
	}
	if err := s.CheckZeros(path, given); err != nil {
		return err
	}
	for name, x := range map[string]*Asked{"superuser": s.Superuser, "acl": s.ACL} {
		if x == nil {
			continue
		}
		if err := x.CheckZeros(path+"."+name, given.Part(name)); err != nil {
			return err
		}
	}
	return nil
}

const (
	cacheTTL   = 30 * time.Second
	refusedTTL = 5 * time.Second
	refresh    = 5 * time.Minute
)

func (s *Settings) defaults(given lookup.Given) {
	lookup.SetString(&s.OnFailure, Closed)
	lookup.SetString(&s.Answer, answerStatus)
	lookup.SetDuration(&s.Refresh, refresh)
	if !given.Has("refused_ttl") {
		lookup.SetDuration(&s.Refused, refusedTTL)
	}
	settle(&s.Settings, given)
	for name, x := range map[string]*Asked{"superuser": s.Superuser, "acl": s.ACL} {
		if x != nil {
			settle(&x.Settings, given.Part(name))
			lookup.SetString(&x.Answer, answerStatus)
		}
	}
	if s.Redis != nil {
		s.Redis.Defaults()
	}
	if s.LDAP != nil {
		s.LDAP.Defaults()
		if g := s.LDAP.Groups; g != nil {
			lookup.SetString(&g.Attribute, "cn")
		}
	}
}

// settle sets the defaults of asking. NoCache is no time to be kept for what was not read from a file.
func settle(s *lookup.Settings, given lookup.Given) {
	if s.Cache.TTL == NoCache {
		s.Cache.TTL = 0
	} else if !given.Has("cache.ttl") {
		lookup.SetDuration(&s.Cache.TTL, cacheTTL)
	}
	s.Defaults(given)
}

// NoCache is the cache.ttl of who makes Settings without a file and wants nothing kept.
const NoCache = lookup.Duration(-1)

// check reports what is wrong.
func (s *Settings) check(path string) error {
	if err := lookup.OneOf(path+".on_failure", s.OnFailure, Closed, Open, LastKnown); err != nil {
		return err
	}
	kinds := 0
	for _, there := range []bool{
		s.JWT != nil, s.HTTP != nil, s.SQL != nil, s.Redis != nil, s.LDAP != nil, s.File != "",
	} {
		if there {
			kinds++
		}
	}
	if kinds != 1 {
		return lookup.Wrong(path, "source %s needs exactly one of jwt, http, sql, redis, ldap, file", s.Name)
	}
	if err := s.checkTopics(path); err != nil {
		return err
	}
	if err := s.checkWith(path); err != nil {
		return err
	}
	switch {
	case s.JWT != nil:
		return s.JWT.check(path + ".jwt")
	case s.Redis != nil:
		if err := s.Redis.check(path + ".redis"); err != nil {
			return err
		}
	case s.LDAP != nil:
		if err := s.LDAP.check(path + ".ldap"); err != nil {
			return err
		}
	}
	return s.checkAsked(path)
}

// checkTopics tries the rules that are written in the file.
func (s *Settings) checkTopics(path string) error {
	try := func(at string, list []string) error {
		for i, line := range list {
			if err := checkLine(line); err != nil {
				return lookup.Wrong(fmt.Sprintf("%s[%d]", at, i), "%v", err)
			}
		}
		return nil
	}
	if err := try(path+".topics", s.Topics); err != nil {
		return err
	}
	for group, list := range s.GroupTopics {
		if err := try(path+".group_topics."+group, list); err != nil {
			return err
		}
	}
	return nil
}

// checkWith refuses settings that belong to another kind of source.
func (s *Settings) checkWith(path string) error {
	for _, x := range []struct {
		key   string
		there bool
		with  string
		ok    bool
	}{
		{"rules_query", s.RulesQuery != "", "sql", s.SQL != nil},
		{"answer", s.Answer != answerStatus, "http", s.HTTP != nil},
		{"text_salt", s.TextSalt, "sql or redis", s.SQL != nil || s.Redis != nil},
		{"topics", s.Topics != nil, "other sources than jwt, which has topics of its own", s.JWT == nil},
		{"group_topics", s.GroupTopics != nil, "http and ldap", s.HTTP != nil || s.LDAP != nil},
		{"superuser", s.Superuser != nil, "other sources than jwt", s.JWT == nil},
		{"acl", s.ACL != nil, "webservices: it needs http", s.ACL == nil || s.ACL.HTTP != nil},
	} {
		if x.there && !x.ok {
			return lookup.Wrong(path+"."+x.key, "%s is for %s", x.key, x.with)
		}
	}
	return nil
}

// checkAsked checks how others are asked.
func (s *Settings) checkAsked(path string) error {
	n := names(s.HTTP != nil)
	if err := s.Check(path, n); err != nil {
		return err
	}
	if err := s.checkKey(path); err != nil {
		return err
	}
	if s.RulesQuery != "" {
		q := *s.SQL
		q.Query = s.RulesQuery
		r := s.Settings
		r.SQL, r.Key = &q, nil
		if err := r.Check(path, rightNames()); err != nil {
			return lookup.Wrong(path+".rules_query", "%v", err)
		}
	}
	for _, x := range []struct {
		name  string
		asked *Asked
		names lookup.Names
	}{{"superuser", s.Superuser, names(false)}, {"acl", s.ACL, topicNames()}} {
		if x.asked == nil {
			continue
		}
		at := path + "." + x.name
		if (x.asked.HTTP == nil) == (x.asked.SQL == nil) {
			return lookup.Wrong(at, "%s needs one of http and sql", x.name)
		}
		if err := x.asked.Check(at, x.names); err != nil {
			return err
		}
		if err := oneAnswer(at+".answer", x.asked.Answer); err != nil {
			return err
		}
		if x.asked.HTTP != nil && x.asked.HTTP.Batch > 0 {
			return lookup.Wrong(at+".http.batch", "one thing is asked at a time")
		}
	}
	if s.HTTP != nil && s.HTTP.Batch > 0 {
		return lookup.Wrong(path+".http.batch", "one login is asked about at a time")
	}
	return oneAnswer(path+".answer", s.Answer)
}

// checkKey refuses a key by which one client would have the answer to another.
func (s *Settings) checkKey(path string) error {
	if s.Key == nil {
		return nil
	}
	need := []string{"username"}
	if s.HTTP != nil || s.LDAP != nil {
		need = append(need, "password")
	}
	for _, name := range need {
		found := false
		for _, k := range s.Key {
			found = found || k == name
		}
		if !found {
			const text = "without the %s one client would have the answer to another"
			return lookup.Wrong(path+".key", text, name)
		}
	}
	return nil
}

func oneAnswer(path, answer string) error {
	return lookup.OneOf(path, answer, answerStatus, answerJSON, answerText)
}

func (j *JWT) check(path string) error {
	keys := 0
	for _, there := range []bool{j.SecretFile != "", j.KeyFile != "", j.SetFile != "", j.Remote != nil} {
		if there {
			keys++
		}
	}
	if keys != 1 {
		return lookup.Wrong(path, "exactly one of secret_file, public_key_file, jwks_file and jwks is needed")
	}
	if len(j.Algorithms) == 0 {
		return lookup.Wrong(path, "algorithms must be named")
	}
	if err := j.Check(); err != nil {
		return lookup.Wrong(path, "%v", err)
	}
	return nil
}

func (r *Redis) check(path string) error {
	if err := r.Check(path); err != nil {
		return err
	}
	if r.Key == "" {
		return lookup.Wrong(path, "no key")
	}
	words := map[string]string{
		"key": r.Key, "field": r.Field, "superuser_key": r.SuperuserKey, "superuser_field": r.SuperuserField,
	}
	for name, w := range words {
		if _, err := names(false).Parse(w); err != nil {
			return lookup.Wrong(path+"."+name, "%v", err)
		}
	}
	for i, x := range r.Rules {
		at := fmt.Sprintf("%s.rules[%d]", path, i)
		if _, err := names(false).Parse(x.Key); err != nil || x.Key == "" {
			return lookup.Wrong(at+".key", "%q is no key", x.Key)
		}
		if _, ok := accessOf(x.Access); x.Access != "" && !ok {
			const text = "%q is no access: read, write, readwrite, subscribe, deny"
			return lookup.Wrong(at+".access", text, x.Access)
		}
	}
	return nil
}

func (d *LDAP) check(path string) error {
	if err := d.Check(path); err != nil {
		return err
	}
	if (d.DN == "") == (d.Search == nil) {
		return lookup.Wrong(path, "either dn or search is needed")
	}
	if _, err := names(false).Parse(d.DN); err != nil {
		return lookup.Wrong(path+".dn", "%v", err)
	}
	for name, x := range map[string]*LDAPSearch{"search": d.Search, "groups": d.Groups} {
		if x == nil {
			continue
		}
		t, err := groupNames().Parse(x.Filter)
		if err == nil {
			err = ldap.CheckFilter(
				t.Expand(make([]string, len(groupNames())), func(string) string { return "x" }),
			)
		}
		if err != nil {
			return lookup.Wrong(path+"."+name+".filter", "%q is no filter: %v", x.Filter, err)
		}
		if name == "search" && x.Attribute != "" {
			return lookup.Wrong(path+".search.attribute", "an attribute is for groups")
		}
	}
	return nil
}
