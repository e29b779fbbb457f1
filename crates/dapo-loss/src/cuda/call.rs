//! The kernels' arguments and grids, the same for a device and for the emulation.

use super::SUMS;
use crate::{
    config::LossConfig,
    error::{LossError, expect_config},
    kl::KlEstimator,
    policy::PolicyLoss,
};

const THREADS: u32 = 256;
const TOKENS_A_BLOCK: usize = 2048;

/// Addresses of the arrays; 0 for those that are not given.
#[derive(Clone, Copy, Default)]
pub(super) struct Addresses {
    pub(super) logprobs: u64,
    pub(super) old_logprobs: u64,
    pub(super) reference: u64,
    pub(super) entropies: u64,
    pub(super) advantages: u64,
    pub(super) weights: u64,
    pub(super) d_logprobs: u64,
    pub(super) d_entropies: u64,
    pub(super) partial: u64,
    pub(super) totals: u64,
}

/// A launch: arguments by their bytes, the lowest first, and their sizes.
pub(super) struct Call {
    pub(super) kernel: &'static str,
    pub(super) blocks: u32,
    pub(super) threads: u32,
    pub(super) values: Vec<u64>,
    pub(super) sizes: Vec<usize>,
}

impl Call {
    fn new(kernel: &'static str, blocks: u32, threads: u32) -> Self {
        Self { kernel, blocks, threads, values: Vec::new(), sizes: Vec::new() }
    }

    fn push(mut self, value: u64, size: usize) -> Self {
        self.values.push(value);
        self.sizes.push(size);
        self
    }

    fn pointers(self, addresses: &[u64]) -> Self {
        addresses.iter().fold(self, |call, address| call.push(*address, 8))
    }

    fn int(self, value: i32) -> Self {
        self.push(u64::from(value as u32), 4)
    }

    fn floats(self, values: &[f32]) -> Self {
        values.iter().fold(self, |call, value| call.push(u64::from(value.to_bits()), 4))
    }
}

/// Length of the scratch, in f64.
pub(super) fn partial_len(tokens: usize) -> usize {
    tokens.div_ceil(TOKENS_A_BLOCK) * SUMS
}

/// The two launches, one after the other; none without tokens.
pub(super) fn calls(config: &LossConfig, at: &Addresses, tokens: usize) -> Result<Vec<Call>, LossError> {
    config.validate()?;
    let PolicyLoss::Ppo { clip, dual_clip } = config.policy_loss else {
        expect_config(false, "policy_loss", config.policy_loss.name(), "ppo, the only one on a device")?;
        return Ok(Vec::new());
    };
    let given = if config.truncated_importance.is_some() { "given" } else { "none" };
    expect_config(given == "none", "truncated_importance", given, "none on a device")?;
    if tokens == 0 {
        return Ok(Vec::new());
    }
    let estimator = match config.kl.estimator {
        KlEstimator::K1 => 1,
        KlEstimator::K2 => 2,
        KlEstimator::K3 => 3,
        KlEstimator::Abs => 4,
    };
    let blocks = tokens.div_ceil(TOKENS_A_BLOCK);
    let reference = if config.kl.coef == 0.0 { 0 } else { at.reference };
    let inputs = [at.logprobs, at.old_logprobs, reference, at.entropies, at.advantages, at.weights];
    let forward = Call::new("policy_loss_forward", blocks as u32, THREADS)
        .pointers(&inputs)
        .pointers(&[at.d_logprobs, at.d_entropies, at.partial])
        .int(tokens as i32)
        .floats(&[clip.low, clip.high, dual_clip.unwrap_or(f32::INFINITY), config.kl.coef])
        .int(estimator)
        .int(i32::from(config.kl.times_ratio))
        .floats(&[config.entropy_coef]);
    let totals = Call::new("policy_loss_totals", 1, 32 * SUMS as u32)
        .pointers(&[at.partial])
        .int(blocks as i32)
        .pointers(&[at.totals]);
    Ok(vec![forward, totals])
}
