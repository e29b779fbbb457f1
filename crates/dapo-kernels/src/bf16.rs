//! Weights in bf16: the upper half of an f32, so that widening is exact.

use crate::simd::{dispatch, has_bf16_products};
use rayon::prelude::*;

/// Values of one task.
const BLOCK: usize = 1 << 16;

/// The 16 bits of the nearest bf16, of two equally near ones the even one; NaN stays NaN.
#[inline(always)]
fn bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    // Adding could carry a NaN's fraction into its exponent.
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits >> 16 | 0x40 } else { nearest }
}

/// Two values in one word, `low` in the lower half.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> u32 {
    bits(high) << 16 | bits(low)
}

/// The value in a word's lower half.
#[inline(always)]
pub(crate) fn low(word: u32) -> f32 {
    f32::from_bits(word << 16)
}

/// The value in a word's upper half.
#[inline(always)]
pub(crate) fn high(word: u32) -> f32 {
    f32::from_bits(word & 0xffff_0000)
}

/// Whether this CPU multiplies numbers in bf16 (AVX512-BF16). [Products](crate::matmul::Products) in bf16 are slow
/// without it, and those of subnormal numbers may differ.
pub fn has_products() -> bool {
    has_bf16_products()
}

#[inline(always)]
fn pair_neighbours_body<const FMA: bool>(values: &[f32], words: &mut [f32]) {
    let (pairs, rest) = values.as_chunks::<2>();
    for (word, [low, high]) in words.iter_mut().zip(pairs) {
        *word = f32::from_bits(pair(*low, *high));
    }
    if let [last] = rest {
        words[pairs.len()] = f32::from_bits(pair(*last, 0.0));
    }
}

dispatch! {
    /// Two neighbours in a word, the last of an odd number with zero.
    pub(crate) fn pair_neighbours(values: &[f32], words: &mut [f32]) = pair_neighbours_body;
}

#[inline(always)]
fn pair_rows_body<const FMA: bool>(first: &[f32], second: &[f32], words: &mut [f32]) {
    if second.is_empty() {
        words.iter_mut().zip(first).for_each(|(word, low)| *word = f32::from_bits(pair(*low, 0.0)));
        return;
    }
    for ((word, low), high) in words.iter_mut().zip(first).zip(second) {
        *word = f32::from_bits(pair(*low, *high));
    }
}

dispatch! {
    /// Two values of the same place in a word; no second row stands for zeros.
    pub(crate) fn pair_rows(first: &[f32], second: &[f32], words: &mut [f32]) = pair_rows_body;
}

#[inline(always)]
fn round_body<const FMA: bool>(values: &mut [f32]) {
    for value in values {
        *value = low(bits(*value));
    }
}

dispatch! {
    fn round_block(values: &mut [f32]) = round_body;
}

/// Rounds every value to the nearest bf16, of two equally near ones to the even one, as torch and Candle do. Beyond the
/// largest bf16 it becomes infinite; NaN stays NaN.
///
/// ```
/// let mut values = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.1];
/// dapo_kernels::bf16::round(&mut values);
/// assert_eq!(values, [1.0, 1.0, 1.0 + 4.0 / 256.0, -0.100_097_656_25]);
/// ```
pub fn round(values: &mut [f32]) {
    values.par_chunks_mut(BLOCK).for_each(round_block);
}

#[inline(always)]
fn to_bits_body<const FMA: bool>(values: &[f32], rounded: &mut [u16]) {
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = bits(*value) as u16;
    }
}

dispatch! {
    fn to_bits_block(values: &[f32], rounded: &mut [u16]) = to_bits_body;
}

/// The bits of the values, rounded as by [`round`], which [`from_bits`] widens.
///
/// # Panics
/// When the lengths differ.
///
/// ```
/// let (mut bits, mut values) = ([0; 2], [0.0; 2]);
/// dapo_kernels::bf16::to_bits(&[1.0, -0.1], &mut bits);
/// dapo_kernels::bf16::from_bits(&bits, &mut values);
/// assert_eq!((bits[0], values), (0x3f80, [1.0, -0.100_097_656_25]));
/// ```
pub fn to_bits(values: &[f32], rounded: &mut [u16]) {
    assert_eq!(values.len(), rounded.len(), "to_bits: lengths differ");
    rounded.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(bits, values)| to_bits_block(values, bits));
}

/// The values that have these bits in bf16.
///
/// # Panics
/// When the lengths differ.
pub fn from_bits(rounded: &[u16], values: &mut [f32]) {
    assert_eq!(values.len(), rounded.len(), "from_bits: lengths differ");
    values.par_chunks_mut(BLOCK).zip(rounded.par_chunks(BLOCK)).for_each(|(values, rounded)| {
        for (value, rounded) in values.iter_mut().zip(rounded) {
            *value = low(u32::from(*rounded));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_the_reference_implementation() {
        // Every upper half with lower halves around the middle, where ties and carries are.
        for upper in 0..=0xffffu32 {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(upper << 16 | lower);
                let expected = half::bf16::from_f32(x);
                let mut rounded = [x];
                round(&mut rounded);
                let (mut bits, mut widened) = ([0], [x]);
                to_bits(&[x], &mut bits);
                from_bits(&bits, &mut widened);
                assert_eq!(widened[0].to_bits(), rounded[0].to_bits(), "{x:e}");
                let (got, word) = (rounded[0], pair(x, -x));
                assert_eq!(got.is_nan(), expected.is_nan(), "{x:e}");
                if !x.is_nan() {
                    assert_eq!(got.to_bits(), expected.to_f32().to_bits(), "{x:e}");
                    assert_eq!((low(word).to_bits(), high(word).to_bits()), (got.to_bits(), (-got).to_bits()));
                }
            }
        }
    }
}
