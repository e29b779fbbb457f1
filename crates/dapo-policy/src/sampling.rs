//! Drawing a token from a row of logits.
//!
//! Random numbers are keyed by meaning, (seed, purpose, draw, sample, position), never taken from a shared stream: a
//! completion does not depend on what else is generated beside it.

use crate::error::PolicyError;
use dapo_kernels::logprobs::{RowStats, pick, row_stats_by_block};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;

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
///
/// A penalty changes the logits, the temperature divides them, and of the tokens that `min_p`, `top_k` and `top_p`
/// keep, in this order, one is drawn. The log-prob that is noted is none of that: it is the one in the full softmax of
/// the model's own logits at the temperature, with which training compares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SamplingConfig {
    /// Sampling temperature: logits are divided by it, and log-probs are those at it.
    ///
    /// 0 takes the most probable token; any other temperature is at least 1e-6.
    pub temperature: f32,
    /// Smallest set of tokens whose probability reaches this is kept; 1 keeps all.
    pub top_p: f32,
    /// Number of most probable tokens kept, applied before `top_p`; by default all.
    pub top_k: Option<usize>,
    /// Tokens at least so probable, as a share of the most probable one's probability, are kept, applied before `top_k`; 0
    /// keeps all.
    pub min_p: f32,
    /// Logits of tokens that the prompt or the completion has are divided by this where positive, else multiplied by it; 1
    /// changes none. On a CPU alone.
    pub repetition_penalty: f32,
}

impl Default for SamplingConfig {
    /// The paper's rollouts: temperature 1, nothing cut off.
    fn default() -> Self {
        Self { temperature: 1.0, ..Self::GREEDY }
    }
}

/// Lowest temperature above 0: at a lower one, quotients of logits leave the range of f32.
pub(crate) const LOWEST_TEMPERATURE: f32 = 1e-6;

impl SamplingConfig {
    /// Always the most probable token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, repetition_penalty: 1.0 };

    /// # Errors
    /// When a value is outside its range.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let bad = |field: &str, found: f32, expected: &str| {
            Err(PolicyError::Setting { field: field.into(), found: found.to_string(), expected: expected.into() })
        };
        if self.temperature > 0.0 && self.temperature < LOWEST_TEMPERATURE {
            return bad(
                "temperature",
                self.temperature,
                "0, which takes the most probable token, or at least 0.000001",
            );
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "a finite number of at least 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "a number above 0 and at most 1");
        }
        if self.top_k == Some(0) {
            return bad("top_k", 0.0, "at least 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", self.min_p, "a number from 0 to 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return bad("repetition_penalty", self.repetition_penalty, "a finite number above 0");
        }
        Ok(())
    }

    /// The temperature of the log-probs: the sampling temperature, and 1 for greedy decoding.
    pub(crate) fn logprob_temperature(&self) -> f32 {
        if self.temperature > 0.0 { self.temperature } else { 1.0 }
    }

    /// Whether tokens that are there count less or more than others.
    pub(crate) fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0
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

thread_local! {
    /// Logits under a penalty, for the draws of this thread.
    static PENALIZED: RefCell<Vec<f32>> = RefCell::default();
}

/// What the draws of one sequence remember and work with.
#[derive(Debug)]
pub(crate) struct Draws {
    key: StreamKey,
    /// Tokens of prompt and completion, where they are penalized.
    seen: BTreeSet<u32>,
    sums: Vec<f64>,
}

impl Draws {
    /// For a sequence that continues a prompt.
    pub(crate) fn new(config: &SamplingConfig, key: StreamKey, prompt_ids: &[u32]) -> Self {
        let seen = if config.penalizes() { prompt_ids.iter().copied().collect() } else { BTreeSet::new() };
        Self { key, seen, sums: Vec::new() }
    }

    /// Takes note of tokens that were not drawn.
    pub(crate) fn see(&mut self, config: &SamplingConfig, tokens: &[u32]) {
        if config.penalizes() {
            self.seen.extend(tokens);
        }
    }

    /// Draws the token at `position` of the completion and returns it with its log-prob in the full softmax at the temperature;
    /// `None` where a logit is NaN or infinite, so that nothing can be drawn.
    pub(crate) fn next(&mut self, logits: &[f32], config: &SamplingConfig, position: usize) -> Option<(u32, f32)> {
        let temperature = config.logprob_temperature();
        let stats = row_stats_by_block(logits, temperature, &mut self.sums);
        // Every logit but −∞ enters the entropy, multiplied by its distance from the largest.
        if !(stats.entropy.is_finite() && stats.log_sum.is_finite()) || has_impossible(logits) {
            return None;
        }
        let share = self.key.uniform(position as u64);
        let token = if config.penalizes() {
            PENALIZED.with_borrow_mut(|penalized| {
                penalized.clear();
                penalized.extend_from_slice(logits);
                penalize(penalized, &self.seen, config.repetition_penalty);
                let stats = row_stats_by_block(penalized, temperature, &mut self.sums);
                stats.log_sum.is_finite().then(|| draw(penalized, config, stats, &self.sums, share)).flatten()
            })
        } else {
            draw(logits, config, stats, &self.sums, share)
        }?;
        if config.penalizes() {
            self.seen.insert(token);
        }
        Some((token, stats.logprob(logits[token as usize])))
    }
}

