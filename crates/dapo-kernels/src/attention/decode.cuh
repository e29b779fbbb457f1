// Attention of one new token per sequence over its cache: scores, softmax and the weighted sum of values, in f32.
//
// Keys are cut by absolute position into splits of 256, so that a long sequence is read by many blocks of threads, and
// a result does not depend on batch or device. A block takes a split, a sequence, a key-value head and up to HEADS of
// the query heads that share it: keys and values are read once for them all. Keys, then values stream through shared
// memory, 64 positions at a time, two chunks ahead.
//   partial   for each (sequence, query head, split): Σ p·v, and (maximum, Σ p), p = 2^(c·score − maximum). Scratch:
//             all the first, [B, Hq, splits, d], then all the second, [B, Hq, splits, 2]
//   combine   splits in order, to the output
// Bytes: the cache once, 2·d·sizeof(T) a position and kv head (partial results: d·8 a query head and split). Flops: 4·d
// a position and query head; bound by memory up to about 8 query heads a key-value head.
#pragma once
#include "cache.cuh"
#include "tile.cuh"

namespace decode {

constexpr int SPLIT = 256, CHUNK = 64, STAGES = 3, THREADS = 128, MIN_BLOCK = 16;

// Dynamic shared memory: the chunks in flight, and later the sums of all threads in their place; then the queries, and
// the scores.
template <class T, int D, int HEADS>
constexpr int STAGE_BYTES = STAGES * CHUNK * D * int(sizeof(T)) > THREADS * 8 * HEADS * 4
                                ? STAGES* CHUNK* D* int(sizeof(T))
                                : THREADS * 8 * HEADS * 4;
template <class T, int D, int HEADS>
constexpr int SHARED_BYTES = STAGE_BYTES<T, D, HEADS> + (D + SPLIT) * HEADS * 4;

// 16 bytes of the cache.
template <class T>
struct Vector {
    static constexpr int N = 16 / sizeof(T);
    float x[N];
    // Chunk `chunk` of a row of D elements in a swizzled tile.
    template <int D>
    __device__ __forceinline__ void read(const unsigned char* tile, int row, int chunk) {
        const int at = (chunk ^ permutation<D / N>(row)) << 4;
        load(reinterpret_cast<const T*>(tile + row * D * static_cast<int>(sizeof(T)) + at), x);
    }
};

template <class T, int D, int HEADS>
struct Block {
    static constexpr int N = 16 / sizeof(T), CHUNKS = D / N;
    unsigned char* stages;
    float* queries;  // [HEADS][D], zeros where there is no head
    float* scores;   // [SPLIT][HEADS]

    __device__ __forceinline__ unsigned char* stage(int i) const {
        return stages + i % STAGES * CHUNK * D * static_cast<int>(sizeof(T));
    }

    // A thread takes a key of the chunk, and every other head.
    __device__ __forceinline__ void score(const unsigned char* tile, int first, int keys, float c) const {
        constexpr int MINE = HEADS > 1 ? HEADS / 2 : 1;
        const int key = threadIdx.x % CHUNK, half = threadIdx.x / CHUNK;
        if (HEADS == 1 && half == 1) return;
        float acc[MINE] = {};
#pragma unroll 4
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Vector<T> k;
            k.template read<D>(tile, key, chunk);
#pragma unroll
            for (int h = 0; h < MINE; h++) {
                float q[N];
                load(queries + (h * 2 + half) * D + chunk * N, q);
#pragma unroll
                for (int i = 0; i < N; i++) acc[h] = fmaf(q[i], k.x[i], acc[h]);
            }
        }
#pragma unroll
        for (int h = 0; h < MINE; h++)
            scores[(first + key) * HEADS + h * 2 + half] = first + key < keys ? acc[h] * c : -INFINITY;
    }

    // Scores of the first `chunks` chunks to weights; a warp takes every fourth head. Maxima and sums go to
    // `statistics`.
    __device__ __forceinline__ void softmax(int chunks, int heads, float* statistics, int head_stride) const {
        const int lane = threadIdx.x % 32;
        for (int h = threadIdx.x / 32; h < heads; h += THREADS / 32) {
            float top = -INFINITY, sum = 0.0f;
            for (int key = lane; key < chunks * CHUNK; key += 32) top = fmaxf(top, scores[key * HEADS + h]);
            top = warp_reduce(top, Max());
            for (int key = lane; key < chunks * CHUNK; key += 32) {
                const float p = exp2_fast(scores[key * HEADS + h] - top);
                scores[key * HEADS + h] = p;
                sum += p;
            }
            sum = warp_reduce(sum);
            if (lane == 0) store_pair(statistics + static_cast<size_t>(h) * head_stride, top, sum);
        }
    }
};

