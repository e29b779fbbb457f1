//! Rows to columns, in squares that fit the registers.

#![expect(unsafe_code, reason = "vector intrinsics")]

use super::panel_width;
use crate::simd::{Isa, isa};

/// Fills panels of [`panel_width`] columns, each of `k` rows, with B(k, j) = `source[j * stride + k]`; columns from
/// `columns` on become zero.
pub(crate) fn pack_columns(source: &[f32], stride: usize, k: usize, columns: usize, panels: &mut [f32]) {
    let width = panel_width();
    assert!(
        columns <= panels.len() / k.max(1) && (columns == 0 || source.len() >= (columns - 1) * stride + k),
        "pack_columns: too short"
    );
    for (index, panel) in panels.chunks_exact_mut(k * width).enumerate() {
        let first = index * width;
        let columns = columns.saturating_sub(first).min(width);
        pack_panel(source.get(first * stride..).unwrap_or_default(), stride, k, columns, width, panel);
    }
}

fn pack_panel(source: &[f32], stride: usize, k: usize, columns: usize, width: usize, panel: &mut [f32]) {
    if columns < width {
        for row in panel.chunks_exact_mut(width) {
            row[columns..].fill(0.0);
        }
    }
    transpose(source, stride, k, columns, panel, width);
}

/// `to[i * to_stride + j] = source[j * stride + i]` for i below `k` and j below `columns`.
pub(super) fn transpose(source: &[f32], stride: usize, k: usize, columns: usize, target: &mut [f32], to_stride: usize) {
    let isa = isa();
    let side = if isa == Isa::Avx512 { 16 } else { 8 };
    for k0 in (0..k).step_by(side) {
        for j in (0..columns).step_by(side) {
            let (from, to) = (&source[j * stride + k0..], &mut target[k0 * to_stride + j..]);
            if k0 + side <= k && j + side <= columns {
                assert!(
                    from.len() >= (side - 1) * stride + side && to.len() >= (side - 1) * to_stride + side,
                    "transpose: too short"
                );
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: `isa` has found the instruction set, and the square lies within both slices.
                    Isa::Avx512 => unsafe { square(from.as_ptr(), stride, to.as_mut_ptr(), to_stride) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Isa::Avx2 => unsafe { small_square(from.as_ptr(), stride, to.as_mut_ptr(), to_stride) },
                    _ => scalar(from, stride, side, side, to_stride, to),
                }
            } else {
                scalar(from, stride, side.min(k - k0), side.min(columns - j), to_stride, to);
            }
        }
    }
}

fn scalar(from: &[f32], stride: usize, k: usize, columns: usize, to_stride: usize, to: &mut [f32]) {
    for j in 0..columns {
        for (i, value) in from[j * stride..][..k].iter().enumerate() {
            to[i * to_stride + j] = *value;
        }
    }
}

/// Transposes 8 rows of 8 elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn small_square(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    let (mut pairs, mut fours) = ([_mm256_setzero_ps(); 8], [_mm256_setzero_ps(); 8]);
    for i in 0..4 {
        // SAFETY: the caller vouches for 8 rows of 8 elements.
        let (a, b) =
            unsafe { (_mm256_loadu_ps(from.add(2 * i * stride)), _mm256_loadu_ps(from.add((2 * i + 1) * stride))) };
        (pairs[2 * i], pairs[2 * i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    }
    for i in 0..2 {
        let p = &pairs[4 * i..];
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(p[0], p[2]);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(p[0], p[2]);
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(p[1], p[3]);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(p[1], p[3]);
    }
    // A half of `fours[4 i + c]` holds column 4 · half + c of rows 4 i to 4 i + 3.
    for c in 0..4 {
        // SAFETY: the caller vouches for 8 rows of the target.
        unsafe {
            _mm256_storeu_ps(to.add(c * to_stride), _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]));
            _mm256_storeu_ps(to.add((4 + c) * to_stride), _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]));
        }
    }
}

/// Transposes 16 rows of 16 elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
        _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };
    let low = |a: __m512, b: __m512| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    let high = |a: __m512, b: __m512| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    let (mut pairs, mut fours) = ([_mm512_setzero_ps(); 16], [_mm512_setzero_ps(); 16]);
    for i in 0..8 {
        // SAFETY: the caller vouches for 16 rows of 16 elements.
        let (a, b) =
            unsafe { (_mm512_loadu_ps(from.add(2 * i * stride)), _mm512_loadu_ps(from.add((2 * i + 1) * stride))) };
        (pairs[2 * i], pairs[2 * i + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    for i in 0..4 {
        let p = &pairs[4 * i..];
        fours[4 * i] = low(p[0], p[2]);
        fours[4 * i + 1] = high(p[0], p[2]);
        fours[4 * i + 2] = low(p[1], p[3]);
        fours[4 * i + 3] = high(p[1], p[3]);
    }
    // A quarter of `fours[4 i + c]` holds column 4 · quarter + c of rows 4 i to 4 i + 3.
    for c in 0..4 {
        let even = _mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
        let even2 = _mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd = _mm512_shuffle_f32x4::<0xdd>(fours[c], fours[4 + c]);
        let odd2 = _mm512_shuffle_f32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        // SAFETY: the caller vouches for 16 rows of the target.
        unsafe {
            _mm512_storeu_ps(to.add(c * to_stride), _mm512_shuffle_f32x4::<0x88>(even, even2));
            _mm512_storeu_ps(to.add((4 + c) * to_stride), _mm512_shuffle_f32x4::<0x88>(odd, odd2));
            _mm512_storeu_ps(to.add((8 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(even, even2));
            _mm512_storeu_ps(to.add((12 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::LANES;

    #[test]
    fn every_element_finds_its_place_and_the_rest_is_zero() {
        for (k, columns, stride) in [(1, 1, 1), (16, 16, 16), (48, 32, 50), (37, 32, 41), (33, 21, 33), (7, 3, 9)] {
            let source: Vec<f32> = (0..columns * stride).map(|i| i as f32).collect();
            let mut panels = vec![f32::NAN; k * LANES];
            pack_columns(&source, stride, k, columns, &mut panels);
            let width = panel_width();
            for (i, value) in panels.iter().enumerate() {
                let (row, j) = (i % (k * width) / width, i / (k * width) * width + i % width);
                let expected = if j < columns { source[j * stride + row] } else { 0.0 };
                assert_eq!(*value, expected, "k {row}, column {j}");
            }
        }
    }
}
