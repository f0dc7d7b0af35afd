package presub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"noctule/broker/behalf"
	"noctule/codec"
	"noctule/internal/regular"
)

// Duration is a time in presub.yaml: "200ms", "30s".
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		pos := n.GetToken().Position
		return fmt.Errorf("[%d:%d] %q is not a time such as 200ms or 30s", pos.Line, pos.Column, text)
	}
	*d = Duration(v)
	return nil
}

// Config is presub.yaml.
type Config struct {
	// Tenant says what %e stands for.
	Tenant Tenant `yaml:"tenant"`
	// Pending is about requests for clients that are not connected.
	Pending Pending `yaml:"pending"`
	// Control is about entries on $CONTROL/presub/v1.
	Control Control `yaml:"control"`
	// Connect is about the topic that says who has logged in.
	Connect ConnectTopic `yaml:"connect"`
	// ClientUnsubscribe and ACL are for what requests have made: allow, sticky or deny; enforce or bypass.
	ClientUnsubscribe string `yaml:"client_unsubscribe"`
	ACL               string `yaml:"acl"`
	// Providers know the lists of clients.
	Providers []ProviderConfig `yaml:"providers"`

	file string // "" if it was not loaded
	raw  []byte
}

// Tenant is a constant, or the first group of a regular expression that the username or client id matches.
type Tenant struct {
	Value string `yaml:"value"`
	From  string `yaml:"from"` // username or clientid
	Match string `yaml:"match"`

	pattern *regexp.Regexp
}

// Pending bounds what waits.
type Pending struct {
	DefaultWait Duration `yaml:"default_wait"` // 30s
	Max         int      `yaml:"max"`          // entries
	MaxBytes    int64    `yaml:"max_bytes"`    // of their filters
}

// Control names the users who may ask over MQTT, beside those to whom an access rule gives it.
type Control struct {
	Usernames []string `yaml:"usernames"`
}

// ConnectTopic is the paper's /e/{eid}/connect/new.
type ConnectTopic struct {
	Topic     string   `yaml:"topic"` // "" turns it off
	Usernames []string `yaml:"usernames"`
}

// ProviderConfig is one provider: exactly one of Static, HTTP, SQL and JWT.
type ProviderConfig struct {
	Name              string   `yaml:"name"`
	When              string   `yaml:"when"`               // before_connack or after_connack
	Budget            Duration `yaml:"budget"`             // 1s
	OnFailure         string   `yaml:"on_failure"`         // last_known, refuse or empty; see defaults
	ACL               string   `yaml:"acl"`                // enforce or bypass
	ClientUnsubscribe string   `yaml:"client_unsubscribe"` // allow, sticky or deny
	MaxTopics         int      `yaml:"max_topics"`         // 10000
	MaxWaiting        int      `yaml:"max_waiting"`        // lookups that wait for their turn; 10000
	OnOverload        string   `yaml:"on_overload"`        // server_unavailable or quota_exceeded

	// For and NotFor select the clients that it has a list for; nil: all, and none.
	For    Selectors `yaml:"for"`
	NotFor Selectors `yaml:"not_for"`

	Static *StaticConfig `yaml:"static"`
	HTTP   *HTTPConfig   `yaml:"http"`
	SQL    *SQLConfig    `yaml:"sql"`
	JWT    *JWTConfig    `yaml:"jwt"`
	Cache  CacheConfig   `yaml:"cache"`
}

// CacheConfig is about lists of HTTP and SQL providers.
type CacheConfig struct {
	TTL   Duration `yaml:"ttl"`   // a list is asked for again after it; 0: each time
	Stale Duration `yaml:"stale"` // and may be used for so long if asking fails; 24h
	Max   int      `yaml:"max"`   // clients; 100000
}

// TopicConfig is a topic template.
type TopicConfig struct {
	Topic string `yaml:"topic"`
	QoS   uint8  `yaml:"qos"`
	NL    bool   `yaml:"nl"`
	RAP   bool   `yaml:"rap"`
	RH    uint8  `yaml:"rh"`
	ID    uint32 `yaml:"id"`
}

