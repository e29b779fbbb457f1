//! The innermost tile of every matmul: C[rows, w] (+)= A[rows, k] · B[k, w], summed over k in order, for panels
//! of w = [`panel_width`] columns.

#![expect(unsafe_code, reason = "vector intrinsics and strided pointers")]

use crate::simd::{Isa, LANES, isa};

/// Most rows of a tile, per instruction set.
pub(super) fn max_rows() -> usize {
    match isa() {
        Isa::Avx512 => 12,
        Isa::Avx2 => 6,
        Isa::Portable => 4,
    }
}

/// Columns of a panel, per instruction set: two vectors; a divisor of 32.
pub(crate) fn panel_width() -> usize {
    if isa() == Isa::Avx512 { LANES } else { NARROW }
}

/// Columns of a panel where vectors are half as long.
const NARROW: usize = LANES / 2;

/// Operands of one tile. A is read at `a + row * a_row + k * a_k`, B at `b + k * b_k + column`, C at `c + row * c_row`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_k: usize,
    pub(super) b: *const f32,
    pub(super) b_k: usize,
    /// Fetched into the second-level cache, `next_step` elements a step, at most a line; any address will do.
    pub(super) next: *const f32,
    pub(super) next_step: usize,
    /// The tile of C after this one, fetched as well; any address will do.
    pub(super) next_c: *const f32,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Whether C is added to, as if the sum over k went on from there, or overwritten.
    pub(super) accumulate: bool,
}

/// Computes one tile of `rows <= max_rows()` rows. `copied` says that A and B are copies, steps of A being `max_rows()`
/// and steps of B a panel's width apart and all else neighbours.
///
/// # Safety
/// Every address named by the tile for `rows` rows, `k` steps and a panel's columns must be valid, and C must not be
/// shared.
pub(super) unsafe fn run(rows: usize, copied: bool, tile: Tile) {
    macro_rules! height {
        ($kernel:ident: $($rows:literal)* | $most:literal) => {
            match (rows, copied) {
                $(($rows, false) => $kernel::<$rows, false>(tile),
                ($rows, true) => $kernel::<$rows, true>(tile),)*
                (_, false) => $kernel::<$most, false>(tile),
                (_, true) => $kernel::<$most, true>(tile),
            }
        };
    }
    // SAFETY: the caller's promise, and `isa` has found the instruction set on this CPU.
    unsafe {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => height!(avx512: 1 2 3 4 5 6 7 8 9 10 11 | 12),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => height!(avx2: 1 2 3 4 5 | 6),
            _ => match rows {
                1 => portable::<1>(tile),
                2 => portable::<2>(tile),
                3 => portable::<3>(tile),
                _ => portable::<4>(tile),
            },
        }
    }
}

/// A tile of two vectors a row. Of copied operands every address is a constant from one, and four steps go together.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, $most:literal, $zero:ident, $load:ident, $spread:ident, $fma:ident, $store:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const COPIED: bool>(t: Tile) {
            use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, $fma, $load, $spread, $store, $zero};
            const TOGETHER: usize = 4;
            // SAFETY: `run`'s caller vouches for the addresses.
            unsafe {
                for i in 0..ROWS {
                    let c = t.next_c.wrapping_add(i * t.c_row);
                    for line in (0..2 * $lanes).step_by(16) {
                        _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(line).cast());
                    }
                }
                let mut acc = [[$zero(); 2]; ROWS];
                if t.accumulate {
                    for (i, row) in acc.iter_mut().enumerate() {
                        let c = t.c.add(i * t.c_row);
                        *row = [$load(c), $load(c.add($lanes))];
                    }
                }
                let (mut a, mut b, mut next, mut k) = (t.a, t.b, t.next, t.k);
                if COPIED {
                    let few = t.next_step > 16 / TOGETHER;
                    while k >= TOGETHER {
                        _mm_prefetch::<_MM_HINT_T1>(next.cast());
                        if few {
                            for step in 1..TOGETHER {
                                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(step * t.next_step).cast());
                            }
                        }
                        next = next.wrapping_add(TOGETHER * t.next_step);
                        for step in 0..TOGETHER {
                            let (b0, b1) = ($load(b.add(2 * $lanes * step)), $load(b.add(2 * $lanes * step + $lanes)));
                            for (i, row) in acc.iter_mut().enumerate() {
                                let x = $spread(*a.add($most * step + i));
                                *row = [$fma(x, b0, row[0]), $fma(x, b1, row[1])];
                            }
                        }
                        (a, b) = (a.add($most * TOGETHER), b.add(2 * $lanes * TOGETHER));
                        k -= TOGETHER;
                    }
                }
                // Distances that addresses can be made of without arithmetic: 0, 1, 2, 4 and 8 times one row, 3, 5 and
                // 9 rows.
                let row = 4 * t.a_row;
                let mut distances = [0; ROWS];
                for (i, distance) in distances.iter_mut().enumerate() {
                    *distance = i * row;
                }
                while k > 0 {
                    _mm_prefetch::<_MM_HINT_T1>(next.cast());
                    next = next.wrapping_add(t.next_step);
                    let (b0, b1) = ($load(b), $load(b.add($lanes)));
                    for (acc, distance) in acc.iter_mut().zip(distances) {
                        let x = $spread(*a.byte_add(distance));
                        *acc = [$fma(x, b0, acc[0]), $fma(x, b1, acc[1])];
                    }
                    (a, b) = (a.wrapping_add(t.a_k), b.wrapping_add(t.b_k));
                    k -= 1;
                }
                for (i, row) in acc.iter().enumerate() {
                    let c = t.c.add(i * t.c_row);
                    $store(c, row[0]);
                    $store(c.add($lanes), row[1]);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f",
    16,
    12,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps
);
#[cfg(target_arch = "x86_64")]
kernel!(avx2, "avx2,fma", 8, 6, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps);

unsafe fn portable<const ROWS: usize>(t: Tile) {
    // SAFETY: `run`'s caller vouches for the addresses.
    unsafe {
        let mut acc = [[0.0f32; NARROW]; ROWS];
        if t.accumulate {
            for (i, row) in acc.iter_mut().enumerate() {
                row.copy_from_slice(std::slice::from_raw_parts(t.c.add(i * t.c_row), NARROW));
            }
        }
        for k in 0..t.k {
            let b = std::slice::from_raw_parts(t.b.add(k * t.b_k), NARROW);
            for (i, row) in acc.iter_mut().enumerate() {
                let x = *t.a.add(i * t.a_row + k * t.a_k);
                for (sum, b) in row.iter_mut().zip(b) {
                    *sum = crate::simd::mul_add::<{ crate::simd::PORTABLE_FMA }>(x, *b, *sum);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            std::slice::from_raw_parts_mut(t.c.add(i * t.c_row), NARROW).copy_from_slice(row);
        }
    }
}
