//go:build !unix || !(amd64 || arm64 || ppc64 || ppc64le || riscv64 || s390x || loong64 || mips64 || mips64le)

package bolt

// initialMap is 0 where address space is scarce, or where mapping makes the file longer.
const initialMap = 0

func isNoMemory(error) bool { return false }
