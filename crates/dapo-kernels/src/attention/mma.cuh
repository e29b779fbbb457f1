// Tensor-core building blocks: fragments, matrix loads from swizzled shared memory, asynchronous copies.
//
// On the GPU every function is one or two instructions that sm_80 has and sm_90 keeps: mma.sync, ldmatrix, cp.async.
// Under emulation each does what the instruction is documented to do, lane by lane, so that the code above (indices,
// swizzle, masks, order of waits) is the code that is tested.
//
// Fragments, for lane = 4·g + t of a warp (g = 0..8, t = 0..4), 16-bit values in pairs, the lower column in the lower
// half:
//   A, 16×16   a[0]: row g, columns 2t, 2t+1    a[1]: row g+8    a[2]: row g, columns 2t+8, 2t+9    a[3]: row g+8, likewise
//   B, 16×8    b0: rows 2t, 2t+1 of column g    b1: rows 2t+8, 2t+9
//   C, 16×8    c[0], c[1]: row g, columns 2t, 2t+1    c[2], c[3]: row g+8
#pragma once
#include "../cuda/common.cuh"

#ifndef __CUDACC__
using Shared = char*;  // an address in shared memory
#else
using Shared = unsigned;
#endif

// acc += a · b.
__device__ __forceinline__ void mma_m16n8k16(float (&acc)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
// Four 8×8 matrices of 16-bit values. Lane i gives the address of row i % 8 of matrix i / 8, 16 bytes long; it gets
// columns 2t, 2t+1 of row g of each matrix.
__device__ __forceinline__ void ldmatrix(unsigned (&x)[4], Shared row);
// The same, transposed: rows 2t, 2t+1 of column g.
__device__ __forceinline__ void ldmatrix_transposed(unsigned (&x)[4], Shared row);
// Starts a copy of 16 (or 4) bytes to shared memory; writes zeros where `valid` is false, and then reads nothing.
__device__ __forceinline__ void copy_16(Shared to, const void* from, bool valid);
__device__ __forceinline__ void copy_4(Shared to, const void* from, bool valid);
// Ends a group of copies.
__device__ __forceinline__ void copy_commit();
// Waits for this thread's groups but the newest PENDING.
template <int PENDING>
__device__ __forceinline__ void copy_wait();
// Two values to bf16, rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high);
// 2^x; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x);
// 1 / x.
__device__ __forceinline__ float reciprocal_fast(float x);
// The logarithm to base 2 of a normal number.
__device__ __forceinline__ float log2_fast(float x);

// Makes a value unknown to the compiler.
__device__ __forceinline__ void hide(int& x) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(x));
#endif
}

// bf16 halves of a word as f32.
__device__ __forceinline__ float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

#ifdef __CUDACC__

__device__ __forceinline__ Shared shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void mma_m16n8k16(float (&acc)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void ldmatrix(unsigned (&x)[4], Shared row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(row)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_transposed(unsigned (&x)[4], Shared row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(row)
                 : "memory");
}

__device__ __forceinline__ void copy_16(Shared to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_4(Shared to, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(valid ? 4 : 0) : "memory");
}

__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else
#include "mma_emulated.cuh"
#endif
