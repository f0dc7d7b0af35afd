package broker

import (
	"testing"
	"unsafe"
)

// What an idle session takes is the sum of few things; each has its size class.
func TestSessionIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(client{}); n > 160 {
		t.Errorf("a session takes %d bytes", n)
	}
	if n := unsafe.Sizeof(subscription{}); n > 32 {
		t.Errorf("a subscription takes %d bytes", n)
	}
}
