// What a decoding step needs to know of the sequences that grow: row i of the step belongs to sequence live[i].
//
// A sequence that has finished since the host looked last has length 0 (attention reads nothing) and no place in the
// cache; its row is computed and dropped. A few bytes a sequence; bound by the launch.
#include "../cuda/common.cuh"

extern "C" __global__ void __launch_bounds__(128)
    decoding_inputs(const int* live, const unsigned* tokens, const int* positions, const int* finished,
                    unsigned* row_tokens, int* rotary_positions, unsigned* cache_positions, unsigned* cache_rows,
                    unsigned* lengths, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const int s = live[i], position = positions[s];
    const bool grows = finished[s] == 0;
    row_tokens[i] = tokens[s];
    rotary_positions[i] = position;
    cache_positions[i] = unsigned(position);
    cache_rows[i] = grows ? unsigned(i) : 0xffffffffu;
    lengths[i] = grows ? unsigned(position) + 1 : 0;
}
REGISTER_KERNEL(decoding_inputs);
