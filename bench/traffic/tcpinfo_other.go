//go:build !linux

package traffic

import (
	"errors"
	"net"
)

// countOf needs Linux.
func countOf(*net.TCPConn) (Count, error) {
	return Count{}, errors.New("traffic: counting needs Linux (TCP_INFO)")
}
