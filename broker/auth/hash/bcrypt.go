package hash

import (
	"bytes"
	"strconv"

	"golang.org/x/crypto/bcrypt"
)

// parseBcrypt reads COST$SALTSUM, 22 and 31 characters.
func (h *Hash) parseBcrypt(rest string, _ Form) error {
	if len(rest) != 2+1+53 || rest[2] != '$' {
		return ErrUnknown
	}
	cost, err := strconv.ParseUint(rest[:2], 10, 8)
	if err != nil || cost < uint64(bcrypt.MinCost) || cost > bcryptCostMax || !bcryptText(rest[3:]) {
		return ErrUnknown
	}
	h.kind = Bcrypt
	return nil
}

// bcryptText says that a text is in bcrypt's base64 alone.
func bcryptText(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '.' && c != '/' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// matchesBcrypt compares. The programs that make these hashes end a password at a NUL, and "x" and "x", NUL,
// "x" are one key to bcrypt: a password with a NUL is nobody's. It costs the same.
func (h *Hash) matchesBcrypt(password []byte) bool {
	nul := bytes.IndexByte(password, 0) >= 0
	return bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil && !nul
}

// newBcrypt makes a hash of a password that bcrypt sees as a whole.
func newBcrypt(password []byte) (string, error) {
	b, err := bcrypt.GenerateFromPassword(password, bcryptCost)
	return string(b), err
}
