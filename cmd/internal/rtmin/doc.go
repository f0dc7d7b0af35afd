// Package rtmin receives SIGRTMIN of glibc, signal 34, which os/signal does not.
//
// Go leaves signal 34 to C libraries: it installs no handler for it and unblocks it in every thread, so that
// it ends the process, whatever signal.Notify was told. Mosquitto reopens its log on it, and
// mosquitto_signal sends it. So a handler is put in place by hand. It runs no Go: it writes to an eventfd,
// and a goroutine reads that.
package rtmin

import "errors"

// ErrUnsupported says that there is no handler for this system: signal 34 ends the program.
var ErrUnsupported = errors.New("rtmin: not on this system")
