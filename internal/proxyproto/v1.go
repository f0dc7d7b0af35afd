package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// max1 is the size of the longest line, with its end.
const max1 = 107

// parse1 reads `PROXY TCP4 source destination port port` or `PROXY UNKNOWN anything`, and CR LF.
func parse1(b []byte) (h Header, size int, err error) {
	const start = "PROXY "
	if n := min(len(b), len(start)); string(b[:n]) != start[:n] {
		return h, 0, bad("it does not begin with PROXY")
	}
	line := b[:min(len(b), max1)]
	end := bytes.IndexAny(line, "\r\n")
	switch {
	case end < 0 && len(line) == max1:
		return h, 0, bad("a line of more than %d bytes", max1)
	case end < 0, end == len(line)-1 && line[end] == '\r' && len(line) < max1:
		return h, 0, nil
	case end == len(line)-1 || string(line[end:end+2]) != "\r\n":
		return h, 0, bad("a line that does not end with CR LF")
	}
	size = end + 2
	words := strings.Split(string(line[len(start):end]), " ")
	switch words[0] {
	case "UNKNOWN":
		return h, size, nil
	case "TCP4", "TCP6":
	default:
		return h, 0, bad("protocol %q", words[0])
	}
	if len(words) != 5 {
		return h, 0, bad("%d words after PROXY, want 5", len(words))
	}
	source, err := endpoint(words[0], words[1], words[3])
	if err == nil {
		_, err = endpoint(words[0], words[2], words[4])
	}
	if err != nil {
		return h, 0, err
	}
	h.Source = source
	return h, size, nil
}

// endpoint reads an address and a port, which must be as a machine writes them; a port of 0 is nobody's.
func endpoint(protocol, address, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" || a.Is4() != (protocol == "TCP4") {
		return netip.AddrPort{}, bad("address %q of %s", address, protocol)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, bad("port %q", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}
