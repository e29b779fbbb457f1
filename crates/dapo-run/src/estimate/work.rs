//! Tokens and updates of a step.

use super::{DataSizes, Shape};
use crate::settings::RunConfig;
use dapo_sampler::GenBatch;
use serde::Serialize;

/// The share of informative groups that expectations rest on; dynamic sampling starts with the same guess.
const KEEP_RATE: f64 = 0.5;

/// Memory of a completion's record, and of each of its tokens: id, log-probs, text; about.
const BYTES_A_COMPLETION: f64 = 512.0;
const BYTES_A_TOKEN: f64 = 20.0;

/// Memory of a problem with its columns, and of each token of its prompt; about.
const BYTES_A_PROBLEM: f64 = 2048.0;
const BYTES_A_PROMPT_TOKEN: f64 = 16.0;

/// Tokens and updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Steps of the run.
    pub steps: u64,
    /// Optimiser updates of a step.
    pub updates: u64,
    /// Prompts of the first round of a step.
    pub prompts_a_round: u64,
    /// Completions of each.
    pub completions_a_prompt: u64,
    /// Completions that grow at a time in the largest round, each with room for its full length.
    pub at_a_time: u64,
    /// Completions that grow at a time in an evaluation on a CPU; 0 without.
    pub evaluated_at_a_time: u64,
    /// Rounds of a step when half of the groups are informative.
    pub rounds_expected: u64,
    /// Rounds of a step at most; `None`: as many as one pass over the data takes.
    pub rounds_at_most: Option<u64>,
    /// Tokens generated in a step when half of the groups are informative and every completion has full length.
    pub tokens_expected: u64,
    /// Tokens generated in a step at most; `None`: the number of problems is not known.
    pub tokens_at_most: Option<u64>,
    /// Tokens trained on in a step at most, prompts not counted.
    pub tokens_trained: u64,
    /// Tokens of a prompt at most.
    pub prompt: u64,
    /// Memory of the problems to train on, in bytes; 0 where their number is not known.
    pub problem_bytes: u64,
    /// Memory of a step's completions at most, in bytes: with unlimited rounds, those expected.
    pub completion_bytes: u64,
    /// Memory of an evaluation's completions, in bytes; of one problem where their number is not known.
    pub evaluation_bytes: u64,
}

/// Rounds and prompts of a step that draws what is missing, between `least` and `most` prompts at a time, when half of the
/// groups are kept; the last quarter of the permitted rounds draws as many as should fill the batch.
fn adaptive_rounds(train_batch: f64, least: f64, most: f64, round_limit: f64) -> (f64, f64) {
    // Rounds of the largest size fill the batch steadily; after them each one halves what is missing.
    let full = ((train_batch - most).max(0.0) / (most * KEEP_RATE)).ceil().min(round_limit);
    let (mut rounds, mut prompts) = (full, full * most);
    let mut missing = train_batch - prompts * KEEP_RATE;
    while (missing >= 1.0 || rounds == 0.0) && rounds < round_limit {
        let is_late = 4.0 * (rounds + 1.0) > 3.0 * round_limit;
        let wanted = if is_late { missing / KEEP_RATE } else { missing };
        let drawn = wanted.max(least).min(most);
        rounds += 1.0;
        prompts += drawn;
        missing -= drawn * KEEP_RATE;
    }
    (rounds, prompts)
}