// Load reads presub.yaml. Errors name the line.
func Load(path string) (*Config, error) {
	raw, err := regular.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.file = path
	return c, nil
}

// at puts file and line in front of a settingError that was found later.
func (c *Config) at(err error) error {
	err = withLine(c.raw, err)
	if c.file != "" {
		err = fmt.Errorf("%s: %w", c.file, err)
	}
	return err
}

// Parse reads the contents of presub.yaml.
func Parse(raw []byte) (*Config, error) {
	c := &Config{raw: raw}
	dec := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict())
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) { // it says nothing
		return nil, plainError(err)
	}
	given := presenceIn(raw)
	if err := c.checkZeros(given); err != nil {
		return nil, withLine(raw, err)
	}
	c.defaults(given)
	if err := c.check(); err != nil {
		return nil, withLine(raw, err)
	}
	return c, nil
}

// plainError is an error of the YAML reader in one line: "[3:5] unknown field".
func plainError(err error) error {
	first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return errors.New(strings.TrimSpace(first))
}

func (c *Config) defaults(given presence) {
	if !given.at("pending.default_wait") {
		setDuration(&c.Pending.DefaultWait, 30*time.Second)
	}
	if !given.at("pending.max") {
		setInt(&c.Pending.Max, 10000)
	}
	if c.Pending.MaxBytes == 0 && !given.at("pending.max_bytes") {
		c.Pending.MaxBytes = 16 << 20
	}
	setString(&c.ClientUnsubscribe, "allow")
	setString(&c.ACL, "enforce")
	for i := range c.Providers {
		p := &c.Providers[i]
		setString(&p.When, "before_connack")
		if p.JWT != nil { // what an earlier token said is not for who has none now
			setString(&p.OnFailure, "empty")
		}
		setString(&p.OnFailure, "last_known")
		setString(&p.ACL, "enforce")
		setString(&p.ClientUnsubscribe, "allow")
		setDuration(&p.Budget, time.Second)
		if !given.provider(i).at("cache.stale") {
			setDuration(&p.Cache.Stale, 24*time.Hour)
		}
		setInt(&p.Cache.Max, 100000)
		setInt(&p.MaxTopics, 10000)
		setInt(&p.MaxWaiting, 10000)
		setString(&p.OnOverload, "server_unavailable")
		if p.HTTP != nil {
			p.HTTP.defaults()
		}
	}
}

