// What the kernels share: loads and stores of vectors as floats, and sums in a fixed order.
//
// The same source is compiled by nvcc and, for tests, by a C++ compiler (`emulation/device.h`). Nothing here adds
// floats by atomics: every sum has one order, so a kernel gives the same bits on every run.
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#define DYN_SHARED(type, name)                                \
    extern __shared__ __align__(128) unsigned char name##_[]; \
    type* name = reinterpret_cast<type*>(name##_)
#define REGISTER_KERNEL(name)
#else
#include "emulation/device.h"
#ifdef EMULATION_ANCHOR
extern "C" int EMULATION_ANCHOR;
int EMULATION_ANCHOR = 0;  // its name is known to the table that keeps this file in the program
#endif
#endif
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
constexpr unsigned FULL_WARP = 0xffffffffu;

// --- numbers ---------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16(x);
}

// Elements of a 16-byte vector.
template <class T>
constexpr int VECTOR = 16 / int(sizeof(T));

// Whether rows of `width` elements at these addresses can be read by whole vectors. Null pointers are no obstacle.
template <class T>
__device__ __forceinline__ bool vectorizes(int width, const void* a, const void* b = nullptr, const void* c = nullptr,
                                           const void* d = nullptr) {
    uintptr_t bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c) |
                     reinterpret_cast<uintptr_t>(d);
    return width % VECTOR<T> == 0 && bits % 16 == 0;
}

// N elements from `p` as floats: one by one, or (4 floats; 4 or 8 bf16, or multiples) by vectors, to which `p` is aligned.
template <int N>
__device__ __forceinline__ void load(const float* p, float (&v)[N]) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            float4 q = *reinterpret_cast<const float4*>(p + i);
            v[i] = q.x, v[i + 1] = q.y, v[i + 2] = q.z, v[i + 3] = q.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = p[i];
    }
}
template <int N>
__device__ __forceinline__ void load(const bf16* p, float (&v)[N]) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            uint4 q = *reinterpret_cast<const uint4*>(p + i);
            unsigned words[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
            for (int k = 0; k < 4; k++) {
                v[i + 2 * k] = __uint_as_float(words[k] << 16);
                v[i + 2 * k + 1] = __uint_as_float(words[k] & 0xffff0000u);
            }
        }
    } else if constexpr (N == 4) {
        uint2 q = *reinterpret_cast<const uint2*>(p);
        v[0] = __uint_as_float(q.x << 16), v[1] = __uint_as_float(q.x & 0xffff0000u);
        v[2] = __uint_as_float(q.y << 16), v[3] = __uint_as_float(q.y & 0xffff0000u);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = to_float(p[i]);
    }
}
template <int N>
__device__ __forceinline__ void store(float* p, const float (&v)[N]) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            *reinterpret_cast<float4*>(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p[i] = v[i];
    }
}
template <int N>
__device__ __forceinline__ void store(bf16* p, const float (&v)[N]) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            unsigned words[4];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                __nv_bfloat162 pair = __floats2bfloat162_rn(v[i + 2 * k], v[i + 2 * k + 1]);
                memcpy(&words[k], &pair, sizeof pair);
            }
            *reinterpret_cast<uint4*>(p + i) = make_uint4(words[0], words[1], words[2], words[3]);
        }
    } else if constexpr (N == 4) {
        __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v[0], v[1]), __floats2bfloat162_rn(v[2], v[3])};
        uint2 words;
        memcpy(&words, pairs, sizeof pairs);
        *reinterpret_cast<uint2*>(p) = words;
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p[i] = __float2bfloat16(v[i]);
    }
}

// The value that reading back what `store` writes will give.
template <class T>
__device__ __forceinline__ float rounded(float x) {
    return to_float(from_float<T>(x));
}

// A constant as an argument, so that one lambda serves vectors and single elements.
template <int N>
struct Count {
    static constexpr int value = N;
};

// Calls body(i, Count<N>) for the columns i, i + N, … that are this thread's, by vectors of T where `vector`.
template <class T, class F>
__device__ __forceinline__ void each_column(int width, bool vector, F body) {
    if (vector) {
        for (int i = threadIdx.x * VECTOR<T>; i < width; i += blockDim.x * VECTOR<T>) body(i, Count<VECTOR<T>>{});
    } else {
        for (int i = threadIdx.x; i < width; i += blockDim.x) body(i, Count<1>{});
    }
}

// --- reductions ------------------------------------------------------------------------------------------------------

struct Sum {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a + b;
    }
};
struct Max {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

// Over groups of WIDTH lanes, by halves: the same tree every time. Every lane has the result.
template <int WIDTH = 32, class T, class F = Sum>
__device__ __forceinline__ T warp_reduce(T value, F combine = F()) {
#pragma unroll
    for (int lanes = WIDTH / 2; lanes > 0; lanes /= 2) {
        value = combine(value, __shfl_xor_sync(FULL_WARP, value, lanes));
    }
    return value;
}

// Over the whole block, whose size is a multiple of 32. Every thread has the result. `scratch` has 32 elements of
// shared memory; it may be used again after the next barrier.
template <class T, class F = Sum>
__device__ __forceinline__ T block_reduce(T value, T* scratch, T neutral, F combine = F()) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = warp_reduce(value, combine);
    if (warps == 1) return value;
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    return warp_reduce(lane < warps ? scratch[lane] : neutral, combine);
}
