// The random number of one token: ChaCha with 8 rounds, keyed by what the number is for.
#pragma once
#include "../cuda/common.cuh"

// The first 53 bits of the stream `stream` under the key (seed, purpose, draw, sample), each 8 bytes little-endian.
__device__ __forceinline__ unsigned long long keyed_random(unsigned long long seed, unsigned long long purpose,
                                                           unsigned long long draw, unsigned long long sample,
                                                           unsigned long long stream) {
    const unsigned long long key[4] = {seed, purpose, draw, sample};
    unsigned first[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u}, x[16];
    for (int i = 0; i < 4; i++) {
        first[4 + 2 * i] = unsigned(key[i]);
        first[5 + 2 * i] = unsigned(key[i] >> 32);
    }
    first[12] = first[13] = 0;  // the block's number
    first[14] = unsigned(stream);
    first[15] = unsigned(stream >> 32);
    for (int i = 0; i < 16; i++) x[i] = first[i];
    auto rotate = [](unsigned v, int bits) { return v << bits | v >> (32 - bits); };
    auto quarter = [&](int a, int b, int c, int d) {
        x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);
        x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);
        x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);
        x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);
    };
#pragma unroll
    for (int round = 0; round < 8; round += 2) {
        quarter(0, 4, 8, 12), quarter(1, 5, 9, 13), quarter(2, 6, 10, 14), quarter(3, 7, 11, 15);
        quarter(0, 5, 10, 15), quarter(1, 6, 11, 12), quarter(2, 7, 8, 13), quarter(3, 4, 9, 14);
    }
    const unsigned long long low = x[0] + first[0], high = x[1] + first[1];
    return (high << 32 | low) >> 11;
}

// floor(u * total) for u = bits / 2^53.
__device__ __forceinline__ unsigned long long fraction_of(unsigned long long bits, unsigned long long total) {
    return __umul64hi(bits << 11, total);
}
