// AdamW over a parameter in one pass, and the norm by which its gradient is clipped.
//
//   adamw           as adamw/mod.rs: p, m, v and the compute copy of p from the gradient times the clip factor
//   square_sums     the sum of g^2 over each stretch of 65,536 elements, in f64
//   clip_factor     norm = sqrt(sum of all of them), factor = min(1, max_norm / (norm + 1e-6)); NaN if norm is not finite
//
// The factor stays on the device, so that clipping needs no round trip; where it is NaN, adamw changes nothing.
//
// Bytes a parameter: adamw 28, and 2 for the compute copy; square_sums 4. About 15 and 2 flops: bound by memory.
#include "../cuda/common.cuh"

namespace adamw {

// Numbers of the step that are the same for all parameters.
struct Step {
    float beta1, beta2, eps;
    float keep;                      // 1 - lr * weight decay
    float rate;                      // lr / (1 - beta1^t)
    float inverse_sqrt_correction2;  // 1 / sqrt(1 - beta2^t)
};

template <int N>
__device__ __forceinline__ void update(float* param, const float* grad, float* m, float* v, bf16* copy, size_t i,
                                       float scale, const Step& s) {
    float p[N], g[N], first[N], second[N];
    load(param + i, p);
    load(grad + i, g);
    load(m + i, first);
    load(v + i, second);
#pragma unroll
    for (int k = 0; k < N; k++) {
        const float scaled = g[k] * scale;
        first[k] = s.beta1 * first[k] + (1.0f - s.beta1) * scaled;
        second[k] = s.beta2 * second[k] + (1.0f - s.beta2) * scaled * scaled;
        const float denominator = sqrtf(second[k]) * s.inverse_sqrt_correction2 + s.eps;
        p[k] = p[k] * s.keep - s.rate * first[k] / denominator;
    }
    store(param + i, p);
    store(m + i, first);
    store(v + i, second);
    if (copy) store(copy + i, p);
}

// Elements of a stretch whose squares one block sums.
constexpr size_t STRETCH = 1 << 16;

__device__ void square_sums(const float* grad, size_t n, double* sums) {
    __shared__ double scratch[32];
    const size_t from = blockIdx.x * STRETCH, to = from + STRETCH < n ? from + STRETCH : n;
    double sum = 0;
    auto add = [&](size_t i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N], part = 0;
        load(grad + i, v);
#pragma unroll
        for (int k = 0; k < N; k++) part += v[k] * v[k];
        sum += part;
    };
    const size_t whole = vectorizes<float>(0, grad) ? from + (to - from) / 8 * 8 : from;
    for (size_t i = from + threadIdx.x * 8; i < whole; i += blockDim.x * 8) add(i, Count<8>{});
    for (size_t i = whole + threadIdx.x; i < to; i += blockDim.x) add(i, Count<1>{});
    sum = block_reduce(sum, scratch, 0.0);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__device__ void clip_factor(const double* sums, size_t count, float max_norm, float* norm_and_factor) {
    __shared__ double scratch[32];
    double sum = 0;
    for (size_t i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_reduce(sum, scratch, 0.0);
    if (threadIdx.x == 0) {
        const double norm = sqrt(sum), factor = double(max_norm) / (norm + 1e-6);
        norm_and_factor[0] = float(norm);
        norm_and_factor[1] = !isfinite(norm) ? NAN : factor < 1 ? float(factor) : 1.0f;
    }
}

}  // namespace adamw

// `factor` is null for 1.
extern "C" __global__ void __launch_bounds__(256)
    adamw_step(float* param, const float* grad, float* m, float* v, bf16* copy, const float* factor, size_t n,
               float beta1, float beta2, float eps, float keep, float rate, float inverse_sqrt_correction2) {
    const float scale = factor ? *factor : 1.0f;
    if (isnan(scale)) return;
    const adamw::Step step = {beta1, beta2, eps, keep, rate, inverse_sqrt_correction2};
    const size_t thread = size_t(blockIdx.x) * blockDim.x + threadIdx.x, threads = size_t(gridDim.x) * blockDim.x;
    const bool vector = vectorizes<float>(0, param, grad, m, v) && vectorizes<float>(0, copy);
    const size_t whole = vector ? n / 4 * 4 : 0;
    for (size_t i = thread * 4; i < whole; i += threads * 4) adamw::update<4>(param, grad, m, v, copy, i, scale, step);
    for (size_t i = whole + thread; i < n; i += threads) adamw::update<1>(param, grad, m, v, copy, i, scale, step);
}
REGISTER_KERNEL(adamw_step);

extern "C" __global__ void __launch_bounds__(512) adamw_square_sums(const float* grad, size_t n, double* sums) {
    adamw::square_sums(grad, n, sums);
}
REGISTER_KERNEL(adamw_square_sums);

extern "C" __global__ void __launch_bounds__(1024)
    adamw_clip_factor(const double* sums, size_t count, float max_norm, float* norm_and_factor) {
    adamw::clip_factor(sums, count, max_norm, norm_and_factor);
}
REGISTER_KERNEL(adamw_clip_factor);