func setString(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

func setInt(n *int, v int) {
	if *n == 0 {
		*n = v
	}
}

func setDuration(d *Duration, v time.Duration) {
	if *d == 0 {
		*d = Duration(v)
	}
}

// settingError is a wrong value, with the path by which its line is found.
type settingError struct {
	path string // "$.providers[0].when"
	text string
}

// Error implements error.
func (e *settingError) Error() string { return e.text }

func wrong(path, format string, args ...any) error {
	return &settingError{path: path, text: fmt.Sprintf(format, args...)}
}

// withLine puts the line in front of a settingError.
func withLine(raw []byte, err error) error {
	var s *settingError
	if !errors.As(err, &s) {
		return err
	}
	for path := s.path; path != "$" && path != ""; path = path[:strings.LastIndexAny(path, ".[")] {
		p, perr := yaml.PathString(path)
		if perr != nil {
			break
		}
		node, perr := p.ReadNode(bytes.NewReader(raw))
		if perr == nil && node != nil && node.GetToken() != nil {
			pos := node.GetToken().Position
			return fmt.Errorf("[%d:%d] %w", pos.Line, pos.Column, err)
		}
	}
	return err
}

func (c *Config) check() error {
	if err := c.Tenant.check(); err != nil {
		return err
	}
	if err := oneOf("$.client_unsubscribe", c.ClientUnsubscribe, "allow", "sticky", "deny"); err != nil {
		return err
	}
	if err := oneOf("$.acl", c.ACL, "enforce", "bypass"); err != nil {
		return err
	}
	if c.Connect.Topic != "" && codec.CheckTopicFilter([]byte(c.Connect.Topic)) != nil {
		return wrong("$.connect.topic", "%q is not a topic filter", c.Connect.Topic)
	}
	if c.Pending.Max < 0 || c.Pending.MaxBytes < 0 {
		return wrong("$.pending", "limits cannot be negative")
	}
	names := map[string]bool{}
	for i := range c.Providers {
		p := &c.Providers[i]
		path := fmt.Sprintf("$.providers[%d]", i)
		if p.Name == "" || strings.Trim(p.Name, originBytes) != "" {
			return wrong(
				path+".name",
				"provider %d: the name %q is not one of letters, digits, . _ -",
				i+1,
				p.Name,
			)
		}
		if names[p.Name] {
			return wrong(path+".name", "provider %s is there twice", p.Name)
		}
		names[p.Name] = true
		if err := p.check(path); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(path, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return wrong(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
}

func (t *Tenant) check() error {
	switch {
	case t.From == "" && t.Match == "":
		return nil
	case t.Value != "":
		return wrong("$.tenant.value", "a tenant is either a value or matched")
	}
	if err := oneOf("$.tenant.from", t.From, "username", "clientid"); err != nil {
		return err
	}
	p, err := regexp.Compile(t.Match)
	if err != nil || p.NumSubexp() < 1 {
		return wrong("$.tenant.match", "%q is not a regular expression with a group", t.Match)
	}
	t.pattern = p
	return nil
}

// of is the tenant of a client; "" if it has none.
func (t *Tenant) of(clientID, username string) string {
	if t.pattern == nil {
		return t.Value
	}
	from := clientID
	if t.From == "username" {
		from = username
	}
	if m := t.pattern.FindStringSubmatch(from); m != nil {
		return m[1]
	}
	return ""
}

func (p *ProviderConfig) check(path string) error {
	if err := oneOf(path+".when", p.When, "before_connack", "after_connack"); err != nil {
		return err
	}
	if err := oneOf(path+".on_failure", p.OnFailure, "last_known", "refuse", "empty"); err != nil {
		return err
	}
	if err := oneOf(path+".acl", p.ACL, "enforce", "bypass"); err != nil {
		return err
	}
	if err := oneOf(path+".client_unsubscribe", p.ClientUnsubscribe, "allow", "sticky", "deny"); err != nil {
		return err
	}
	if err := oneOf(path+".on_overload", p.OnOverload, "server_unavailable", "quota_exceeded"); err != nil {
		return err
	}
	if p.MaxWaiting < 1 {
		return wrong(path+".max_waiting", "max_waiting %d is not 1 or more", p.MaxWaiting)
	}
	if p.When == "after_connack" && p.OnFailure == "refuse" {
		return wrong(path+".on_failure", "after CONNACK it is too late to refuse")
	}
	kinds := 0
	for _, there := range []bool{p.Static != nil, p.HTTP != nil, p.SQL != nil, p.JWT != nil} {
		if there {
			kinds++
		}
	}
	if kinds != 1 {
		return wrong(path, "provider %s needs exactly one of static, http, sql, jwt", p.Name)
	}
	switch {
	case p.Static != nil:
		return p.Static.check(path + ".static")
	case p.HTTP != nil:
		return p.HTTP.check(path + ".http")
	case p.SQL != nil:
		return p.SQL.check(path + ".sql")
	}
	if p.When == "after_connack" {
		return wrong(path+".when", "the password is known before CONNACK only")
	}
	return p.JWT.check(path + ".jwt")
}

// policyOf is the policy of a name that check has allowed.
func policyOf(name string) behalf.Policy {
	switch name {
	case "deny":
		return behalf.Deny
	case "sticky":
		return behalf.Sticky
	}
	return behalf.Allow
}
