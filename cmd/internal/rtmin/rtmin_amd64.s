//go:build linux

#include "textflag.h"

// The kernel calls handler as C, on the thread's signal stack: no Go code may run. It keeps every register, as
// rt_sigreturn restores them all.
TEXT handler<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ fd<>(SB), DI
	LEAQ one<>(SB), SI
	MOVQ $8, DX
	MOVQ $1, AX // write
	SYSCALL
	RET // to restorer

TEXT restorer<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ $15, AX // rt_sigreturn
	SYSCALL
	INT $3

// func handlerPC() uintptr
TEXT ·handlerPC(SB),NOSPLIT,$0-8
	LEAQ handler<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func restorerPC() uintptr
TEXT ·restorerPC(SB),NOSPLIT,$0-8
	LEAQ restorer<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func setFD(fd uintptr)
TEXT ·setFD(SB),NOSPLIT,$0-8
	MOVQ fd+0(FP), AX
	MOVQ AX, fd<>(SB)
	RET

DATA one<>(SB)/8, $1
GLOBL one<>(SB), NOPTR|RODATA, $8
GLOBL fd<>(SB), NOPTR, $8
