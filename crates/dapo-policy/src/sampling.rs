//! Drawing a token from a row of logits.
//!
//! Random numbers are keyed by meaning, (seed, purpose, draw, sample, position), never taken from a shared stream: a
//! completion does not depend on what else is generated beside it.

use crate::error::PolicyError;
use dapo_kernels::logprobs::{pick, row_stats_by_block};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What random numbers are for: streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Rollouts for training.
    Rollout,
    /// Evaluation.
    Evaluation,
    /// Samples shown to people.
    Preview,
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SamplingConfig {
    /// Sampling temperature: logits are divided by it, and log-probs are those at it; 0 takes the most probable token.
    pub temperature: f32,
    /// Smallest set of tokens whose probability reaches this is kept; 1 keeps all.
    pub top_p: f32,
    /// Number of most probable tokens kept, applied before `top_p`; by default all.
    pub top_k: Option<usize>,
}

impl Default for SamplingConfig {
    /// The paper's rollouts: temperature 1, nothing cut off.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: None }
    }
}

impl SamplingConfig {
    /// Always the most probable token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, top_k: None };

    /// # Errors
    /// When a value is outside its range.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let bad = |field: &str, found: f32, expected: &str| {
            Err(PolicyError::Setting { field: field.into(), found: found.to_string(), expected: expected.into() })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "a finite number of at least 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "a number above 0 and at most 1");
        }
        if self.top_k == Some(0) {
            return bad("top_k", 0.0, "at least 1");
        }
        Ok(())
    }

    /// The temperature of the log-probs: the sampling temperature, and 1 for greedy decoding.
    pub(crate) fn logprob_temperature(&self) -> f32 {
        if self.temperature > 0.0 { self.temperature } else { 1.0 }
    }
}

/// Identifies the stream of one completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) seed: u64,
    pub(crate) purpose: Purpose,
    pub(crate) draw: u64,
    pub(crate) sample: u64,
}

