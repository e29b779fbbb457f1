//! Training steps of the tiny model on the emulated kernels of a GPU.
#![allow(clippy::unwrap_used)]

use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{PromptStyle, encode_prompts};
use dapo_loss::{ImportanceLevel, Kl, Outside, Rejection, RolloutCorrection};
use dapo_policy::{Decoder, Device, LoraConfig, Policy, TokenGroup, pack_tokens};
use dapo_reward::{Accuracy, RewardSum};
use dapo_sampler::{GenBatch, SamplerConfig};
use dapo_trainer::{Fate, OptimizerConfig, ReferenceSync, SampleOutcome, StepOutcome, Trainer, TrainerConfig};
use std::path::Path;

fn config() -> TrainerConfig {
    let mut config = TrainerConfig {
        seed: 2,
        group_size: 4,
        max_new_tokens: 24,
        micro_batch_tokens: 128,
        sampler: SamplerConfig { train_batch: 2, gen_batch: GenBatch::Fixed(6), ..SamplerConfig::default() },
        optimizer: OptimizerConfig { lr: 1e-4, warmup_steps: 0, ..OptimizerConfig::default() },
        ..TrainerConfig::default()
    };
    config.loss.kl = Kl { coef: 0.01, ..Kl::default() };
    config
}

fn trainer(device: Device, lora: Option<&LoraConfig>) -> Trainer {
    trainer_with(config(), device, lora)
}

fn trainer_with(config: TrainerConfig, device: Device, lora: Option<&LoraConfig>) -> Trainer {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3");
    let (policy, tokenizer) = dapo_policy::load(&model).unwrap();
    let mut policy = match lora {
        Some(lora) => policy.with_lora(lora, 1).unwrap(),
        None => policy,
    };
    policy.to_device(device).unwrap();
    let problems = addition_problems(Split::Train, 64, 5);
    let prompts = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 64).unwrap().0;
    let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))]).unwrap();
    Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap()
}

fn tokens(outcome: &StepOutcome) -> Vec<Vec<u32>> {
    let groups = outcome.groups.iter().map(|record| &record.group);
    groups.flat_map(|group| &group.samples).map(|sample| sample.completion.token_ids.clone()).collect()
}

