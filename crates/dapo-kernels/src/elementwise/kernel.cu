// Small passes over whole arrays: conversions, sums, and the sum of a matrix's columns.
//
//   cast          y = x, rounded to bf16                   6 bytes an element
//   axpy          y += a * x, both bf16 or both f32        3 times an element's bytes
//   sum_columns   total += sum over rows of matrix         4 bytes an element
//
// At most 2 flops an element: bound by memory.
#include "../cuda/common.cuh"

namespace elementwise {

// Calls body(i, Count<N>) for all i, i + N, … < n over the grid: vectors first, then what is left.
template <class F>
__device__ __forceinline__ void each(size_t n, bool vector, F body) {
    constexpr int N = 8;
    const size_t thread = size_t(blockIdx.x) * blockDim.x + threadIdx.x, threads = size_t(gridDim.x) * blockDim.x;
    const size_t whole = vector ? n / N * N : 0;
    for (size_t i = thread * N; i < whole; i += threads * N) body(i, Count<N>{});
    for (size_t i = whole + thread; i < n; i += threads) body(i, Count<1>{});
}

template <class From, class To>
__device__ void cast(const From* x, To* y, size_t n) {
    each(n, vectorizes<float>(0, x, y), [&](size_t i, auto count) {
        float v[decltype(count)::value];
        load(x + i, v);
        store(y + i, v);
    });
}

template <class From, class To>
__device__ void axpy(float a, const From* x, To* y, size_t n) {
    each(n, vectorizes<float>(0, x, y), [&](size_t i, auto count) {
        constexpr int N = decltype(count)::value;
        float v[N], w[N];
        load(x + i, v);
        load(y + i, w);
#pragma unroll
        for (int k = 0; k < N; k++) w[k] += a * v[k];
        store(y + i, w);
    });
}

// 32 columns a block, its 16 rows of threads striding over the matrix's; their sums are added in order.
constexpr int COLUMN_THREADS = 16;
__device__ void sum_columns(const float* matrix, float* total, int rows, int width) {
    __shared__ float sums[COLUMN_THREADS][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0;
    if (column < width) {
#pragma unroll 4
        for (int r = threadIdx.y; r < rows; r += COLUMN_THREADS) sum += matrix[size_t(r) * width + column];
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < width) {
        float all = 0;
        for (int k = 0; k < COLUMN_THREADS; k++) all += sums[k][threadIdx.x];
        total[column] += all;
    }
}

}  // namespace elementwise

#define CAST(From, To, suffix)                                                                            \
    extern "C" __global__ void __launch_bounds__(256) cast_##suffix(const From* x, To* y, size_t n) {     \
        elementwise::cast<From, To>(x, y, n);                                                             \
    }                                                                                                     \
    REGISTER_KERNEL(cast_##suffix);
CAST(float, bf16, f32_bf16)

#define AXPY(From, To, suffix)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) axpy_##suffix(float a, const From* x, To* y, size_t n) {     \
        elementwise::axpy<From, To>(a, x, y, n);                                                                   \
    }                                                                                                              \
    REGISTER_KERNEL(axpy_##suffix);
AXPY(float, float, f32_f32)
AXPY(bf16, bf16, bf16_bf16)

extern "C" __global__ void __launch_bounds__(512)
    sum_columns_f32(const float* matrix, float* total, int rows, int width) {
    elementwise::sum_columns(matrix, total, rows, width);
}
REGISTER_KERNEL(sum_columns_f32);
