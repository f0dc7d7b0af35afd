//go:build linux && (amd64 || arm64)

package rtmin

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestNotify sends the signal many times while goroutines use their stacks and the heap, on several threads.
func TestNotify(t *testing.T) {
	c := make(chan os.Signal, 10000)
	if err := Notify(c); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var used atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			runtime.LockOSThread() // threads of their own, which the runtime makes
			for {
				select {
				case <-stop:
					return
				default:
					used.Add(int64(deep(100)))
				}
			}
		})
	}
	const times = 1000
	for range times {
		if err := syscall.Kill(os.Getpid(), Signal); err != nil {
			t.Fatal(err)
		}
	}
	late := time.After(20 * time.Second)
	select {
	case s := <-c:
		if s != Signal {
			t.Errorf("%v", s)
		}
	case <-late:
		t.Fatal("the signal has not arrived")
	}
	close(stop)
	wg.Wait()
	if n := len(c); n >= times { // a real-time signal is queued, so none is invented
		t.Errorf("%d signals", n+1)
	}
}

func deep(n int) int {
	b := make([]byte, 64*n)
	if n == 0 {
		return len(b)
	}
	return deep(n-1) + len(b)
}
