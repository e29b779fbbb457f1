// CUDA C++ as a C++ compiler may see it: what `common.cuh` includes where nvcc is not the compiler.
//
// Covers what the kernels use: thread indices, static and dynamic shared memory, block and warp barriers, shuffles,
// votes, integer atomics and the fast mathematics. Not covered: memory ordering, tensor cores and asynchronous copies;
// kernels keep those behind `#ifdef __CUDA_ARCH__`, beside a plain path. Static shared memory keeps what the block
// before left in it, dynamic shared memory is filled with ones (NaN) before every block.
#pragma once
#include "runtime.h"
#include "types.h"

#include <algorithm>
#include <cassert>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __restrict__ __restrict
#define __shared__ static

#define threadIdx (emulation::current->thread)
#define blockIdx (emulation::block_index)
#define blockDim (emulation::block)
#define gridDim (emulation::grid)
constexpr int warpSize = 32;

#define EMULATION_TEXT(x) #x
#define EMULATION_LINE(x) EMULATION_TEXT(x)
// The place of a call, so that threads waiting at different barriers are told apart. `x##_sync` functions are macros.
#define EMULATION_PLACE __FILE__ ":" EMULATION_LINE(__LINE__)

#define DYN_SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::shared)
#define REGISTER_KERNEL(name) \
    static emulation::Registration registration_##name(emulation::Entry<&name>::describe(#name))

#define __syncthreads() emulation::wait_block(EMULATION_PLACE)
inline void emulation_syncwarp(const char* place, unsigned mask = ~0u) { emulation::wait_warp(mask, place); }
#define __syncwarp(...) emulation_syncwarp(EMULATION_PLACE __VA_OPT__(, ) __VA_ARGS__)
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emulation {
template <class T>
T shuffle(const char* place, unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(mask, bits, source, place);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
// A lane's partner within groups of `width`; its own value where the partner would lie outside.
template <class T>
T shuffle_at(const char* place, unsigned mask, T value, int source, int width = 32) {
    return shuffle(place, mask, value, (lane() & ~(width - 1u)) | (unsigned(source) & (width - 1u)));
}
template <class T>
T shuffle_xor(const char* place, unsigned mask, T value, int lanes, int width = 32) {
    unsigned source = lane() ^ unsigned(lanes);
    return shuffle(place, mask, value, source / width == lane() / width ? source : lane());
}
template <class T>
T shuffle_down(const char* place, unsigned mask, T value, unsigned delta, int width = 32) {
    return shuffle(place, mask, value, lane() % width + delta < unsigned(width) ? lane() + delta : lane());
}
template <class T>
T shuffle_up(const char* place, unsigned mask, T value, unsigned delta, int width = 32) {
    return shuffle(place, mask, value, lane() % width >= delta ? lane() - delta : lane());
}
inline unsigned ballot(const char* place, unsigned mask, int predicate) {
    uint64_t values[32];
    unsigned present = gather(mask, predicate != 0, values, place), result = 0;
    for (unsigned i = 0; i < 32; i++) {
        if (present >> i & 1) result |= unsigned(values[i]) << i;
    }
    return result;
}
inline int all(const char* place, unsigned mask, int predicate) {
    uint64_t values[32];
    unsigned present = gather(mask, predicate != 0, values, place);
    bool result = true;
    for (unsigned i = 0; i < 32; i++) result = result && (!(present >> i & 1) || values[i] != 0);
    return result;
}
template <class T>
unsigned match_any(const char* place, unsigned mask, T value) {
    uint64_t bits = 0, values[32];
    std::memcpy(&bits, &value, sizeof value);
    unsigned present = gather(mask, bits, values, place), result = 0;
    for (unsigned i = 0; i < 32; i++) {
        if ((present >> i & 1) && values[i] == bits) result |= 1u << i;
    }
    return result;
}
}  // namespace emulation
#define __shfl_sync(...) emulation::shuffle_at(EMULATION_PLACE, __VA_ARGS__)
#define __shfl_xor_sync(...) emulation::shuffle_xor(EMULATION_PLACE, __VA_ARGS__)
#define __shfl_down_sync(...) emulation::shuffle_down(EMULATION_PLACE, __VA_ARGS__)
#define __shfl_up_sync(...) emulation::shuffle_up(EMULATION_PLACE, __VA_ARGS__)
#define __ballot_sync(...) emulation::ballot(EMULATION_PLACE, __VA_ARGS__)
#define __any_sync(...) (emulation::ballot(EMULATION_PLACE, __VA_ARGS__) != 0)
#define __all_sync(...) emulation::all(EMULATION_PLACE, __VA_ARGS__)
#define __match_any_sync(...) emulation::match_any(EMULATION_PLACE, __VA_ARGS__)

// One thread runs at a time, so plain arithmetic is atomic.
template <class T, class U>
T atomicAdd(T* p, U v) {
    static_assert(std::is_integral_v<T>, "sums of floats by atomics depend on the order");
    T old = *p;
    *p = T(old + T(v));
    return old;
}
template <class T, class U>
T atomicMax(T* p, U v) {
    T old = *p;
    *p = std::max(old, T(v));
    return old;
}
template <class T, class U>
T atomicMin(T* p, U v) {
    T old = *p;
    *p = std::min(old, T(v));
    return old;
}
template <class T, class U>
T atomicOr(T* p, U v) {
    T old = *p;
    *p = T(old | T(v));
    return old;
}
template <class T, class U>
T atomicExch(T* p, U v) {
    T old = *p;
    *p = T(v);
    return old;
}
template <class T, class U, class V>
T atomicCAS(T* p, U expected, V v) {
    T old = *p;
    if (old == T(expected)) *p = T(v);
    return old;
}

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return std::min(std::max(x, 0.0f), 1.0f); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
T __ldcg(const T* p) {
    return *p;
}
template <class T>
void __stcs(T* p, T v) {
    *p = v;
}
