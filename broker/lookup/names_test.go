package lookup

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestTemplates(t *testing.T) {
	names := Names{{Name: "clientid", Letter: 'c'}, {Name: "password", Letter: 'p', Secret: true}, {Name: "acc"}}
	values := []string{`a"b c`, "pw", "%c"}
	for text, want := range map[string]string{
		"": "", "plain": "plain", "%c": `[a"b c]`, "%{clientid}/%{acc}x": `[a"b c]/[%c]x`, "100%": "100%", "%x%%c": `%x%[a"b c]`,
	} {
		x, err := names.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Expand(values, func(v string) string { return "[" + v + "]" }); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if x.Fixed() != !strings.Contains(want, "[") || x.Fixed() != (len(x.Uses()) == 0) {
			t.Errorf("%s: %v", text, x.Uses())
		}
	}
	for _, text := range []string{"%{user}", "%{clientid", "%{}", "a%{clientid }"} {
		if _, err := names.Parse(text); err == nil || !strings.Contains(err.Error(), "is not one of %{clientid}, %{password}, %{acc}") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got := strings.Join(Mentioned("%{gid}/%{uid}%{gid} %{"), ","); got != "gid,uid" {
		t.Error(got)
	}
}

// TestNamesStayInTheirPlace: no value leads to another server or path than the template has.
func TestNamesStayInTheirPlace(t *testing.T) {
	names := threeNames()
	for template, bad := range map[string][]string{
		"http://x/users/%u/clients/%c/topics": {"", ".", "..", "a/b", `a\b`, "/", "../.."},
		"http://x/%c.%u/t":                    {"/", `\`, "a/../b"},
		"http://x/a/.%c":                      {"", "."},
		"http://x/%{clientid}":                {"..", "."},
	} {
		u, err := names.ParseURL(template)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range bad {
			if got, err := u.Expand([]string{v, "u", "e"}); err == nil {
				t.Errorf("%s with %q: %s", template, v, got)
			}
		}
	}
	u, err := names.ParseURL("http://x/q?id=%c#%u")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := u.Expand([]string{"a/b?&c", "..", "e"}); got != "http://x/q?id=a%2Fb%3F%26c#.." || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	secret := append(names, Name{Name: "password", Letter: 'p', Secret: true})
	for _, text := range []string{"http://%c/", "http://x:%u/", "http://%e.x", "ftp://x", "x", "http://", "http://x/%p", "http://x/?p=%{password}", "%c"} {
		if _, err := secret.ParseURL(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// FuzzURL: a URL has the server, the number of steps and the fixed steps of its template, whatever the values are.
func FuzzURL(f *testing.F) {
	for _, v := range []string{"c", "", "..", "a/b", "%2e%2e", "%2F", "?x", "#", "\x00", "é", `\..\`, "@h", ":80"} {
		f.Add(v, v)
	}
	const template = "http://lists.example:80/users/%u/v1-%c/topics?u=%u"
	u, err := threeNames().ParseURL(template)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		text, err := u.Expand([]string{a, b, "e"})
		if err != nil {
			return
		}
		got, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		steps := strings.Split(got.EscapedPath(), "/")
		if got.Host != "lists.example:80" || got.User != nil || len(steps) != 5 || steps[1] != "users" || steps[4] != "topics" ||
			got.Query().Get("u") != b || got.Fragment != "" || path.Clean(got.Path) != got.Path {
			t.Errorf("%q, %q: %s", a, b, text)
		}
	})
}
