package admin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"

	"noctule/internal/regular"
)

// Tokens are the bearer tokens of an admin_token_file. Each line has the name of a principal and a token, or
// "sha256:" and the token's hash in hexadecimal, and then what the token is bound to: "read-only", and
// "tenant=NAME", which may be there several times; # begins a comment. A file with tokens that are not hashed
// must be readable for its owner alone.
type Tokens struct {
	list []token
}

type token struct {
	hash  [sha256.Size]byte
	grant grant
}

// grant is what a token gives.
type grant struct {
	principal string
	readOnly  bool
	tenants   []string // nil: all
}

// tokenMin is the length of the shortest token, in bytes.
const tokenMin = 16

// errNoTokens is the error of a file without tokens.
var errNoTokens = errors.New("no tokens")

// LoadTokens reads a file. Errors name the line, never a token.
func LoadTokens(path string) (*Tokens, error) {
	raw, err := regular.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	t, err := parseTokens(raw, info.Mode())
	if err != nil {
		return nil, fmt.Errorf("%s%w", path, err)
	}
	return t, nil
}

// parseTokens reads the contents of a file with that mode. Its errors begin with ":" and, if there is one,
// the line.
func parseTokens(raw []byte, mode fs.FileMode) (*Tokens, error) {
	t := &Tokens{}
	sc := bufio.NewScanner(bytes.NewReader(raw))
	for line := 1; sc.Scan(); line++ {
		words := strings.Fields(sc.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) < 2 {
			return nil, fmt.Errorf(":%d: a name and a token are needed", line)
		}
		g, err := grantOf(words[0], words[2:])
		if err == nil {
			err = t.add(g, words[1], mode)
		}
		if err != nil {
			return nil, fmt.Errorf(":%d: %w", line, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	if len(t.list) == 0 {
		return nil, fmt.Errorf(": %w", errNoTokens)
	}
	return t, nil
}

// grantOf reads what follows a token. All tokens of a principal are for the same tenants: what one has made
// is the other's to change.
func grantOf(principal string, words []string) (grant, error) {
	g := grant{principal: principal}
	for _, word := range words {
		tenant, ok := strings.CutPrefix(word, "tenant=")
		switch {
		case word == "read-only":
			g.readOnly = true
		case ok && tenant != "":
			g.tenants = append(g.tenants, tenant)
		default: // it may be part of a token: it is not shown
			return g, errors.New("behind the token may be read-only and tenant=NAME")
		}
	}
	slices.Sort(g.tenants)
	g.tenants = slices.Compact(g.tenants)
	return g, nil
}

func (t *Tokens) add(g grant, secret string, mode fs.FileMode) error {
	for i := range t.list {
		if o := &t.list[i].grant; o.principal == g.principal && !slices.Equal(o.tenants, g.tenants) {
			return fmt.Errorf("another token of %s is for other tenants", g.principal)
		}
	}
	x := token{grant: g}
	if digits, ok := strings.CutPrefix(secret, "sha256:"); ok {
		if n, err := hex.Decode(x.hash[:], []byte(digits[:min(len(digits), 2*sha256.Size)])); err != nil ||
			n != sha256.Size || len(digits) != 2*sha256.Size {
			return errors.New("not a SHA-256 hash of 64 hexadecimal digits")
		}
	} else {
		if len(secret) < tokenMin {
			return fmt.Errorf("a token needs at least %d bytes", tokenMin)
		}
		if mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
			return errors.New("a file with tokens that are not hashed must be readable for its owner alone")
		}
		x.hash = sha256.Sum256([]byte(secret))
	}
	t.list = append(t.list, x)
	return nil
}

// grant is what the token of a request gives; false if it has none that is known. It takes the same time
// whichever it is.
func (t *Tokens) grant(r *http.Request) (grant, bool) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || t == nil {
		return grant{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	at := -1
	for i := range t.list {
		if subtle.ConstantTimeCompare(sum[:], t.list[i].hash[:]) == 1 {
			at = i
		}
	}
	if at < 0 {
		return grant{}, false
	}
	return t.list[at].grant, true
}

// writes reports whether a principal has a token that may change things, for these tenants.
func (t *Tokens) writes(principal string, tenants []string) bool {
	return t != nil && slices.ContainsFunc(t.list, func(x token) bool {
		g := &x.grant
		return g.principal == principal && !g.readOnly && slices.Equal(g.tenants, tenants)
	})
}
