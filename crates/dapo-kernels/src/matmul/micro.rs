//! The innermost tile of every matrix product: C[rows, w] (+)= A[rows, k] · B[k, w], summed over k in order, for panels of
//! w = [`panel_width`] columns.

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

/// Computes one tile of `rows <= max_rows()` rows.
///
/// # Safety
/// Every address named by the tile for `rows` rows, `k` steps and a panel's columns must be valid, and C must not be shared.
pub(super) unsafe fn run(rows: usize, tile: Tile) {
    // SAFETY: the caller's promise, and `isa` has found the instruction set on this processor.
    unsafe {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => match rows {
                1 => avx512::<1>(tile),
                2 => avx512::<2>(tile),
                3 => avx512::<3>(tile),
                4 => avx512::<4>(tile),
                5 => avx512::<5>(tile),
                6 => avx512::<6>(tile),
                7 => avx512::<7>(tile),
                8 => avx512::<8>(tile),
                9 => avx512::<9>(tile),
                10 => avx512::<10>(tile),
                11 => avx512::<11>(tile),
                _ => avx512::<12>(tile),
            },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => match rows {
                1 => avx2::<1>(tile),
                2 => avx2::<2>(tile),
                3 => avx2::<3>(tile),
                4 => avx2::<4>(tile),
                5 => avx2::<5>(tile),
                _ => avx2::<6>(tile),
            },
            _ => match rows {
                1 => portable::<1>(tile),
                2 => portable::<2>(tile),
                3 => portable::<3>(tile),
                _ => portable::<4>(tile),
            },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize>(t: Tile) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };
    // SAFETY: `run`'s caller vouches for the addresses.
    unsafe {
        for i in 0..ROWS {
            let c = t.next_c.wrapping_add(i * t.c_row);
            _mm_prefetch::<_MM_HINT_T0>(c.cast());
            _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(16).cast());
        }
        let mut acc = [[_mm512_setzero_ps(); 2]; ROWS];
        if t.accumulate {
            for (i, row) in acc.iter_mut().enumerate() {
                let c = t.c.add(i * t.c_row);
                *row = [_mm512_loadu_ps(c), _mm512_loadu_ps(c.add(16))];
            }
        }
        let (mut a, mut b, mut next) = (t.a, t.b, t.next);
        for _ in 0..t.k {
            _mm_prefetch::<_MM_HINT_T1>(next.cast());
            next = next.wrapping_add(t.next_step);
            let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
            for (i, row) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i * t.a_row));
                row[0] = _mm512_fmadd_ps(x, b0, row[0]);
                row[1] = _mm512_fmadd_ps(x, b1, row[1]);
            }
            a = a.wrapping_add(t.a_k);
            b = b.wrapping_add(t.b_k);
        }
        for (i, row) in acc.iter().enumerate() {
            let c = t.c.add(i * t.c_row);
            _mm512_storeu_ps(c, row[0]);
            _mm512_storeu_ps(c.add(16), row[1]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize>(t: Tile) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_setzero_ps, _mm256_storeu_ps,
    };
    // SAFETY: `run`'s caller vouches for the addresses.
    unsafe {
        for i in 0..ROWS {
            _mm_prefetch::<_MM_HINT_T0>(t.next_c.wrapping_add(i * t.c_row).cast());
        }
        let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
        if t.accumulate {
            for (i, row) in acc.iter_mut().enumerate() {
                let c = t.c.add(i * t.c_row);
                *row = [_mm256_loadu_ps(c), _mm256_loadu_ps(c.add(8))];
            }
        }
        let (mut a, mut b, mut next) = (t.a, t.b, t.next);
        // Distances that addresses can be made of without arithmetic: 0, 1, 2 and 4 times one row, and 3 and 5 rows.
        let (row, step) = (4 * t.a_row, 4 * t.a_k);
        let (row3, row5) = (3 * row, 5 * row);
        let distances = [0, row, 2 * row, row3, 4 * row, row5];
        for _ in 0..t.k {
            _mm_prefetch::<_MM_HINT_T1>(next.cast());
            next = next.wrapping_add(t.next_step);
            let (b0, b1) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
            for (acc, distance) in acc.iter_mut().zip(distances) {
                let x = _mm256_broadcast_ss(&*a.byte_add(distance));
                acc[0] = _mm256_fmadd_ps(x, b0, acc[0]);
                acc[1] = _mm256_fmadd_ps(x, b1, acc[1]);
            }
            a = a.wrapping_byte_add(step);
            b = b.wrapping_add(t.b_k);
        }
        for (i, row) in acc.iter().enumerate() {
            let c = t.c.add(i * t.c_row);
            _mm256_storeu_ps(c, row[0]);
            _mm256_storeu_ps(c.add(8), row[1]);
        }
    }
}

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
