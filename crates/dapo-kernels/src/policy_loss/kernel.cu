// The clipped surrogate with KL and entropy terms: loss, its gradient and what is measured, in one pass over tokens.
//
// The formulas are those of dapo-loss, token.rs and kl.rs:
//   ratio = e^clamp(logp - old, +-20),  loss = -A * clamp(ratio, bounds by the sign of A),  slope = loss within them
//   + kl_coef * KL(logp - ref) (times the ratio if asked for)  - entropy_coef * entropy,  all times the token's weight
// A token of weight 0 is not looked at. The weight is its share by the step's denominator.
//
// Bytes a token: 16 read and 4 written, 4 more for each of reference, entropies and their gradient. About 40 flops and
// one or two exponentials: bound by memory, and small beside any model. Sums are f64, over a block's tokens by a tree and
// over blocks in their order.
#include "../cuda/common.cuh"

namespace policy_loss {

// In the order of `Totals` in cuda.rs.
enum {
    POLICY_LOSS,
    KL_LOSS,
    ENTROPY_LOSS,
    RATIO,
    LOG_RATIO,
    REF_KL,
    ENTROPY,
    TOKENS,
    CLIPPED_LOW,
    CLIPPED_HIGH,
    DUAL_CLIPPED,
    CLAMPED,
    NOT_FINITE,
    MAX_ABS_LOG_RATIO,  // a maximum, not a sum
    SUMS = 16
};
constexpr int THREADS = 256, TOKENS_A_BLOCK = 2048;
constexpr float MAX_LOG_RATIO = 20.0f, MAX_K3 = 10.0f;

// A value and its derivative with respect to the log-prob.
struct Term {
    float value, slope;
};

__device__ __forceinline__ float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

__device__ __forceinline__ Term k3(float log_ratio) {
    const float k = clamp(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO);
    // Near 0 the plain sum cancels; its series does not.
    float series = 1.0f / 40320.0f - k * (1.0f / 362880.0f);
    series = 1.0f / 5040.0f - k * series;
    series = 1.0f / 720.0f - k * series;
    series = 1.0f / 120.0f - k * series;
    series = 1.0f / 24.0f - k * series;
    series = 1.0f / 6.0f - k * series;
    const float value = fabsf(k) < 0.5f ? k * k * (0.5f - k * series) : expf(-k) + k - 1.0f;
    if (value > MAX_K3) return {MAX_K3, 0.0f};
    return {value, k - value};
}

// 1: k, 2: k^2/2, 3: e^-k + k - 1, 4: |k|.
__device__ __forceinline__ Term kl_estimate(int estimator, float k) {
    switch (estimator) {
        case 1: return {k, 1.0f};
        case 2: return {0.5f * k * k, k};
        case 3: return k3(k);
        default: return {fabsf(k), k > 0.0f ? 1.0f : k < 0.0f ? -1.0f : 0.0f};
    }
}

__device__ __forceinline__ double combine(int which, double a, double b) {
    return which == MAX_ABS_LOG_RATIO ? (a > b ? a : b) : a + b;
}

__device__ __forceinline__ double warp_combine(int which, double value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value = combine(which, value, __shfl_xor_sync(FULL_WARP, value, lanes));
    }
    return value;
}

}  // namespace policy_loss

