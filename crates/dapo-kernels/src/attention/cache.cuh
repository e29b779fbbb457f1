// The cache of keys and values that decoding reads: blocks of positions, found through a table, so that sequences can
// share them.
//
// A cache of keys (another of values) is [blocks, kv heads, block size, d]; the block size is a power of two from 16
// on. Position p of sequence s lies in block table[s][p / block size], in the row p % block size of each head. The
// completions of a group have the prompt's whole blocks in their tables; of its last, partial block each has a copy.
#pragma once
#include "../cuda/common.cuh"

// Where a head's row of a position begins, in rows.
__device__ __forceinline__ size_t cache_row(unsigned block, int kv_heads, int head, int position, int block_shift) {
    return ((static_cast<size_t>(block) * kv_heads + head) << block_shift) + (position & ((1 << block_shift) - 1));
}

namespace cache {

constexpr unsigned NO_SEQUENCE = 0xffffffffu;

// Appends rows of new keys and values, [n, kv heads · d] with strides; row i is position positions[i] of sequence
// sequences[i] (or i, where there is no such array). NO_SEQUENCE skips a row. Lengths and strides count 16 bytes. A
// thread moves 16 bytes of both.
// Bytes: 4 times a row of keys.
__device__ __forceinline__ void append(const uint4* k, const uint4* v, const unsigned* sequences,
                                       const unsigned* positions, const unsigned* table, uint4* k_cache, uint4* v_cache,
                                       int rows, int kv_heads, int head_len, int k_stride, int v_stride, int max_blocks,
                                       int block_shift) {
    const size_t index = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int width = kv_heads * head_len;
    const size_t row = index / width;
    const int column = index % width;
    if (row >= static_cast<size_t>(rows)) return;
    const unsigned sequence = sequences ? sequences[row] : static_cast<unsigned>(row);
    if (sequence == NO_SEQUENCE) return;
    const int position = positions[row];
    const unsigned block = table[static_cast<size_t>(sequence) * max_blocks + (position >> block_shift)];
    const size_t to =
        cache_row(block, kv_heads, column / head_len, position, block_shift) * head_len + column % head_len;
    k_cache[to] = k[row * k_stride + column];
    v_cache[to] = v[row * v_stride + column];
}

// Copies the first copies[3·i + 2] positions of block copies[3·i] to block copies[3·i + 1], in all layers and heads:
// what a fork needs of a partial block. One block of threads a (copy, layer, head). `layer_len` is a layer's length in
// 16 bytes.
__device__ __forceinline__ void copy_blocks(uint4* k_cache, uint4* v_cache, const unsigned* copies, int layers,
                                            int kv_heads, int head_len, int block_shift, unsigned long long layer_len) {
    const int head = blockIdx.x % kv_heads, layer = blockIdx.x / kv_heads % layers,
              copy = blockIdx.x / kv_heads / layers;
    const size_t from = layer * layer_len + cache_row(copies[3 * copy], kv_heads, head, 0, block_shift) * head_len;
    const size_t to = layer * layer_len + cache_row(copies[3 * copy + 1], kv_heads, head, 0, block_shift) * head_len;
    for (int i = threadIdx.x; i < static_cast<int>(copies[3 * copy + 2]) * head_len; i += blockDim.x) {
        k_cache[to + i] = k_cache[from + i];
        v_cache[to + i] = v_cache[from + i];
    }
}

}  // namespace cache
