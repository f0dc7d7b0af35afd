package lookup

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Name is something that a question has a value for. Templates mention it as %{clientid}, or by its letter.
type Name struct {
	Name   string
	Letter byte // %c; 0 none
	// Secret is a password: it never enters a URL, nor a key that could be told from another's after a
	// restart.
	Secret bool
}

// Names are what templates may mention, in the order of Question.Values.
type Names []Name

// String is for messages: "clientid, username".
func (n Names) String() string {
	var list []string
	for i := range n {
		list = append(list, n[i].Name)
	}
	return strings.Join(list, ", ")
}

// find is the place of a name; -1 if there is none.
func (n Names) find(name string) int {
	return slices.IndexFunc(n, func(x Name) bool { return x.Name == name })
}

// all is the places of all names that may be said: the secret ones only where nobody else reads them.
func (n Names) all(secret bool) []int {
	var list []int
	for i := range n {
		if secret || !n[i].Secret {
			list = append(list, i)
		}
	}
	return list
}

// at finds a placeholder at the beginning of a text: the place of its name and its length, which is 0 if
// there is none.
func (n Names) at(text string) (name, length int, err error) {
	if len(text) < 2 || text[0] != '%' {
		return 0, 0, nil
	}
	if text[1] == '{' {
		word, _, whole := strings.Cut(text[2:], "}")
		if name = n.find(word); !whole || name < 0 {
			return 0, 0, fmt.Errorf("%q is not one of %s", "%{"+word+"}", n.mentions())
		}
		return name, len(word) + 3, nil
	}
	for i := range n {
		if n[i].Letter == text[1] {
			return i, 2, nil
		}
	}
	return 0, 0, nil
}

// mentions is how the names are written in a template.
func (n Names) mentions() string {
	var list []string
	for i := range n {
		list = append(list, "%{"+n[i].Name+"}")
	}
	return strings.Join(list, ", ")
}

// Mentioned is the names that a template mentions as %{NAME}, for who takes any: each once, in their order.
func Mentioned(template string) []string {
	var list []string
	for {
		_, rest, ok := strings.Cut(template, "%{")
		if !ok {
			return list
		}
		var word string
		if word, template, ok = strings.Cut(rest, "}"); ok && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
}

// Template is a text with placeholders.
type Template struct{ parts []part }

// part is a text, and the name whose value follows it.
type part struct {
	text string
	name int // -1 at the end
}

// Parse reads a template.
func (n Names) Parse(text string) (*Template, error) {
	t := &Template{}
	begin := 0
	for i := 0; i < len(text); {
		name, length, err := n.at(text[i:])
		if err != nil {
			return nil, err
		}
		if length == 0 {
			i++
			continue
		}
		t.parts = append(t.parts, part{text[begin:i], name})
		i += length
		begin = i
	}
	t.parts = append(t.parts, part{text[begin:], -1})
	return t, nil
}

// Fixed reports whether there are no placeholders.
func (t *Template) Fixed() bool { return len(t.parts) == 1 }

// Uses is the places of the names that are mentioned.
func (t *Template) Uses() []int {
	var list []int
	for _, p := range t.parts {
		if p.name >= 0 {
			list = append(list, p.name)
		}
	}
	return list
}

// Expand puts values in, each as escape has it.
func (t *Template) Expand(values []string, escape func(string) string) string {
	if t.Fixed() {
		return t.parts[0].text
	}
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.text)
		if p.name >= 0 {
			b.WriteString(escape(values[p.name]))
		}
	}
	return b.String()
}

// plain is a value as it is.
func plain(v string) string { return v }

// inURL is a value in a URL or form.
func inURL(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") }

// inJSON is a value within the quotes of a JSON string.
func inJSON(v string) string {
	b, _ := json.Marshal(v) // of a string, which has no errors
	return string(b[1 : len(b)-1])
}

// Values are often for clients to choose, and the request that a webservice gets has the broker's token: so a
// value may fill its place in a path and no more, whatever proxies on the way make of dots and slashes.

// URL is a template of a URL whose path is safe.
type URL struct {
	whole *Template
	steps []*Template // of the path, those with placeholders
}

// ParseURL reads the template of an http or https URL. Nothing in the place of the server may be a
// placeholder, and nothing secret anywhere.
func (n Names) ParseURL(text string) (*URL, error) {
	whole, err := n.Parse(text)
	if err != nil {
		return nil, err
	}
	sample := make([]string, len(n))
	for i := range sample {
		sample[i] = "x"
	}
	u, err := url.Parse(whole.Expand(sample, plain))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an http or https URL", text)
	}
	for _, i := range whole.Uses() {
		if n[i].Secret {
			return nil, fmt.Errorf("%q: the %s is a secret, which no URL may have", text, n[i].Name)
		}
	}
	server, path := splitURL(text)
	if t, _ := n.Parse(server); !t.Fixed() {
		return nil, fmt.Errorf("%q: a client's name cannot say which server is asked", text)
	}
	x := &URL{whole: whole}
	for step := range strings.SplitSeq(path, "/") {
		if t, _ := n.Parse(step); t != nil && !t.Fixed() {
			x.steps = append(x.steps, t)
		}
	}
	return x, nil
}

// Fixed reports whether there are no placeholders.
func (u *URL) Fixed() bool { return u.whole.Fixed() }

// Expand is the URL for values; an error if one cannot be in its path: it has a slash, or makes a step of the
// path that is empty, "." or "..".
func (u *URL) Expand(values []string) (string, error) {
	for _, t := range u.steps {
		x := t.Expand(values, plain)
		if x == "" || x == "." || x == ".." || strings.ContainsAny(x, `/\`) {
			return "", fmt.Errorf("the name %q cannot be in the path of a URL", x)
		}
	}
	return u.whole.Expand(values, inURL), nil
}

// splitURL cuts a template into what is before the path, and the path without a query.
func splitURL(template string) (server, path string) {
	at := 0
	if i := strings.Index(template, "://"); i >= 0 {
		at = i + len("://")
	}
	end := strings.IndexAny(template[at:], "/?#")
	if end < 0 {
		return template, ""
	}
	server, path = template[:at+end], template[at+end:]
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	return server, path
}
