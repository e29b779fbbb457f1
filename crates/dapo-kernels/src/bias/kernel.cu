// The bias of a linear layer.
//
//   add   y[t][i] += bias[i]
//   sum   gradient[i] += the sum of dy[t][i] over t, in a fixed order
//
// Bytes an element, 2-byte activations: add 4, sum 2. Bound by memory.
#include "../cuda/common.cuh"

namespace bias {

// A block a row.
template <class T>
__device__ void add(T* y, const T* values, int width) {
    y += size_t(blockIdx.x) * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = from_float<T>(to_float(y[i]) + to_float(values[i]));
}

// 32 columns a block, its 16 rows of threads striding over the matrix's; their sums are added in order.
constexpr int COLUMN_THREADS = 16;
template <class T>
__device__ void sum(const T* dy, float* gradient, int rows, int width) {
    __shared__ float sums[COLUMN_THREADS][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    float part = 0;
    if (column < width) {
        for (int r = threadIdx.y; r < rows; r += COLUMN_THREADS) part += to_float(dy[size_t(r) * width + column]);
    }
    sums[threadIdx.y][threadIdx.x] = part;
    __syncthreads();
    if (threadIdx.y == 0 && column < width) {
        float all = 0;
        for (int k = 0; k < COLUMN_THREADS; k++) all += sums[k][threadIdx.x];
        gradient[column] += all;
    }
}

}  // namespace bias

#define BIAS(T, suffix)                                                                                     \
    extern "C" __global__ void __launch_bounds__(512) bias_add_##suffix(T* y, const T* values, int width) { \
        bias::add<T>(y, values, width);                                                                     \
    }                                                                                                       \
    REGISTER_KERNEL(bias_add_##suffix);                                                                     \
    extern "C" __global__ void __launch_bounds__(512)                                                       \
        bias_sum_##suffix(const T* dy, float* gradient, int rows, int width) {                              \
        bias::sum<T>(dy, gradient, rows, width);                                                            \
    }                                                                                                       \
    REGISTER_KERNEL(bias_sum_##suffix);
BIAS(float, f32)
BIAS(bf16, bf16)