impl Work {
    /// Sums and products are of 64-bit floating point, so that absurd settings give large figures, not wrong ones.
    pub(super) fn of(config: &RunConfig, data: DataSizes, prompt: usize, shape: &Shape) -> Self {
        let (sampler, rollout) = (&config.sampler, &config.rollout);
        let train_batch = sampler.train_batch as f64;
        let needed = if sampler.enabled { (train_batch / KEEP_RATE).ceil() } else { train_batch };
        let least = sampler.gen_batch_min as f64;
        let (first, most) = match sampler.gen_batch {
            _ if !sampler.enabled => (train_batch, train_batch),
            GenBatch::Fixed(prompts) => (prompts as f64, prompts as f64),
            GenBatch::Adaptive => {
                let most = (sampler.most_prompts() as f64).max(least);
                // A single round is the last one, and must fill the batch.
                let wanted = if sampler.max_gen_rounds == 1 { needed } else { train_batch };
                (wanted.max(least).min(most), most)
            }
        };
        let first = first.max(1.0);
        let rounds_at_most = match sampler.max_gen_rounds {
            _ if !sampler.enabled => Some(1),
            0 => None,
            rounds => Some(u64::from(rounds)),
        };
        let round_limit = rounds_at_most.map_or(f64::MAX, |most| most as f64);
        let adaptive = sampler.enabled && sampler.gen_batch == GenBatch::Adaptive;
        let (rounds_expected, prompts_expected) = if adaptive {
            adaptive_rounds(train_batch, least, most, round_limit)
        } else {
            let rounds = (needed / first).ceil().max(1.0).min(round_limit);
            (rounds, rounds * first)
        };
        let completions_a_prompt =
            rollout.group_size.max(sampler.per_prompt.map_or(0, |per_prompt| per_prompt.max_samples)) as f64;
        let full_length = prompt as f64 + rollout.max_new_tokens as f64;
        let cache_mib = match rollout.cache_mib {
            None if shape.gpu => f64::INFINITY,
            None => 2048.0,
            Some(mib) => mib as f64,
        };
        let room = |length: f64| (cache_mib * 1_048_576.0 / shape.cache(length).max(1.0)).floor().max(1.0);
        let at_a_time =
            |completions: f64, length: f64| completions.min(room(length)).min(shape.most_at_a_time()) as u64;
        let longest = config.eval.max_new_tokens.unwrap_or(rollout.max_new_tokens);
        let evaluated = config.eval.limit.map_or(f64::MAX, |limit| limit as f64 * config.eval.samples as f64);
        let tokens = |prompts: f64| (prompts * completions_a_prompt * rollout.max_new_tokens as f64) as u64;
        // Without a limit on rounds, the last one begins before the data are through.
        let prompts_at_most = match rounds_at_most {
            Some(rounds) => Some(rounds as f64 * most),
            None => data.problems.map(|problems| problems as f64 + most - 1.0),
        };
        Self {
            steps: config.train.steps,
            updates: updates_a_step(config),
            prompts_a_round: first as u64,
            completions_a_prompt: completions_a_prompt as u64,
            at_a_time: at_a_time(most.max(1.0) * completions_a_prompt, full_length),
            evaluated_at_a_time: match config.eval.every {
                // On a GPU, evaluations make do with the cache of rollouts.
                Some(_) if !shape.gpu => at_a_time(evaluated, prompt as f64 + longest as f64),
                _ => 0,
            },
            rounds_expected: rounds_expected as u64,
            rounds_at_most,
            tokens_expected: tokens(prompts_expected),
            tokens_at_most: prompts_at_most.map(tokens),
            tokens_trained: tokens(train_batch),
            prompt: prompt as u64,
            problem_bytes: data
                .problems
                .map_or(0.0, |problems| problems as f64 * (BYTES_A_PROBLEM + BYTES_A_PROMPT_TOKEN * prompt as f64))
                as u64,
            completion_bytes: bytes_of(
                prompts_at_most.unwrap_or(prompts_expected),
                completions_a_prompt,
                rollout.max_new_tokens,
            ),
            evaluation_bytes: if config.eval.every.is_some() {
                bytes_of(config.eval.limit.unwrap_or(1) as f64, config.eval.samples as f64, longest)
            } else {
                0
            },
        }
    }
}

/// Bytes of the completions of some prompts, `of_each` of full length.
fn bytes_of(prompts: f64, of_each: f64, max_new_tokens: usize) -> u64 {
    (prompts * of_each * (BYTES_A_COMPLETION + BYTES_A_TOKEN * max_new_tokens as f64)) as u64
}

/// Updates of a step with a full batch: mini-batches of ⌈train_batch / mini_batches⌉ groups, in every pass.
fn updates_a_step(config: &RunConfig) -> u64 {
    let groups = config.sampler.train_batch;
    let of_each = groups.div_ceil(config.train.mini_batches.max(1)).max(1);
    (config.train.updates_per_batch * groups.div_ceil(of_each)) as u64
}
