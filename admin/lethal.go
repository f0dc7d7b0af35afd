package admin

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
)

// lethal lets a panic of a handler end the process. net/http would end the request only, but handlers share
// state with the broker, and what a panic has left half done there must not be gone on with.
type lethal struct {
	http.Handler
	crashed func(what string, value any, stack []byte) // tells
}

// crasher is a Source that reports panics: *broker.Broker.
type crasher interface {
	Crashed(what string, value any, stack []byte)
}

// ServeHTTP implements http.Handler.
func (h lethal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		if isAbort(value) { // only a way to end a request
			panic(value)
		}
		stack := debug.Stack()
		what := fmt.Sprintf("while answering HTTP %.20q %.200q of [%s]", r.Method, r.URL.Path, r.RemoteAddr)
		h.crashed(what, value, stack)
		_, _ = os.Stderr.Write(stack) // the runtime writes that of the goroutine below
		go panic(value)               // ends with the process; on this goroutine net/http would recover it
		select {}
	}()
	h.Handler.ServeHTTP(w, r)
}

// isAbort reports whether a handler panicked only to end its request.
func isAbort(value any) bool {
	err, ok := value.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
