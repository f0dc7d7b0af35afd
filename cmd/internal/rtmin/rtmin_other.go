//go:build !linux || !(amd64 || arm64)

package rtmin

import "os"

// Notify is ErrUnsupported.
func Notify(chan<- os.Signal) error { return ErrUnsupported }
