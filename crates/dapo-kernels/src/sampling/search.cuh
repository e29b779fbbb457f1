// Finding a token by running sums: in the order of tokens, and in the order of probabilities.
//
// Weights are integers, so that sums are exact and their order is of no account: a probability counts in units of 2^-45
// of the largest one, which loses nothing that a draw of 53 bits from f32 probabilities would notice.
#pragma once
#include "../logprobs/row.cuh"

typedef unsigned long long u64;

// Tokens whose weights may add up: 2^19.
constexpr float WEIGHT_UNIT = 35184372088832.0f;  // 2^45

__device__ __forceinline__ u64 weight_of(float logit, float max, float inverse_temperature) {
    const float z = (logit - max) * inverse_temperature;
    return z > -40.0f ? u64(__expf(z) * WEIGHT_UNIT) : 0;
}

// A float's bits as an unsigned number of the same order (that of f32::total_cmp).
__device__ __forceinline__ unsigned order_key(float x) {
    const unsigned bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

constexpr int BINS = 2048;

struct SearchMemory {
    u64 bins[BINS];
    u64 totals[32];
    u64 above;
    int found;
};

// A row of logits, as the block reads it.
template <class T>
struct Row {
    const T* logits;
    int vocab;
    bool vector;
    float max, inverse_temperature;
    __device__ __forceinline__ u64 weight(float logit) const { return weight_of(logit, max, inverse_temperature); }
};

__device__ __forceinline__ u64 scan_warp(u64 value) {
    for (int delta = 1; delta < 32; delta *= 2) {
        const u64 below = __shfl_up_sync(FULL_WARP, value, delta);
        if (threadIdx.x % 32 >= delta) value += below;
    }
    return value;
}

// The first token at which the running sum of `weight(logit)`, an integer, exceeds `target(total)`; vocab if none does.
// Each warp sums a stretch of the row; the one in which it happens goes over it again.
template <class T, class Weight, class Target>
__device__ __forceinline__ int locate(const Row<T>& row, Weight weight, Target target, SearchMemory& memory) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int n = row.vector ? VECTOR<T> : 1, step = 32 * n;
    const int stretch = (row.vocab + 32 * step - 1) / (32 * step) * step;
    // The lane's n weights from column i on.
    auto sum_at = [&](int i, u64(&w)[VECTOR<T>]) {
        u64 sum = 0;
        if (row.vector && i + n <= row.vocab) {
            float v[VECTOR<T>];
            load(row.logits + i, v);
#pragma unroll
            for (int k = 0; k < VECTOR<T>; k++) sum += w[k] = weight(v[k]);
        } else {
#pragma unroll
            for (int k = 0; k < VECTOR<T>; k++) {
                w[k] = k < n && i + k < row.vocab ? weight(to_float(row.logits[i + k])) : 0;
                sum += w[k];
            }
        }
        return sum;
    };
    u64 w[VECTOR<T>], sum = 0;
    for (int i = 0; i < stretch; i += step) sum += sum_at(warp * stretch + i + lane * n, w);
    sum = warp_reduce(sum);
    __syncthreads();  // the memory may still be read
    if (lane == 0) memory.totals[warp] = sum;
    if (threadIdx.x == 0) memory.found = row.vocab;
    __syncthreads();
    u64 total = 0, before = 0;
    for (int i = 0; i < 32; i++) {
        if (i == warp) before = total;
        total += memory.totals[i];
    }
    const u64 goal = target(total);
    if (before <= goal && goal < before + sum) {
        for (int i = 0; i < stretch; i += step) {
            const int first = warp * stretch + i + lane * n;
            const u64 here = sum_at(first, w), through = before + scan_warp(here);
            const unsigned beyond = __ballot_sync(FULL_WARP, through > goal);
            if (beyond == 0) {
                before = __shfl_sync(FULL_WARP, through, 31);
                continue;
            }
            if (lane == __ffs(int(beyond)) - 1) {
                u64 running = through - here;
                int found = first;
#pragma unroll
                for (int k = 0; k < VECTOR<T>; k++) {
                    running += w[k];
                    found += running <= goal;
                }
                memory.found = found;
            }
            break;
        }
    }
    __syncthreads();
    return memory.found;
}

// The tokens in falling order of logits (equal ones: by number) as far as a token: those above `key`, and the first
// `ties` of those equal to it.
struct Prefix {
    unsigned key;
    u64 ties;
};

// Where in that order the running sum first exceeds a target.
struct Place {
    unsigned key;
    u64 above;  // the sum over the tokens above the key
    u64 each;   // what every token with the key adds
};

// `weight(logit)` is the same for equal logits. Tokens outside `prefix` do not count. A search by digits: first by the
// distance from the largest logit in steps of 1/64, which spreads a vocabulary over the bins, then by the key's bits.
template <class T, class Weight>
__device__ __forceinline__ Place search(const Row<T>& row, Weight weight, const Prefix& prefix, u64 target,
                                        SearchMemory& memory) {
    auto distance = [&](float logit) {
        const float z = (row.max - logit) * row.inverse_temperature * 64.0f;
        return z < float(BINS - 1) ? int(z) : BINS - 1;
    };
    Place place = {0, 0, 0};
    int bucket = 0;
    unsigned key = 0, known = 0;  // the digits found so far, as bits of the key
    for (int level = 0; level < 4; level++) {
        const int shift = level == 0 ? 0 : level == 1 ? 21 : level == 2 ? 10 : 0;
        const unsigned digits = level == 3 ? 1023 : 2047;
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) memory.bins[i] = 0;
        __syncthreads();
        auto add = [&](float logit, unsigned own, u64 amount) {
            const int here = distance(logit);
            if (amount == 0 || (level > 0 && here != bucket) || ((own ^ key) & known) != 0) return;
            const int bin = level == 0 ? here : int(digits - (own >> shift & digits));
            atomicAdd(&memory.bins[bin], amount);
        };
        each_logit<T>(row.vocab, row.vector, [&](int i, auto count) {
            constexpr int N = decltype(count)::value;
            float v[N];
            load(row.logits + i, v);
#pragma unroll
            for (int k = 0; k < N; k++) {
                const unsigned own = order_key(v[k]);
                if (own > prefix.key) add(v[k], own, weight(v[k]));
            }
        });
        if (threadIdx.x == 0 && prefix.ties > 0) {
            const float logit = __uint_as_float(prefix.key >> 31 ? prefix.key & 0x7fffffffu : ~prefix.key);
            add(logit, prefix.key, weight(logit) * prefix.ties);
        }
        __syncthreads();
        // Two bins a thread; one thread has the bin in which the sum passes the target.
        const u64 a = memory.bins[2 * threadIdx.x], b = memory.bins[2 * threadIdx.x + 1];
        const u64 through = scan_warp(a + b);
        if (threadIdx.x % 32 == 31) memory.totals[threadIdx.x / 32] = through;
        if (threadIdx.x == 0) memory.found = BINS - 1, memory.above = place.above;
        __syncthreads();
        u64 before = place.above + through - a - b;
        for (int i = 0; i < int(threadIdx.x / 32); i++) before += memory.totals[i];
        if (before <= target && target < before + a + b) {
            const bool second = before + a <= target;
            memory.found = 2 * threadIdx.x + second;
            memory.above = before + (second ? a : 0);
        }
        __syncthreads();
        place.above = memory.above;
        if (level == 0) {
            bucket = memory.found;
        } else {
            key |= (digits - unsigned(memory.found)) << shift;
            known |= digits << shift;
        }
    }
    place.key = key;
    place.each = weight(__uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key));
    return place;
}
