package broker

import "testing"

func TestFiltersMeet(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a/+/new", "#", true},
		{"a/+/new", "+/b/+", true},
		{"a/+/new", "a/b/new", true},
		{"a/+/new", "a/+", false},
		{"a/+/new", "a/b/old", false},
		{"a", "a/#", true},
		{"a/#", "a", true},
		{"a", "a/b", false},
		{"a/b", "a/+/#", true},
		{"a/b", "b/#", false},
		{"$x/y", "$x/#", true},
	} {
		if meet([]byte(c.a), []byte(c.b)) != c.want || meet([]byte(c.b), []byte(c.a)) != c.want {
			t.Errorf("%s and %s: want %t", c.a, c.b, c.want)
		}
	}
}
