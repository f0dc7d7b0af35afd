//go:build !linux

package wsnet

// knock is for loops that accept TLS connections, which the portable poller does not.
func (l *Loop) knock(*Conn) {}
