package metric

import (
	"slices"
	"testing"
)

func TestMarkdown(t *testing.T) {
	defs := []Def{
		{Name: "a_total", Kind: Counter, Help: "This | that."},
		{Name: "b", Kind: Gauge, Help: "B.", Labels: []Label{Of("x", "1", "2"), {Name: "y", Help: "from outside"}}},
	}
	want := "\n## Of both\n\n| metric | kind | what it says |\n|---|---|---|\n" +
		"| `a_total` | counter | This \\| that. |\n" +
		"| `b`<br>`{x,y}` | gauge | B.<br>`x`: `1`, `2`.<br>`y`: from outside. |\n"
	if got := Markdown([]Group{{"Of both", defs}}); got != want {
		t.Errorf("%s", got)
	}
	if got := defs[1].Names(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("%q", got)
	}
}
