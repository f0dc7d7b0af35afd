package presub

import (
	"strings"
	"testing"
)

// FuzzConfig: a presub.yaml is read or refused in lines of text, and what is read stands its own check.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		full,
		"", "a", "[", "{}", "providers:\n", "tenant: {from: username}\n", "pending: {default_wait: 1h}\n",
		"x: &a [*a]\n", "a: &a {b: &b [*a, *a]}\nc: [*b, *b]\n", "providers: [{kind: static}]\n",
		"pending: {default_wait: -1s}\n", "? - a\n", "--- \n--- \n", "a: !!binary x\n", "\t", "providers: {a: {}}\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text))
		if err != nil {
			if c != nil || strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("%v with %v", err, c)
			}
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("checked twice: %v", err)
		}
		c.Tenant.of("client", "user")
	})
}
