// Segments, rows and tiles: what the forward and the backward of packed attention share.
//
// A segment's keys are numbered by their position in the sequence: first the parent's, then its own. Key blocks are cut
// by that number, so a token's result has the same bits whether its prompt is shared or not, and wherever the segment
// lies in the batch. Query heads that share a key-value head are treated as more queries: row r of a segment is query r
// / group of head r % group, so a block of rows reads the keys once for the whole group, and spans fewer queries (less
// of the diagonal is wasted).
#pragma once
#include "../cuda/common.cuh"
#include "mma.cuh"

struct Segment {
    int start, len;                // its tokens
    int parent_start, parent_len;  // the tokens it continues; a length of 0: none
};

// A block of ROWS rows of a segment, or of KEYS of its own keys.
struct Work {
    int segment, first;
};
constexpr int ROWS = 128, KEYS = 64;
// Of the kernels on tensor cores: threads of a block, rows of a warp.
constexpr int THREADS = 128, WARP_ROWS = 32;

// Shape of the packed batch. Strides count elements from one token to the next. Numbers derived from others come from
// the host, so that they are constants and take no registers.
struct Shape {
    int tokens, kv_heads, group;
    unsigned group_magic;  // ⌈2^30 / group⌉
    int q_stride, k_stride, v_stride;
    float scale;       // of the scores: 1/√d
    float scale_log2;  // scale · log2(e)

    // Row r is of query r / group: division by a multiplication, exact for r · group < 2^30.
    __device__ __forceinline__ int query(int row) const {
        return static_cast<int>(static_cast<unsigned long long>(4u * row) * group_magic >> 32);
    }
    __device__ __forceinline__ int head(int row, int query) const { return row - query * group; }
};

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

__device__ __forceinline__ int token_of_key(const Segment& s, int key) {
    return key < s.parent_len ? s.parent_start + key : s.start + key - s.parent_len;
}

// Walks over the tiles of rows that see a block of keys: those of the keys' own segment from the diagonal on, then all
// of the segments that continue it, in order.
struct RowCursor {
    int child, children_end;  // segments still to come
    int start, row, rows;     // of the present segment: first token, first row of the tile, number of rows
    bool own;                 // the keys' own segment
    // The next tile; false after the last.
    __device__ bool next(int tile, int group, const Segment* segments, const int* children) {
        row += tile;
        if (row < rows) return true;
        if (child == children_end) return false;
        const Segment segment = segments[children[child++]];
        start = segment.start;
        row = 0;
        rows = segment.len * group;
        own = false;
        return true;
    }
};

// Chunks of 16 bytes of a row are permuted by an exclusive or with this, so that one chunk of eight rows lies in
// different banks. Four chunks take half of the banks: there it is two rows that share a permutation. The same for rows
// that are a multiple of 8 apart.
template <int CHUNKS>
__device__ __forceinline__ int permutation(int row) {
    return CHUNKS >= 8 ? row & 7 : row >> 1 & 3;
}

// Where chunk `chunk` of a row lies in a tile of rows of D bf16 values.
template <int D>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
    return row * D * 2 + ((chunk ^ permutation<D / 8>(row)) << 4);
}

// Where a row of a matrix begins: its token and a first column; token -1 for a row of zeros.
struct Place {
    int token, column;
};

// Starts copying ROWS rows to a tile. `place` maps a row of the tile to its place.
template <int D, int ROWS, int THREADS, class F>
__device__ __forceinline__ void copy_tile(Shared tile, const bf16* x, int stride, F place) {
    constexpr int CHUNKS = D / 8;
#pragma unroll 2  // more would take registers from what stays in them over the loop of the caller
    for (int i = 0; i < ROWS * CHUNKS / THREADS; i++) {
        int index = i * THREADS + threadIdx.x, row = index / CHUNKS, chunk = index % CHUNKS;
        Place from = place(row);
        bool valid = from.token >= 0;
        size_t offset = valid ? static_cast<size_t>(from.token) * stride + from.column + chunk * 8 : 0;
        copy_16(tile + tile_offset<D>(row, chunk), x + offset, valid);
    }
}

