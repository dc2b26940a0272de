#include "textflag.h"

// Each register holds one word of both streams. X0 to X7 are the working variables a to h of FIPS 180-4, X8 to X23 the
// last 16 words of the message schedule, X30 the order of bytes in which words are read; the others are free.

// LOAD reads two words of each stream.
#define LOAD(at, w0, w1) \
	VMOVDQU64 at(SI), X24; \
	VMOVDQU64 at(DI), X25; \
	VPSHUFB X30, X24, X24; \
	VPSHUFB X30, X25, X25; \
	VPUNPCKLQDQ X25, X24, w0; \
	VPUNPCKHQDQ X25, X24, w1

// ROUND is one round with word w, constant number k of the 16 at R8. The new a is left in h, and the new e in d: the next
// round has the names moved on by one. VPTERNLOGQ is xor with 0x96, "if x then y else z" with 0xCA and majority with 0xE8.
#define ROUND(a, b, c, d, e, f, g, h, w, k) \
	VPADDQ.BCST (k*8)(R8), w, X24; \
	VPRORQ $14, e, X25; \
	VPRORQ $18, e, X26; \
	VPRORQ $41, e, X27; \
	VMOVDQA64 e, X28; \
	VPADDQ X24, h, h; \
	VPTERNLOGQ $0xCA, g, f, X28; \
	VPTERNLOGQ $0x96, X27, X26, X25; \
	VPADDQ X28, h, h; \
	VPRORQ $28, a, X26; \
	VPRORQ $34, a, X27; \
	VPRORQ $39, a, X29; \
	VPADDQ X25, h, h; \
	VMOVDQA64 a, X28; \
	VPTERNLOGQ $0xE8, c, b, X28; \
	VPTERNLOGQ $0x96, X29, X27, X26; \
	VPADDQ h, d, d; \
	VPADDQ X28, X26, X26; \
	VPADDQ X26, h, h

// NEXT replaces w, which is word t of the schedule, by word t+16. The others are words t+1, t+9 and t+14.
#define NEXT(w, w1, w9, w14) \
	VPRORQ $1, w1, X24; \
	VPRORQ $8, w1, X25; \
	VPSRLQ $7, w1, X26; \
	VPRORQ $19, w14, X27; \
	VPRORQ $61, w14, X28; \
	VPSRLQ $6, w14, X29; \
	VPADDQ w9, w, w; \
	VPTERNLOGQ $0x96, X26, X25, X24; \
	VPTERNLOGQ $0x96, X29, X28, X27; \
	VPADDQ X24, w, w; \
	VPADDQ X27, w, w

DATA swap<>+0(SB)/8, $0x0001020304050607
DATA swap<>+8(SB)/8, $0x08090a0b0c0d0e0f
GLOBL swap<>(SB), RODATA|NOPTR, $16

// func blocks(state *words, k *[80]uint64, p, q *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $0-40
	MOVQ state+0(FP), DX
	MOVQ k+8(FP), R10
	MOVQ p+16(FP), SI
	MOVQ q+24(FP), DI
	MOVQ n+32(FP), CX
	TESTQ CX, CX
	JEQ done
	VMOVDQU64 swap<>(SB), X30
	VMOVDQU64 0(DX), X0
	VMOVDQU64 16(DX), X1
	VMOVDQU64 32(DX), X2
	VMOVDQU64 48(DX), X3
	VMOVDQU64 64(DX), X4
	VMOVDQU64 80(DX), X5
	VMOVDQU64 96(DX), X6
	VMOVDQU64 112(DX), X7

block:
	LOAD(0, X8, X9)
	LOAD(16, X10, X11)
	LOAD(32, X12, X13)
	LOAD(48, X14, X15)
	LOAD(64, X16, X17)
	LOAD(80, X18, X19)
	LOAD(96, X20, X21)
	LOAD(112, X22, X23)
	MOVQ R10, R8
	MOVQ $4, R9

