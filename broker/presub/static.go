package presub

import (
	"context"
	"fmt"
	"strings"

	"noctule/broker/lookup"
	"noctule/codec"
)

// StaticConfig is templates: %c is the client id, %u the username, %e the tenant.
type StaticConfig struct {
	Topics []TopicConfig `yaml:"topics"`
}

func (s *StaticConfig) check(path string) error {
	if len(s.Topics) == 0 {
		return lookup.Wrong(path, "no topics")
	}
	for i := range s.Topics {
		x := s.Topics[i].expand(&Client{ID: "c", Username: "u", Tenant: "e"})
		if x == "" {
			return lookup.Wrong(fmt.Sprintf("%s.topics[%d]", path, i), "no topic")
		}
		t := s.Topics[i].topic(x)
		b := t.topic()
		if code := b.Check(); code != codec.Success {
			at := fmt.Sprintf("%s.topics[%d].topic", path, i)
			return lookup.Wrong(at, "%q: %s", s.Topics[i].Topic, code)
		}
	}
	return nil
}

// fixed reports whether the list is the same for everybody.
func (s *StaticConfig) fixed() bool {
	for i := range s.Topics {
		if placeholders(s.Topics[i].Topic) {
			return false
		}
	}
	return true
}

// byTenant reports whether the list is the same for all clients of a tenant.
func (s *StaticConfig) byTenant() bool {
	for i := range s.Topics {
		if t := s.Topics[i].Topic; strings.Contains(t, "%c") || strings.Contains(t, "%u") {
			return false
		}
	}
	return true
}

func placeholders(s string) bool {
	return strings.Contains(s, "%c") || strings.Contains(s, "%u") || strings.Contains(s, "%e")
}

// topics implements source. A template is left out for a client that lacks a name for it, or whose name would
// be more than a part of a level: with "+", "#" or "/" it could reach the topics of others.
func (s *StaticConfig) topics(_ context.Context, c *Client) ([]Topic, error) {
	list := make([]Topic, 0, len(s.Topics))
	for i := range s.Topics {
		if x := s.Topics[i].expand(c); x != "" {
			list = append(list, s.Topics[i].topic(x))
		}
	}
	return list, nil
}

func (t *TopicConfig) topic(name string) Topic {
	return Topic{Topic: name, QoS: t.QoS, NL: t.NL, RAP: t.RAP, RH: t.RH, ID: t.ID}
}

// expand is the topic for a client; "" if there is none.
func (t *TopicConfig) expand(c *Client) string {
	var pairs []string
	for _, p := range [...]struct{ mark, value string }{{"%c", c.ID}, {"%u", c.Username}, {"%e", c.Tenant}} {
		if !strings.Contains(t.Topic, p.mark) {
			continue
		}
		if p.value == "" || strings.ContainsAny(p.value, "+#/") {
			return ""
		}
		pairs = append(pairs, p.mark, p.value)
	}
	if pairs == nil {
		return t.Topic
	}
	return strings.NewReplacer(pairs...).Replace(t.Topic)
}
