// Rows of the embedding table, and the table's gradient.
//
//   gather       y[t] = table[token[t]]
//   accumulate   gradient[token] += sum of dy over the rows in which the token occurs, in their order
//
// The gradient takes the occurrences sorted by token: for the distinct token `tokens[i]`, the rows
// `rows[starts[i] .. starts[i + 1]]`. So a row of the gradient belongs to one block column and needs no atomics.
//
// Bytes an element, 2-byte activations: gather 4; gradient 2 a row, and 8 a distinct token. Bound by memory.
#include "../cuda/common.cuh"

namespace embedding {

template <class T>
__device__ void gather(const T* table, const unsigned* tokens, T* y, int width) {
    const T* row = table + size_t(tokens[blockIdx.x]) * width;
    y += size_t(blockIdx.x) * width;
    each_column<T>(width, vectorizes<T>(width, table, y), [&](int i, auto count) {
        float v[decltype(count)::value];
        load(row + i, v);
        store(y + i, v);
    });
}

// Blocks: distinct tokens in x, columns in y.
template <class T>
__device__ void accumulate(const T* dy, const unsigned* tokens, const unsigned* starts, const unsigned* rows,
                           float* gradient, int width) {
    const unsigned from = starts[blockIdx.x], to = starts[blockIdx.x + 1];
    float* sums = gradient + size_t(tokens[blockIdx.x]) * width;
    auto add = [&](int i, auto count) {
        constexpr int N = decltype(count)::value;
        float total[N];
        load(sums + i, total);
#pragma unroll 8
        for (unsigned r = from; r < to; r++) {
            float v[N];
            load(dy + size_t(rows[r]) * width + i, v);
#pragma unroll
            for (int k = 0; k < N; k++) total[k] += v[k];
        }
        store(sums + i, total);
    };
    const int thread = blockIdx.y * blockDim.x + threadIdx.x;
    if (vectorizes<T>(width, dy, gradient)) {
        if (thread * VECTOR<T> < width) add(thread * VECTOR<T>, Count<VECTOR<T>>{});
    } else {
        for (int i = thread; i < width; i += gridDim.y * blockDim.x) add(i, Count<1>{});
    }
}

}  // namespace embedding

#define INSTANTIATE(T, suffix)                                                                                       \
    extern "C" __global__ void __launch_bounds__(512)                                                                \
        embedding_gather_##suffix(const T* table, const unsigned* tokens, T* y, int width) {                         \
        embedding::gather<T>(table, tokens, y, width);                                                               \
    }                                                                                                                \
    REGISTER_KERNEL(embedding_gather_##suffix);                                                                      \
    extern "C" __global__ void __launch_bounds__(64) embedding_accumulate_##suffix(                                  \
        const T* dy, const unsigned* tokens, const unsigned* starts, const unsigned* rows, float* gradient,          \
        int width) {                                                                                                 \
        embedding::accumulate<T>(dy, tokens, starts, rows, gradient, width);                                         \
    }                                                                                                                \
    REGISTER_KERNEL(embedding_accumulate_##suffix);
INSTANTIATE(float, f32)
INSTANTIATE(bf16, bf16)
