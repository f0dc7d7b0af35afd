package presub

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"noctule/broker/behalf"
	"noctule/broker/lookup"
	"noctule/codec"
	"noctule/internal/regular"
)

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
	DefaultWait lookup.Duration `yaml:"default_wait"` // 30s
	Max         int             `yaml:"max"`          // entries
	MaxBytes    int64           `yaml:"max_bytes"`    // of their filters
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

// ProviderConfig is one provider: exactly one of Static, HTTP, SQL and JWT. HTTP answers 200 with
// {"topics":[{"topic":...,"qos":...}]}, or 204 for an empty list; SQL has the columns topic and, if it likes,
// qos, nl, rap, rh and id.
type ProviderConfig struct {
	Name              string `yaml:"name"`
	When              string `yaml:"when"`               // before_connack or after_connack
	OnFailure         string `yaml:"on_failure"`         // last_known, refuse or empty; see defaults
	ACL               string `yaml:"acl"`                // enforce or bypass
	ClientUnsubscribe string `yaml:"client_unsubscribe"` // allow, sticky or deny
	MaxTopics         int    `yaml:"max_topics"`         // 10000
	OnOverload        string `yaml:"on_overload"`        // server_unavailable or quota_exceeded

	// For and NotFor select the clients that it has a list for; nil: all, and none.
	For    Selectors `yaml:"for"`
	NotFor Selectors `yaml:"not_for"`

	Static *StaticConfig `yaml:"static"`
	JWT    *JWTConfig    `yaml:"jwt"`

	lookup.Settings `yaml:",inline"`
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
	err = lookup.WithLine(c.raw, err)
	if c.file != "" {
		err = fmt.Errorf("%s: %w", c.file, err)
	}
	return err
}

// Parse reads the contents of presub.yaml.
func Parse(raw []byte) (*Config, error) {
	c := &Config{raw: raw}
	if err := lookup.ParseYAML(raw, c); err != nil {
		return nil, err
	}
	given := lookup.GivenIn(raw)
	if err := c.checkZeros(given); err != nil {
		return nil, lookup.WithLine(raw, err)
	}
	c.defaults(given)
	if err := c.check(); err != nil {
		return nil, lookup.WithLine(raw, err)
	}
	return c, nil
}

func (c *Config) defaults(given lookup.Given) {
	if !given.Has("pending.default_wait") {
		lookup.SetDuration(&c.Pending.DefaultWait, 30*time.Second)
	}
	if !given.Has("pending.max") {
		lookup.SetInt(&c.Pending.Max, 10000)
	}
	if c.Pending.MaxBytes == 0 && !given.Has("pending.max_bytes") {
		c.Pending.MaxBytes = 16 << 20
	}
	lookup.SetString(&c.ClientUnsubscribe, "allow")
	lookup.SetString(&c.ACL, "enforce")
	for i := range c.Providers {
		p := &c.Providers[i]
		lookup.SetString(&p.When, "before_connack")
		if p.JWT != nil { // what an earlier token said is not for who has none now
			lookup.SetString(&p.OnFailure, "empty")
		}
		lookup.SetString(&p.OnFailure, "last_known")
		lookup.SetString(&p.ACL, "enforce")
		lookup.SetString(&p.ClientUnsubscribe, "allow")
		lookup.SetInt(&p.MaxTopics, 10000)
		lookup.SetString(&p.OnOverload, "server_unavailable")
		p.Defaults(given.Item("providers", i))
	}
}

// checkZeros refuses a 0 where there is no such thing as none.
func (c *Config) checkZeros(given lookup.Given) error {
	for i := range c.Providers {
		p, g := &c.Providers[i], given.Item("providers", i)
		path := fmt.Sprintf("$.providers[%d]", i)
		if err := g.NoZero(path, "max_topics", p.MaxTopics == 0); err != nil {
			return err
		}
		if err := p.CheckZeros(path, g); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) check() error {
	if err := c.Tenant.check(); err != nil {
		return err
	}
	err := lookup.OneOf("$.client_unsubscribe", c.ClientUnsubscribe, "allow", "sticky", "deny")
	if err != nil {
		return err
	}
	if err := lookup.OneOf("$.acl", c.ACL, "enforce", "bypass"); err != nil {
		return err
	}
	if c.Connect.Topic != "" && codec.CheckTopicFilter([]byte(c.Connect.Topic)) != nil {
		return lookup.Wrong("$.connect.topic", "%q is not a topic filter", c.Connect.Topic)
	}
	if c.Pending.Max < 0 || c.Pending.MaxBytes < 0 {
		return lookup.Wrong("$.pending", "limits cannot be negative")
	}
	names := map[string]bool{}
	for i := range c.Providers {
		p := &c.Providers[i]
		path := fmt.Sprintf("$.providers[%d]", i)
		if p.Name == "" || strings.Trim(p.Name, originBytes) != "" {
			return lookup.Wrong(
				path+".name",
				"provider %d: the name %q is not one of letters, digits, . _ -",
				i+1,
				p.Name,
			)
		}
		if names[p.Name] {
			return lookup.Wrong(path+".name", "provider %s is there twice", p.Name)
		}
		names[p.Name] = true
		if err := p.check(path); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tenant) check() error {
	switch {
	case t.From == "" && t.Match == "":
		return nil
	case t.Value != "":
		return lookup.Wrong("$.tenant.value", "a tenant is either a value or matched")
	}
	if err := lookup.OneOf("$.tenant.from", t.From, "username", "clientid"); err != nil {
		return err
	}
	p, err := regexp.Compile(t.Match)
	if err != nil || p.NumSubexp() < 1 {
		return lookup.Wrong("$.tenant.match", "%q is not a regular expression with a group", t.Match)
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
	if err := lookup.OneOf(path+".when", p.When, "before_connack", "after_connack"); err != nil {
		return err
	}
	if err := lookup.OneOf(path+".on_failure", p.OnFailure, "last_known", "refuse", "empty"); err != nil {
		return err
	}
	if err := lookup.OneOf(path+".acl", p.ACL, "enforce", "bypass"); err != nil {
		return err
	}
	err := lookup.OneOf(path+".client_unsubscribe", p.ClientUnsubscribe, "allow", "sticky", "deny")
	if err != nil {
		return err
	}
	err = lookup.OneOf(path+".on_overload", p.OnOverload, "server_unavailable", "quota_exceeded")
	if err != nil {
		return err
	}
	if p.When == "after_connack" && p.OnFailure == "refuse" {
		return lookup.Wrong(path+".on_failure", "after CONNACK it is too late to refuse")
	}
	kinds := 0
	for _, there := range []bool{p.Static != nil, p.HTTP != nil, p.SQL != nil, p.JWT != nil} {
		if there {
			kinds++
		}
	}
	if kinds != 1 {
		return lookup.Wrong(path, "provider %s needs exactly one of static, http, sql, jwt", p.Name)
	}
	switch {
	case p.Static != nil:
		return p.Static.check(path + ".static")
	case p.JWT == nil:
		return p.Check(path, names())
	}
	if p.When == "after_connack" {
		return lookup.Wrong(path+".when", "the password is known before CONNACK only")
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
