//go:build unix && (amd64 || arm64 || ppc64 || ppc64le || riscv64 || s390x || loong64 || mips64 || mips64le)

package bolt

import (
	"errors"
	"syscall"
)

// initialMap is the address space taken for the file; it does not make the file longer here.
const initialMap = mapBytes

func isNoMemory(err error) bool { return errors.Is(err, syscall.ENOMEM) }
