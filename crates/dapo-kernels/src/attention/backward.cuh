// Backward of packed causal attention, bf16 on tensor cores: scores are computed again from the logarithms that the
// forward kept.
//
// Three kernels, none with atomics, every sum in a fixed order:
//   delta     Σ_d out · dout of every row, which the softmax's derivative needs.
//             Bytes: 4·Hq·d read, 4·Hq written a token.
//   keys      dk and dv of a block of 64 keys, over all rows that see them: of their own segment from the diagonal on,
//             then of the segments that continue it, in order. Four warps of 16 keys; dk and dv stay in registers.
//             Works on transposed scores, so that weights and their gradients are A fragments where they were computed.
//             Flops: 8·d for each (query head, key) pair seen. Bytes: q and dout, 4·d a row and key block, from L2.
//   queries   dq of a block of 128 rows, over the keys they see, 32 at a time. Four warps of 32 rows; dq stays in
//             registers. Flops: 6·d a pair. Bytes: k and v, 4·d a key and row block, from L2.
// Scores and dout·vᵀ are computed by both: 7 products for 5, the price of fixed sums without partial results in memory.
#pragma once
#include "tile.cuh"

namespace delta {

// --- delta ----------------------------------------------------------------------------------------------------------

// D / 8 lanes a row of out and dout, [T, Hq, D]; delta is [Hq, T].
template <int D, class T>
__device__ __forceinline__ void delta(const T* out, const T* dout, float* delta, int tokens, int query_heads) {
    constexpr int LANES = D / 8;
    const size_t index = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x, row = index / LANES;
    const int lane = index % LANES;
    float sum = 0.0f;
    const bool valid = row < static_cast<size_t>(tokens) * query_heads;
    if (valid) {
        float x[8], y[8];
        load(out + row * D + lane * 8, x);
        load(dout + row * D + lane * 8, y);
#pragma unroll
        for (int i = 0; i < 8; i++) sum = fmaf(x[i], y[i], sum);
    }
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, step);
    if (valid && lane == 0) delta[row % query_heads * tokens + row / query_heads] = sum;
}

}  // namespace delta

