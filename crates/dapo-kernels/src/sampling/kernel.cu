// Draws the next token of every sequence from its row of logits, and moves the sequence on, all on the device.
//
// As sampling.rs of the policy: at temperature 0 the first of the largest logits; else of the tokens with at least
// `min_p` times the largest probability (0: all), and of these the `top_k` most probable (0: all), the fewest whose
// probabilities reach `top_p` of theirs, and of these one by a random number that depends on (seed, purpose, draw,
// sample, number of the token) alone. The log-prob is that of the full softmax at the temperature, bit for bit what
// logprobs/kernel.cu gives for the same logits.
//
// A block of 1,024 threads takes a row. It reads the row once for its softmax and about once more to draw; where
// something is cut off, four times for each of top-k and top-p, four to draw and once to find the token. A row of 151,936
// f32 logits (0.6 MB) stays in the L2 cache meanwhile. One exponential a logit and read: bound by those and the cache.
#include "chacha.cuh"
#include "search.cuh"

namespace sampling {

struct Settings {
    float temperature;
    int top_k;
    float top_p, min_p;
};

// `bits`: 53 random ones.
template <class T>
__device__ int draw(const Row<T>& row, const Settings& settings, u64 bits, SearchMemory& memory) {
    auto first_with_key = [&](unsigned key, u64 number) {
        return locate(row, [&](float x) { return u64(order_key(x) == key); }, [&](u64) { return number; }, memory);
    };
    if (settings.temperature == 0.0f) {
        return locate(row, [&](float x) { return u64(x == row.max); }, [](u64) { return u64(0); }, memory);
    }
    // A token below min-p has no weight; ranks for top-k count it, which changes nothing: it comes after all others.
    const u64 least = u64(settings.min_p * WEIGHT_UNIT);
    auto weight = [&](float x) {
        const u64 w = row.weight(x);
        return w >= least ? w : u64(0);
    };
    const bool cut = settings.top_k > 0 && settings.top_k < row.vocab;
    if (!cut && settings.top_p >= 1.0f && settings.min_p <= 0.0f) {
        return locate(row, weight, [&](u64 total) { return fraction_of(bits, total); }, memory);
    }
    Prefix prefix = {0, 0};  // everything
    if (cut) {
        const u64 last = u64(settings.top_k) - 1;
        const Place place = search(row, [](float) { return u64(1); }, prefix, last, memory);
        prefix = {place.key, last - place.above + 1};
    }
    // The sum over all tokens of the prefix.
    __shared__ u64 scratch[32];
    u64 total = 0;
    each_logit<T>(row.vocab, row.vector, [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N];
        load(row.logits + i, v);
#pragma unroll
        for (int k = 0; k < N; k++) total += order_key(v[k]) > prefix.key ? weight(v[k]) : 0;
    });
    total = block_reduce(total, scratch, u64(0));
    const float tie = __uint_as_float(prefix.key >> 31 ? prefix.key & 0x7fffffffu : ~prefix.key);
    if (prefix.ties > 0) total += weight(tie) * prefix.ties;
    if (settings.top_p < 1.0f) {
        // The sum reaches the goal with the token at which it exceeds the goal less 1.
        const u64 goal = u64(ceil(double(settings.top_p) * double(total)));
        const u64 target = (goal < 1 ? 1 : goal > total ? total : goal) - 1;
        const Place place = search(row, weight, prefix, target, memory);
        const u64 ties = place.each > 0 ? (target - place.above) / place.each + 1 : 1;
        prefix = {place.key, ties};
        total = place.above + place.each * ties;
    }
    const u64 target = fraction_of(bits, total);
    const Place place = search(row, weight, prefix, target, memory);
    return first_with_key(place.key, place.each > 0 ? (target - place.above) / place.each : 0);
}

}  // namespace sampling

// For block i: sequence `sequences[i]` (i where null), logits' row `rows[i]` (i where null). A sequence whose `finished` is
// not 0 is left alone. Else token number `lengths[s]` is drawn and becomes `tokens[s]`, at position `positions[s]` + 1;
// it is noted with its log-prob in the sequence's row of `completions` and `logprobs`; and the sequence is finished by a
// stop token (1) or by its limit (2).
#define INSTANTIATE(T, suffix)                                                                                        \
    extern "C" __global__ void __launch_bounds__(ROW_THREADS) sampling_draw_##suffix(                                 \
        const T* logits, size_t stride, int vocab, const int* rows, const int* sequences, float temperature,          \
        int top_k, float top_p, float min_p, unsigned long long seed, unsigned long long purpose,                     \
        const unsigned long long* draws, const unsigned long long* samples, const unsigned* stops, int stop_count,    \
        const int* limits, unsigned* tokens, int* positions, int* lengths, int* finished, unsigned* completions,      \
        float* logprobs, int capacity) {                                                                              \
        __shared__ SearchMemory memory;                                                                               \
        __shared__ float scratch[3][32];                                                                              \
        const int s = sequences ? sequences[blockIdx.x] : int(blockIdx.x);                                            \
        const int r = rows ? rows[blockIdx.x] : int(blockIdx.x);                                                      \
        const int length = lengths[s];                                                                                \
        if (finished[s] != 0 || length >= capacity) return;                                                           \
        const bool vector = rows_vectorize(logits, stride);                                                           \
        const T* row = logits + r * stride;                                                                           \
        const float inverse_temperature = temperature > 0.0f ? 1.0f / temperature : 1.0f;                             \
        const RowStats stats = row_stats(row, vocab, vector, inverse_temperature, scratch);                           \
        const unsigned long long bits = keyed_random(seed, purpose, draws[s], samples[s], length);                    \
        const int drawn = sampling::draw<T>({row, vocab, vector, stats.max, inverse_temperature},                     \
                                            {temperature, top_k, top_p, min_p}, bits, memory);                        \
        if (threadIdx.x != 0) return;                                                                                 \
        const int token = drawn < vocab ? drawn : vocab - 1; /* a row without a number, such as all NaN */            \
        tokens[s] = token;                                                                                            \
        positions[s] += 1;                                                                                            \
        lengths[s] = length + 1;                                                                                      \
        completions[size_t(s) * capacity + length] = token;                                                           \
        logprobs[size_t(s) * capacity + length] = stats.logprob(to_float(row[token]));                                \
        int reason = length + 1 >= limits[s] ? 2 : 0;                                                                 \
        for (int i = 0; i < stop_count; i++) reason = stops[i] == unsigned(token) ? 1 : reason;                       \
        finished[s] = reason;                                                                                         \
    }                                                                                                                 \
    REGISTER_KERNEL(sampling_draw_##suffix);
INSTANTIATE(float, f32)
INSTANTIATE(bf16, bf16)

// out[i] = the random number of stream `streams[i]`, in [0, 1): for comparison with the host's.
extern "C" __global__ void sampling_uniforms(unsigned long long seed, unsigned long long purpose,
                                             unsigned long long draw, unsigned long long sample,
                                             const unsigned long long* streams, double* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = double(keyed_random(seed, purpose, draw, sample, streams[i])) / 9007199254740992.0;
}
REGISTER_KERNEL(sampling_uniforms);
