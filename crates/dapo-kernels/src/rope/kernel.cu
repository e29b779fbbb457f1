// QK-norm and rotary embedding of the query and key heads of the fused projection, in one pass.
//
// A row of `qkv` holds Hq query heads, Hkv key heads and Hkv value heads of d each, `stride` elements from row to row.
// Every query and key head x is normalised where the model does so (weights `q_weight`, `k_weight`, else null), and
// rotated by its token's row of `table`, d/2 cosines and then d/2 sines: with halves a and b of the normalised head,
// (a*cos - b*sin, b*cos + a*sin). The row is `positions[t]`, or t where there are none. Values are not looked at.
//
//   forward    q and k go to rows of their own strides, which may be those of `qkv` (in place)
//   backward   the rotation turned back, then the norm's backward (rms_norm/kernel.cu); the gradients of q and k come in
//              rows of their own strides and go to the rows of `d_qkv`, which may be the same memory
//
// A group of lanes takes a head, so that a head's sums are shuffles: half a head by vectors of 16 bytes (d/2 a power of
// two of them), else a warp by single elements. Bytes an element, 2-byte activations: forward 4, backward 6, and the
// table's row a token. About 8 and 16 flops an element: bound by memory. The gradients of the norms' weights are summed
// in shared memory over a group's heads, then over groups and blocks in order (`partial`, 2d a block: sum_columns).
#include "../cuda/common.cuh"

namespace rope {

// Elements of half a head that a lane holds where it takes single ones: head widths up to 512.
constexpr int MAX_SINGLES = 8;

// Which part of a head's halves this lane holds: K pieces of N elements, `step` apart.
struct Part {
    int lanes;  // of a group
    int first, step;
};

// The lanes of a group add up: a tree over its halves.
__device__ __forceinline__ float group_sum(float value, int lanes) {
    for (int other = lanes / 2; other > 0; other /= 2) value += __shfl_xor_sync(FULL_WARP, value, other);
    return value;
}

template <int N, int K>
struct Halves {
    float a[K][N], b[K][N];

    // Calls body(i, k) for every piece: element i of a half, index k here.
    template <class F>
    static __device__ __forceinline__ void each(const Part& part, int half, F body) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            const int i = part.first + k * part.step;
            if (i < half) body(i, k);
        }
    }
    template <class T>
    __device__ __forceinline__ void read(const T* head, const Part& part, int half) {
        each(part, half, [&](int i, int k) {
            load(head + i, a[k]);
            load(head + half + i, b[k]);
        });
    }
    template <class T>
    __device__ __forceinline__ void write(T* head, const Part& part, int half) const {
        each(part, half, [&](int i, int k) {
            store(head + i, a[k]);
            store(head + half + i, b[k]);
        });
    }
    // The lane's part of the scalar product.
    __device__ __forceinline__ float dot(const Halves& other, const Part& part, int half) const {
        float sum = 0;
        each(part, half, [&](int, int k) {
#pragma unroll
            for (int n = 0; n < N; n++) sum += a[k][n] * other.a[k][n] + b[k][n] * other.b[k][n];
        });
        return sum;
    }
    // By the angle whose cosines and sines the table's row holds; backwards for sign -1.
    __device__ __forceinline__ void rotate(const float* row, float sign, const Part& part, int half) {
        each(part, half, [&](int i, int k) {
            float cosines[N], sines[N];
            load(row + i, cosines);
            load(row + half + i, sines);
#pragma unroll
            for (int n = 0; n < N; n++) {
                const float x = a[k][n], y = b[k][n], s = sign * sines[n];
                a[k][n] = x * cosines[n] - y * s;
                b[k][n] = y * cosines[n] + x * s;
            }
        });
    }
    __device__ __forceinline__ void multiply(const Halves& other, float scale) {
#pragma unroll
        for (int k = 0; k < K; k++) {
#pragma unroll
            for (int n = 0; n < N; n++) {
                a[k][n] *= scale * other.a[k][n];
                b[k][n] *= scale * other.b[k][n];
            }
        }
    }
};

template <int N>
__device__ __forceinline__ Part part_of(int half) {
    const int lanes = N == 1 ? 32 : half / N;
    return {lanes, int(threadIdx.x) % lanes * N, lanes * N};
}

