//! One row of logits: log-sum-exp, entropy, and the gradient of both.

use crate::simd::{LANES, dispatch, exp, fold, maximum, mul_add};

/// Elements summed in f32 before the sum continues in f64.
const BLOCK: usize = 32 * LANES;

/// The softmax of a row of logits at a temperature, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// 1 / temperature.
    pub inverse_temperature: f32,
    /// Largest logit (not divided by the temperature).
    pub max: f32,
    /// ln Σ e^((logit − max) / temperature).
    pub log_sum: f32,
    /// −Σ p ln p, in nats.
    pub entropy: f32,
}

impl RowStats {
    /// ln p of a token with this logit.
    pub fn logprob(&self, logit: f32) -> f32 {
        (logit - self.max) * self.inverse_temperature - self.log_sum
    }
}

/// e^z and z; of a token that is impossible, whose z is −∞, zeros: p ln p tends to 0 with p.
#[inline(always)]
fn weighed<const FMA: bool>(z: f32) -> (f32, f32) {
    let e = exp::<FMA>(z);
    if z == f32::NEG_INFINITY { (0.0, 0.0) } else { (e, z) }
}

#[inline(always)]
fn row_stats_body<const FMA: bool>(logits: &[f32], temperature: f32, block_sums: Option<&mut Vec<f64>>) -> RowStats {
    let inverse_temperature = 1.0 / temperature;
    let max = maximum(logits);
    let (mut sum, mut weighted) = (0.0f64, 0.0f64);
    let mut none = Vec::new();
    let (block_sums, wanted) = block_sums.map_or((&mut none, false), |sums| (sums, true));
    block_sums.clear();
    for block in logits.chunks(BLOCK) {
        let (mut sums, mut products) = ([0.0f32; LANES], [0.0f32; LANES]);
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for l in 0..LANES {
                let (e, z) = weighed::<FMA>((chunk[l] - max) * inverse_temperature);
                sums[l] += e;
                products[l] = mul_add::<FMA>(e, z, products[l]);
            }
        }
        for (l, logit) in chunks.remainder().iter().enumerate() {
            let (e, z) = weighed::<FMA>((logit - max) * inverse_temperature);
            sums[l] += e;
            products[l] = mul_add::<FMA>(e, z, products[l]);
        }
        let block_sum = f64::from(fold(sums));
        if wanted {
            block_sums.push(block_sum);
        }
        sum += block_sum;
        weighted += f64::from(fold(products));
    }
    let log_sum = sum.ln();
    RowStats { inverse_temperature, max, log_sum: log_sum as f32, entropy: (log_sum - weighted / sum) as f32 }
}

dispatch! {
    fn row_stats_and_sums(logits: &[f32], temperature: f32, block_sums: Option<&mut Vec<f64>>) -> RowStats = row_stats_body;
}

/// The statistics of the softmax of `logits / temperature`.
///
/// A logit of −∞ is a token of probability 0, which adds nothing to the entropy. Where one is NaN or +∞, or all are −∞, the
/// entropy is NaN.
pub fn row_stats(logits: &[f32], temperature: f32) -> RowStats {
    row_stats_and_sums(logits, temperature, None)
}

/// The same, and Σ e^((logit − max) / temperature) of every run of 1,024 logits, in place of what `block_sums` held.
pub fn row_stats_by_block(logits: &[f32], temperature: f32, block_sums: &mut Vec<f64>) -> RowStats {
    row_stats_and_sums(logits, temperature, Some(block_sums))
}

/// The index at which the running sum of e^((logit − max) / temperature) exceeds `share` of the whole, for `share` in
/// [0, 1): a draw from the softmax. Only one block of logits is looked at.
pub fn pick(logits: &[f32], stats: RowStats, block_sums: &[f64], share: f64) -> usize {
    let mut rest = share * block_sums.iter().sum::<f64>();
    let mut block = 0;
    // What rounding leaves over falls to the last block that has any weight.
    for (i, sum) in block_sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
        block = i;
        if rest < *sum {
            break;
        }
        rest -= sum;
    }
    let start = block * BLOCK;
    let mut weights = [0.0; BLOCK];
    let weights = &mut weights[..BLOCK.min(logits.len() - start)];
    weights.copy_from_slice(&logits[start..start + weights.len()]);
    exponentials(weights, stats);
    let mut sum = 0.0;
    let mut last = start;
    for (i, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > LEAST) {
        sum += f64::from(*weight);
        last = start + i;
        if sum > rest {
            break;
        }
    }
    last
}

