package presub

import (
	"fmt"
	"runtime/debug"
)

// crasher is a broker that reports panics: *broker.Broker.
type crasher interface {
	Crashed(what string, value any, stack []byte)
}

// guard is deferred by what the workers do for one client: a panic is reported before it goes on.
func (e *Engine) guard(doing, client string) {
	value := recover()
	if value == nil {
		return
	}
	if b, ok := e.broker.(crasher); ok {
		b.Crashed(fmt.Sprintf("while %s %q", doing, client), value, debug.Stack())
	}
	panic(value)
}
