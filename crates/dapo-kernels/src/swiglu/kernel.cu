// SwiGLU on the output of the fused gate and up projection: rows [gate | up] of 2I, y of I columns.
//
//   forward    y = gate * s * up,  s = 1 / (1 + e^-gate)
//   backward   d gate = dy * up * s * (1 + gate * (1 - s)),  d up = dy * gate * s
//
// The backward recomputes s instead of reading it. Bytes an output element, 2-byte activations: forward 6, backward 10
// (in place over the inputs if wanted). About 8 and 14 flops: bound by memory. A block takes a row.
#include "../cuda/common.cuh"

namespace swiglu {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

template <class T>
__device__ void forward(const T* fused, T* y, int width) {
    const T* gate = fused + size_t(blockIdx.x) * 2 * width;
    const T* up = gate + width;
    y += size_t(blockIdx.x) * width;
    each_column<T>(width, vectorizes<T>(width, fused, y), [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float g[N], u[N];
        load(gate + i, g);
        load(up + i, u);
#pragma unroll
        for (int k = 0; k < N; k++) g[k] *= sigmoid(g[k]) * u[k];
        store(y + i, g);
    });
}

// `d_fused` may be the memory of `fused`.
template <class T>
__device__ void backward(const T* fused, const T* dy, T* d_fused, int width) {
    const size_t first = size_t(blockIdx.x) * 2 * width;
    dy += size_t(blockIdx.x) * width;
    each_column<T>(width, vectorizes<T>(width, fused, dy, d_fused), [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float g[N], u[N], d[N];
        load(fused + first + i, g);
        load(fused + first + width + i, u);
        load(dy + i, d);
#pragma unroll
        for (int k = 0; k < N; k++) {
            const float s = sigmoid(g[k]), to_gate = d[k] * u[k] * s * (1.0f + g[k] * (1.0f - s));
            u[k] = d[k] * g[k] * s;
            g[k] = to_gate;
        }
        store(d_fused + first + i, g);
        store(d_fused + first + width + i, u);
    });
}

}  // namespace swiglu

#define INSTANTIATE(T, suffix)                                                                                  \
    extern "C" __global__ void __launch_bounds__(512) swiglu_forward_##suffix(const T* fused, T* y, int width) { \
        swiglu::forward<T>(fused, y, width);                                                                    \
    }                                                                                                           \
    REGISTER_KERNEL(swiglu_forward_##suffix);                                                                   \
    extern "C" __global__ void __launch_bounds__(512)                                                           \
        swiglu_backward_##suffix(const T* fused, const T* dy, T* d_fused, int width) {                          \
        swiglu::backward<T>(fused, dy, d_fused, width);                                                         \
    }                                                                                                           \
    REGISTER_KERNEL(swiglu_backward_##suffix);
INSTANTIATE(float, f32)
INSTANTIATE(bf16, bf16)
