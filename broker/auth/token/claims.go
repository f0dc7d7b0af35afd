package token

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"noctule/broker/auth"
)

// Mapping is which claims say who a client is and what it may do. A claim is named as it is in the token; a
// name with dots that is not there as it is leads into objects (realm_access.roles).
type Mapping struct {
	// Username is a claim; without it CONNECT's username stays.
	Username string `yaml:"username"`
	// MatchUsername wants CONNECT's username to be the token's; otherwise the token's takes its place.
	MatchUsername bool `yaml:"match_username"`
	// ClientID is a claim that CONNECT's client id must be; it takes the place of an empty one.
	ClientID string `yaml:"client_id"`
	Kind     string `yaml:"kind"`   // a claim with the kind of terminal
	Groups   string `yaml:"groups"` // a claim: an array of names, or one, or several with spaces between
	// Topics are lines as behind "topic" in an ACL file ("read a/%u/#"): %u is the username, %c the client
	// id, %k the kind, %{name} a claim.
	Topics []string `yaml:"topics"`
	// GroupTopics are more of them for the members of groups.
	GroupTopics map[string][]string `yaml:"group_topics"`
	// TopicsClaim is a claim with such lines: an array.
	TopicsClaim string `yaml:"topics_claim"`
	// PreSubscribe is a claim with topics to be subscribed to, as package presub reads them.
	PreSubscribe string `yaml:"pre_subscribe"`
}

// Subject is who a token says that a client is, and what it may do.
type Subject struct {
	Username     string
	HasUsername  bool
	ClientID     string
	Kind         string
	Groups       []string
	Rules        auth.Rules // nil: the token has nothing to say about topics
	PreSubscribe any        // the claim, as encoding/json makes it; nil: it is not there
	ID           string     // jti; ""
	Expires      time.Time  // the zero Time: never
}

// Limits of what a token may bring.
const (
	groupsMax = 256
	topicsMax = 1024
)

// Check reports what is wrong with the templates.
func (m *Mapping) Check() error {
	for i, t := range m.Topics {
		if err := checkTemplate(t); err != nil {
			return fmt.Errorf("topics[%d]: %w", i, err)
		}
	}
	for group, list := range m.GroupTopics {
		for i, t := range list {
			if err := checkTemplate(t); err != nil {
				return fmt.Errorf("group_topics.%s[%d]: %w", group, i, err)
			}
		}
	}
	if len(m.GroupTopics) > 0 && m.Groups == "" {
		return fmt.Errorf("group_topics: no claim is named that has the groups")
	}
	return nil
}

// checkTemplate fills a template with names that can do no harm.
func checkTemplate(t string) error {
	r, err := auth.ParseRule(t)
	if err != nil {
		return err
	}
	filter, ok := expand(r.Filter, func(string) string { return "x" })
	if !ok {
		return fmt.Errorf("%q: a place that does not end", t)
	}
	r.Filter = filter
	return r.Check()
}

// Subject maps a token's claims; clientID, username and named are CONNECT's. An error is an *Error: Claim for
// a claim that is missing or is not what it has to be, Mismatch for one that says otherwise than CONNECT.
func (m *Mapping) Subject(t *Token, clientID, username string, named bool) (*Subject, error) {
	s := &Subject{
		Username: username, HasUsername: named, ClientID: clientID, ID: t.ID, Expires: t.Expires,
	}
	if err := m.names(s, t); err != nil {
		return nil, err
	}
	var err error
	if s.Kind, err = t.name(m.Kind); err != nil {
		return nil, err
	}
	if s.Groups, err = t.words(m.Groups, groupsMax); err != nil {
		return nil, err
	}
	if s.Rules, err = m.rules(s, t); err != nil {
		return nil, err
	}
	if m.PreSubscribe != "" {
		s.PreSubscribe = t.claim(m.PreSubscribe)
	}
	return s, nil
}

// names takes username and client id.
func (m *Mapping) names(s *Subject, t *Token) error {
	user, err := t.name(m.Username)
	if err != nil {
		return err
	}
	id, err := t.name(m.ClientID)
	switch {
	case err != nil:
		return err
	case m.ClientID != "" && s.ClientID != "" && s.ClientID != id:
		return &Error{Mismatch, m.ClientID}
	case m.ClientID != "":
		s.ClientID = id
	}
	switch {
	case m.Username == "":
		return nil
	case m.MatchUsername && (!s.HasUsername || s.Username != user):
		return &Error{Mismatch, m.Username}
	}
	s.Username, s.HasUsername = user, true
	return nil
}