template <class T, int D, int HEADS>
__device__ __forceinline__ void partial(const T* q, const T* k_cache, const T* v_cache, const unsigned* table,
                                        const unsigned* lengths, float* scratch, int kv_heads, int group, int q_stride,
                                        int max_blocks, int block_shift, int splits, float c) {
    constexpr int N = 16 / sizeof(T), CHUNKS = D / N;
    DYN_SHARED(unsigned char, memory);
    __shared__ unsigned blocks[SPLIT / MIN_BLOCK];
    float* const queries = reinterpret_cast<float*>(memory + STAGE_BYTES<T, D, HEADS>);
    const Block<T, D, HEADS> block = {memory, queries, queries + HEADS * D};

    const int parts = (group + HEADS - 1) / HEADS, sequence = blockIdx.y;
    const int part = blockIdx.x % parts, kv_head = blockIdx.x / parts % kv_heads, split = blockIdx.x / parts / kv_heads;
    const int first_key = split * SPLIT, keys = min(SPLIT, static_cast<int>(lengths[sequence]) - first_key);
    if (keys <= 0) return;
    float *const sums = scratch, *const statistics =
                                     scratch + static_cast<size_t>(gridDim.y) * kv_heads * group * splits * D;
    const int heads = min(HEADS, group - part * HEADS), first_head = kv_head * group + part * HEADS,
              query_heads = kv_heads * group;
    const int chunks = (keys + CHUNK - 1) / CHUNK;

    if (static_cast<int>(threadIdx.x) < (keys + (1 << block_shift) - 1) >> block_shift) {
        blocks[threadIdx.x] =
            table[static_cast<size_t>(sequence) * max_blocks + (first_key >> block_shift) + threadIdx.x];
    }
    for (int i = threadIdx.x; i < HEADS * D; i += THREADS) {
        queries[i] = i / D < heads ? to_float(q[static_cast<size_t>(sequence) * q_stride + first_head * D + i]) : 0.0f;
    }
    __syncthreads();

    // Chunks of keys, then chunks of values; an empty group after the last, so that waiting counts the same.
    auto copy = [&](int i) {
        if (i < 2 * chunks) {
            const T* const from = i < chunks ? k_cache : v_cache;
            const int first = i % chunks * CHUNK;
            const Shared to = shared_address(block.stage(i));
#pragma unroll 4
            for (int j = threadIdx.x; j < CHUNK * CHUNKS; j += THREADS) {
                const int row = j / CHUNKS, chunk = j % CHUNKS, key = first + row;
                const bool valid = key < keys;
                const unsigned in_block = valid ? blocks[key >> block_shift] : 0;
                const size_t at = cache_row(in_block, kv_heads, kv_head, key, block_shift) * D + chunk * N;
                copy_16(to + row * D * static_cast<int>(sizeof(T)) + ((chunk ^ permutation<CHUNKS>(row)) << 4),
                        from + (valid ? at : 0), valid);
            }
        }
        copy_commit();
    };
    for (int i = 0; i < STAGES - 1; i++) copy(i);

    // For the values, a thread takes eight columns, and every KEY_GROUPS-th key.
    constexpr int COLUMN_GROUPS = D / 8, KEY_GROUPS = THREADS / COLUMN_GROUPS;
    const int column = threadIdx.x % COLUMN_GROUPS * 8, key_group = threadIdx.x / COLUMN_GROUPS;
    float acc[HEADS][8] = {};
    for (int i = 0; i < 2 * chunks; i++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        copy(i + STAGES - 1);
        const unsigned char* const tile = block.stage(i);
        if (i < chunks) {
            block.score(tile, i * CHUNK, keys, c);
            continue;
        }
        if (i == chunks) {
            const size_t row = static_cast<size_t>(sequence) * query_heads + first_head;
            block.softmax(chunks, heads, statistics + (row * splits + split) * 2, splits * 2);
            __syncthreads();
        }
        const float* const weights = block.scores + (i - chunks) * CHUNK * HEADS;
#pragma unroll 2
        for (int key = key_group; key < CHUNK; key += KEY_GROUPS) {
            float v[8], p[HEADS];
#pragma unroll
            for (int j = 0; j < 8 / N; j++) {
                Vector<T> x;
                x.template read<D>(tile, key, column / N + j);
#pragma unroll
                for (int e = 0; e < N; e++) v[j * N + e] = x.x[e];
            }
            load(weights + key * HEADS, p);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
#pragma unroll
                for (int e = 0; e < 8; e++) acc[h][e] = fmaf(p[h], v[e], acc[h][e]);
            }
        }
    }

    // Sums over the groups of keys, in order.
    __syncthreads();
    float* const parts_of_sums = reinterpret_cast<float*>(memory);  // [KEY_GROUPS][HEADS][D]
#pragma unroll
    for (int h = 0; h < HEADS; h++) store(parts_of_sums + (key_group * HEADS + h) * D + column, acc[h]);
    __syncthreads();
    for (int i = threadIdx.x; i < heads * D; i += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int g = 0; g < KEY_GROUPS; g++) sum += parts_of_sums[g * HEADS * D + i];
        const size_t row = static_cast<size_t>(sequence) * query_heads + first_head + i / D;
        sums[(row * splits + split) * D + i % D] = sum;
    }
}

// A warp a (sequence, query head). A sequence of length 0 gets zeros.
template <class T, int D>
__device__ __forceinline__ void combine(const float* scratch, const unsigned* lengths, T* out, int sequences,
                                        int query_heads, int splits) {
    const size_t row = static_cast<size_t>(blockIdx.x) * (THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= static_cast<size_t>(sequences) * query_heads) return;
    const int used = min(splits, (static_cast<int>(lengths[row / query_heads]) + SPLIT - 1) / SPLIT);
    const float *const sums = scratch, *const mine = scratch +
                                                     static_cast<size_t>(sequences) * query_heads * splits * D +
                                                     row * splits * 2;
    float top = -INFINITY, total = 0.0f, acc[D / 32] = {};
    for (int split = 0; split < used; split++) top = fmaxf(top, mine[split * 2]);
    for (int split = 0; split < used; split++) {
        const float factor = exp2_fast(mine[split * 2] - top);
        total = fmaf(mine[split * 2 + 1], factor, total);
#pragma unroll
        for (int i = 0; i < D / 32; i++)
            acc[i] = fmaf(sums[(row * splits + split) * D + i * 32 + lane], factor, acc[i]);
    }
    const float inverse = used ? 1.0f / total : 0.0f;
#pragma unroll
    for (int i = 0; i < D / 32; i++) out[row * D + i * 32 + lane] = from_float<T>(acc[i] * inverse);
}

}  // namespace decode