namespace tensor_cores {

// --- keys -----------------------------------------------------------------------------------------------------------

constexpr int KEYS_ROWS = 64, WARP_KEYS = 16;

// Of each row of a tile: the logarithm, delta, and the query's number if it is of the keys' own segment.
struct RowValues {
    float lse[KEYS_ROWS], delta[KEYS_ROWS];
    int query[KEYS_ROWS];
};

// Dynamic shared memory.
template <int D>
constexpr int KEYS_BYTES = (2 * KEYS + 4 * KEYS_ROWS) * D * 2 + 2 * int(sizeof(RowValues));

template <int D, class G>
__device__ __forceinline__ void keys(const bf16* q, const bf16* k, const bf16* v, const bf16* dout, const float* lse,
                                     const float* delta, G* dk, G* dv, const Segment* segments, const Work* work,
                                     const int* children_begin, const int* children, Shape shape, int dk_stride,
                                     int dv_stride) {
    DYN_SHARED(char, memory);
    constexpr int KEY_TILE = KEYS * D * 2, ROW_TILE = KEYS_ROWS * D * 2;
    const Shared base = shared_address(memory), key_tile = base, value_tile = base + KEY_TILE,
                 row_tiles = base + 2 * KEY_TILE;
    RowValues* const row_values = reinterpret_cast<RowValues*>(memory + 2 * KEY_TILE + 4 * ROW_TILE);

    const int kv_head = blockIdx.x % shape.kv_heads;
    const Work item = work[blockIdx.x / shape.kv_heads];
    const Segment segment = segments[item.segment];
    const int first_key = item.first, query_heads = shape.kv_heads * shape.group;
    RowCursor cursor = {children_begin[item.segment], children_begin[item.segment + 1], segment.start,
                        first_key * shape.group,      segment.len * shape.group,        true};

    auto copy_rows = [&](int stage) {
        auto place = [&](int row) {
            const int r = cursor.row + row, query = shape.query(r);
            return Place{r < cursor.rows ? cursor.start + query : -1,
                         (kv_head * shape.group + shape.head(r, query)) * D};
        };
        copy_tile<D, KEYS_ROWS, THREADS>(row_tiles + stage * 2 * ROW_TILE, q, shape.q_stride, place);
        copy_tile<D, KEYS_ROWS, THREADS>(row_tiles + (stage * 2 + 1) * ROW_TILE, dout, query_heads * D, place);
        // Half of the threads fetch a logarithm, half a delta.
        const int row = threadIdx.x % KEYS_ROWS, r = cursor.row + row, query = shape.query(r);
        const bool valid = r < cursor.rows, first = threadIdx.x < KEYS_ROWS;
        const size_t at =
            static_cast<size_t>(kv_head * shape.group + shape.head(r, query)) * shape.tokens + cursor.start + query;
        copy_4(shared_address(first ? &row_values[stage].lse[row] : &row_values[stage].delta[row]),
               (first ? lse : delta) + (valid ? at : 0), valid);
        if (first) row_values[stage].query[row] = cursor.own ? query : 0x7fffffff;
        copy_commit();
    };
    auto key_place = [&](int row) {
        return Place{first_key + row < segment.len ? segment.start + first_key + row : -1, kv_head * D};
    };
    copy_tile<D, KEYS, THREADS>(key_tile, k, shape.k_stride, key_place);
    copy_tile<D, KEYS, THREADS>(value_tile, v, shape.v_stride, key_place);
    copy_rows(0);

    const int warp_key = threadIdx.x / 32 * WARP_KEYS, lane_key = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    const LaneRows<D> key_rows = rows_for_a<D>(key_tile + warp_key * D * 2),
                      value_rows = rows_for_a<D>(value_tile + warp_key * D * 2);
    float dk_acc[1][D / 8][4] = {}, dv_acc[1][D / 8][4] = {};
    bool more = true;
    for (int stage = 0; more; stage ^= 1) {
        copy_wait<0>();
        __syncthreads();
        const bool diagonal = cursor.own && shape.query(cursor.row) < first_key + warp_key + WARP_KEYS - 1;

        const Shared q_tile = row_tiles + stage * 2 * ROW_TILE, dout_tile = q_tile + ROW_TILE;
        const RowValues& values = row_values[stage];
        float p[1][KEYS_ROWS / 8][4] = {};
        product(p, key_rows, rows_for_b<D>(q_tile));
#pragma unroll
        for (int n = 0; n < KEYS_ROWS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                // A row past the end is all zeros: it adds nothing, whatever its weight.
                p[0][n][i] =
                    exp2_fast(fmaf(p[0][n][i], shape.scale_log2, -values.lse[n * 8 + column + i % 2] * LOG2_E));
            }
        }
        if (diagonal) {
#pragma unroll
            for (int n = 0; n < KEYS_ROWS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int key = first_key + warp_key + lane_key + i / 2 * 8;
                    if (key > values.query[n * 8 + column + i % 2]) p[0][n][i] = 0.0f;
                }
            }
        }
        unsigned w[1][KEYS_ROWS / 16][4];
        pack(w, p);
        weighted_rows<D>(dv_acc, w, rows_for_b_transposed<D>(dout_tile));
        // Half-way, where fewest registers are taken.
        more = cursor.next(KEYS_ROWS, shape.group, segments, children);
        if (more) copy_rows(stage ^ 1);
        float ds[1][KEYS_ROWS / 8][4] = {};
        product(ds, value_rows, rows_for_b<D>(dout_tile));
#pragma unroll
        for (int n = 0; n < KEYS_ROWS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) ds[0][n][i] = p[0][n][i] * (ds[0][n][i] - values.delta[n * 8 + column + i % 2]);
        }
        pack(w, ds);
        weighted_rows<D>(dk_acc, w, rows_for_b_transposed<D>(q_tile));
    }

    // Read again: over the loop they would take registers.
    const Work done = work[blockIdx.x / shape.kv_heads];
    const int start = segments[done.segment].start, len = segments[done.segment].len;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int key = done.first + warp_key + lane_key + h * 8;
        if (key >= len) continue;
        const size_t token = start + key;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const int at = kv_head * D + n * 8 + column;
            store_pair(dk + token * dk_stride + at, dk_acc[0][n][h * 2] * shape.scale,
                       dk_acc[0][n][h * 2 + 1] * shape.scale);
            store_pair(dv + token * dv_stride + at, dv_acc[0][n][h * 2], dv_acc[0][n][h * 2 + 1]);
        }
    }
}

// --- queries --------------------------------------------------------------------------------------------------------

constexpr int QUERIES_KEYS = 32;

// Dynamic shared memory.
template <int D>
constexpr int QUERIES_BYTES = (2 * ROWS + 4 * QUERIES_KEYS) * D * 2;

