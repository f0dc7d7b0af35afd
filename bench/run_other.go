//go:build !linux

package bench

import (
	"context"
	"errors"
)

var errNotHere = errors.New("bench: the load generator needs Linux (epoll)")

// Run needs Linux.
func Run(context.Context, Target, Plan, Options) (*Report, error) { return nil, errNotHere }

// RunRetained needs Linux.
func RunRetained(context.Context, Target, Retained, Options) (*Report, error) { return nil, errNotHere }
