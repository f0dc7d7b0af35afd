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
// "sha256:" and the token's hash in hexadecimal; # begins a comment. A file with tokens that are not hashed
// must be readable for its owner alone.
type Tokens struct {
	list []token
}

type token struct {
	principal string
	hash      [sha256.Size]byte
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
		if len(words) != 2 {
			return nil, fmt.Errorf(":%d: a name and a token are needed", line)
		}
		if err := t.add(words[0], words[1], mode); err != nil {
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

func (t *Tokens) add(principal, secret string, mode fs.FileMode) error {
	x := token{principal: principal}
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

// principal is whose token a request carries; false if it has none that is known. It takes the same time
// whichever it is.
func (t *Tokens) principal(r *http.Request) (string, bool) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || t == nil {
		return "", false
	}
	sum := sha256.Sum256([]byte(secret))
	name := ""
	for i := range t.list {
		if subtle.ConstantTimeCompare(sum[:], t.list[i].hash[:]) == 1 {
			name = t.list[i].principal
		}
	}
	return name, name != ""
}

// knows reports whether a principal has a token.
func (t *Tokens) knows(principal string) bool {
	return t != nil && slices.ContainsFunc(t.list, func(x token) bool { return x.principal == principal })
}
