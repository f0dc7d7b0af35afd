// Package wsnet moves byte streams between sockets and a handler on event loops: TCP, unix sockets, TLS and
// WebSocket. It knows nothing of MQTT.
//
// Each loop is one goroutine. A connection belongs to one loop, which alone reads it, writes it and calls
// the handler; others post tasks to the loop. On Linux a loop waits in epoll, parked in Go's own network
// poller; elsewhere, or on request, a pair of goroutines per connection feeds the loop (portable.go),
// behind the same interface.
//
// A turn of a loop: wait, take what is readable, run posted tasks, call EndTurn, then write every
// connection that has output, once. Writes of a turn are coalesced into one buffer, and into one frame for
// WebSocket.
package wsnet
