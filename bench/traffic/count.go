package traffic

import "fmt"

// Sizes of what is in front of a segment's payload, as a sniffer on Ethernet sees it.
const (
	headerBytes    = 14 + 20 + 20 // Ethernet, IPv4, TCP
	timestampBytes = 12           // TCP's option, on every segment after the handshake's
)

// Count is what a sniffer sees of one client: frames and their bytes, both directions, pure ACKs included.
// Bytes is packets x (54, or 66 with timestamps) + payload, which is 8 short for a SYN and for each block
// of SACK.
type Count struct {
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
}

// Add returns the sum.
func (c Count) Add(d Count) Count { return Count{c.Packets + d.Packets, c.Bytes + d.Bytes} }

// Sub returns the difference.
func (c Count) Sub(d Count) Count { return Count{c.Packets - d.Packets, c.Bytes - d.Bytes} }

// String writes it as the paper's tables are quoted: packets / bytes.
func (c Count) String() string { return fmt.Sprintf("%d / %d", c.Packets, c.Bytes) }

// ratio tells how many times as much base is as c, or - where that says nothing.
func (c Count) ratio(base Count) string {
	if c.Packets == 0 || c.Bytes == 0 || base == (Count{}) {
		return "-"
	}
	times := func(a, b int64) float64 { return float64(a) / float64(b) }
	return fmt.Sprintf("%.2f / %.2f", times(base.Packets, c.Packets), times(base.Bytes, c.Bytes))
}
