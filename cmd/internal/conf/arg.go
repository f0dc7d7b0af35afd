package conf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// arg is a directive's value.
type arg struct{ key, value string }

// blanks are trimmed from both ends of a value; only the space ends a key.
const blanks = " \t\v\f"

// first is the value up to the first space: for numbers and booleans the rest of the line is ignored.
func (a arg) first() arg {
	v, _ := a.cut()
	return v
}

// cut splits the value at the first space; both parts keep the key.
func (a arg) cut() (first, rest arg) {
	v, r, _ := strings.Cut(a.value, " ")
	return arg{a.key, v}, arg{a.key, strings.Trim(r, blanks)}
}

// words are the parts of the value between spaces.
func (a arg) words() []string {
	return strings.FieldsFunc(a.value, func(r rune) bool { return r == ' ' })
}

// named is the value under another name, for the texts of errors.
func (a arg) named(key string) arg { return arg{key, a.value} }

// empty says that the value is missing.
func (a arg) empty() error { return fmt.Errorf("Empty '%s' value in configuration.", a.key) }

// duplicate says that there was a value already.
func (a arg) duplicate() error { return fmt.Errorf("Duplicate '%s' value in configuration.", a.key) }

// invalid says that the value is not one of those possible.
func (a arg) invalid() error { return fmt.Errorf("Invalid '%s' value (%s).", a.key, a.first().value) }

// text is the whole value, comments included.
func (a arg) text() (string, error) {
	switch {
	case a.value == "":
		return "", a.empty()
	case len(a.value) > 65535:
		return "", fmt.Errorf("Invalid '%s' value: longer than 65535 bytes.", a.key)
	case !utf8.ValidString(a.value):
		return "", errors.New("Malformed UTF-8 in configuration.")
	}
	return a.value, nil
}

// word is the value up to the first space.
func (a arg) word() (string, error) {
	v := a.first().value
	if v == "" {
		return "", a.empty()
	}
	return v, nil
}

func (a arg) truth() (bool, error) {
	v, err := a.word()
	switch {
	case err != nil:
		return false, err
	case v == "true" || v == "1":
		return true, nil
	case v == "false" || v == "0":
		return false, nil
	default:
		return false, a.invalid()
	}
}

// number reads an integer with C's prefixes for hexadecimal and octal. high is at most Mosquitto's int, or
// what we allow beyond it.
func (a arg) number(low, high int64) (int, error) {
	v, err := a.word()
	if err != nil {
		return 0, err
	}
	n, err := parseInt(v)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && (n > max(high, maxInt) || n < math.MinInt32):
		return 0, fmt.Errorf("'%s' value out of range.", a.key)
	case err != nil:
		return 0, fmt.Errorf("'%s' value not a number.", a.key)
	case n < low || n > high:
		return 0, a.invalid()
	}
	return int(n), nil
}

// integer is any number that Mosquitto can read.
func (a arg) integer() (int, error) { return a.number(math.MinInt32, maxInt) }

// parseInt is strtol with base 0, without Go's underscores and its prefixes 0b and 0o.
func parseInt(s string) (int64, error) {
	digits := strings.ToLower(strings.TrimLeft(s, "+-"))
	if strings.Contains(s, "_") || strings.HasPrefix(digits, "0b") || strings.HasPrefix(digits, "0o") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 0, 64)
}

// leadingInt is the number that a text starts with, as C's atoi reads it; 0 if there is none.
func leadingInt(s string) int {
	end := strings.IndexFunc(strings.TrimLeft(s, "+-"), func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		s = s[:len(s)-len(strings.TrimLeft(s, "+-"))+end]
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return int(n)
}
