package presub

import (
	"fmt"
	"runtime/debug"
)

// thrown is a panic of another goroutine, on its way to the one that knows for which client it was.
type thrown struct {
	value any
	stack []byte
}

// Error implements error, so that the runtime prints it.
func (t *thrown) Error() string { return fmt.Sprintf("%v\n\n%s", t.value, t.stack) }

// catch is deferred; it puts a panic into t.
func catch(t **thrown) {
	if v := recover(); v != nil {
		*t = &thrown{v, debug.Stack()}
	}
}

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