fn weights(policy: &Decoder) -> Vec<(String, Vec<f32>)> {
    let tensors = policy.tensors().unwrap().into_iter();
    tensors.map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

fn steps_agree(lora: Option<&LoraConfig>) {
    let device = Device::Emulated { bf16: false };
    let (mut on_cpu, mut first) = (trainer(Device::Cpu, lora), trainer(device, lora));
    let (expected, got) = (on_cpu.step().unwrap(), first.step().unwrap());
    assert_eq!(tokens(&got), tokens(&expected), "the same random numbers");
    let (expected, got) = (expected.metrics, got.metrics);
    assert!(got.updates > 0);
    assert_eq!(expected.logp_difference_max, Some(0.0));
    let difference = got.logp_difference_max.unwrap();
    assert!(difference > 0.0 && difference < 1e-4, "{difference}");
    let (norm, expected_norm) = (got.grad_norm.unwrap(), expected.grad_norm.unwrap());
    assert!((norm - expected_norm).abs() < 1e-4 * expected_norm, "{got:?} {expected:?}");
    let (loss, expected_loss) = (got.loss.unwrap(), expected.loss.unwrap());
    assert!((loss - expected_loss).abs() < 1e-5, "{loss} {expected_loss}");

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    first.save(&checkpoint, "tiny").unwrap();
    let mut second = trainer(device, lora);
    second.restore(&checkpoint).unwrap();
    assert_eq!(first.step().unwrap().metrics, second.step().unwrap().metrics);
    assert_eq!(weights(first.policy()), weights(second.policy()));

    // A run may go on elsewhere.
    on_cpu.restore(&checkpoint).unwrap();
    let elsewhere = on_cpu.step().unwrap().metrics;
    assert_eq!((elsewhere.step, elsewhere.logp_difference_max), (2, Some(0.0)));
}

#[test]
fn steps_are_the_cpus_to_rounding_and_go_on_from_a_checkpoint_to_the_bit() {
    steps_agree(None);
}

#[test]
fn carried_groups_have_the_log_probs_of_training_under_the_policy_that_generated_them() {
    let device = Device::Emulated { bf16: false };
    let (initial, mut trainer) = (trainer(device, None), trainer(device, None));
    let outcome = trainer.step().unwrap();
    let (mut carried, mut differ) = (0, 0);
    for record in outcome.groups.iter().filter(|record| record.fate == Fate::CarriedOut || record.fate.is_trained()) {
        for sample in &record.group.samples {
            let Some(old) = &sample.old_logprobs else { panic!("{:?} has no old log-probs", record.fate) };
            let token_groups = [TokenGroup::new(&record.group.prompt.token_ids, [&sample.completion])];
            let packed = &pack_tokens(&token_groups, 1000).unwrap()[0];
            let expected = initial.policy().logprobs(&packed.tokens, 1.0).unwrap().logprobs;
            for (old, expected) in old.iter().zip(&expected) {
                assert!((old - expected).abs() < 1e-5, "{old} {expected}");
            }
            carried += usize::from(record.fate == Fate::CarriedOut);
            differ += usize::from(*old != sample.completion.logprobs);
        }
    }
    assert!(carried > 0 && differ > 0, "{carried} carried, {differ} differ: nothing was shown");
}

#[test]
fn so_are_those_of_adapters() {
    steps_agree(Some(&LoraConfig { rank: 4, alpha: 6.0, ..LoraConfig::default() }));
}

#[test]
fn a_rollout_correction_sees_how_far_rollouts_are_from_training() {
    let step = |correction| {
        let mut config = config();
        config.loss.rollout_correction = Some(correction);
        trainer_with(config, Device::Emulated { bf16: false }, None).step().unwrap()
    };
    // Rounding apart, every ratio is 1.
    let metrics = step(RolloutCorrection::default()).metrics;
    let mean = metrics.importance_mean.unwrap();
    assert!(mean != 1.0 && (mean - 1.0).abs() < 1e-4, "{mean}");
    assert_eq!((metrics.masked_tokens, metrics.masked_sequences), (Some(0.0), Some(0.0)));
    // A band of 1 alone masks the tokens that differ by rounding, and rejects their sequences.
    let (outside, level) = (Outside::Mask, ImportanceLevel::Token);
    let metrics = step(RolloutCorrection { outside, level, low: 1.0, high: 1.0, reject: None }).metrics;
    let (tokens, sequences) = (metrics.masked_tokens.unwrap(), metrics.masked_sequences.unwrap());
    assert!(tokens > 0.0 && tokens < 1.0 && sequences >= tokens, "{tokens} {sequences}");
    let reject = Some(Rejection { low: Some(1.0), high: Some(1.0), ..Rejection::default() });
    let outcome = step(RolloutCorrection { level: ImportanceLevel::Off, reject, ..RolloutCorrection::default() });
    let samples: Vec<_> = outcome.trained().flat_map(|record| &record.group.samples).collect();
    let rejected = samples.iter().filter(|sample| sample.outcome == SampleOutcome::Rejected).count();
    assert!(rejected > 0);
    assert_eq!(outcome.metrics.masked_sequences, Some(rejected as f64 / samples.len() as f64));
}

#[test]
fn a_following_reference_returns_to_the_device_it_was_on() {
    let device = Device::Emulated { bf16: false };
    let following = || {
        let mut config = TrainerConfig { reference_sync: ReferenceSync { every: Some(1), mixup: 0.5 }, ..config() };
        config.loss.kl.coef = 0.1;
        trainer_with(config, device, None)
    };
    let mut whole = following();
    whole.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, again) = (folder.path().join("checkpoint"), folder.path().join("again"));
    whole.save(&checkpoint, "tiny").unwrap();
    let mut resumed = following();
    resumed.restore(&checkpoint).unwrap();
    // On the CPU the reference's log-probs would differ by rounding, and so would KL.
    let (expected, found) = (whole.step().unwrap().metrics, resumed.step().unwrap().metrics);
    assert!(expected.ref_kl.unwrap() > 0.0);
    assert_eq!(expected, found);
    assert_eq!(weights(whole.policy()), weights(resumed.policy()));
    resumed.save(&again, "tiny").unwrap();
    let reference = |dir: &Path| std::fs::read(dir.join("reference.safetensors")).unwrap();
    assert!(reference(&again) != reference(&checkpoint), "the reference follows");
}
