package admin

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzTokens: every token of a file that is read opens the door for the name beside it, and no other does;
// errors tell no secret.
func FuzzTokens(f *testing.F) {
	const hash = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"
	f.Add("# c\ncrm open-sesame-open-sesame\nother " + hash + "\n")
	f.Add("crm short\n")
	f.Add("crm sha256:00\n")
	f.Add("crm\topen-sesame-open-sesame extra")
	f.Add(hash + " " + hash + "\r\n\n \t#\n")
	f.Add("a " + strings.Repeat("x", 70000))
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := parseTokens([]byte(text), 0o600)
		if err != nil {
			for secret := range strings.FieldsSeq(text) {
				if len(secret) >= tokenMin && strings.Contains(err.Error(), secret) {
					t.Fatalf("%v tells %q", err, secret)
				}
			}
			return
		}
		if _, ok := bearer(tokens, ""); ok {
			t.Fatal("no token opens the door")
		}
		known := map[string]string{}
		lines := 0
		for line := range strings.SplitSeq(text, "\n") {
			words := strings.Fields(line)
			if len(words) >= 2 && !strings.HasPrefix(words[0], "#") {
				known[words[1]] = words[0] // the last
				lines++
			}
		}
		if lines != len(tokens.list) {
			t.Fatalf("%d tokens in %d lines", len(tokens.list), lines)
		}
		for secret, principal := range known {
			if strings.HasPrefix(secret, "sha256:") {
				continue
			}
			got, ok := bearer(tokens, secret)
			if !ok || got.principal != principal || !got.readOnly && !tokens.writes(principal, got.tenants) {
				t.Fatalf("%q is %+v, want %q", secret, got, principal)
			}
			if got, ok := bearer(tokens, secret+"x"); ok && known[secret+"x"] != got.principal {
				t.Fatalf("%q opens the door for %+v", secret+"x", got)
			}
		}
	})
}

// bearer is what a bearer token gives.
func bearer(tokens *Tokens, secret string) (grant, bool) {
	return tokens.grant(&http.Request{Header: http.Header{"Authorization": {"Bearer " + secret}}})
}
