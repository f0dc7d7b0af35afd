//go:build linux

// Command uml starts user-mode Linux on any processor: uml PROGRAM ARGUMENT ... The kernel saves the
// registers of its processes with ptrace(PTRACE_GETREGSET, NT_X86_XSTATE) into a buffer that is too small
// for processors with AMX, and its first process ends then. It has another way for systems that do not
// have this call, so the call fails here. What runs inside must not use AVX, whose registers that way
// does not save.
package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	end   = unix.BPF_RET | unix.BPF_K

	xstate = 0x202 // NT_X86_XSTATE
)

func main() {
	runtime.LockOSThread()       // the filter is the thread's, and the program takes its place
	filter := []unix.SockFilter{ // offsets are those of struct seccomp_data
		{Code: load, K: 0},
		{Code: equal, Jf: 5, K: unix.SYS_PTRACE},
		{Code: load, K: 16},
		{Code: equal, Jf: 3, K: unix.PTRACE_GETREGSET},
		{Code: load, K: 32},
		{Code: equal, Jf: 1, K: xstate},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err == nil {
		err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