// Calls body(live, row, head, group) for all heads of all rows: groups of lanes strided over the grid. Every lane of a
// block calls it as often, the last time perhaps without a head, for the sums need whole warps.
template <class F>
__device__ __forceinline__ void each_head(const Part& part, int rows, int heads, F body) {
    const int groups = blockDim.x / part.lanes, group = threadIdx.x / part.lanes;
    const size_t units = size_t(rows) * heads;
    for (size_t first = size_t(blockIdx.x) * groups; first < units; first += size_t(gridDim.x) * groups) {
        const size_t unit = first + group;
        const bool live = unit < units;
        body(live, live ? unit / heads : 0, live ? int(unit % heads) : 0, group);
    }
}

// Where the heads are.
template <class T>
struct Heads {
    T* q;
    size_t q_stride;
    T* k;
    size_t k_stride;
    int q_heads, head_dim;
    __device__ __forceinline__ T* at(size_t row, int head) const {
        return head < q_heads ? q + row * q_stride + size_t(head) * head_dim
                              : k + row * k_stride + size_t(head - q_heads) * head_dim;
    }
};

struct Shape {
    int rows, q_heads, kv_heads, head_dim;
    float eps;
    const float* table;
    const int* positions;
    __device__ __forceinline__ const float* angles(size_t row) const {
        return table + size_t(positions ? positions[row] : row) * head_dim;
    }
};

template <class T, int N, int K>
__device__ void forward_by(const Heads<const T>& from, const T* q_weight, const T* k_weight, const Heads<T>& to,
                           const Shape& shape) {
    const int half = shape.head_dim / 2;
    const Part part = part_of<N>(half);
    each_head(part, shape.rows, shape.q_heads + shape.kv_heads, [&](bool live, size_t row, int head, int) {
        const T* weight = head < shape.q_heads ? q_weight : k_weight;
        Halves<N, K> x = {}, w = {};
        if (live) x.read(from.at(row, head), part, half);
        if (q_weight) {
            const float squares = group_sum(x.dot(x, part, half), part.lanes);
            if (live) w.read(weight, part, half);
            x.multiply(w, 1.0f / sqrtf(squares / shape.head_dim + shape.eps));
        }
        if (!live) return;
        x.rotate(shape.angles(row), 1.0f, part, half);
        x.write(to.at(row, head), part, half);
    });
}

template <class T, int N, int K>
__device__ void backward_by(const Heads<const T>& from, const T* q_weight, const T* k_weight,
                            const Heads<const T>& gradient, const Heads<T>& to, float* partial, const Shape& shape) {
    DYN_SHARED(float, sums);  // of every group: 2 * head_dim, for queries and keys; only with `partial`
    const int head_dim = shape.head_dim, half = head_dim / 2;
    const Part part = part_of<N>(half);
    const int groups = blockDim.x / part.lanes;
    if (partial) {
        for (int i = threadIdx.x; i < groups * 2 * head_dim; i += blockDim.x) sums[i] = 0;
        __syncthreads();
    }
    each_head(part, shape.rows, shape.q_heads + shape.kv_heads, [&](bool live, size_t row, int head, int group) {
        const bool is_q = head < shape.q_heads;
        Halves<N, K> g = {};
        if (live) {
            g.read(gradient.at(row, head), part, half);
            g.rotate(shape.angles(row), -1.0f, part, half);
        }
        if (q_weight) {
            Halves<N, K> x = {}, gw = {};
            if (live) {
                x.read(from.at(row, head), part, half);
                gw.read(is_q ? q_weight : k_weight, part, half);
                gw.multiply(g, 1.0f);
            }
            const float squares = group_sum(x.dot(x, part, half), part.lanes);
            const float product = group_sum(gw.dot(x, part, half), part.lanes);
            const float scale = 1.0f / sqrtf(squares / head_dim + shape.eps);
            const float mean = product * scale / head_dim;
            // These columns are this lane's alone.
            float* dw = sums + size_t(group) * 2 * head_dim + (is_q ? 0 : head_dim);
            if (live) {
                Halves<N, K> total = {};
                if (partial) total.read(dw, part, half);
#pragma unroll
                for (int k = 0; k < K; k++) {
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        const float na = x.a[k][n] * scale, nb = x.b[k][n] * scale;
                        total.a[k][n] += g.a[k][n] * na;
                        total.b[k][n] += g.b[k][n] * nb;
                        g.a[k][n] = scale * (gw.a[k][n] - na * mean);
                        g.b[k][n] = scale * (gw.b[k][n] - nb * mean);
                    }
                }
                if (partial) total.write(dw, part, half);
            }
        }
        if (live) g.write(to.at(row, head), part, half);
    });
    if (!partial) return;
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * head_dim; i += blockDim.x) {
        float total = 0;
        for (int other = 0; other < groups; other++) total += sums[size_t(other) * 2 * head_dim + i];
        partial[size_t(blockIdx.x) * 2 * head_dim + i] = total;
    }
}

