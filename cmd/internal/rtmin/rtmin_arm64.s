//go:build linux

#include "textflag.h"

// The kernel calls handler as C, on the thread's signal stack: no Go code may run. It returns to the vDSO's
// rt_sigreturn, which restores every register.
TEXT handler<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD fd<>(SB), R0
	MOVD $one<>(SB), R1
	MOVD $8, R2
	MOVD $64, R8 // write
	SVC
	RET

// func handlerPC() uintptr
TEXT ·handlerPC(SB),NOSPLIT,$0-8
	MOVD $handler<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func restorerPC() uintptr
TEXT ·restorerPC(SB),NOSPLIT,$0-8
	MOVD ZR, ret+0(FP)
	RET

// func setFD(fd uintptr)
TEXT ·setFD(SB),NOSPLIT,$0-8
	MOVD fd+0(FP), R0
	MOVD R0, fd<>(SB)
	RET

DATA one<>(SB)/8, $1
GLOBL one<>(SB), NOPTR|RODATA, $8
GLOBL fd<>(SB), NOPTR, $8
