// Forward of packed causal attention with grouped key-value heads, bf16 on tensor cores.
//
// Fuses: q·kᵀ, scale, causal mask over a segment and its parent, softmax, ·v; nothing of size [T, T] reaches memory.
// Work: a block of 128 rows (queries × heads of a group) and all keys it sees, in tiles of 64 by position in the
// sequence.
// Four warps of 32 rows; scores, weights and the output stay in registers; keys and values are copied one tile ahead.
// Bytes: q, out: 2·Hq·d each a token; lse: 4·Hq a token; k and v: 4·d a key and row block, from L2 but for the first
// time.
// Flops: 4·d for each (query head, key) pair seen.
// Order of sums: tiles from the first key on; a row's bits depend on its sequence alone.
#pragma once
#include "tile.cuh"

namespace tensor_cores {

// Dynamic shared memory.
template <int D>
constexpr int FORWARD_BYTES = (ROWS + 4 * KEYS) * D * 2;

// Takes from the softmax the keys that a row does not see. Row r of the segment sees keys 0..=before + query(r) of the
// tile.
__device__ __forceinline__ void mask(float (&s)[2][KEYS / 8][4], int before, int lane_row, const Shape& shape) {
    const int first_column = threadIdx.x % 4 * 2;
    hide(lane_row);  // its four queries are not worth registers throughout the loop
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int last = before + shape.query(lane_row + m * 16 + h * 8) - first_column;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                if (n * 8 > last) s[m][n][h * 2] = -INFINITY;
                if (n * 8 + 1 > last) s[m][n][h * 2 + 1] = -INFINITY;
            }
        }
    }
}

// Scores of a tile to weights 2^(c·s - c·max), where max is that of the row so far; sums and output are brought to it.
template <int D>
__device__ __forceinline__ void softmax_step(float (&s)[2][KEYS / 8][4], float (&out)[2][D / 8][4],
                                             float (&highest)[2][2], float (&sum)[2][2], float c) {
    float factor[2][2];
    bool moved = false;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            // Every row sees key 0, so that from the first tile on the maximum is finite.
            float top = highest[m][h];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) top = fmaxf(top, fmaxf(s[m][n][h * 2], s[m][n][h * 2 + 1]));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            factor[m][h] = exp2_fast((highest[m][h] - top) * c);
            moved = moved || top != highest[m][h];
            highest[m][h] = top;
        }
    }
    // After the first tiles maxima hardly move. Where they stay, the factor is 1: leaving it out changes no bit.
    if (__any_sync(FULL_WARP, moved)) {
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                sum[m][h] *= factor[m][h];
#pragma unroll
                for (int n = 0; n < D / 8; n++) {
                    out[m][n][h * 2] *= factor[m][h];
                    out[m][n][h * 2 + 1] *= factor[m][h];
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float shift = highest[m][h] * c;
            float part = 0.0f;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = h * 2; i < h * 2 + 2; i++) {
                    s[m][n][i] = exp2_fast(fmaf(s[m][n][i], c, -shift));
                    part += s[m][n][i];
                }
            }
            sum[m][h] += part;
        }
    }
}