/// What the exponential gives for logits that are out of reach (negative infinity): no such token is drawn.
const LEAST: f32 = 1.3e-38;

#[inline(always)]
fn exponentials_body<const FMA: bool>(row: &mut [f32], stats: RowStats) {
    for x in row.iter_mut() {
        *x = exp::<FMA>((*x - stats.max) * stats.inverse_temperature);
    }
}

dispatch! {
    fn exponentials(row: &mut [f32], stats: RowStats) = exponentials_body;
}

/// d/dlogit of `dlogprob · ln p(target) + dentropy · entropy`, in the logits' place:
/// (dlogprob·(1[v = target] − p) − dentropy·p·(ln p + entropy)) / temperature.
#[inline(always)]
fn logits_gradient_body<const FMA: bool>(
    row: &mut [f32],
    stats: RowStats,
    target: usize,
    dlogprob: f32,
    dentropy: f32,
) {
    let RowStats { inverse_temperature, max, log_sum, entropy } = stats;
    for x in row.iter_mut() {
        let logprob = (*x - max) * inverse_temperature - log_sum;
        let p = exp::<FMA>(logprob);
        *x = -p * mul_add::<FMA>(dentropy, logprob + entropy, dlogprob) * inverse_temperature;
    }
    row[target] += dlogprob * inverse_temperature;
}

dispatch! {
    pub(super) fn logits_gradient(
        row: &mut [f32],
        stats: RowStats,
        target: usize,
        dlogprob: f32,
        dentropy: f32,
    ) = logits_gradient_body;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(logits: &[f32], temperature: f32, target: usize) -> (f64, f64) {
        let z: Vec<f64> = logits.iter().map(|x| f64::from(*x) / f64::from(temperature)).collect();
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let lse = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
        (z[target] - lse, -z.iter().map(|z| (z - lse).exp() * (z - lse)).sum::<f64>())
    }

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1013) as f32 / 100.0).sin() * 6.0).collect()
    }

    #[test]
    fn agrees_with_f64_at_several_sizes_and_temperatures() {
        for n in [1, 31, 64, 1023, 1025, 50_001] {
            for temperature in [0.3, 1.0, 1.7] {
                let x = logits(n);
                let stats = row_stats(&x, temperature);
                let (logprob, entropy) = reference(&x, temperature, n / 2);
                assert!((f64::from(stats.logprob(x[n / 2])) - logprob).abs() < 5e-6 * logprob.abs().max(1.0));
                assert!((f64::from(stats.entropy) - entropy).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn impossible_tokens_add_nothing_to_the_sums() {
        for n in [3, 64, 2500] {
            let possible = logits(n);
            let mut with = possible.clone();
            // Between the others, and a whole block of them.
            for at in [n, n / 2, 0] {
                with.insert(at, f32::NEG_INFINITY);
            }
            with.extend([f32::NEG_INFINITY; 1100]);
            let (stats, expected) = (row_stats(&with, 0.7), row_stats(&possible, 0.7));
            assert!((stats.entropy - expected.entropy).abs() < 1e-5, "{} {}", stats.entropy, expected.entropy);
            assert!((stats.log_sum - expected.log_sum).abs() < 1e-5);
            assert_eq!(stats.logprob(f32::NEG_INFINITY), f32::NEG_INFINITY);
        }
        assert_eq!(row_stats(&[f32::NEG_INFINITY, 2.0], 1.0).entropy, 0.0);
        for bad in [&[f32::NEG_INFINITY; 5][..], &[0.0, f32::NAN], &[f32::INFINITY, f32::NEG_INFINITY]] {
            let stats = row_stats(bad, 1.0);
            assert!(stats.entropy.is_nan(), "{bad:?}: {stats:?}");
        }
    }

    #[test]
    fn gradient_agrees_with_central_differences() {
        let (n, target, temperature) = (45, 11, 0.7);
        let x = logits(n);
        let (a, b) = (1.3f32, -0.4f32);
        let mut gradient = x.clone();
        logits_gradient(&mut gradient, row_stats(&x, temperature), target, a, b);
        for i in 0..n {
            let f = |delta: f32| {
                let mut y = x.clone();
                y[i] += delta;
                let (logprob, entropy) = reference(&y, temperature, target);
                f64::from(a) * logprob + f64::from(b) * entropy
            };
            let difference = (f(0.007_812_5) - f(-0.007_812_5)) / 0.015_625;
            assert!((f64::from(gradient[i]) - difference).abs() < 2e-4, "{i}: {} {difference}", gradient[i]);
        }
    }
}