// Lane's part of the addresses that ldmatrix needs for a tile of rows of D values. Adding a multiple of 8 rows keeps
// the swizzle, so loops over rows add constants, and loops over columns one exclusive or.
template <int D>
struct LaneRows {
    Shared base;
    int swizzle;
    __device__ LaneRows(Shared tile, int row, int chunk)
        : base(tile + row * D * 2), swizzle((chunk ^ permutation<D / 8>(row)) << 4) {}
    // Keeps the compiler from holding every chunk's offset in a register from before the loop over tiles.
    __device__ __forceinline__ LaneRows fresh() const {
        LaneRows copy = *this;
        hide(copy.swizzle);
        return copy;
    }
    // `rows` further down (a multiple of 8), `chunks` to the right (even).
    __device__ __forceinline__ Shared at(int rows, int chunks) const {
        return base + rows * D * 2 + (swizzle ^ (chunks << 4));
    }
};

// 16×16 A fragments of rows as they lie: matrices in the order rows 0-7, rows 8-15, then the columns 8-15 of both.
template <int D>
__device__ __forceinline__ LaneRows<D> rows_for_a(Shared tile) {
    int lane = threadIdx.x % 32;
    return LaneRows<D>(tile, lane % 16, lane / 16);
}

// Two B fragments (16 columns of B) of a matrix whose rows are B's columns: x[0], x[1] for the first eight, x[2], x[3]
// for the rest.
template <int D>
__device__ __forceinline__ LaneRows<D> rows_for_b(Shared tile) {
    int lane = threadIdx.x % 32;
    return LaneRows<D>(tile, lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// The same of a matrix whose rows are B's rows, read transposed.
template <int D>
__device__ __forceinline__ LaneRows<D> rows_for_b_transposed(Shared tile) {
    return rows_for_a<D>(tile);
}

// acc[m][n] += A · Bᵀ over D columns: A's 16·M rows and B's 8·N rows lie in shared memory.
template <int D, int M, int N>
__device__ __forceinline__ void product(float (&acc)[M][N][4], const LaneRows<D>& a_rows, const LaneRows<D>& b_rows) {
    const LaneRows<D> a = a_rows.fresh(), b = b_rows.fresh();
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        unsigned x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) ldmatrix(x[m], a.at(m * 16, k * 2));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned y[4];
            ldmatrix(y, b.at(n * 8, k * 2));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16(acc[m][n], x[m], y[0], y[1]);
                mma_m16n8k16(acc[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

// acc[m][n] += W · B: W's 16·M rows and 16·K columns are A fragments, B's 16·K rows of D columns lie in shared memory.
template <int D, int M, int K>
__device__ __forceinline__ void weighted_rows(float (&acc)[M][D / 8][4], const unsigned (&w)[M][K][4],
                                              const LaneRows<D>& b_rows) {
    const LaneRows<D> b = b_rows.fresh();
#pragma unroll
    for (int k = 0; k < K; k++) {
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            unsigned y[4];
            ldmatrix_transposed(y, b.at(k * 16, n));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_m16n8k16(acc[m][n], w[m][k], y[0], y[1]);
                mma_m16n8k16(acc[m][n + 1], w[m][k], y[2], y[3]);
            }
        }
    }
}

// C fragments as A fragments: what lies in a lane stays in it.
template <int M, int N>
__device__ __forceinline__ void pack(unsigned (&w)[M][N / 2][4], const float (&x)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            w[m][n / 2][n % 2 * 2] = pack_bf16(x[m][n][0], x[m][n][1]);
            w[m][n / 2][n % 2 * 2 + 1] = pack_bf16(x[m][n][2], x[m][n][3]);
        }
    }
}

// Two neighbouring values.
__device__ __forceinline__ void store_pair(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
}
__device__ __forceinline__ void store_pair(bf16* to, float x, float y) {
    *reinterpret_cast<unsigned*>(to) = pack_bf16(x, y);
}
