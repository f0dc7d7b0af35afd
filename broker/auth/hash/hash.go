// Package hash reads passwords as files and databases hold them, compares with them, and makes new ones. The
// forms are those of Mosquitto, of mosquitto-go-auth, of htpasswd -B, of Python's passlib and of Argon2's own
// tool: the table in hash.go is all of them.
//
// A stored hash says how dear it is to compare with, and so what it may ask for is bounded: whoever can write
// a row of a database must not stop the broker with it. A comparison may take seconds all the same, and
// belongs off the event loops. Errors never repeat the text: it may be a password.
package hash

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Kind is a way to hash passwords.
type Kind uint8

// The kinds that New makes.
const (
	PBKDF2   Kind = iota // $7$: PBKDF2-HMAC-SHA512, Mosquitto's default
	SHA512               // $6$: one round of SHA-512, for files that Mosquitto 1.6 reads
	Argon2id             // $argon2id$, as the reference implementation writes it
	Bcrypt               // $2a$, $2b$, $2y$: what htpasswd -B makes. It sees the first 72 bytes of a password
	Scram                // SCRAM-SHA-256$: keys of RFC 5802, as PostgreSQL writes them
	Derived              // PBKDF2 as mosquitto-go-auth and passlib write it, with SHA-256 or SHA-512
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
	bcryptCost        = 10
)

// Limits of what a hash may ask for, each about 5 s of one core: libsodium's "sensitive" parameters and
// htpasswd's highest cost but one are within them.
const (
	iterationsMax     = 10_000_000
	argonMemoryMaxKiB = 1 << 20
	argonWorkMaxKiB   = 4 << 20 // memory times passes
	bcryptCostMax     = 16
	saltMax           = 512
	sumMax            = 512
)

// Hash is one password as it is stored. It is immutable.
type Hash struct {
	kind       Kind
	wide       bool   // SHA-512, not SHA-256: PBKDF2, Derived
	threads    uint8  // Argon2id
	iterations uint32 // PBKDF2, Derived
	memory     uint32 // Argon2id, KiB
	time       uint32 // Argon2id
	salt, sum  []byte
	server     []byte // Scram; sum is the stored key
	text       string // Bcrypt, Scram, Derived: as it is stored
}

// Form are the choices that a stored text leaves open.
type Form struct {
	// TextSalt says that salts of PBKDF2$ and $pbkdf2-sha512$ are text as it is, not base64:
	// hasher_salt_encoding utf-8 of mosquitto-go-auth, and what mosquitto-auth-plug wrote.
	TextSalt bool
}

// ErrUnknown says that a text is no hash in a form that is known.
var ErrUnknown = errors.New("hash: not a password hash in a known form")

// A WeakError says that a text is a hash in a form that is known and not taken.
type WeakError struct {
	Name string // "htpasswd's MD5 (apr1)"
	Why  string // "it is tried at millions a second"
}

// Error names form and reason, never the hash.
func (e *WeakError) Error() string {
	return fmt.Sprintf("hash: %s is not taken: %s", e.Name, e.Why)
}

// form is a row of the table: how a text begins, how it is read, and how a password is hashed in that way.
type form struct {
	prefix string
	parse  func(h *Hash, rest string, f Form) error
}

// forms are the forms that are taken.
func forms() [11]form {
	return [...]form{
		{"$7$", (*Hash).parseMosquitto},
		{"$6$", (*Hash).parseSHA512},
		{"$argon2id$v=19$", (*Hash).parseArgon},
		{"$2a$", (*Hash).parseBcrypt},
		{"$2b$", (*Hash).parseBcrypt},
		{"$2y$", (*Hash).parseBcrypt},
		{"PBKDF2$sha512$", wide((*Hash).parsePlugin)},
		{"PBKDF2$sha256$", (*Hash).parsePlugin},
		{"$pbkdf2-sha512$", wide((*Hash).parsePHC)},
		{"$pbkdf2-sha256$", (*Hash).parsePHC},
		{"SCRAM-SHA-256$", (*Hash).parseScram},
	}
}

// wide is parse with SHA-512.
func wide(parse func(*Hash, string, Form) error) func(*Hash, string, Form) error {
	return func(h *Hash, rest string, f Form) error {
		h.wide = true
		return parse(h, rest, f)
	}
}

// Why a form is not taken.
const (
	fast     = "it is tried at millions a second"
	broken   = "that version computes wrong sums"
	unsalted = "without a salt one table finds all passwords, and it is tried at billions a second"
	another  = "of crypt(3)'s forms bcrypt alone is read: make it with htpasswd -B"
	sibling  = "Argon2id alone is read of its family"
)

// weak are the forms that are known and not taken, by how they begin.
func weak() [10]struct{ prefix, name, why string } {
	return [...]struct{ prefix, name, why string }{
		{"$apr1$", "htpasswd's MD5 (apr1)", fast},
		{"$1$", "crypt's MD5 ($1$)", fast},
		{"{SHA}", "htpasswd's SHA-1 ({SHA})", unsalted},
		{"{SSHA}", "salted SHA-1 ({SSHA})", fast},
		{"$5$", "crypt's SHA-256 ($5$)", another},
		{"$2x$", "bcrypt $2x$", broken},
		{"$2$", "bcrypt $2$", broken},
		{"$argon2i$", "Argon2i", sibling},
		{"$argon2d$", "Argon2d", sibling},
		{"PBKDF2$sha1$", "PBKDF2 with SHA-1", fast},
	}
}

// Parse reads a stored hash. The error is ErrUnknown or a *WeakError.
func Parse(text string) (*Hash, error) { return Form{}.Parse(text) }

// Parse reads a stored hash of this form.
func (f Form) Parse(text string) (*Hash, error) {
	for _, row := range forms() {
		rest, ok := strings.CutPrefix(text, row.prefix)
		if !ok {
			continue
		}
		h := &Hash{}
		if err := row.parse(h, rest, f); err != nil {
			return nil, err
		}
		switch h.kind {
		case Bcrypt, Scram, Derived:
			h.text = text
		case PBKDF2, SHA512, Argon2id:
		}
		return h, nil
	}
	for _, w := range weak() {
		if strings.HasPrefix(text, w.prefix) {
			return nil, &WeakError{w.name, w.why}
		}
	}
	return nil, ErrUnknown
}

// parseMosquitto reads ITERATIONS$SALT$SUM.
func (h *Hash) parseMosquitto(rest string, _ Form) error {
	f := strings.Split(rest, "$")
	if len(f) != 3 || !h.count(f[0]) {
		return ErrUnknown
	}
	h.kind, h.wide = PBKDF2, true
	std := base64.StdEncoding.Strict()
	return h.decode(std, f[1], std, f[2], sha512.Size)
}

// parseSHA512 reads SALT$SUM. crypt(3) has the same prefix for a form of its own.
func (h *Hash) parseSHA512(rest string, _ Form) error {
	f := strings.Split(rest, "$")
	if len(f) == 3 && strings.HasPrefix(f[0], "rounds=") || len(f) == 2 && len(f[1]) == 86 {
		return &WeakError{"crypt's SHA-512 ($6$)", another}
	}
	if len(f) != 2 {
		return ErrUnknown
	}
	h.kind = SHA512
	std := base64.StdEncoding.Strict()
	return h.decode(std, f[0], std, f[1], sha512.Size)
}

// parseArgon reads COST$SALT$SUM.
func (h *Hash) parseArgon(rest string, _ Form) error {
	f := strings.Split(rest, "$")
	if len(f) != 3 {
		return ErrUnknown
	}
	h.kind = Argon2id
	if err := h.parseCost(f[0]); err != nil {
		return err
	}
	raw := base64.RawStdEncoding.Strict()
	return h.decode(raw, f[1], raw, f[2], 0)
}

// parseCost reads "m=47104,t=1,p=1".
func (h *Hash) parseCost(text string) error {
	limits := [...]struct {
		name string
		max  uint64
	}{{"m=", argonMemoryMaxKiB}, {"t=", argonWorkMaxKiB}, {"p=", 255}}
	var n [len(limits)]uint64
	f := strings.Split(text, ",")
	if len(f) != len(limits) {
		return ErrUnknown
	}
	for i, l := range limits {
		digits, ok := strings.CutPrefix(f[i], l.name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || v == 0 || v > l.max {
			return ErrUnknown
		}
		n[i] = v
	}
	if max(n[0], 8*n[2])*n[1] > argonWorkMaxKiB { // it takes 8 KiB a thread at least
		return ErrUnknown
	}
	h.memory, h.time, h.threads = uint32(n[0]), uint32(n[1]), uint8(n[2])
	return nil
}

// parsePlugin reads mosquitto-go-auth's ITERATIONS$SALT$SUM.
func (h *Hash) parsePlugin(rest string, form Form) error {
	f := strings.Split(rest, "$")
	if len(f) != 3 || !h.count(f[0]) {
		return ErrUnknown
	}
	return h.derived(base64.StdEncoding.Strict(), f[1], f[2], form)
}

// parsePHC reads i=ITERATIONS,l=LENGTH$SALT$SUM, which mosquitto-go-auth reads too, and passlib's
// ITERATIONS$SALT$SUM, whose base64 has . in the place of +.
func (h *Hash) parsePHC(rest string, form Form) error {
	f := strings.Split(rest, "$")
	if len(f) != 3 {
		return ErrUnknown
	}
	raw := base64.RawStdEncoding.Strict()
	options, named := strings.CutPrefix(f[0], "i=")
	if !named {
		if strings.Contains(f[1]+f[2], "+") || !h.count(f[0]) {
			return ErrUnknown
		}
		plus := strings.NewReplacer(".", "+")
		return h.derived(raw, plus.Replace(f[1]), plus.Replace(f[2]), Form{})
	}
	iterations, size, _ := strings.Cut(options, ",l=")
	if !h.count(iterations) {
		return ErrUnknown
	}
	if err := h.derived(raw, f[1], f[2], form); err != nil {
		return err
	}
	if size != strconv.Itoa(len(h.sum)) {
		return ErrUnknown
	}
	return nil
}

// derived takes salt and sum of a Derived.
func (h *Hash) derived(enc *base64.Encoding, salt, sum string, f Form) error {
	h.kind = Derived
	if !f.TextSalt {
		return h.decode(enc, salt, enc, sum, 0)
	}
	return h.decode(nil, salt, enc, sum, 0)
}

// count takes a number of iterations.
func (h *Hash) count(digits string) bool {
	n, err := strconv.ParseUint(digits, 10, 32)
	h.iterations = uint32(n)
	return err == nil && n > 0 && n <= iterationsMax
}

// decode takes salt and sum; a nil encoding means text, and size 0 any length from 4 bytes.
func (h *Hash) decode(e1 *base64.Encoding, salt string, e2 *base64.Encoding, sum string, size int) error {
	var err1, err2 error
	h.salt = []byte(salt)
	if e1 != nil {
		h.salt, err1 = e1.DecodeString(salt)
	}
	h.sum, err2 = e2.DecodeString(sum)
	n := len(h.sum)
	least := 4
	if h.kind == Derived {
		least = 16 // the shortest that mosquitto-go-auth's hasher_keylen is of use with
	}
	if err1 != nil || err2 != nil || len(h.salt) == 0 || len(h.salt) > saltMax ||
		size > 0 && n != size || n < least || n > sumMax {
		return ErrUnknown
	}
	return nil
}

// sumOf hashes a password with the parameters of h; nil if that cannot be done. Not for Bcrypt and Scram.
func (h *Hash) sumOf(password []byte) []byte {
	switch {
	case h.kind == SHA512:
		d := sha512.New()
		d.Write(password)
		d.Write(h.salt)
		return d.Sum(nil)
	case h.kind == Argon2id:
		return argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	case h.wide:
		return orNil(pbkdf2.Key(sha512.New, string(password), h.salt, int(h.iterations), len(h.sum)))
	default:
		return orNil(pbkdf2.Key(sha256.New, string(password), h.salt, int(h.iterations), len(h.sum)))
	}
}

// orNil is b without an error, which there is only with limits that a FIPS mode sets: nobody gets in then.
func orNil(b []byte, err error) []byte {
	if err != nil {
		return nil
	}
	return b
}

// Matches hashes the password and compares in constant time.
func (h *Hash) Matches(password []byte) bool {
	switch h.kind {
	case Bcrypt:
		return h.matchesBcrypt(password)
	case Scram:
		return h.matchesScram(password)
	case PBKDF2, SHA512, Argon2id, Derived:
	}
	return subtle.ConstantTimeCompare(h.sumOf(password), h.sum) == 1
}

// Mark is a number that stays while the hash does; never 0.
func (h *Hash) Mark() uint64 {
	sum := sha256.Sum256([]byte(h.String()))
	return binary.LittleEndian.Uint64(sum[:]) | 1
}

// Kind is how it was made.
func (h *Hash) Kind() Kind { return h.kind }

// New makes the text to store for a password. iterations is for PBKDF2, where 0 means DefaultIterations, and
// for Scram, at least ScramIterations.
func New(k Kind, password []byte, iterations int) (string, error) {
	if iterations < 0 || iterations > iterationsMax {
		return "", fmt.Errorf("hash: %d iterations, at most %d", iterations, iterationsMax)
	}
	switch {
	case k == Scram:
		return newScram(password, max(iterations, ScramIterations))
	case iterations == 0:
		iterations = DefaultIterations
	}
	h := &Hash{kind: k, wide: true, iterations: uint32(iterations), salt: make([]byte, saltBytes)}
	switch k {
	case Argon2id:
		h.memory, h.time, h.threads = argonMemoryKiB, argonTime, 1
		h.salt, h.sum = make([]byte, argonSaltBytes), make([]byte, argonKeyBytes)
	case Bcrypt:
		return newBcrypt(password)
	case PBKDF2, SHA512:
		h.sum = make([]byte, sha512.Size)
	case Derived, Scram:
		return "", errors.New("hash: this form is read only")
	}
	_, _ = rand.Read(h.salt) // never fails
	h.sum = h.sumOf(password)
	if h.sum == nil {
		return "", errors.New("hash: PBKDF2 with these parameters is not available")
	}
	return h.String(), nil
}

// String is the form that is stored.
func (h *Hash) String() string {
	b64 := base64.StdEncoding.EncodeToString
	switch h.kind {
	case SHA512:
		return "$6$" + b64(h.salt) + "$" + b64(h.sum)
	case Argon2id:
		raw := base64.RawStdEncoding.EncodeToString
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s",
			h.memory, h.time, h.threads, raw(h.salt), raw(h.sum))
	case Bcrypt, Scram, Derived:
		return h.text
	default:
		return fmt.Sprintf("$7$%d$%s$%s", h.iterations, b64(h.salt), b64(h.sum))
	}
}
