package lookup

import (
	"fmt"
	"runtime/debug"
)

// Thrown is a panic of another goroutine, on its way to the one that knows for whom it asked.
type Thrown struct { //nolint:errname // a panic is no error that anybody handles
	Value any
	Stack []byte
}

// Error implements error, so that the runtime prints it.
func (t *Thrown) Error() string { return fmt.Sprintf("%v\n\n%s", t.Value, t.Stack) }

// Catch is deferred; it puts a panic into t.
func Catch(t **Thrown) {
	if v := recover(); v != nil {
		*t = &Thrown{v, debug.Stack()}
	}
}
