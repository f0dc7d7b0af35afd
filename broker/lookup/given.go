package lookup

import (
	"strings"

	"github.com/goccy/go-yaml"
)

// Given knows which settings a part of a file has: one that is 0 may be 0, or may not be there.
type Given struct{ value any }

// GivenIn is that of a file that has been decoded without an error.
func GivenIn(raw []byte) Given {
	var g Given
	_ = yaml.Unmarshal(raw, &g.value)
	return g
}

// Has reports whether a setting is there, with a value: "pending.max".
func (g Given) Has(name string) bool {
	for key := range strings.SplitSeq(name, ".") {
		settings, _ := g.value.(map[string]any)
		g.value = settings[key]
	}
	return g.value != nil
}

// Item is the part of an item of a list.
func (g Given) Item(list string, i int) Given {
	settings, _ := g.value.(map[string]any)
	if items, _ := settings[list].([]any); i < len(items) {
		return Given{items[i]}
	}
	return Given{}
}

// NoZero refuses a setting that is there and 0, where there is no such thing as none: it would be taken for
// the default. path is that of what g is about.
func (g Given) NoZero(path, name string, zero bool) error {
	if zero && g.Has(name) {
		return Wrong(path+"."+name, "it has to be more than 0")
	}
	return nil
}

// Part is the part of a setting that has settings of its own.
func (g Given) Part(name string) Given {
	settings, _ := g.value.(map[string]any)
	return Given{settings[name]}
}
