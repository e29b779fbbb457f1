// Packed causal attention in f32 by plain arithmetic, forward and backward: for checking, and for models trained in
// f32.
//
// A warp takes one row (or one key) after another. Scores: a lane a key, the row from shared memory. Sums weighted by
// scores: a lane a column, the others' weights by shuffles. Work lists and layout are those of the bf16 kernels, and so
// is the order of sums: keys (rows) 32 at a time from the first on. Flops as there; bytes: keys and values once a row,
// from the caches.
#pragma once
#include "tile.cuh"

namespace plain {

constexpr int WARPS = 4, THREADS = 32 * WARPS;

template <int D>
__device__ __forceinline__ float dot(const float* x, const float* y) {
    float sum = 0.0f;
#pragma unroll 8
    for (int i = 0; i < D; i += 4) {
        float a[4], b[4];
        load(x + i, a);
        load(y + i, b);
#pragma unroll
        for (int j = 0; j < 4; j++) sum = fmaf(a[j], b[j], sum);
    }
    return sum;
}

// The lane's columns of a row: lane, lane + 32, …
template <int D>
__device__ __forceinline__ void add_row(float (&acc)[D / 32], float weight, const float* row) {
#pragma unroll
    for (int i = 0; i < D / 32; i++) acc[i] = fmaf(weight, row[i * 32 + threadIdx.x % 32], acc[i]);
}

template <int D>
__device__ __forceinline__ void write_row(float* row, const float (&acc)[D / 32], float factor) {
#pragma unroll
    for (int i = 0; i < D / 32; i++) row[i * 32 + threadIdx.x % 32] = acc[i] * factor;
}

// A copy of a row in the warp's shared memory.
template <int D>
__device__ __forceinline__ void stage(float* to, const float* row) {
#pragma unroll
    for (int i = 0; i < D; i += 32) to[i + threadIdx.x % 32] = row[i + threadIdx.x % 32];
}

// What a warp needs of a row of a segment.
struct Row {
    size_t token, head;  // the query head
    int seen;            // keys
    __device__ Row(const Segment& segment, const Shape& shape, int row, int kv_head) {
        const int query = shape.query(row);
        token = segment.start + query;
        head = kv_head * shape.group + shape.head(row, query);
        seen = segment.parent_len + query + 1;
    }
};

template <int D>
__device__ __forceinline__ void forward(const float* q, const float* k, const float* v, float* out, float* lse,
                                        const Segment* segments, const Work* work, Shape shape) {
    __shared__ float staged[WARPS][D];
    const int kv_head = blockIdx.x % shape.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Work item = work[blockIdx.x / shape.kv_heads];
    const Segment segment = segments[item.segment];
    const int end = min(item.first + ROWS, segment.len * shape.group);
    k += kv_head * D;
    v += kv_head * D;
    for (int r = item.first + warp; r < end; r += WARPS) {
        const Row row(segment, shape, r, kv_head);
        __syncwarp();
        stage<D>(staged[warp], q + row.token * shape.q_stride + row.head * D);
        __syncwarp();
        float acc[D / 32] = {}, highest = -INFINITY, sum = 0.0f;
        for (int first = 0; first < row.seen; first += 32) {
            const bool sees = first + lane < row.seen;
            const size_t token = token_of_key(segment, sees ? first + lane : 0);
            const float s = sees ? dot<D>(staged[warp], k + token * shape.k_stride) * shape.scale : -INFINITY;
            const float top = fmaxf(highest, warp_reduce(s, Max()));
            const float factor = expf(highest - top), p = expf(s - top);
            highest = top;
            sum = sum * factor + warp_reduce(p);
#pragma unroll
            for (int i = 0; i < D / 32; i++) acc[i] *= factor;
            for (int i = 0; i < min(32, row.seen - first); i++) {
                const float weight = __shfl_sync(FULL_WARP, p, i);
                const size_t other = token_of_key(segment, first + i);
                add_row<D>(acc, weight, v + other * shape.v_stride);
            }
        }
        write_row<D>(out + (row.token * shape.kv_heads * shape.group + row.head) * D, acc, 1.0f / sum);
        if (lane == 0) lse[row.head * shape.tokens + row.token] = highest + logf(sum);
    }
}

template <int D>
__device__ __forceinline__ void queries(const float* q, const float* k, const float* v, const float* dout,
                                        const float* lse, const float* delta, float* dq, const Segment* segments,
                                        const Work* work, Shape shape, int dq_stride) {
    __shared__ float staged[WARPS][2][D];
    const int kv_head = blockIdx.x % shape.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Work item = work[blockIdx.x / shape.kv_heads];
    const Segment segment = segments[item.segment];
    const int end = min(item.first + ROWS, segment.len * shape.group);
    k += kv_head * D;
    v += kv_head * D;
    for (int r = item.first + warp; r < end; r += WARPS) {
        const Row row(segment, shape, r, kv_head);
        __syncwarp();
        stage<D>(staged[warp][0], q + row.token * shape.q_stride + row.head * D);
        stage<D>(staged[warp][1], dout + (row.token * shape.kv_heads * shape.group + row.head) * D);
        __syncwarp();
        const float shift = lse[row.head * shape.tokens + row.token],
                    row_delta = delta[row.head * shape.tokens + row.token];
        float acc[D / 32] = {};
        for (int first = 0; first < row.seen; first += 32) {
            float ds = 0.0f;
            if (first + lane < row.seen) {
                const size_t token = token_of_key(segment, first + lane);
                const float p = expf(dot<D>(staged[warp][0], k + token * shape.k_stride) * shape.scale - shift);
                ds = p * (dot<D>(staged[warp][1], v + token * shape.v_stride) - row_delta);
            }
            for (int i = 0; i < min(32, row.seen - first); i++) {
                const float weight = __shfl_sync(FULL_WARP, ds, i);
                const size_t other = token_of_key(segment, first + i);
                add_row<D>(acc, weight, k + other * shape.k_stride);
            }
        }
        write_row<D>(dq + row.token * dq_stride + row.head * D, acc, shape.scale);
    }
}

template <int D>
__device__ __forceinline__ void keys(const float* q, const float* k, const float* v, const float* dout,
                                     const float* lse, const float* delta, float* dk, float* dv,
                                     const Segment* segments, const Work* work, const int* children_begin,
                                     const int* children, Shape shape, int dk_stride, int dv_stride) {
    __shared__ float staged[WARPS][2][D];
    const int kv_head = blockIdx.x % shape.kv_heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Work item = work[blockIdx.x / shape.kv_heads];
    const Segment segment = segments[item.segment];
    for (int key = item.first + warp; key < min(item.first + KEYS, segment.len); key += WARPS) {
        const size_t key_token = segment.start + key;
        __syncwarp();
        stage<D>(staged[warp][0], k + key_token * shape.k_stride + kv_head * D);
        stage<D>(staged[warp][1], v + key_token * shape.v_stride + kv_head * D);
        __syncwarp();
        float dk_acc[D / 32] = {}, dv_acc[D / 32] = {};
        RowCursor cursor = {children_begin[item.segment],
                            children_begin[item.segment + 1],
                            segment.start,
                            key * shape.group,
                            segment.len * shape.group,
                            true};
        do {
            // Of the row's query and head in `q`, and of its gradient.
            size_t query_at = 0, gradient_at = 0;
            float p = 0.0f, ds = 0.0f;
            if (cursor.row + lane < cursor.rows) {
                const int query = shape.query(cursor.row + lane);
                const size_t head = kv_head * shape.group + shape.head(cursor.row + lane, query),
                             token = cursor.start + query;
                query_at = token * shape.q_stride + head * D;
                gradient_at = (token * shape.kv_heads * shape.group + head) * D;
                p = expf(dot<D>(staged[warp][0], q + query_at) * shape.scale - lse[head * shape.tokens + token]);
                ds = p * (dot<D>(staged[warp][1], dout + gradient_at) - delta[head * shape.tokens + token]);
            }
            for (int i = 0; i < min(32, cursor.rows - cursor.row); i++) {
                add_row<D>(dv_acc, __shfl_sync(FULL_WARP, p, i), dout + __shfl_sync(FULL_WARP, gradient_at, i));
                add_row<D>(dk_acc, __shfl_sync(FULL_WARP, ds, i), q + __shfl_sync(FULL_WARP, query_at, i));
            }
        } while (cursor.next(32, shape.group, segments, children));
        write_row<D>(dk + key_token * dk_stride + kv_head * D, dk_acc, shape.scale);
        write_row<D>(dv + key_token * dv_stride + kv_head * D, dv_acc, 1.0f);
    }
}

}  // namespace plain
