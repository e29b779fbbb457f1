// The softmax of one row of logits in numbers, by a block of ROW_THREADS threads in one read of the row.
//
// Log-probs of training and of sampling come from here, so that equal logits give equal bits in both.
#pragma once
#include "../cuda/common.cuh"

constexpr int ROW_THREADS = 1024;

// Running sums of a part of a row: with z = (x - max) / temperature, sum of e^z and of z e^z.
struct Softmax {
    float max, sum, weighted;
};

__device__ __forceinline__ Softmax rescaled(const Softmax& s, float max, float inverse_temperature) {
    if (s.sum == 0.0f) return {max, 0.0f, 0.0f};
    const float z = (s.max - max) * inverse_temperature, factor = __expf(z);
    return {max, s.sum * factor, factor * (s.weighted + s.sum * z)};
}

// The numbers that everything else about a row is made of (RowStats of logprobs/cpu.rs).
struct RowStats {
    float inverse_temperature, max, log_sum, entropy;
    __device__ __forceinline__ float logprob(float logit) const {
        return (logit - max) * inverse_temperature - log_sum;
    }
};

// Calls body(i, Count<N>) for this thread's columns: two vectors at a time, then singly what is left.
template <class T, class F>
__device__ __forceinline__ void each_logit(int width, bool vector, F body) {
    constexpr int N = 2 * VECTOR<T>;
    const int whole = vector ? width / N * N : 0;
    for (int i = threadIdx.x * N; i < whole; i += blockDim.x * N) body(i, Count<N>{});
    for (int i = whole + threadIdx.x; i < width; i += blockDim.x) body(i, Count<1>{});
}

// Whether all rows of a matrix can be read by vectors: of no row alone, for its bits must not depend on its number.
template <class T>
__device__ __forceinline__ bool rows_vectorize(const T* matrix, size_t stride) {
    return stride % VECTOR<T> == 0 && vectorizes<T>(0, matrix);
}

// `scratch`: three times 32 floats of shared memory.
template <class T>
__device__ __forceinline__ RowStats row_stats(const T* row, int width, bool vector, float inverse_temperature,
                                              float (*scratch)[32]) {
    Softmax s = {-INFINITY, 0.0f, 0.0f};
    each_logit<T>(width, vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N];
        load(row + i, v);
        float high = v[0];
#pragma unroll
        for (int k = 1; k < N; k++) high = fmaxf(high, v[k]);
        if (high > s.max) s = rescaled(s, high, inverse_temperature);
        if (s.max == -INFINITY) {
            // Nothing but impossible tokens so far, or NaN, which no maximum shows: it must reach the sum.
#pragma unroll
            for (int k = 0; k < N; k++) s.sum += isnan(v[k]) ? v[k] : 0.0f;
            return;
        }
#pragma unroll
        for (int k = 0; k < N; k++) {
            const float z = (v[k] - s.max) * inverse_temperature, e = __expf(z);
            s.sum += e;
            s.weighted += e > 0.0f ? e * z : 0.0f;
        }
    });
    const float max = block_reduce(s.max, scratch[0], -INFINITY, Max());
    s = rescaled(s, max, inverse_temperature);
    s.sum = block_reduce(s.sum, scratch[1], 0.0f);
    s.weighted = block_reduce(s.weighted, scratch[2], 0.0f);
    const float log_sum = logf(s.sum);
    return {inverse_temperature, max, log_sum, log_sum - s.weighted / s.sum};
}
