package wsnet

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// whole consumes nothing before all that is wanted is there.
func whole(size int) func(c *Conn, b []byte) (used, need int) {
	return func(c *Conn, b []byte) (used, need int) {
		if len(b) < size {
			return 0, size
		}
		c.Write([]byte("ok"))
		return size, 0
	}
}

// TestInputOfAllIsBounded: when all connections hold too much, the largest of the address that holds most ends,
// and nobody else; what was consumed or has ended counts no more.
func TestInputOfAllIsBounded(t *testing.T) {
	const size, limit = 1 << 20, 4 << 20
	over(t, Config{MaxInput: limit, Loops: 2}, script{data: whole(size)}, func(t *testing.T, r *rig) {
		a := listen(t, r.Server, proxied(1))
		begin := func(address, bytes int) net.Conn {
			nc := dial(t, a)
			mustWrite(t, nc, fmt.Sprintf("PROXY TCP4 192.0.2.%d 192.0.2.100 1000 1883\r\n", address))
			before := r.Stats().InputBytes
			mustWrite(t, nc, strings.Repeat("x", bytes))
			r.until(t, "it is read", func() bool {
				st := r.Stats()
				return st.InputGaveWay > 0 || st.InputBytes >= before+int64(bytes/inputUnit*inputUnit)
			})
			return nc
		}
		var kept []net.Conn
		for range 3 {
			kept = append(kept, begin(1, 100<<10))
		}
		big := begin(1, 900<<10)
		for range 20 {
			if r.Stats().InputGaveWay > 0 {
				break
			}
			kept = append(kept, begin(2+len(kept)%4, 200<<10))
		}
		if n := r.Stats().InputBytes; n > limit {
			t.Errorf("%d bytes, at most %d", n, limit)
		}
		e := get(t, r.closed)
		if !errors.Is(e.reason, ErrInputGaveWay) || e.c.RemoteAddr().Addr().String() != "192.0.2.1" {
			t.Fatalf("%v closed with %v", e.c.RemoteAddr(), e.reason)
		}
		mustEnd(t, big, "")
		for _, nc := range kept[3:] {
			_ = nc.Close()
		}
		r.until(t, "there is room", func() bool { return r.Stats().InputBytes < 1<<20 })
		for _, nc := range kept[:3] { // of the same address, but small
			mustWrite(t, nc, strings.Repeat("x", size-100<<10))
			mustRead(t, nc, "ok")
		}
		for _, nc := range kept {
			_ = nc.Close()
		}
		r.until(t, "nothing is held", func() bool { return r.Stats().InputBytes == 0 && r.Stats().Open == 0 })
	})
}
