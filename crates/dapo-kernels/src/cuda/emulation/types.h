// The vocabulary types of CUDA that the kernels use, for a C++ compiler: bfloat16 and short vectors.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

// The upper half of a float. Trivial, so that it may stand in shared memory and unions as on the device.
struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// To nearest, ties to even; a NaN stays one.
inline __nv_bfloat16 __float2bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (std::isnan(x)) return {0x7fff};
    bits += 0x7fff + ((bits >> 16) & 1);
    return {uint16_t(bits >> 16)};
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __float2bfloat16(x); }

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16(x), __float2bfloat16(y)}; }

#define EMULATION_VECTOR(type, base, bytes2, bytes4)                                            \
    struct alignas(bytes2) type##2 {                                                            \
        base x, y;                                                                              \
    };                                                                                          \
    struct alignas(bytes4) type##4 {                                                            \
        base x, y, z, w;                                                                        \
    };                                                                                          \
    inline type##2 make_##type##2(base x, base y) { return {x, y}; }                            \
    inline type##4 make_##type##4(base x, base y, base z, base w) { return {x, y, z, w}; }
EMULATION_VECTOR(float, float, 8, 16)
EMULATION_VECTOR(int, int, 8, 16)
EMULATION_VECTOR(uint, unsigned, 8, 16)
EMULATION_VECTOR(double, double, 16, 16)
#undef EMULATION_VECTOR
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {__bfloat162float(v.x), __bfloat162float(v.y)}; }

inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
inline float __uint_as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline float __int_as_float(int bits) { return __uint_as_float(uint32_t(bits)); }