impl StreamKey {
    /// A number in [0, 1) for the token at `position` of the completion.
    fn uniform(self, position: u64) -> f64 {
        let mut key = [0u8; 32];
        let words = [self.seed, self.purpose as u64, self.draw, self.sample];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(position);
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws a token and returns it with its log-prob in the full softmax at the temperature; `None` where a logit is NaN or
/// infinite, so that nothing can be drawn. `sums` is memory to work with.
pub(crate) fn sample(
    logits: &[f32],
    config: &SamplingConfig,
    key: StreamKey,
    position: u64,
    sums: &mut Vec<f64>,
) -> Option<(u32, f32)> {
    let stats = row_stats_by_block(logits, config.logprob_temperature(), sums);
    // Every logit enters the entropy, multiplied by its distance from the largest: one that is not finite shows there.
    if !(stats.entropy.is_finite() && stats.log_sum.is_finite()) {
        return None;
    }
    if config.temperature == 0.0 {
        let token = logits.iter().position(|x| *x == stats.max)?;
        return Some((token as u32, stats.logprob(stats.max)));
    }
    let share = key.uniform(position);
    let token = if config.top_k.is_some() || config.top_p < 1.0 {
        let kept = kept_tokens(logits, config, stats.inverse_temperature, stats.max);
        pick_kept(&kept, share)
    } else {
        pick(logits, stats, sums, share) as u32
    };
    Some((token, stats.logprob(logits[token as usize])))
}

/// The first token at which the running sum exceeds a share of the whole.
fn pick_kept(kept: &[(u32, f64)], share: f64) -> u32 {
    let threshold = share * kept.iter().map(|(_, weight)| weight).sum::<f64>();
    let (mut sum, mut last) = (0.0, 0);
    for (token, weight) in kept.iter().filter(|(_, weight)| *weight > 0.0) {
        sum += weight;
        last = *token;
        if sum > threshold {
            break;
        }
    }
    last
}

/// Tokens that survive top-k and then top-p, most probable first (ties: lower id), with unnormalised probabilities.
fn kept_tokens(logits: &[f32], config: &SamplingConfig, inverse_temperature: f32, max: f32) -> Vec<(u32, f64)> {
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let weight = |token: u32| f64::from((logits[token as usize] - max) * inverse_temperature).exp();
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if let Some(k) = config.top_k
        && (1..tokens.len()).contains(&k)
    {
        tokens.select_nth_unstable_by(k - 1, order);
        tokens.truncate(k);
    }
    let goal = f64::from(config.top_p) * tokens.iter().map(|t| weight(*t)).sum::<f64>();
    // Sort only as many of the most probable tokens as are needed.
    let mut sorted = tokens.len().min(256);
    loop {
        if sorted < tokens.len() {
            tokens.select_nth_unstable_by(sorted - 1, order);
        }
        tokens[..sorted].sort_unstable_by(order);
        let (mut kept, mut sum) = (Vec::new(), 0.0);
        for token in &tokens[..sorted] {
            sum += weight(*token);
            kept.push((*token, weight(*token)));
            if config.top_p < 1.0 && sum >= goal {
                return kept;
            }
        }
        if sorted == tokens.len() {
            return kept;
        }
        sorted = tokens.len().min(sorted * 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sample: u64) -> StreamKey {
        StreamKey { seed: 1, purpose: Purpose::Rollout, draw: 2, sample }
    }

    fn frequencies(logits: &[f32], config: SamplingConfig, n: u64) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for i in 0..n {
            let (token, _) = sample(logits, &config, key(i / 64), i % 64, &mut Vec::new()).unwrap();
            counts[token as usize] += 1.0 / n as f64;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_softmax_at_the_temperature() {
        let logits = [0.0f32, 1.0, 2.0, -1.0, 0.5];
        for temperature in [0.5, 1.0, 2.0] {
            let config = SamplingConfig { temperature, ..Default::default() };
            let weights: Vec<f64> = logits.iter().map(|x| f64::from(x / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (got, weight) in frequencies(&logits, config, 40_000).iter().zip(&weights) {
                assert!((got - weight / total).abs() < 0.012, "{got} {}", weight / total);
            }
        }
    }

    #[test]
    fn draws_from_a_large_vocabulary_follow_its_probabilities() {
        // Weight 0 (to f32), 1, 2 or 3 in turn, over several blocks.
        let n = 2_500;
        let logits: Vec<f32> = (0..n).map(|i| if i % 4 == 0 { -1e6 } else { ((i % 4) as f32).ln() }).collect();
        let mut blocks = [[0.0f64; 4]; 3];
        let draws = 60_000;
        for i in 0..draws {
            let (token, _) = sample(&logits, &SamplingConfig::default(), key(i), 0, &mut Vec::new()).unwrap();
            blocks[token as usize / 1024][token as usize % 4] += 1.0 / draws as f64;
        }
        for (block, size) in blocks.iter().zip([1024.0, 1024.0, 452.0]) {
            for (weight, share) in block.iter().enumerate() {
                let expected = weight as f64 / 6.0 * size / f64::from(n);
                assert!((share - expected).abs() < 0.008, "{share} {expected}");
            }
            assert_eq!(block[0], 0.0);
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail_and_leave_the_log_prob_alone() {
        let logits = [0.0f32, 3.0, 2.0, 1.0];
        let top_k = frequencies(&logits, SamplingConfig { top_k: Some(2), ..Default::default() }, 5_000);
        assert_eq!((top_k[0], top_k[3]), (0.0, 0.0));
        assert!((top_k[1] - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 0.03);
        // Probabilities are 0.64, 0.24, 0.09, 0.03: 0.8 needs the first two.
        let top_p = frequencies(&logits, SamplingConfig { top_p: 0.8, ..Default::default() }, 5_000);
        assert!(top_p[2] > 0.2 && top_p[3] == 0.0 && top_p[0] == 0.0);
        let config = SamplingConfig { top_k: Some(1), ..Default::default() };
        let (token, logprob) = sample(&logits, &config, key(0), 0, &mut Vec::new()).unwrap();
        assert_eq!(token, 1);
        assert!((f64::from(logprob) - (0.643_914_f64).ln()).abs() < 1e-4, "{logprob}");
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(sample(&[1.0, 4.0, 4.0], &SamplingConfig::GREEDY, key(0), 0, &mut Vec::new()).unwrap().0, 1);
    }

    #[test]
    fn draws_nothing_where_a_single_logit_is_not_finite() {
        let top_p = SamplingConfig { top_p: 0.5, ..SamplingConfig::default() };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 31, 700, 1500, 2499] {
                let mut logits: Vec<f32> = (0..2500).map(|i| (i as f32).sin()).collect();
                logits[at] = bad;
                for config in [SamplingConfig::GREEDY, SamplingConfig::default(), top_p] {
                    assert_eq!(sample(&logits, &config, key(0), 0, &mut Vec::new()), None, "{bad} at {at}");
                }
            }
        }
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = key(0);
        let others = [
            (StreamKey { seed: 9, ..base }, 0),
            (StreamKey { purpose: Purpose::Evaluation, ..base }, 0),
            (StreamKey { draw: 3, ..base }, 0),
            (key(1), 0),
            (base, 1),
        ];
        for (other, position) in others {
            assert_ne!(base.uniform(0), other.uniform(position));
        }
        assert_eq!(base.uniform(7), key(0).uniform(7));
    }
}
