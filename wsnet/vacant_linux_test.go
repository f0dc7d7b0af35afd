package wsnet

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestVacantLetsOthersListen opens a listener in the moment of a probe of its address.
func TestVacantLetsOthersListen(t *testing.T) {
	probe, err := bindTCP(netip.MustParseAddrPort("127.0.0.1:0"), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(probe)
	sa, err := unix.Getsockname(probe)
	if err != nil {
		t.Fatal(err)
	}
	first, err := listenTCP(addrOf(sa), false, false)
	if err != nil {
		t.Fatalf("the probe is in the way: %v", err)
	}
	defer unix.Close(first)
	further, err := listenTCP(addrOf(sa), false, true)
	if err != nil {
		t.Fatalf("the probe is in the way of another loop: %v", err)
	}
	_ = unix.Close(further)
}
