//go:build !linux

package bench

import (
	"context"
	"errors"
)

// Run needs Linux.
func Run(context.Context, Target, Plan, Options) (*Report, error) {
	return nil, errors.New("bench: the load generator needs Linux (epoll)")
}
