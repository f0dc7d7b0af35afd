//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"

	"noctule/bench"
)

// parseUsers reads lines of user:password. The password may hold colons, and be empty; blank lines and those
// that begin with # are skipped.
func parseUsers(text string) ([]bench.User, error) {
	var list []bench.User
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d is not user:password", number)
		}
		list = append(list, bench.User{Name: name, Password: password})
	}
	if len(list) == 0 {
		return nil, errors.New("there is no user")
	}
	return list, nil
}
