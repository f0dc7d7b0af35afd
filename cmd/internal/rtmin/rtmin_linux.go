//go:build linux && (amd64 || arm64)

package rtmin

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signal is SIGRTMIN of glibc.
const Signal = syscall.Signal(34)

// sigaction is the kernel's struct.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// Flags of sigaction that x/sys does not name.
const (
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	saRestorer = 0x04000000
)

// handlerPC and restorerPC are the addresses of the handler and, where the kernel wants one, of what it
// returns to.
func handlerPC() uintptr
func restorerPC() uintptr

// setFD sets the file that the handler writes to.
func setFD(fd uintptr)

// Notify sends Signal to c for each time that it has arrived; those that come while c is full are one. It may
// be called once in a process.
func Notify(c chan<- os.Signal) error {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	setFD(uintptr(fd))
	a := sigaction{handler: handlerPC(), flags: saOnStack | saRestart, mask: ^uint64(0)}
	if pc := restorerPC(); pc != 0 {
		a.restorer, a.flags = pc, a.flags|saRestorer
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(Signal), uintptr(unsafe.Pointer(&a)), 0,
		unsafe.Sizeof(a.mask), 0, 0)
	if errno != 0 {
		_ = unix.Close(fd)
		return os.NewSyscallError("rt_sigaction", errno)
	}
	go forward(os.NewFile(uintptr(fd), "rtmin"), c) // ends with the process, as the handler does
	return nil
}

// forward sends a signal for each number read.
func forward(f *os.File, c chan<- os.Signal) {
	var b [8]byte
	for {
		if _, err := f.Read(b[:]); err != nil {
			return
		}
		for n := binary.NativeEndian.Uint64(b[:]); n > 0; n-- {
			select {
			case c <- Signal:
			default:
			}
		}
	}
}
