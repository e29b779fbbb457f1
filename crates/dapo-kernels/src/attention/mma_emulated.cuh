// What the instructions of mma.cuh do, on the CPU: lanes put their operands on a board, meet, and read each other's.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>

namespace emulated {

// Two boards in turn: a lane may be one exchange ahead of another that still reads, never two.
struct Board {
    unsigned words[2][32][32][6];
    Shared rows[2][32][32];
    unsigned turn[1024];
};
inline Board board;

struct Copy {
    Shared to;
    const void* from;
    int bytes, group;
};
struct Copies {
    std::vector<Copy> pending;
    int group = 0;
};
inline Copies copies[1024];

inline void carry_out(const Copy& copy) {
    if (copy.from)
        memcpy(copy.to, copy.from, copy.bytes);
    else
        memset(copy.to, 0, copy.bytes);
}

// Copies of odd blocks happen at once, those of even blocks not before they are waited for: the two ends of what the
// GPU may do.
inline void copy(Shared to, const void* from, int bytes, bool valid) {
    Copies& mine = copies[threadIdx.x];
    Copy copy = {to, valid ? from : nullptr, bytes, mine.group};
    if (blockIdx.x % 2)
        carry_out(copy);
    else
        mine.pending.push_back(copy);
}

inline float half(unsigned word, int index) { return index ? high_bf16(word) : low_bf16(word); }

// Matrix m's element [row][column], from the addresses that the lanes gave.
inline unsigned element(Shared (&rows)[32], int matrix, int row, int column) {
    unsigned short value;
    memcpy(&value, rows[matrix * 8 + row] + column * 2, 2);
    return value;
}

inline void load(unsigned (&x)[4], Shared row, bool transposed) {
    int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
    int turn = board.turn[thread]++ % 2;
    board.rows[turn][warp][lane] = row;
    __syncwarp();
    Shared(&rows)[32] = board.rows[turn][warp];
    for (int m = 0; m < 4; m++) {
        unsigned low = transposed ? element(rows, m, 2 * t, g) : element(rows, m, g, 2 * t);
        unsigned high = transposed ? element(rows, m, 2 * t + 1, g) : element(rows, m, g, 2 * t + 1);
        x[m] = low | high << 16;
    }
    // The memory may be written again as soon as the warp has passed the instruction.
    __syncwarp();
}

}  // namespace emulated

inline Shared shared_address(const void* p) { return static_cast<char*>(const_cast<void*>(p)); }

inline void mma_m16n8k16(float (&acc)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    using namespace emulated;
    int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
    int turn = board.turn[thread]++ % 2;
    unsigned(&words)[32][6] = board.words[turn][warp];
    for (int i = 0; i < 4; i++) words[lane][i] = a[i];
    words[lane][4] = b0;
    words[lane][5] = b1;
    __syncwarp();
    for (int c = 0; c < 4; c++) {
        int row = g + c / 2 * 8, column = 2 * t + c % 2;
        for (int k = 0; k < 16; k++) {
            float x = half(words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2);
            float y = half(words[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
            acc[c] += x * y;
        }
    }
}

inline void ldmatrix(unsigned (&x)[4], Shared row) { emulated::load(x, row, false); }
inline void ldmatrix_transposed(unsigned (&x)[4], Shared row) { emulated::load(x, row, true); }
inline void copy_16(Shared to, const void* from, bool valid) { emulated::copy(to, from, 16, valid); }
inline void copy_4(Shared to, const void* from, bool valid) { emulated::copy(to, from, 4, valid); }
inline void copy_commit() { emulated::copies[threadIdx.x].group++; }

template <int PENDING>
inline void copy_wait() {
    emulated::Copies& mine = emulated::copies[threadIdx.x];
    std::vector<emulated::Copy> later;
    for (const emulated::Copy& copy : mine.pending) {
        if (copy.group < mine.group - PENDING)
            emulated::carry_out(copy);
        else
            later.push_back(copy);
    }
    mine.pending = later;
}

inline unsigned pack_bf16(float low, float high) {
    return __float2bfloat16(low).bits | static_cast<unsigned>(__float2bfloat16(high).bits) << 16;
}

inline float exp2_fast(float x) { return exp2f(x); }
inline float log2_fast(float x) { return log2f(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }
