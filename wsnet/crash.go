package wsnet

import (
	"net/netip"
	"runtime/debug"
)

// Crash is a panic that is about to end the process, and what was being served when it came.
type Crash struct {
	// Loop is where it came, nil off the loops.
	Loop *Loop
	// Conn is the connection that the loop was serving; nil if none, and off the loops.
	Conn *Conn
	// Peer is the client's address off the loops; zero for unix sockets.
	Peer netip.AddrPort
	// Value is the panic's, Stack the goroutine's with the frames that panicked.
	Value any
	Stack []byte
}

// crashing is deferred by every goroutine that handles what clients send. It tells of a panic and lets it go
// on: what it has left half done is nobody's to go on with. l is nil off the loops.
func (s *Server) crashing(l *Loop, peer netip.AddrPort) {
	value := recover() // the frames below are still there until this function returns
	if value == nil {
		return
	}
	if s.cfg.OnCrash != nil {
		crash := Crash{Loop: l, Peer: peer, Value: value, Stack: debug.Stack()}
		if l != nil {
			crash.Conn = l.serving
		}
		s.cfg.OnCrash(crash)
	}
	panic(value)
}
