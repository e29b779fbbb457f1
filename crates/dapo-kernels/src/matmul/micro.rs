//! The innermost tile of every matmul: C[rows, w] (+)= A[rows, k] · B[k, w], summed over k in order, for panels
//! of w = [`panel_width`] columns.

#![expect(unsafe_code, reason = "vector intrinsics and strided pointers")]

use crate::bf16::{high, low};
use crate::simd::{Isa, LANES, has_bf16_products, isa};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm256_fmadd_ps, _mm512_fmadd_ps};

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

/// What the words of the operands hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// f32.
    Full,
    /// A in f32, B in bf16: a word has two columns of a step.
    Halves,
    /// A and B in bf16: a word has two neighbours in k of a row or column, and a step of the tile is two of k.
    Pairs,
}

/// Operands of one tile. A is read at `a + row * a_row + k * a_k`, B at `b + k * b_k + column`, C at `c + row * c_row`.
/// Of a B in bf16 a step is half as many words, each of two columns ([`Words`](super::packed::Words)).
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
pub(super) unsafe fn run(rows: usize, copied: bool, kind: Kind, tile: Tile) {
    macro_rules! height {
        ($kernel:ident, $halves:literal: $($rows:literal)* | $most:literal) => {
            match (rows, copied) {
                $(($rows, false) => $kernel::<$rows, false, $halves>(tile),
                ($rows, true) => $kernel::<$rows, true, $halves>(tile),)*
                (_, false) => $kernel::<$most, false, $halves>(tile),
                (_, true) => $kernel::<$most, true, $halves>(tile),
            }
        };
    }
    macro_rules! portable {
        ($halves:literal) => {
            match rows {
                1 => portable::<1, $halves>(tile),
                2 => portable::<2, $halves>(tile),
                3 => portable::<3, $halves>(tile),
                _ => portable::<4, $halves>(tile),
            }
        };
    }
    // SAFETY: the caller's promise, and `isa` has found the instruction set on this CPU.
    unsafe {
        match (isa(), kind) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Kind::Full) => height!(avx512, false: 1 2 3 4 5 6 7 8 9 10 11 | 12),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Kind::Halves) => height!(avx512, true: 1 2 3 4 5 6 7 8 9 10 11 | 12),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Kind::Pairs) if has_bf16_products() => {
                height!(avx512_pairs, false: 1 2 3 4 5 6 7 8 9 10 11 | 12);
            }
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Kind::Full) => height!(avx2, false: 1 2 3 4 5 | 6),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Kind::Halves) => height!(avx2, true: 1 2 3 4 5 | 6),
            (_, Kind::Full) => portable!(false),
            (_, Kind::Halves) => portable!(true),
            (_, Kind::Pairs) => (0..rows).for_each(|row| pairs(tile, row)),
        }
    }
}

/// A tile of two vectors a row. Of copied operands every address is a constant from one, and four steps go together.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, $most:literal, $zero:ident, $load:ident, $spread:ident, $fma:ident, $store:ident, $widen:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const COPIED: bool, const HALVES: bool>(t: Tile) {
            use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, $load, $spread, $store, $zero};
            const TOGETHER: usize = 4;
            // Words of B in a step.
            let words = if HALVES { $lanes } else { 2 * $lanes };
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
                            let b = b.add(words * step);
                            let (b0, b1) = if HALVES { $widen(b) } else { ($load(b), $load(b.add($lanes))) };
                            for (i, row) in acc.iter_mut().enumerate() {
                                let x = $spread(*a.add($most * step + i));
                                *row = [$fma(x, b0, row[0]), $fma(x, b1, row[1])];
                            }
                        }
                        (a, b) = (a.add($most * TOGETHER), b.add(words * TOGETHER));
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
                    let (b0, b1) = if HALVES { $widen(b) } else { ($load(b), $load(b.add($lanes))) };
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
    _mm512_storeu_ps,
    widen_long
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512_pairs,
    "avx512f,avx512bf16",
    16,
    12,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    add_pairs,
    _mm512_storeu_ps,
    widen_long
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    6,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps,
    widen_short
);

