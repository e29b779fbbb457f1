// Attention: packed segments forward and backward, decoding over a cache, and the cache's upkeep. Entry points; the
// code is in
//   forward.cuh   backward.cuh   bf16 on tensor cores (mma.cuh, tile.cuh)
//   plain.cuh                    the same in f32 by plain arithmetic
//   decode.cuh    cache.cuh      one new token a sequence, over a cache in blocks
// Grids of packed attention have one dimension: (item of the work list, key-value head), the head fastest.
#include "backward.cuh"
#include "decode.cuh"
#include "forward.cuh"
#include "plain.cuh"

#define SHAPE_ARGUMENTS                                                                                          \
    int tokens, int kv_heads, int group, int group_magic, int q_stride, int k_stride, int v_stride, float scale, \
        float scale_log2
#define SHAPE                                                                                                        \
    Shape {                                                                                                          \
        tokens, kv_heads, group, static_cast<unsigned>(group_magic), q_stride, k_stride, v_stride, scale, scale_log2 \
    }

// T: of queries, keys, values and output. G: of the gradients.
#define FORWARD(space, T, D, suffix)                                                                                \
    extern "C" __global__ void __launch_bounds__(128, 2)                                                            \
        attention_forward_##suffix(const T* q, const T* k, const T* v, T* out, float* lse, const Segment* segments, \
                                   const Work* work, SHAPE_ARGUMENTS) {                                             \
        space::forward<D>(q, k, v, out, lse, segments, work, SHAPE);                                                \
    }                                                                                                               \
    REGISTER_KERNEL(attention_forward_##suffix);                                                                    \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        attention_delta_##suffix(const T* out, const T* dout, float* delta, int tokens, int query_heads) {          \
        delta::delta<D>(out, dout, delta, tokens, query_heads);                                                     \
    }                                                                                                               \
    REGISTER_KERNEL(attention_delta_##suffix);

#define BACKWARD(space, T, G, D, suffix)                                                                               \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_keys_##suffix(                             \
        const T* q, const T* k, const T* v, const T* dout, const float* lse, const float* delta, G* dk,                \
        const Segment* segments, const Work* work, const int* children_begin, const int* children, SHAPE_ARGUMENTS,    \
        int dv_offset, int stride) {                                                                                   \
        space::keys<D>(q, k, v, dout, lse, delta, dk, dk + dv_offset, segments, work, children_begin, children, SHAPE, \
                       stride, stride);                                                                                \
    }                                                                                                                  \
    REGISTER_KERNEL(attention_backward_keys_##suffix);                                                                 \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_queries_##suffix(                          \
        const T* q, const T* k, const T* v, const T* dout, const float* lse, const float* delta, G* dq,                \
        const Segment* segments, const Work* work, SHAPE_ARGUMENTS, int dq_stride) {                                   \
        space::queries<D>(q, k, v, dout, lse, delta, dq, segments, work, SHAPE, dq_stride);                            \
    }                                                                                                                  \
    REGISTER_KERNEL(attention_backward_queries_##suffix);

#define DECODE_HEADS(T, D, HEADS, suffix)                                                                              \
    extern "C" __global__ void __launch_bounds__(128, 3) attention_decode_##suffix##_h##HEADS(                         \
        const T* q, const T* k_cache, const T* v_cache, const unsigned* table, const unsigned* lengths,                \
        float* scratch, int kv_heads, int group, int q_stride, int max_blocks, int block_shift, int splits, float c) { \
        decode::partial<T, D, HEADS>(q, k_cache, v_cache, table, lengths, scratch, kv_heads, group, q_stride,          \
                                     max_blocks, block_shift, splits, c);                                              \
    }                                                                                                                  \
    REGISTER_KERNEL(attention_decode_##suffix##_h##HEADS);

#define DECODE(T, D, suffix)                                                                                 \
    DECODE_HEADS(T, D, 1, suffix)                                                                            \
    DECODE_HEADS(T, D, 2, suffix)                                                                            \
    DECODE_HEADS(T, D, 4, suffix)                                                                            \
    DECODE_HEADS(T, D, 8, suffix)                                                                            \
    extern "C" __global__ void __launch_bounds__(128) attention_combine_##suffix(                            \
        const float* scratch, const unsigned* lengths, T* out, int sequences, int query_heads, int splits) { \
        decode::combine<T, D>(scratch, lengths, out, sequences, query_heads, splits);                        \
    }                                                                                                        \
    REGISTER_KERNEL(attention_combine_##suffix);

FORWARD(tensor_cores, bf16, 32, bf16_d32)
FORWARD(tensor_cores, bf16, 64, bf16_d64)
FORWARD(tensor_cores, bf16, 128, bf16_d128)
FORWARD(plain, float, 32, f32_d32)
FORWARD(plain, float, 64, f32_d64)
FORWARD(plain, float, 128, f32_d128)
BACKWARD(tensor_cores, bf16, bf16, 32, bf16_d32)
BACKWARD(tensor_cores, bf16, bf16, 64, bf16_d64)
BACKWARD(tensor_cores, bf16, bf16, 128, bf16_d128)
BACKWARD(tensor_cores, bf16, float, 32, bf16_to_f32_d32)
BACKWARD(tensor_cores, bf16, float, 64, bf16_to_f32_d64)
BACKWARD(tensor_cores, bf16, float, 128, bf16_to_f32_d128)
BACKWARD(plain, float, float, 32, f32_d32)
BACKWARD(plain, float, float, 64, f32_d64)
BACKWARD(plain, float, float, 128, f32_d128)
DECODE(bf16, 32, bf16_d32)
DECODE(bf16, 64, bf16_d64)
DECODE(bf16, 128, bf16_d128)
DECODE(float, 32, f32_d32)
DECODE(float, 64, f32_d64)
DECODE(float, 128, f32_d128)

extern "C" __global__ void __launch_bounds__(256)
    attention_cache_append(const uint4* k, const uint4* v, const unsigned* sequences, const unsigned* positions,
                           const unsigned* table, uint4* k_cache, uint4* v_cache, int rows, int kv_heads, int head_len,
                           int k_stride, int v_stride, int max_blocks, int block_shift) {
    cache::append(k, v, sequences, positions, table, k_cache, v_cache, rows, kv_heads, head_len, k_stride, v_stride,
                  max_blocks, block_shift);
}
REGISTER_KERNEL(attention_cache_append);

extern "C" __global__ void __launch_bounds__(256)
    attention_cache_copy_blocks(uint4* k_cache, uint4* v_cache, const unsigned* copies, int layers, int kv_heads,
                                int head_len, int block_shift, unsigned long long layer_len) {
    cache::copy_blocks(k_cache, v_cache, copies, layers, kv_heads, head_len, block_shift, layer_len);
}
REGISTER_KERNEL(attention_cache_copy_blocks);
