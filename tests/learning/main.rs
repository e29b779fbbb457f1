//! The loop learns, and it learns from the rewards: with a learning rate of 0, or with advantages handed to the wrong
//! completions, nothing improves.
//!
//! Accuracy is the mean over four sampled completions of each of 192 held-out problems, which moves more smoothly than
//! that of greedy decoding.
#![allow(clippy::unwrap_used)]

mod ppo;

use dapo::data::tasks::{Split, addition_problems};
use dapo::data::{Prompt, PromptStyle, encode_prompts};
use dapo::eval::evaluate;
use dapo::loss::{Denominator, batch_advantages};
use dapo::policy::{Decoder, GenerationConfig, Gradients, Purpose, SamplingConfig, StopTokens, Tokenizer};
use dapo::reward::{Accuracy, RewardSum, SoftOverlong};
use dapo::sampler::SamplerConfig;
use dapo::sampler::SplitMix;
use dapo::trainer::{
    AdamW, OptimizerConfig, SampleOutcome, Trainer, TrainerConfig, TrainingGroup, TrainingSequence, Update, accumulate,
    pack, roll_out,
};
use std::path::Path;

const STEPS: usize = 25;
const MAX_NEW_TOKENS: usize = 72;
const LR: f64 = 1e-4;

fn model() -> (Decoder, Tokenizer) {
    dapo::policy::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tiny-qwen3")).unwrap()
}

fn prompts(split: Split, count: usize, seed: u64, tokenizer: &Tokenizer) -> Vec<Prompt> {
    encode_prompts(&addition_problems(split, count, seed), tokenizer, &PromptStyle::default(), 64).unwrap().0
}

fn rewards() -> RewardSum {
    let overlong = SoftOverlong::new(MAX_NEW_TOKENS, 8).unwrap();
    RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))]).unwrap()
}

fn generation(policy: &Decoder, tokenizer: &Tokenizer, seed: u64, purpose: Purpose) -> GenerationConfig {
    GenerationConfig {
        max_new_tokens: MAX_NEW_TOKENS,
        sampling: SamplingConfig::default(),
        seed,
        purpose,
        ..GenerationConfig::new(StopTokens::of(policy.config(), tokenizer))
    }
}

fn accuracy(policy: &Decoder, tokenizer: &Tokenizer) -> f64 {
    let held_out = prompts(Split::HeldOut, 192, 1, tokenizer);
    let generation = generation(policy, tokenizer, 0, Purpose::Evaluation);
    evaluate(policy, tokenizer, &held_out, 4, &generation, &rewards()).unwrap().accuracy()
}

/// Accuracy before and after training.
fn train(seed: u64, lr: f64, steps: usize) -> (f64, f64) {
    let (policy, tokenizer) = model();
    let before = accuracy(&policy, &tokenizer);
    let config = TrainerConfig {
        seed,
        max_new_tokens: MAX_NEW_TOKENS,
        sampler: SamplerConfig { train_batch: 12, ..SamplerConfig::default() },
        optimizer: OptimizerConfig { lr, warmup_steps: 5, ..OptimizerConfig::default() },
        mini_batches: 2,
        ..TrainerConfig::default()
    };
    let problems = prompts(Split::Train, 2048, seed, &tokenizer);
    let mut trainer = Trainer::new(policy, tokenizer, problems, rewards(), config).unwrap();
    for _ in 0..steps {
        let outcome = trainer.step().unwrap();
        let account = outcome.metrics.dynamic_sampling;
        account.check().unwrap();
        assert!(outcome.trained().count() as u64 == account.trained && account.trained <= 12);
        // Only groups with right and wrong completions are trained on.
        for record in outcome.trained() {
            let group = &record.group;
            assert!(0 < group.correct() && group.correct() < group.samples.len());
        }
    }
    (before, accuracy(trainer.policy(), trainer.tokenizer()))
}

#[test]
fn three_seeds_learn_to_work_answers_out() {
    for seed in 0..3 {
        let (before, after) = train(seed, LR, STEPS);
        println!("seed {seed}: {before:.3} to {after:.3}");
        assert!(before < 0.45, "before training: {before}");
        assert!(after > before + 0.25, "seed {seed}: {before} to {after}");
    }
}

#[test]
fn a_learning_rate_of_zero_changes_nothing() {
    let (before, after) = train(0, 0.0, 4);
    assert_eq!(before, after);
}

/// The loop written out from its parts, with the advantages of each step's batch in an order of the caller's.
fn train_with(seed: u64, mut reorder: impl FnMut(&mut [f32])) -> (f64, f64) {
    let (mut policy, tokenizer) = model();
    let before = accuracy(&policy, &tokenizer);
    let problems = prompts(Split::Train, STEPS * 12, seed, &tokenizer);
    let config = TrainerConfig::default();
    let mut optimizer = AdamW::new(&policy, OptimizerConfig::default()).unwrap();
    let generation = generation(&policy, &tokenizer, seed, Purpose::Rollout);
    for (step, problems) in problems.chunks(12).enumerate() {
        let drawn: Vec<(u64, &Prompt)> = (12 * step as u64..).zip(problems).collect();
        let groups = roll_out(&policy, &tokenizer, &drawn, 8, &generation, &rewards(), 1).unwrap();
        let totals: Vec<Option<f64>> = groups.iter().flat_map(|g| g.samples.iter().map(|s| s.reward.total)).collect();
        let advantages = batch_advantages(&totals, &vec![8; groups.len()], &config.advantage).unwrap();
        let mut advantages = advantages.values().to_vec();
        reorder(&mut advantages);
        let mut advantages = advantages.into_iter();
        let training: Vec<TrainingGroup> = groups
            .into_iter()
            .map(|mut group| {
                for (sample, advantage) in group.samples.iter_mut().zip(&mut advantages) {
                    (sample.advantage, sample.outcome) = (Some(advantage), SampleOutcome::InLoss);
                }
                TrainingGroup::of(&group, true, &config.loss)
            })
            .collect();
        let lengths: Vec<usize> =
            training.iter().flat_map(|g| g.sequences.iter().map(TrainingSequence::loss_tokens)).collect();
        let loss = config.loss;
        let denominator = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences).unwrap();
        let mut gradients = Gradients::new(policy.parameters().len());
        let mut update = Update::default();
        for batch in pack(&training, config.micro_batch_tokens).unwrap() {
            accumulate(&policy, &batch, 1.0, &loss, denominator, &mut gradients, &mut update).unwrap();
        }
        // Rollout and training agree to the bit, so the first update's ratio is 1 everywhere.
        assert_eq!(update.metrics.max_abs_log_ratio, 0.0);
        assert_eq!(update.metrics.mean_ratio(), 1.0);
        optimizer.update(&mut policy, &gradients, LR).unwrap();
    }
    (before, accuracy(&policy, &tokenizer))
}

#[test]
fn shuffled_advantages_teach_nothing_and_true_ones_do() {
    let (before, after) = train_with(0, |_| ());
    println!("true advantages: {before:.3} to {after:.3}");
    assert!(after > before + 0.15, "true advantages: {before} to {after}");
    let mut rng = SplitMix::new(1);
    let (before, after) = train_with(0, |advantages| {
        for i in (1..advantages.len()).rev() {
            advantages.swap(i, rng.below(i as u64 + 1) as usize);
        }
    });
    println!("shuffled advantages: {before:.3} to {after:.3}");
    assert!(after < before + 0.05, "shuffled advantages: {before} to {after}");
}
