//! `e^x` in f32 as plain multiplications and additions, so that loops over it vectorise.
//!
//! ```text
//! x = n·ln 2 + r,  n = round(x / ln 2),  |r| ≤ ln 2 / 2
//! e^x = 2^n · (1 + r + r²·q(r))
//! ```
//!
//! q interpolates (e^r − 1 − r)/r² at Chebyshev nodes with degree 4; the error of the polynomial is 1.1e-8, that of the
//! whole about one unit in the last place. No fused multiply-add is used: every instruction set gives the same bits.
#![expect(clippy::inline_always, reason = "must inline into functions compiled for wider vectors")]

use std::f32::consts::LOG2_E;

/// ln 2 in two parts; the first has 15 significant bits, so that its product with a small integer is exact.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;
/// 1.5·2²³: adding it rounds a small float to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x` for |x| ≤ 80, and exactly 1 at 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let q = 0.001_392_621_3;
    let q = q * r + 0.008_363_203;
    let q = q * r + 0.041_666_556;
    let q = q * r + 0.166_665_76;
    let q = q * r + 0.5;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (1.0 + (r + (r * r) * q)) * power_of_two
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_is_within_two_units_in_the_last_place_of_f64() {
        let mut worst = 0.0_f64;
        for i in -800_000..=800_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 1.6e-7, "relative error {worst:e}");
    }

    #[test]
    fn exp_of_zero_is_exactly_one() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
    }
}
