// Kernels for testing the emulation itself: what it must get right, and what it must notice.
#include "../common.cuh"

// Warp and block collectives: out[0] the block's sum, out[1 + i] what thread i heard from its neighbour below.
extern "C" __global__ void self_test_collectives(const int* in, int* out) {
    __shared__ int scratch[32];
    int value = in[threadIdx.x];
    int below = __shfl_up_sync(FULL_WARP, value, 1);
    int sum = block_reduce(value, scratch, 0);
    if (threadIdx.x % 32 < 16) below += __shfl_xor_sync(0xffffu, 0, 1);  // half a warp
    if (threadIdx.x == 0) out[0] = sum;
    out[1 + threadIdx.x] = below;
}
REGISTER_KERNEL(self_test_collectives);

// Half of the threads wait at another barrier than the rest.
extern "C" __global__ void self_test_divergent(int* out) {
    if (threadIdx.x % 2 == 0) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[0] = 1;
}
REGISTER_KERNEL(self_test_divergent);

// Thread i writes, its neighbour reads; the barrier between them is missing.
extern "C" __global__ void self_test_race(int* out) {
    __shared__ int values[64];
    values[threadIdx.x] = 0;
    __syncthreads();
    values[threadIdx.x] = int(threadIdx.x) + 1;
    out[threadIdx.x] = values[(threadIdx.x + 1) % blockDim.x];
}
REGISTER_KERNEL(self_test_race);

// Writes one element past the end of its dynamic shared memory, or of `out`: for the sanitizer.
extern "C" __global__ void self_test_overrun(int* out, int n, int in_shared) {
    DYN_SHARED(int, row);
    if (in_shared) row[n] = 1;
    else out[n] = 1;
    out[0] = 1;
}
REGISTER_KERNEL(self_test_overrun);
