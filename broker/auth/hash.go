package auth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Kind is a way to hash passwords.
type Kind uint8

// The kinds that password files hold.
const (
	PBKDF2   Kind = iota // $7$: PBKDF2-HMAC-SHA512, Mosquitto's default
	SHA512               // $6$: one round of SHA-512, for files that Mosquitto 1.6 reads
	Argon2id             // $argon2id$, as the reference implementation writes it
)

// Parameters of new hashes: Mosquitto 2.1's, but with salts as long as 2.0's, since 2.0 reads no others and
// 2.1 reads both.
const (
	DefaultIterations = 1000
	saltBytes         = 12
	argonSaltBytes    = 16
	argonMemoryKiB    = 47104
	argonTime         = 1
	argonKeyBytes     = 64
)

// Limits of what a hash may ask for; a file that exceeds them would stop the broker rather than guard it.
const (
	iterationsMax     = 100_000_000
	argonMemoryMaxKiB = 1 << 20
	argonTimeMax      = 1000
	saltMax           = 512
)

// hash is a password as a file holds it.
type hash struct {
	kind       Kind
	iterations uint32 // PBKDF2
	memory     uint32 // Argon2id, KiB
	time       uint32 // Argon2id
	threads    uint8  // Argon2id
	salt, sum  []byte
}

// errHash does not repeat the text: it may be a password.
var errHash = errors.New("auth: not a password hash in a known format")

// parseHash reads $6$, $7$ and $argon2id$.
func parseHash(text string) (*hash, error) {
	f := strings.Split(text, "$")
	if f[0] != "" {
		return nil, errHash
	}
	h := &hash{}
	std := base64.StdEncoding.Strict()
	switch {
	case len(f) == 4 && f[1] == "6":
		h.kind = SHA512
		return h, h.decode(std, f[2], f[3], sha512.Size)
	case len(f) == 5 && f[1] == "7":
		n, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || n == 0 || n > iterationsMax {
			return nil, errHash
		}
		h.kind, h.iterations = PBKDF2, uint32(n)
		return h, h.decode(std, f[3], f[4], sha512.Size)
	case len(f) == 6 && f[1] == "argon2id" && f[2] == "v=19":
		h.kind = Argon2id
		if err := h.parseCost(f[3]); err != nil {
			return nil, err
		}
		return h, h.decode(base64.RawStdEncoding.Strict(), f[4], f[5], 0)
	}
	return nil, errHash
}

// decode takes salt and sum; size 0 means any length from 4 to 512 bytes.
func (h *hash) decode(enc *base64.Encoding, salt, sum string, size int) error {
	var err1, err2 error
	h.salt, err1 = enc.DecodeString(salt)
	h.sum, err2 = enc.DecodeString(sum)
	n := len(h.sum)
	if err1 != nil || err2 != nil || len(h.salt) == 0 || len(h.salt) > saltMax ||
		size > 0 && n != size || n < 4 || n > 512 {
		return errHash
	}
	return nil
}

// parseCost reads "m=47104,t=1,p=1".
func (h *hash) parseCost(text string) error {
	limits := []struct {
		name string
		max  uint64
	}{{"m=", argonMemoryMaxKiB}, {"t=", argonTimeMax}, {"p=", 255}}
	var n [3]uint64
	f := strings.Split(text, ",")
	if len(f) != len(limits) {
		return errHash
	}
	for i, l := range limits {
		digits, ok := strings.CutPrefix(f[i], l.name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || v == 0 || v > l.max {
			return errHash
		}
		n[i] = v
	}
	h.memory, h.time, h.threads = uint32(n[0]), uint32(n[1]), uint8(n[2])
	return nil
}

// sumOf hashes a password with the parameters of h.
func (h *hash) sumOf(password []byte) []byte {
	switch h.kind {
	case SHA512:
		d := sha512.New()
		d.Write(password)
		d.Write(h.salt)
		return d.Sum(nil)
	case Argon2id:
		return argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	default:
		b, err := pbkdf2.Key(sha512.New, string(password), h.salt, int(h.iterations), sha512.Size)
		if err != nil {
			return nil // only with limits that a FIPS mode sets: nobody gets in
		}
		return b
	}
}

// matches compares in constant time.
func (h *hash) matches(password []byte) bool {
	return subtle.ConstantTimeCompare(h.sumOf(password), h.sum) == 1
}

// HashPassword makes the text that stands behind "username:" in a password file. iterations is for PBKDF2;
// 0 means DefaultIterations.
func HashPassword(k Kind, password []byte, iterations int) (string, error) {
	if iterations < 0 || iterations > iterationsMax {
		return "", fmt.Errorf("auth: %d iterations", iterations)
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	h := &hash{kind: k, iterations: uint32(iterations), salt: make([]byte, saltBytes)}
	if k == Argon2id {
		h.memory, h.time, h.threads = argonMemoryKiB, argonTime, 1
		h.salt, h.sum = make([]byte, argonSaltBytes), make([]byte, argonKeyBytes)
	}
	_, _ = rand.Read(h.salt) // never fails
	h.sum = h.sumOf(password)
	if h.sum == nil {
		return "", errors.New("auth: PBKDF2 with these parameters is not available")
	}
	return h.String(), nil
}

// String is the form in files.
func (h *hash) String() string {
	b64 := base64.StdEncoding.EncodeToString
	switch h.kind {
	case SHA512:
		return "$6$" + b64(h.salt) + "$" + b64(h.sum)
	case Argon2id:
		raw := base64.RawStdEncoding.EncodeToString
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s",
			h.memory, h.time, h.threads, raw(h.salt), raw(h.sum))
	default:
		return fmt.Sprintf("$7$%d$%s$%s", h.iterations, b64(h.salt), b64(h.sum))
	}
}
