//! Rows to columns, in squares that fit the registers.

#![expect(unsafe_code, reason = "vector intrinsics")]

use crate::simd::{Isa, LANES, isa};

/// Fills a panel with B(k, j) = `source[j * stride + k]`; columns from `columns` on become zero.
pub(crate) fn pack_columns(source: &[f32], stride: usize, k: usize, columns: usize, panel: &mut [f32]) {
    let panel = &mut panel[..k * LANES];
    assert!(
        columns <= LANES && (columns == 0 || source.len() >= (columns - 1) * stride + k),
        "pack_columns: too short"
    );
    if columns < LANES {
        for row in panel.as_chunks_mut::<LANES>().0 {
            row[columns..].fill(0.0);
        }
    }
    let side = if isa() == Isa::Avx512 { 16 } else { 8 };
    for k0 in (0..k).step_by(side) {
        for j in (0..columns).step_by(side) {
            let (from, to) = (&source[j * stride + k0..], &mut panel[k0 * LANES + j..]);
            #[cfg(target_arch = "x86_64")]
            if isa() == Isa::Avx512 && k0 + side <= k && j + side <= columns {
                // SAFETY: `isa` has found the instruction set, and the square lies within both slices.
                unsafe { square(from.as_ptr(), stride, to.as_mut_ptr()) };
                continue;
            }
            scalar(from, stride, side.min(k - k0), side.min(columns - j), to);
        }
    }
}

fn scalar(from: &[f32], stride: usize, k: usize, columns: usize, to: &mut [f32]) {
    for j in 0..columns {
        for (i, value) in from[j * stride..][..k].iter().enumerate() {
            to[i * LANES + j] = *value;
        }
    }
}

/// Transposes 16 rows of 16 elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const f32, stride: usize, to: *mut f32) {
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
        // SAFETY: the caller vouches for 16 rows of the panel.
        unsafe {
            _mm512_storeu_ps(to.add(c * LANES), _mm512_shuffle_f32x4::<0x88>(even, even2));
            _mm512_storeu_ps(to.add((4 + c) * LANES), _mm512_shuffle_f32x4::<0x88>(odd, odd2));
            _mm512_storeu_ps(to.add((8 + c) * LANES), _mm512_shuffle_f32x4::<0xdd>(even, even2));
            _mm512_storeu_ps(to.add((12 + c) * LANES), _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_finds_its_place_and_the_rest_is_zero() {
        for (k, columns, stride) in [(1, 1, 1), (16, 16, 16), (48, 32, 50), (37, 32, 41), (33, 21, 33), (7, 3, 9)] {
            let source: Vec<f32> = (0..columns * stride).map(|i| i as f32).collect();
            let mut panel = vec![f32::NAN; k * LANES];
            pack_columns(&source, stride, k, columns, &mut panel);
            for (i, value) in panel.iter().enumerate() {
                let (k, j) = (i / LANES, i % LANES);
                let expected = if j < columns { source[j * stride + k] } else { 0.0 };
                assert_eq!(*value, expected, "k {k}, column {j}");
            }
        }
    }
}