/// The two vectors of 16 words of pairs.
///
/// # Safety
/// The words must be valid.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widen_long(words: *const f32) -> (std::arch::x86_64::__m512, std::arch::x86_64::__m512) {
    use std::arch::x86_64::{
        _mm512_and_si512, _mm512_castsi512_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_slli_epi32,
    };
    // SAFETY: the caller vouches for the address.
    let words = unsafe { _mm512_loadu_si512(words.cast()) };
    let high = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32.cast_signed()));
    (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(high))
}

/// The two vectors of 8 words of pairs.
///
/// # Safety
/// The words must be valid.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen_short(words: *const f32) -> (std::arch::x86_64::__m256, std::arch::x86_64::__m256) {
    use std::arch::x86_64::{
        _mm256_and_si256, _mm256_castsi256_ps, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_slli_epi32,
    };
    // SAFETY: the caller vouches for the address.
    let words = unsafe { _mm256_loadu_si256(words.cast()) };
    let high = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000u32.cast_signed()));
    (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(high))
}

/// `sums` plus, of 16 columns, the products of two neighbours in k. The instruction adds the second product first; what
/// is subnormal counts as zero.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_pairs(
    a: std::arch::x86_64::__m512,
    b: std::arch::x86_64::__m512,
    sums: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
    // SAFETY: vectors of the same size, of which every bit pattern is valid.
    let pairs = |vector| unsafe { std::mem::transmute::<__m512, __m512bh>(vector) };
    _mm512_dpbf16_ps(sums, pairs(a), pairs(b))
}

/// A row of a tile of pairs, as the instruction computes it but for subnormal numbers.
///
/// # Safety
/// As of [`run`], for this row.
unsafe fn pairs(t: Tile, row: usize) {
    let mut sums = [0.0f32; LANES];
    let sums = &mut sums[..panel_width()];
    // SAFETY: `run`'s caller vouches for the addresses.
    unsafe {
        let c = std::slice::from_raw_parts_mut(t.c.add(row * t.c_row), sums.len());
        if t.accumulate {
            sums.copy_from_slice(c);
        }
        for k in 0..t.k {
            let x = (*t.a.add(row * t.a_row + k * t.a_k)).to_bits();
            let b = std::slice::from_raw_parts(t.b.add(k * t.b_k), sums.len());
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += high(x) * high(b.to_bits());
                *sum += low(x) * low(b.to_bits());
            }
        }
        c.copy_from_slice(sums);
    }
}

unsafe fn portable<const ROWS: usize, const HALVES: bool>(t: Tile) {
    // SAFETY: `run`'s caller vouches for the addresses.
    unsafe {
        let mut acc = [[0.0f32; NARROW]; ROWS];
        if t.accumulate {
            for (i, row) in acc.iter_mut().enumerate() {
                row.copy_from_slice(std::slice::from_raw_parts(t.c.add(i * t.c_row), NARROW));
            }
        }
        for k in 0..t.k {
            let mut b = [0.0; NARROW];
            if HALVES {
                let (lower, upper) = b.split_at_mut(NARROW / 2);
                let words = std::slice::from_raw_parts(t.b.add(k * t.b_k).cast(), NARROW / 2);
                for ((word, lower), upper) in words.iter().zip(lower).zip(upper) {
                    (*lower, *upper) = (low(*word), high(*word));
                }
            } else {
                b.copy_from_slice(std::slice::from_raw_parts(t.b.add(k * t.b_k), NARROW));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = *t.a.add(i * t.a_row + k * t.a_k);
                for (sum, b) in row.iter_mut().zip(b) {
                    *sum = crate::simd::mul_add::<{ crate::simd::PORTABLE_FMA }>(x, b, *sum);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            std::slice::from_raw_parts_mut(t.c.add(i * t.c_row), NARROW).copy_from_slice(row);
        }
    }
}
