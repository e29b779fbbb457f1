//! Completions of held-out problems, and how many of them are correct.

use crate::scores;
use dapo_data::Prompt;
use dapo_policy::{GenerationConfig, GenerationProgress, Policy, Tokenizer};
use dapo_reward::RewardSum;
use dapo_trainer::{Activity, Group, Observer, Sample, Trainer, TrainerError, roll_out, roll_out_observed};

/// What was found on a set of problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Every problem with its completions.
    pub groups: Vec<Group>,
}

/// Completes every prompt `samples` times and judges the completions; the draw index is the prompt's place.
///
/// # Errors
/// As [`roll_out`].
pub fn evaluate(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    samples: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
) -> Result<Evaluation, TrainerError> {
    let all = prompts.len();
    let blocks = evaluate_in_blocks(policy, tokenizer, prompts, samples, generation, rewards, all);
    Ok(Evaluation { groups: blocks.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect() })
}

/// As [`evaluate`], of a trainer's present policy; `observer` is shown [`Activity::Evaluation`] and [`Activity::Scoring`].
/// The ranks that train as one divide the problems: every rank calls it, is shown how far its own part is, and has the
/// whole evaluation.
///
/// # Errors
/// As there, on every rank; and when the ranks lose each other.
pub fn evaluate_together(
    trainer: &Trainer,
    prompts: &[Prompt],
    samples: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
    observer: &mut Observer<'_>,
) -> Result<Evaluation, TrainerError> {
    let drawn: Vec<(u64, &Prompt)> = (0..).zip(prompts).collect();
    let to_activity = |own, progress| progress_among(own)(progress);
    let groups = trainer.roll_out(&drawn, samples, generation, rewards, observer, to_activity)?;
    Ok(Evaluation { groups })
}

/// Shows how far an evaluation of some problems is.
fn progress_among(problems: usize) -> impl Fn(GenerationProgress) -> Activity + Sync {
    move |progress| Activity::Evaluation { done: progress.requests, problems, tokens: progress.tokens }
}

/// [`evaluate`], `block` prompts at a time: a long evaluation can say how far it is and keep what it has. All blocks
/// together are what [`evaluate`] finds, whatever their size. A block ends with its longest completion, so blocks of few
/// completions take longer.
///
/// # Errors
/// A block's is that of [`roll_out`].
pub fn evaluate_in_blocks(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    samples: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
    block: usize,
) -> impl Iterator<Item = Result<Vec<Group>, TrainerError>> {
    let block = block.max(1);
    prompts.chunks(block).enumerate().map(move |(i, prompts)| {
        let drawn: Vec<(u64, &Prompt)> = ((i * block) as u64..).zip(prompts).collect();
        roll_out(policy, tokenizer, &drawn, samples, generation, rewards, 0)
    })
}

/// [`evaluate_in_blocks`] without the first problems, whose completions are known; `observer` is shown how far each block
/// is.
///
/// # Errors
/// As there.
pub fn evaluate_from<'a>(
    first: usize,
    policy: &'a impl Policy,
    tokenizer: &'a Tokenizer,
    prompts: &'a [Prompt],
    samples: usize,
    generation: &'a GenerationConfig,
    rewards: &'a RewardSum,
    block: usize,
    observer: &'a mut Observer<'_>,
) -> impl Iterator<Item = Result<Vec<Group>, TrainerError>> {
    let block = block.max(1);
    prompts[first.min(prompts.len())..].chunks(block).enumerate().map(move |(i, prompts)| {
        let drawn: Vec<(u64, &Prompt)> = ((first + i * block) as u64..).zip(prompts).collect();
        let to_activity = progress_among(drawn.len());
        roll_out_observed(policy, tokenizer, &drawn, samples, generation, rewards, 0, observer, &to_activity)
    })
}

impl Evaluation {
    /// Mean over problems of the share of correct completions (avg@k); an abstention counts as incorrect.
    pub fn accuracy(&self) -> f64 {
        self.mean(|correct, n| correct as f64 / n as f64)
    }

    /// Mean over problems of the unbiased estimate of solving it with k samples out of n: 1 − C(n − c, k) / C(n, k).
    ///
    /// Source: Chen et al. 2021 (arXiv 2107.03374), Eq. 1.
    pub fn pass_at(&self, k: usize) -> f64 {
        self.mean(|correct, n| scores::pass_at(n, correct, k))
    }

    /// Share of completions that used up their tokens.
    pub fn truncated(&self) -> f64 {
        let truncated = self.samples().filter(|sample| sample.is_truncated()).count();
        truncated as f64 / self.samples().count().max(1) as f64
    }

    /// Mean length of the completions in tokens.
    pub fn mean_length(&self) -> f64 {
        let tokens: usize = self.samples().map(|sample| sample.completion.token_ids.len()).sum();
        tokens as f64 / self.samples().count().max(1) as f64
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.groups.iter().flat_map(|group| &group.samples)
    }

    /// The mean over problems of a function of the number of correct completions and that of all.
    fn mean(&self, f: impl Fn(usize, usize) -> f64) -> f64 {
        let of_group = |group: &Group| f(group.correct(), group.samples.len().max(1));
        self.groups.iter().map(of_group).sum::<f64>() / self.groups.len().max(1) as f64
    }
}
