// Package traffic counts what messaging costs on the wire: the paper's tables 5 and 6 (ten minutes without a
// message, a minute with twelve), with real servers and a client that sends what a browser sends.
//
// A Meter owns the client's sockets and reads TCP_INFO, so that no sniffer and no privilege is needed. A
// session is one signed-in client of a protocol; a stack is a server with the ways to talk to it. Measure
// starts the stacks, signs all clients in, then measures all scenarios at once, each on sockets of its own.
package traffic
