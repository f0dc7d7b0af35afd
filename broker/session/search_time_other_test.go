//go:build !linux

package session

import "time"

// busy is a time that goes on.
func busy() time.Duration { return time.Duration(time.Now().UnixNano()) }