// Whether a group of lanes can take a head by vectors.
template <class T>
__device__ __forceinline__ bool by_vectors(int head_dim, size_t strides) {
    const int half = head_dim / 2, lanes = half / VECTOR<T>;
    return half % VECTOR<T> == 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0 && strides % VECTOR<T> == 0;
}

}  // namespace rope

#define INSTANTIATE(T, suffix)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256) rope_forward_##suffix(                                         \
        const T* q_in, const T* k_in, size_t stride, const T* q_weight, const T* k_weight, const float* table,       \
        const int* positions, T* q, size_t q_stride, T* k, size_t k_stride, int rows, int q_heads, int kv_heads,     \
        int head_dim, float eps) {                                                                                   \
        const rope::Heads<const T> from = {q_in, stride, k_in, stride, q_heads, head_dim};                           \
        const rope::Heads<T> to = {q, q_stride, k, k_stride, q_heads, head_dim};                                     \
        const rope::Shape shape = {rows, q_heads, kv_heads, head_dim, eps, table, positions};                        \
        if (rope::by_vectors<T>(head_dim, stride | q_stride | k_stride) && vectorizes<T>(0, q_in, k_in, q, k) &&     \
            vectorizes<T>(0, q_weight, k_weight, table)) {                                                           \
            rope::forward_by<T, VECTOR<T>, 1>(from, q_weight, k_weight, to, shape);                                  \
        } else {                                                                                                     \
            rope::forward_by<T, 1, rope::MAX_SINGLES>(from, q_weight, k_weight, to, shape);                          \
        }                                                                                                            \
    }                                                                                                                \
    REGISTER_KERNEL(rope_forward_##suffix);                                                                          \
    extern "C" __global__ void __launch_bounds__(256) rope_backward_##suffix(                                        \
        const T* q_in, const T* k_in, size_t stride, const T* q_weight, const T* k_weight, const float* table,       \
        const int* positions, const T* dq, size_t dq_stride, const T* dk, size_t dk_stride, T* dq_in, T* dk_in,      \
        size_t d_stride, float* partial, int rows, int q_heads, int kv_heads, int head_dim, float eps) {             \
        const rope::Heads<const T> from = {q_in, stride, k_in, stride, q_heads, head_dim};                           \
        const rope::Heads<const T> gradient = {dq, dq_stride, dk, dk_stride, q_heads, head_dim};                     \
        const rope::Heads<T> to = {dq_in, d_stride, dk_in, d_stride, q_heads, head_dim};                             \
        const rope::Shape shape = {rows, q_heads, kv_heads, head_dim, eps, table, positions};                        \
        if (rope::by_vectors<T>(head_dim, stride | dq_stride | dk_stride | d_stride) &&                              \
            vectorizes<T>(0, q_in, k_in, dq, dk) && vectorizes<T>(0, q_weight, k_weight, dq_in, dk_in) &&            \
            vectorizes<T>(0, table)) {                                                                               \
            rope::backward_by<T, VECTOR<T>, 1>(from, q_weight, k_weight, gradient, to, partial, shape);              \
        } else {                                                                                                     \
            rope::backward_by<T, 1, rope::MAX_SINGLES>(from, q_weight, k_weight, gradient, to, partial, shape);      \
        }                                                                                                            \
    }                                                                                                                \
    REGISTER_KERNEL(rope_backward_##suffix);
INSTANTIATE(float, f32)
INSTANTIATE(bf16, bf16)
