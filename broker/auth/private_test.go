package auth

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

// TestPrivate has who may read what is private, and which filters reach it.
func TestPrivate(t *testing.T) {
	list := Privates{{Filter: "in/+", Usernames: []string{"u", ""}}, {Filter: "in/x", Usernames: []string{"u", "v"}}}
	for _, c := range []struct {
		topic, username string
		want            bool
	}{
		{"in/x", "u", true},
		{"in/y", "u", true},
		{"in/x", "v", false},
		{"in/y", "v", false},
		{"in/y", "", false},
		{"out", "", true},
		{"in/x/y", "", true},
	} {
		if got := list.MayRead([]byte(c.topic), c.username, nil); got != c.want {
			t.Errorf("%s by %q: %v", c.topic, c.username, got)
		}
	}
	for filter, want := range map[string]bool{
		"#": true, "in/#": true, "$share/g/+/x": true, "$share/in/out": false, "in/x/+": false, "out": false,
	} {
		if got := list.Touches([]byte(filter)); got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
	if none := Privates(nil); none.Touches([]byte("#")) || !none.MayRead([]byte("in/x"), "", nil) {
		t.Error("nothing is private")
	}
}
