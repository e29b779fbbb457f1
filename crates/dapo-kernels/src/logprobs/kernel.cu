// Log-probs of the targets and entropies of rows of logits, and the logits' gradient: both sides of the head's products.
//
//   forward    max, ln of the sum of e^((x - max)/t), entropy, log-prob of the target, in one read of the row
//   backward   of dlogprob * logprob + dentropy * entropy:
//              (dlogprob * (1[v = target] - p) - dentropy * p * (ln p + entropy)) / t
//
// The gradient may take the logits' place, or be written as bf16 beside f32 logits. A row whose two incoming gradients
// are 0 is filled with zeros without being read. A block takes a row.
//
// Bytes a logit: forward 4 (bf16: 2), backward 8 (f32 to bf16: 6; bf16: 4). About 6 and 8 flops and one exponential
// each: by their numbers, the exponential units of an H200 are a third to two thirds busy at the bandwidth of memory.
#include "row.cuh"

namespace logprobs {

template <class T>
__device__ void forward(const T* logits, size_t stride, const unsigned* targets, float* logprobs, float* entropies,
                        float* stats, int vocab, float inverse_temperature) {
    __shared__ float scratch[3][32];
    const T* row = logits + blockIdx.x * stride;
    const RowStats s = row_stats(row, vocab, rows_vectorize(logits, stride), inverse_temperature, scratch);
    if (threadIdx.x == 0) {
        logprobs[blockIdx.x] = s.logprob(to_float(row[targets[blockIdx.x]]));
        entropies[blockIdx.x] = s.entropy;
        stats[2 * blockIdx.x] = s.max;
        stats[2 * blockIdx.x + 1] = s.log_sum;
    }
}

// `gradient` may be the memory of `logits` where the types agree.
template <class From, class To>
__device__ void backward(const From* logits, size_t stride, const unsigned* targets, const float* stats,
                         const float* entropies, const float* dlogprobs, const float* dentropies, To* gradient,
                         int vocab, float inverse_temperature) {
    const int r = blockIdx.x, target = int(targets[r]);
    const float dlogprob = dlogprobs[r], dentropy = dentropies ? dentropies[r] : 0.0f, entropy = entropies[r];
    const RowStats s = {inverse_temperature, stats[2 * r], stats[2 * r + 1], entropy};
    const From* row = logits + r * stride;
    To* to = gradient + r * stride;
    const bool vector = rows_vectorize(logits, stride) && rows_vectorize(gradient, stride);
    const bool zero = dlogprob == 0.0f && dentropy == 0.0f;
    each_logit<To>(vocab, vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N] = {};
        if (!zero) {
            load(row + i, v);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const float logprob = s.logprob(v[k]), p = __expf(logprob);
                const float slope = p > 0.0f ? p * (dlogprob + dentropy * (logprob + entropy)) : 0.0f;
                v[k] = ((i + k == target ? dlogprob : 0.0f) - slope) * inverse_temperature;
            }
        }
        store(to + i, v);
    });
}

}  // namespace logprobs

#define FORWARD(T, suffix)                                                                                             \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS) logprobs_forward_##suffix(                               \
        const T* logits, size_t stride, const unsigned* targets, float* logprobs, float* entropies, float* stats,      \
        int vocab, float inverse_temperature) {                                                                        \
        logprobs::forward<T>(logits, stride, targets, logprobs, entropies, stats, vocab, inverse_temperature);         \
    }                                                                                                                  \
    REGISTER_KERNEL(logprobs_forward_##suffix);
FORWARD(float, f32)
FORWARD(bf16, bf16)

#define BACKWARD(From, To, suffix)                                                                                     \
    extern "C" __global__ void __launch_bounds__(512) logprobs_backward_##suffix(                                      \
        const From* logits, size_t stride, const unsigned* targets, const float* stats, const float* entropies,        \
        const float* dlogprobs, const float* dentropies, To* gradient, int vocab, float inverse_temperature) {         \
        logprobs::backward<From, To>(logits, stride, targets, stats, entropies, dlogprobs, dentropies, gradient,       \
                                     vocab, inverse_temperature);                                                      \
    }                                                                                                                  \
    REGISTER_KERNEL(logprobs_backward_##suffix);
BACKWARD(float, float, f32_f32)
BACKWARD(float, bf16, f32_bf16)
BACKWARD(bf16, bf16, bf16_bf16)
