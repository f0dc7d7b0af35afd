package presub

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// presence knows which settings a part of a file has: one that is 0 may be 0, or may not be there.
type presence struct{ value any }

// presenceIn is that of a file that has been decoded without an error.
func presenceIn(raw []byte) presence {
	var x presence
	_ = yaml.Unmarshal(raw, &x.value)
	return x
}

// at reports whether a setting is there, with a value: "pending.max".
func (x presence) at(name string) bool {
	for key := range strings.SplitSeq(name, ".") {
		settings, _ := x.value.(map[string]any)
		x.value = settings[key]
	}
	return x.value != nil
}

// provider is the part of a provider.
func (x presence) provider(i int) presence {
	settings, _ := x.value.(map[string]any)
	if list, _ := settings["providers"].([]any); i < len(list) {
		return presence{list[i]}
	}
	return presence{}
}

// checkZeros refuses a 0 where there is no such thing as none, which would be taken for the default.
func (c *Config) checkZeros(given presence) error {
	for i := range c.Providers {
		p := &c.Providers[i]
		type setting struct {
			name string
			zero bool
		}
		list := []setting{
			{"budget", p.Budget == 0},
			{"max_topics", p.MaxTopics == 0},
			{"max_waiting", p.MaxWaiting == 0},
			{"cache.max", p.Cache.Max == 0},
			{"http.timeout", p.HTTP != nil && p.HTTP.Timeout == 0},
			{"http.max_conns", p.HTTP != nil && p.HTTP.MaxConns == 0},
			{"sql.max_conns", p.SQL != nil && p.SQL.MaxConns == 0},
		}
		for _, x := range list {
			if x.zero && given.provider(i).at(x.name) {
				return wrong(fmt.Sprintf("$.providers[%d].%s", i, x.name), "it has to be more than 0")
			}
		}
	}
	return nil
}