rounds:
	ROUND(X0, X1, X2, X3, X4, X5, X6, X7, X8, 0)
	NEXT(X8, X9, X17, X22)
	ROUND(X7, X0, X1, X2, X3, X4, X5, X6, X9, 1)
	NEXT(X9, X10, X18, X23)
	ROUND(X6, X7, X0, X1, X2, X3, X4, X5, X10, 2)
	NEXT(X10, X11, X19, X8)
	ROUND(X5, X6, X7, X0, X1, X2, X3, X4, X11, 3)
	NEXT(X11, X12, X20, X9)
	ROUND(X4, X5, X6, X7, X0, X1, X2, X3, X12, 4)
	NEXT(X12, X13, X21, X10)
	ROUND(X3, X4, X5, X6, X7, X0, X1, X2, X13, 5)
	NEXT(X13, X14, X22, X11)
	ROUND(X2, X3, X4, X5, X6, X7, X0, X1, X14, 6)
	NEXT(X14, X15, X23, X12)
	ROUND(X1, X2, X3, X4, X5, X6, X7, X0, X15, 7)
	NEXT(X15, X16, X8, X13)
	ROUND(X0, X1, X2, X3, X4, X5, X6, X7, X16, 8)
	NEXT(X16, X17, X9, X14)
	ROUND(X7, X0, X1, X2, X3, X4, X5, X6, X17, 9)
	NEXT(X17, X18, X10, X15)
	ROUND(X6, X7, X0, X1, X2, X3, X4, X5, X18, 10)
	NEXT(X18, X19, X11, X16)
	ROUND(X5, X6, X7, X0, X1, X2, X3, X4, X19, 11)
	NEXT(X19, X20, X12, X17)
	ROUND(X4, X5, X6, X7, X0, X1, X2, X3, X20, 12)
	NEXT(X20, X21, X13, X18)
	ROUND(X3, X4, X5, X6, X7, X0, X1, X2, X21, 13)
	NEXT(X21, X22, X14, X19)
	ROUND(X2, X3, X4, X5, X6, X7, X0, X1, X22, 14)
	NEXT(X22, X23, X15, X20)
	ROUND(X1, X2, X3, X4, X5, X6, X7, X0, X23, 15)
	NEXT(X23, X8, X16, X21)
	ADDQ $128, R8
	DECQ R9
	JNE rounds

	ROUND(X0, X1, X2, X3, X4, X5, X6, X7, X8, 0)
	ROUND(X7, X0, X1, X2, X3, X4, X5, X6, X9, 1)
	ROUND(X6, X7, X0, X1, X2, X3, X4, X5, X10, 2)
	ROUND(X5, X6, X7, X0, X1, X2, X3, X4, X11, 3)
	ROUND(X4, X5, X6, X7, X0, X1, X2, X3, X12, 4)
	ROUND(X3, X4, X5, X6, X7, X0, X1, X2, X13, 5)
	ROUND(X2, X3, X4, X5, X6, X7, X0, X1, X14, 6)
	ROUND(X1, X2, X3, X4, X5, X6, X7, X0, X15, 7)
	ROUND(X0, X1, X2, X3, X4, X5, X6, X7, X16, 8)
	ROUND(X7, X0, X1, X2, X3, X4, X5, X6, X17, 9)
	ROUND(X6, X7, X0, X1, X2, X3, X4, X5, X18, 10)
	ROUND(X5, X6, X7, X0, X1, X2, X3, X4, X19, 11)
	ROUND(X4, X5, X6, X7, X0, X1, X2, X3, X20, 12)
	ROUND(X3, X4, X5, X6, X7, X0, X1, X2, X21, 13)
	ROUND(X2, X3, X4, X5, X6, X7, X0, X1, X22, 14)
	ROUND(X1, X2, X3, X4, X5, X6, X7, X0, X23, 15)

	VPADDQ 0(DX), X0, X0
	VMOVDQU64 X0, 0(DX)
	VPADDQ 16(DX), X1, X1
	VMOVDQU64 X1, 16(DX)
	VPADDQ 32(DX), X2, X2
	VMOVDQU64 X2, 32(DX)
	VPADDQ 48(DX), X3, X3
	VMOVDQU64 X3, 48(DX)
	VPADDQ 64(DX), X4, X4
	VMOVDQU64 X4, 64(DX)
	VPADDQ 80(DX), X5, X5
	VMOVDQU64 X5, 80(DX)
	VPADDQ 96(DX), X6, X6
	VMOVDQU64 X6, 96(DX)
	VPADDQ 112(DX), X7, X7
	VMOVDQU64 X7, 112(DX)
	ADDQ $128, SI
	ADDQ $128, DI
	DECQ CX
	JNE block

done:
	RET