template <int D>
__device__ __forceinline__ void forward(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* lse,
                                        const Segment* segments, const Work* work, Shape shape) {
    DYN_SHARED(char, memory);
    const Shared queries = shared_address(memory), keys = queries + ROWS * D * 2, values = keys + 2 * KEYS * D * 2;
    constexpr int TILE = KEYS * D * 2;

    const int kv_head = blockIdx.x % shape.kv_heads;
    const int query_heads = shape.kv_heads * shape.group;
    // What a tile needs once is kept in shared memory: registers are full of scores and output.
    __shared__ struct {
        Segment segment;
        int first_row, rows;
        int seen;                     // keys that the block's last row sees
        int warp_last[THREADS / 32];  // last position among a warp's rows; -1 for a warp past the segment's end
    } block;
    if (threadIdx.x == 0) {
        const Work item = work[blockIdx.x / shape.kv_heads];
        block.segment = segments[item.segment];
        block.first_row = item.first;
        block.rows = block.segment.len * shape.group;
        block.seen = block.segment.parent_len + shape.query(min(item.first + ROWS, block.rows) - 1) + 1;
        for (int warp = 0; warp < THREADS / 32; warp++) {
            const int first = item.first + warp * WARP_ROWS, end = min(first + WARP_ROWS, block.rows);
            block.warp_last[warp] = first < end ? block.segment.parent_len + shape.query(end - 1) : -1;
        }
    }
    __syncthreads();

    auto copy_keys = [&](int tile) {
        const Segment segment = block.segment;
        const int seen = block.seen;
        auto place = [&](int row) {
            int key = tile * KEYS + row;
            return Place{key < seen ? token_of_key(segment, key) : -1, kv_head * D};
        };
        copy_tile<D, KEYS, THREADS>(keys + tile % 2 * TILE, k, shape.k_stride, place);
        copy_tile<D, KEYS, THREADS>(values + tile % 2 * TILE, v, shape.v_stride, place);
        copy_commit();
    };
    {
        const int first_row = block.first_row, rows = block.rows, start = block.segment.start;
        copy_tile<D, ROWS, THREADS>(queries, q, shape.q_stride, [&](int row) {
            int r = first_row + row, query = shape.query(r);
            return Place{r < rows ? start + query : -1, (kv_head * shape.group + shape.head(r, query)) * D};
        });
    }
    copy_keys(0);

    int warp_row = block.first_row + threadIdx.x / 32 * WARP_ROWS, lane_row = threadIdx.x % 32 / 4;

    float acc[2][D / 8][4] = {}, sum[2][2] = {}, highest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
    const LaneRows<D> a = rows_for_a<D>(queries + threadIdx.x / 32 * WARP_ROWS * D * 2);
    for (int tile = 0; tile * KEYS < block.seen; tile++) {
        copy_wait<0>();
        // All copies of this tile have arrived, and all warps are done with the one before, whose memory the next takes.
        __syncthreads();
        if ((tile + 1) * KEYS < block.seen) copy_keys(tile + 1);
        const int first_key = tile * KEYS;
        if (first_key > block.warp_last[threadIdx.x / 32]) continue;
        float s[2][KEYS / 8][4] = {};
        product(s, a, rows_for_b<D>(keys + tile % 2 * TILE));
        const int before = block.segment.parent_len - first_key;
        if (KEYS > before + shape.query(warp_row) + 1) mask(s, before, warp_row + lane_row, shape);
        softmax_step<D>(s, acc, highest, sum, shape.scale_log2);
        unsigned w[2][KEYS / 16][4];
        pack(w, s);
        weighted_rows<D>(acc, w, rows_for_b_transposed<D>(values + tile % 2 * TILE));
    }

    const int rows = block.rows, start = block.segment.start;
    hide(warp_row);
    hide(lane_row);
    // The output goes through the warp's own rows of the query tile, so that it is written 16 bytes at a time.
    char* const staged = memory + threadIdx.x / 32 * WARP_ROWS * D * 2;
    const int column = threadIdx.x % 4;
    float logarithm[2][2];
    __syncwarp();
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float total = sum[m][h];
            total += __shfl_xor_sync(FULL_WARP, total, 1);
            total += __shfl_xor_sync(FULL_WARP, total, 2);
            logarithm[m][h] = (highest[m][h] * shape.scale_log2 + log2_fast(total)) * LN_2;
            const float inverse = reciprocal_fast(total);
            char* const row = staged + (m * 16 + h * 8 + lane_row) * D * 2 + column * 4;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                unsigned pair = pack_bf16(acc[m][n][h * 2] * inverse, acc[m][n][h * 2 + 1] * inverse);
                *reinterpret_cast<unsigned*>(row + ((n ^ permutation<D / 8>(lane_row)) << 4)) = pair;
            }
        }
    }
    __syncwarp();
    // Each lane of a quad writes the logarithm of one of its four rows.
    {
        const float mine = column == 0   ? logarithm[0][0]
                           : column == 1 ? logarithm[0][1]
                           : column == 2 ? logarithm[1][0]
                                         : logarithm[1][1];
        const int r = warp_row + column * 8 + lane_row, query = shape.query(r);
        const size_t head = kv_head * shape.group + shape.head(r, query);
        if (r < rows) lse[head * shape.tokens + start + query] = mine;
    }
#pragma unroll 4
    for (int i = 0; i < WARP_ROWS * D / 8 / 32; i++) {
        const int index = i * 32 + threadIdx.x % 32, row = index / (D / 8), chunk = index % (D / 8);
        const int r = warp_row + row, query = shape.query(r);
        const size_t token = start + query;
        const int head = kv_head * shape.group + shape.head(r, query);
        if (r < rows) {
            *reinterpret_cast<uint4*>(out + (token * query_heads + head) * D + chunk * 8) =
                *reinterpret_cast<const uint4*>(staged + tile_offset<D>(row, chunk));
        }
    }
}

}  // namespace tensor_cores
