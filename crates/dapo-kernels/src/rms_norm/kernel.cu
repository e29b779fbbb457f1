// RMSNorm of rows, fused with the residual sum before it; and its backward, fused with the residual gradient.
//
//   forward    x' = x + delta (optional, written),  y = x' / sqrt(mean(x'^2) + eps) * w
//   backward   n = x * s, dx = s * (dy*w - n * mean(dy*w*n)) + residual gradient,  dw += sum over rows of dy * n
//
// Nothing is saved between them: the scale s of a row is a sum over values that are read anyway. A block takes a row.
//
// Bytes an element, 2-byte activations: forward 4, with the residual sum 8; backward 6 (8 with the residual gradient).
// About 4 and 12 flops an element: bound by memory. The weight's gradient is summed by column within a block, then over
// blocks in their order (`partial`, one row a block: see elementwise/kernel.cu, sum_columns).
#include "../cuda/common.cuh"

namespace rms_norm {

// Dynamic shared memory: the row as floats. Every thread reads back its own columns only.
template <class T>
__device__ void forward(const T* x, const T* delta, const T* weight, T* sum, T* y, int width, float eps) {
    DYN_SHARED(float, row);
    __shared__ float scratch[32];
    const size_t first = size_t(blockIdx.x) * width;
    const bool vector = vectorizes<T>(width, x, delta, sum, y) && vectorizes<T>(width, weight);
    float squares = 0;
    each_column<T>(width, vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N];
        load(x + first + i, v);
        if (delta) {
            float d[N];
            load(delta + first + i, d);
#pragma unroll
            for (int k = 0; k < N; k++) v[k] = rounded<T>(v[k] + d[k]);
            store(sum + first + i, v);
        }
#pragma unroll
        for (int k = 0; k < N; k++) squares += v[k] * v[k];
        store(row + i, v);
    });
    squares = block_reduce(squares, scratch, 0.0f);
    const float scale = 1.0f / sqrtf(squares / width + eps);
    each_column<T>(width, vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N], w[N];
        load(row + i, v);
        load(weight + i, w);
#pragma unroll
        for (int k = 0; k < N; k++) v[k] *= scale * w[k];
        store(y + first + i, v);
    });
}

// Dynamic shared memory: this block's part of the weight's gradient, which is left out where `partial` is null. Rows are
// strided over the blocks. `dx` may be the memory of `dy` or of `residual`. The second read of a row comes from the cache.
template <class T>
__device__ void backward(const T* x, const T* weight, const T* dy, const T* residual, T* dx, float* partial, int rows,
                         int width, float eps) {
    DYN_SHARED(float, dw);
    __shared__ float scratch[2][32];
    const bool vector = vectorizes<T>(width, x, dy, residual, dx) && vectorizes<T>(width, weight, partial);
    if (partial) {
        each_column<T>(width, vector, [&](int i, auto count) {
            constexpr int N = decltype(count)::value;
            float zeros[N] = {};
            store(dw + i, zeros);
        });
    }
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        const size_t first = size_t(r) * width;
        float squares = 0, product = 0;
        each_column<T>(width, vector, [&](int i, auto count) {
            constexpr int N = decltype(count)::value;
            float v[N], w[N], g[N];
            load(x + first + i, v);
            load(weight + i, w);
            load(dy + first + i, g);
#pragma unroll
            for (int k = 0; k < N; k++) {
                squares += v[k] * v[k];
                product += g[k] * w[k] * v[k];
            }
        });
        // The barrier within each of the two keeps the next row's writes to the other's scratch behind this row's reads.
        squares = block_reduce(squares, scratch[0], 0.0f);
        product = block_reduce(product, scratch[1], 0.0f);
        const float scale = 1.0f / sqrtf(squares / width + eps);
        const float mean = product * scale / width;
        each_column<T>(width, vector, [&](int i, auto count) {
            constexpr int N = decltype(count)::value;
            float v[N], w[N], g[N], d[N] = {}, sums[N] = {};
            load(x + first + i, v);
            load(weight + i, w);
            load(dy + first + i, g);
            if (partial) load(dw + i, sums);
            if (residual) load(residual + first + i, d);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float n = v[k] * scale;
                sums[k] += g[k] * n;
                d[k] += scale * (g[k] * w[k] - n * mean);
            }
            if (partial) store(dw + i, sums);
            store(dx + first + i, d);
        });
    }
    if (!partial) return;
    each_column<T>(width, vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float sums[N];
        load(dw + i, sums);
        store(partial + size_t(blockIdx.x) * width + i, sums);
    });
}

}  // namespace rms_norm

#define INSTANTIATE(T, suffix)                                                                                       \
    extern "C" __global__ void __launch_bounds__(512) rms_norm_forward_##suffix(                                     \
        const T* x, const T* delta, const T* weight, T* sum, T* y, int width, float eps) {                           \
        rms_norm::forward<T>(x, delta, weight, sum, y, width, eps);                                                  \
    }                                                                                                                \
    REGISTER_KERNEL(rms_norm_forward_##suffix);                                                                      \
    extern "C" __global__ void __launch_bounds__(512) rms_norm_backward_##suffix(                                    \
        const T* x, const T* weight, const T* dy, const T* residual, T* dx, float* partial, int rows, int width,     \
        float eps) {                                                                                                 \
        rms_norm::backward<T>(x, weight, dy, residual, dx, partial, rows, width, eps);                               \
    }                                                                                                                \
    REGISTER_KERNEL(rms_norm_backward_##suffix);
INSTANTIATE(float, f32)
INSTANTIATE(bf16, bf16)
