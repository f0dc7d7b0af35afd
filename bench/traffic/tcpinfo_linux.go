package traffic

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// optionTimestamps is TCPI_OPT_TIMESTAMPS.
const optionTimestamps = 1

// countOf reads what a connection has cost since it was opened. Retransmitted bytes count each time, as on
// the wire.
func countOf(c *net.TCPConn) (Count, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Count{}, fmt.Errorf("traffic: %w", err)
	}
	var info *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Count{}, fmt.Errorf("traffic: TCP_INFO: %w", err)
	}
	packets := int64(info.Segs_in) + int64(info.Segs_out)
	head := int64(headerBytes)
	if info.Options&optionTimestamps != 0 {
		head += timestampBytes
	}
	return Count{Packets: packets, Bytes: packets*head + int64(info.Bytes_sent+info.Bytes_received)}, nil
}