// rules are those of the templates; nil if there are none for anybody.
func (m *Mapping) rules(s *Subject, t *Token) (auth.Rules, error) {
	if len(m.Topics) == 0 && len(m.GroupTopics) == 0 && m.TopicsClaim == "" {
		return nil, nil
	}
	lines := slices.Clone(m.Topics)
	for _, g := range s.Groups {
		lines = append(lines, m.GroupTopics[g]...)
	}
	own, err := t.array(m.TopicsClaim, topicsMax)
	if err != nil {
		return nil, err
	}
	var list []auth.Rule
	for _, line := range append(lines, own...) {
		r, err := auth.ParseRule(line)
		if err != nil {
			return nil, &Error{Claim, m.TopicsClaim}
		}
		whole := t.fill(&r, s)
		switch {
		case whole:
			list = append(list, r)
		case r.Access == 0:
			return auth.NewRules(nil)
		}
	}
	rules, err := auth.NewRules(list)
	if err != nil {
		return nil, &Error{Claim, m.TopicsClaim}
	}
	return rules, nil
}

// fill fills the places of a rule; whole is false where a name is missing or is more than a part of a level:
// with "+", "#" or "/" it could reach the topics of others. A rule that allows is left out then. One that
// denies would be missing where it is wanted, so nothing is allowed.
func (t *Token) fill(r *auth.Rule, s *Subject) (whole bool) {
	whole = true
	filter, ends := expand(r.Filter, func(place string) string {
		var x string
		switch place {
		case "u":
			x = s.Username
		case "c":
			x = s.ClientID
		case "k":
			x = s.Kind
		default:
			x, _ = t.claim(place).(string)
		}
		whole = whole && x != "" && !strings.ContainsAny(x, "+#/") && auth.ValidName(x) != ""
		return x
	})
	r.Filter = filter
	return whole && ends
}

// expand fills the places of a template; ok is false if %{ does not end.
func expand(template string, value func(place string) string) (filled string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(template, "%")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), true
		case after != "" && strings.ContainsRune("uck", rune(after[0])):
			b.WriteString(value(after[:1]))
			template = after[1:]
		case strings.HasPrefix(after, "{"):
			name, rest, ends := strings.Cut(after[1:], "}")
			if !ends || name == "" {
				return "", false
			}
			b.WriteString(value(name))
			template = rest
		default:
			b.WriteByte('%')
			template = after
		}
	}
}

// claim finds a claim; nil if it is not there.
func (t *Token) claim(name string) any {
	if x, there := t.Claims[name]; there {
		return x
	}
	var at any = t.Claims
	for step := range strings.SplitSeq(name, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[step]
	}
	return at
}

// name is a claim that must be a name; "" if none is asked for.
func (t *Token) name(claim string) (string, error) {
	if claim == "" {
		return "", nil
	}
	s, _ := t.claim(claim).(string)
	if s == "" || auth.ValidName(s) == "" {
		return "", &Error{Claim, claim}
	}
	return s, nil
}

// words is a claim that is an array of texts or one text with spaces; none if it is not there.
func (t *Token) words(claim string, most int) ([]string, error) {
	if claim == "" {
		return nil, nil
	}
	if s, ok := t.claim(claim).(string); ok {
		list := strings.Fields(s)
		if len(list) > most {
			return nil, &Error{Claim, claim}
		}
		return list, nil
	}
	return t.array(claim, most)
}

// array is a claim that is an array of texts; none if it is not there.
func (t *Token) array(claim string, most int) ([]string, error) {
	x := t.claim(claim)
	if claim == "" || x == nil {
		return nil, nil
	}
	items, ok := x.([]any)
	if !ok || len(items) > most {
		return nil, &Error{Claim, claim}
	}
	list := make([]string, len(items))
	for i, item := range items {
		if list[i], ok = item.(string); !ok {
			return nil, &Error{Claim, claim}
		}
	}
	return list, nil
}
