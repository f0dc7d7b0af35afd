package hash

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Parameters of new hashes for SCRAM-SHA-256: what RFC 7677 wants at least, and PostgreSQL's salts.
const (
	ScramIterations = 4096
	ScramSaltBytes  = 16
)

// Cut is the stored hash that a field of a file begins with: up to a colon, those that are its own left out
// of account.
func Cut(field string) string {
	own := 0
	if strings.HasPrefix(strings.TrimSpace(field), "SCRAM-SHA-256$") {
		own = 2
	}
	for i := range len(field) {
		if field[i] != ':' {
			continue
		}
		if own--; own < 0 {
			return field[:i]
		}
	}
	return field
}

// ScramKeys are what a server of SCRAM-SHA-256 needs (RFC 5802, 3).
type ScramKeys struct {
	Salt           []byte
	Iterations     int
	Stored, Server []byte
}

// Scram are the keys of SCRAM-SHA-256; false if it is stored in another way.
func (h *Hash) Scram() (ScramKeys, bool) {
	if h.kind != Scram {
		return ScramKeys{}, false
	}
	return ScramKeys{h.salt, int(h.iterations), h.sum, h.server}, true
}

// parseScram reads PostgreSQL's ITERATIONS:SALT$STORED:SERVER.
func (h *Hash) parseScram(rest string, _ Form) error {
	head, keys, ok1 := strings.Cut(rest, "$")
	iterations, salt, ok2 := strings.Cut(head, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 || !h.count(iterations) {
		return ErrUnknown
	}
	h.kind = Scram
	std := base64.StdEncoding.Strict()
	var err error
	if h.server, err = std.DecodeString(server); err != nil || len(h.server) != sha256.Size {
		return ErrUnknown
	}
	return h.decode(std, salt, std, stored, sha256.Size)
}

// scramKeys are stored and server key of a password, nil if they cannot be had.
func (h *Hash) scramKeys(password []byte) (stored, server []byte) {
	salted := orNil(pbkdf2.Key(sha256.New, string(password), h.salt, int(h.iterations), sha256.Size))
	if salted == nil {
		return nil, nil
	}
	sign := func(what string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(what))
		return mac.Sum(nil)
	}
	sum := sha256.Sum256(sign("Client Key"))
	return sum[:], sign("Server Key")
}

// matchesScram compares a password that was sent as it is.
func (h *Hash) matchesScram(password []byte) bool {
	stored, server := h.scramKeys(password)
	return subtle.ConstantTimeCompare(stored, h.sum)&subtle.ConstantTimeCompare(server, h.server) == 1
}

// newScram makes the text for a password. Others than ASCII would have to be prepared (RFC 4013), as clients
// do before they hash: here they are refused rather than never let in.
func newScram(password []byte, iterations int) (string, error) {
	for _, c := range password {
		if c < ' ' || c > '~' {
			return "", errors.New("hash: a password for SCRAM has printable ASCII alone")
		}
	}
	h := &Hash{kind: Scram, iterations: uint32(iterations), salt: make([]byte, ScramSaltBytes)}
	_, _ = rand.Read(h.salt) // never fails
	if h.sum, h.server = h.scramKeys(password); h.sum == nil {
		return "", errors.New("hash: PBKDF2 with these parameters is not available")
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(h.salt), b64(h.sum), b64(h.server)), nil
}