/// Whether a logit is −∞.
fn has_impossible(logits: &[f32]) -> bool {
    logits.chunks(256).any(|chunk| chunk.iter().filter(|x| **x == f32::NEG_INFINITY).count() > 0)
}

/// Divides positive logits of these tokens by the penalty and multiplies the others (Keskar et al. 2019, arXiv
/// 1909.05858, as transformers and vLLM have it).
fn penalize(logits: &mut [f32], tokens: &BTreeSet<u32>, penalty: f32) {
    for token in tokens {
        if let Some(x) = logits.get_mut(*token as usize) {
            *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
        }
    }
}

/// The token for a random number in [0, 1).
fn draw(logits: &[f32], config: &SamplingConfig, stats: RowStats, sums: &[f64], share: f64) -> Option<u32> {
    if config.temperature == 0.0 {
        return logits.iter().position(|x| *x == stats.max).map(|token| token as u32);
    }
    if config.top_k.is_some() || config.top_p < 1.0 || config.min_p > 0.0 {
        let kept = kept_tokens(logits, config, stats.inverse_temperature, stats.max);
        Some(pick_kept(&kept, share))
    } else {
        Some(pick(logits, stats, sums, share) as u32)
    }
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

/// Tokens that survive min-p, then top-k and then top-p, most probable first (ties: lower id), with unnormalised
/// probabilities.
fn kept_tokens(logits: &[f32], config: &SamplingConfig, inverse_temperature: f32, max: f32) -> Vec<(u32, f64)> {
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let weight = |token: u32| f64::from((logits[token as usize] - max) * inverse_temperature).exp();
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if config.min_p > 0.0 {
        tokens.retain(|token| weight(*token) >= f64::from(config.min_p));
    }
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

    fn sample(logits: &[f32], config: &SamplingConfig, key: StreamKey, position: usize) -> Option<(u32, f32)> {
        Draws::new(config, key, &[]).next(logits, config, position)
    }

    fn frequencies(logits: &[f32], config: SamplingConfig, n: u64) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for i in 0..n {
            let (token, _) = sample(logits, &config, key(i / 64), (i % 64) as usize).unwrap();
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
            let (token, _) = sample(&logits, &SamplingConfig::default(), key(i), 0).unwrap();
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
        let (token, logprob) = sample(&logits, &config, key(0), 0).unwrap();
        assert_eq!(token, 1);
        assert!((f64::from(logprob) - (0.643_914_f64).ln()).abs() < 1e-4, "{logprob}");
    }

    /// Which tokens are drawn at all.
    fn drawn(logits: &[f32], config: SamplingConfig) -> Vec<bool> {
        frequencies(logits, config, 5_000).into_iter().map(|frequency| frequency > 0.0).collect()
    }

    #[test]
    fn min_p_keeps_what_has_its_share_of_the_largest_probability_at_the_temperature() {
        // Probabilities are 0.64, 0.24, 0.09, 0.03: shares of the largest are 1, 0.37, 0.14, 0.05.
        let logits = [0.0f32, 3.0, 2.0, 1.0];
        let min_p = |min_p, temperature| drawn(&logits, SamplingConfig { temperature, min_p, ..Default::default() });
        assert_eq!(min_p(0.0, 1.0), [true; 4]);
        assert_eq!(min_p(0.04, 1.0), [true; 4]);
        assert_eq!(min_p(0.06, 1.0), [false, true, true, true]);
        assert_eq!(min_p(0.2, 1.0), [false, true, true, false]);
        // At temperature 2 the shares are their roots.
        assert_eq!(min_p(0.2, 2.0), [true; 4]);
        assert_eq!(min_p(1.0, 1.0), [false, true, false, false]);
        // What is left is drawn in proportion, and its log-prob is that of the full softmax.
        let config = SamplingConfig { min_p: 0.2, ..Default::default() };
        let share = frequencies(&logits, config, 5_000)[1];
        assert!((share - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 0.03, "{share}");
        let logprobs: Vec<f32> = (0..64).map(|i| sample(&logits, &config, key(0), i).unwrap().1).collect();
        assert!(logprobs.iter().any(|logprob| (f64::from(*logprob) - 0.643_914_f64.ln()).abs() < 1e-4));
    }

    #[test]
    fn min_p_comes_before_top_p() {
        // Shares 1, 0.5, 0.2, 0.2: without the last two, 2/3 of what is left is reached by the first.
        let logits = [1.0f32, 0.5, 0.2, 0.2].map(f32::ln);
        let config = SamplingConfig { top_p: 0.66, min_p: 0.3, ..Default::default() };
        assert_eq!(drawn(&logits, config), [true, false, false, false]);
        let alone = SamplingConfig { min_p: 0.0, ..config };
        assert_eq!(drawn(&logits, alone), [true, true, false, false]);
    }

    #[test]
    fn a_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones() {
        // As transformers' RepetitionPenaltyLogitsProcessor: tokens 0 and 2 of the prompt, penalty 2.
        let mut logits = [3.0f32, 2.0, -1.0, 0.0, -3.0];
        penalize(&mut logits, &[0, 2, 3].into(), 2.0);
        assert_eq!(logits, [1.5, 2.0, -2.0, 0.0, -3.0]);
        penalize(&mut logits, &[1, 4].into(), 0.5);
        assert_eq!(logits, [1.5, 4.0, -2.0, 0.0, -1.5]);
    }

    #[test]
    fn a_penalty_counts_prompt_and_completion_and_leaves_log_probs_alone() {
        let config = SamplingConfig { repetition_penalty: 2.0, ..SamplingConfig::GREEDY };
        let logits = [3.0f32, 2.0, 1.6, -1.0];
        let mut draws = Draws::new(&config, key(0), &[0, 0, 3]);
        let (tokens, logprobs): (Vec<u32>, Vec<f32>) =
            (0..4).map(|position| draws.next(&logits, &config, position).unwrap()).unzip();
        // Token 0 is worth 1.5; then 1 is drawn and worth 1, then 2 and worth 0.8.
        assert_eq!(tokens, [1, 2, 0, 0]);
        let plain = row_stats_by_block(&logits, 1.0, &mut Vec::new());
        for (token, logprob) in tokens.iter().zip(logprobs) {
            assert_eq!(logprob, plain.logprob(logits[*token as usize]));
        }
        // A sampled sequence under a mild penalty differs from one without; 1 is no penalty.
        let series = |repetition_penalty| {
            let config = SamplingConfig { repetition_penalty, ..Default::default() };
            let mut draws = Draws::new(&config, key(3), &[1]);
            (0..64).map(|position| draws.next(&logits, &config, position).unwrap().0).collect::<Vec<_>>()
        };
        assert_ne!(series(1.3), series(1.0));
    }

    #[test]
    fn temperatures_near_zero_are_refused_and_the_lowest_is_greedy() {
        let at = |temperature| SamplingConfig { temperature, ..Default::default() };
        for low in [f32::MIN_POSITIVE, 1e-40, 9e-7] {
            let error = at(low).validate().unwrap_err().to_string();
            assert!(
                error.ends_with("expected 0, which takes the most probable token, or at least 0.000001"),
                "{error}"
            );
        }
        at(LOWEST_TEMPERATURE).validate().unwrap();
        at(0.0).validate().unwrap();
        let (token, logprob) = sample(&[-500.0, 3.0, 800.0], &at(LOWEST_TEMPERATURE), key(0), 0).unwrap();
        assert_eq!((token, logprob), (2, 0.0));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = SamplingConfig::default();
        for (config, expected) in [
            (SamplingConfig { min_p: -0.1, ..config }, "min_p is -0.1, expected a number from 0 to 1"),
            (SamplingConfig { min_p: 1.5, ..config }, "min_p is 1.5, expected a number from 0 to 1"),
            (
                SamplingConfig { repetition_penalty: 0.0, ..config },
                "repetition_penalty is 0, expected a finite number above 0",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        assert!(SamplingConfig { repetition_penalty: f32::NAN, ..config }.validate().is_err());
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(sample(&[1.0, 4.0, 4.0], &SamplingConfig::GREEDY, key(0), 0).unwrap().0, 1);
    }

    #[test]
    fn draws_nothing_where_a_single_logit_is_not_finite() {
        let top_p = SamplingConfig { top_p: 0.5, ..SamplingConfig::default() };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 31, 700, 1500, 2499] {
                let mut logits: Vec<f32> = (0..2500).map(|i| (i as f32).sin()).collect();
                logits[at] = bad;
                for config in [SamplingConfig::GREEDY, SamplingConfig::default(), top_p] {
                    assert_eq!(sample(&logits, &config, key(0), 0), None, "{bad} at {at}");
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