// `reference`, `entropies` and `d_entropies` may be null. `partial`: 16 doubles a block.
extern "C" __global__ void __launch_bounds__(256) policy_loss_forward(
    const float* logprobs, const float* old_logprobs, const float* reference, const float* entropies,
    const float* advantages, const float* weights, float* d_logprobs, float* d_entropies, double* partial, int tokens,
    float clip_low, float clip_high, float dual_clip, float kl_coef, int kl_estimator, int kl_times_ratio,
    float entropy_coef) {
    using namespace policy_loss;
    double sums[SUMS] = {};
    const int end = min(tokens, int(blockIdx.x + 1) * TOKENS_A_BLOCK);
    for (int t = blockIdx.x * TOKENS_A_BLOCK + threadIdx.x; t < end; t += THREADS) {
        const float weight = weights[t];
        if (weight == 0.0f) {
            d_logprobs[t] = 0.0f;
            if (d_entropies) d_entropies[t] = 0.0f;
            continue;
        }
        const float logprob = logprobs[t], advantage = advantages[t], raw = logprob - old_logprobs[t];
        const float log_ratio = clamp(raw, -MAX_LOG_RATIO, MAX_LOG_RATIO), ratio = expf(log_ratio);
        const bool moves = fabsf(log_ratio) < MAX_LOG_RATIO;
        const float low = advantage < 0.0f ? 1.0f - clip_low : -INFINITY;
        const float high = advantage > 0.0f ? 1.0f + clip_high : advantage < 0.0f ? dual_clip : INFINITY;
        const float loss = -advantage * clamp(ratio, low, high);
        float slope = moves && ratio >= low && ratio <= high ? loss : 0.0f;
        bool finite = isfinite(raw) && isfinite(advantage) && isfinite(weight);
        sums[POLICY_LOSS] += double(weight) * loss;
        sums[RATIO] += ratio;
        sums[LOG_RATIO] += log_ratio;
        sums[TOKENS] += 1;
        sums[CLIPPED_LOW] += ratio < low;
        sums[CLIPPED_HIGH] += ratio > high && advantage > 0.0f;
        sums[DUAL_CLIPPED] += ratio > high && advantage <= 0.0f;
        sums[CLAMPED] += !moves;
        sums[MAX_ABS_LOG_RATIO] = fmax(sums[MAX_ABS_LOG_RATIO], double(fabsf(raw)));
        if (reference) {
            const float k = logprob - reference[t];
            const Term kl = kl_estimate(kl_estimator, k);
            const float factor = kl_times_ratio ? ratio : 1.0f;
            slope += kl_coef * factor * (kl.slope + (kl_times_ratio && moves ? kl.value : 0.0f));
            sums[REF_KL] += kl.value * factor;
            sums[KL_LOSS] += double(weight) * kl_coef * (kl.value * factor);
            finite = finite && isfinite(k);
        }
        if (entropies) {
            sums[ENTROPY] += entropies[t];
            sums[ENTROPY_LOSS] -= double(weight) * entropy_coef * entropies[t];
            finite = finite && isfinite(entropies[t]);
        }
        d_logprobs[t] = slope * weight;
        if (d_entropies) d_entropies[t] = -entropy_coef * weight;
        sums[NOT_FINITE] += !finite;
    }
    __shared__ double parts[THREADS / 32][SUMS];
#pragma unroll
    for (int which = 0; which < SUMS; which++) {
        const double sum = warp_combine(which, sums[which]);
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32][which] = sum;
    }
    __syncthreads();
    if (threadIdx.x < SUMS) {
        double sum = parts[0][threadIdx.x];
        for (int warp = 1; warp < THREADS / 32; warp++) sum = combine(threadIdx.x, sum, parts[warp][threadIdx.x]);
        partial[blockIdx.x * SUMS + threadIdx.x] = sum;
    }
}
REGISTER_KERNEL(policy_loss_forward);

// Adds the sums of all blocks to `totals`; one warp a sum.
extern "C" __global__ void __launch_bounds__(512) policy_loss_totals(const double* partial, int blocks, double* totals) {
    using namespace policy_loss;
    const int which = threadIdx.x / 32;
    double sum = 0;
    for (int b = threadIdx.x % 32; b < blocks; b += 32) sum = combine(which, sum, partial[b * SUMS + which]);
    sum = warp_combine(which, sum);
    if (threadIdx.x % 32 == 0) totals[which] = combine(which, totals[which], sum);
}
REGISTER_KERNEL(policy_loss_totals);