template <int D, class G>
__device__ __forceinline__ void queries(const bf16* q, const bf16* k, const bf16* v, const bf16* dout, const float* lse,
                                        const float* delta, G* dq, const Segment* segments, const Work* work,
                                        Shape shape, int dq_stride) {
    DYN_SHARED(char, memory);
    constexpr int ROW_TILE = ROWS * D * 2, KEY_TILE = QUERIES_KEYS * D * 2, N = QUERIES_KEYS / 8;
    const Shared q_tile = shared_address(memory), dout_tile = q_tile + ROW_TILE, key_tiles = q_tile + 2 * ROW_TILE;

    const int kv_head = blockIdx.x % shape.kv_heads;
    const Work item = work[blockIdx.x / shape.kv_heads];
    const Segment segment = segments[item.segment];
    const int rows = segment.len * shape.group, query_heads = shape.kv_heads * shape.group;
    const int seen = segment.parent_len + shape.query(min(item.first + ROWS, rows) - 1) + 1;

    auto row_place = [&](int row) {
        const int r = item.first + row, query = shape.query(r);
        return Place{r < rows ? segment.start + query : -1, (kv_head * shape.group + shape.head(r, query)) * D};
    };
    auto copy_keys = [&](int tile) {
        auto place = [&](int row) {
            const int key = tile * QUERIES_KEYS + row;
            return Place{key < seen ? token_of_key(segment, key) : -1, kv_head * D};
        };
        const Shared to = key_tiles + tile % 2 * 2 * KEY_TILE;
        copy_tile<D, QUERIES_KEYS, THREADS>(to, k, shape.k_stride, place);
        copy_tile<D, QUERIES_KEYS, THREADS>(to + KEY_TILE, v, shape.v_stride, place);
        copy_commit();
    };
    copy_tile<D, ROWS, THREADS>(q_tile, q, shape.q_stride, row_place);
    copy_tile<D, ROWS, THREADS>(dout_tile, dout, query_heads * D, row_place);
    copy_keys(0);

    const int warp = threadIdx.x / 32, warp_row = item.first + warp * WARP_ROWS;
    const int lane_row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    const int warp_last = warp_row < rows ? segment.parent_len + shape.query(min(warp_row + WARP_ROWS, rows) - 1) : -1;
    // A row past the end is all zeros: it adds nothing, whatever its weight.
    float shift[2][2], row_delta[2][2];
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = warp_row + m * 16 + h * 8 + lane_row, query = shape.query(r);
            const size_t at = static_cast<size_t>(kv_head * shape.group + shape.head(r, query)) * shape.tokens +
                              segment.start + query;
            shift[m][h] = r < rows ? lse[at] * LOG2_E : 0.0f;
            row_delta[m][h] = r < rows ? delta[at] : 0.0f;
        }
    }

    const LaneRows<D> q_rows = rows_for_a<D>(q_tile + warp * WARP_ROWS * D * 2);
    const LaneRows<D> dout_rows = rows_for_a<D>(dout_tile + warp * WARP_ROWS * D * 2);
    float acc[2][D / 8][4] = {};
    const int tiles = (seen + QUERIES_KEYS - 1) / QUERIES_KEYS;
    for (int tile = 0; tile < tiles; tile++) {
        copy_wait<0>();
        __syncthreads();
        if (tile + 1 < tiles) copy_keys(tile + 1);
        const int before = segment.parent_len - tile * QUERIES_KEYS;
        if (tile * QUERIES_KEYS > warp_last) continue;
        const Shared k_tile = key_tiles + tile % 2 * 2 * KEY_TILE;
        float p[2][N][4] = {}, ds[2][N][4] = {};
        product(p, q_rows, rows_for_b<D>(k_tile));
        product(ds, dout_rows, rows_for_b<D>(k_tile + KEY_TILE));
        const bool diagonal = QUERIES_KEYS > before + shape.query(warp_row) + 1;
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int h = i / 2, last = before + shape.query(warp_row + m * 16 + h * 8 + lane_row) - column - i % 2;
#pragma unroll
                for (int n = 0; n < N; n++) {
                    const float weight = exp2_fast(fmaf(p[m][n][i], shape.scale_log2, -shift[m][h]));
                    const float gradient = weight * (ds[m][n][i] - row_delta[m][h]);
                    ds[m][n][i] = diagonal && n * 8 > last ? 0.0f : gradient;
                }
            }
        }
        unsigned w[2][N / 2][4];
        pack(w, ds);
        weighted_rows<D>(acc, w, rows_for_b_transposed<D>(k_tile));
    }

#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = warp_row + m * 16 + h * 8 + lane_row, query = shape.query(r);
            if (r >= rows) continue;
            const size_t token = segment.start + query;
            G* const to = dq + token * dq_stride + (kv_head * shape.group + shape.head(r, query)) * D + column;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                store_pair(to + n * 8, acc[m][n][h * 2] * shape.scale, acc[m][n][h * 2 + 1] * shape.scale);
            }
        }
    }
}

}  // namespace tensor_cores
