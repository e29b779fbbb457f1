//! What a training step does with its groups, on the tiny model.
#![allow(clippy::unwrap_used)]

mod episodes;
mod failures;
mod kept;
mod overlap;
mod own_rewards;
mod ppo;
mod together;
mod updates;

use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{Prompt, PromptStyle, encode_prompts};
use dapo_loss::Kl;
use dapo_policy::{Decoder, FinishReason, Policy, Segments, TokenBatch, Tokenizer};
use dapo_reward::{Accuracy, OverlongFilter, RewardSum, SoftOverlong};
use dapo_sampler::{Account, FilterMetric, GenBatch, PerPrompt, SamplerConfig, SurplusPolicy};
use dapo_trainer::{
    Fate, GroupRecord, OptimizerConfig, ReferenceSync, Sample, SampleOutcome, StepOutcome, Trainer, TrainerConfig,
};
use std::path::Path;
use std::sync::Arc;

const MAX_NEW_TOKENS: usize = 40;

fn model() -> (Decoder, Tokenizer) {
    dapo_policy::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3")).unwrap()
}

fn prompts(tokenizer: &Tokenizer) -> Vec<Prompt> {
    encode_prompts(&addition_problems(Split::Train, 64, 5), tokenizer, &PromptStyle::default(), 64).unwrap().0
}

fn rewards() -> RewardSum {
    let overlong = SoftOverlong::new(MAX_NEW_TOKENS, 12).unwrap();
    RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))]).unwrap()
}

fn config() -> TrainerConfig {
    TrainerConfig {
        seed: 2,
        group_size: 4,
        max_new_tokens: MAX_NEW_TOKENS,
        sampler: SamplerConfig { train_batch: 4, gen_batch: GenBatch::Fixed(12), ..SamplerConfig::default() },
        optimizer: OptimizerConfig { lr: 1e-4, warmup_steps: 0, ..OptimizerConfig::default() },
        ..TrainerConfig::default()
    }
}

fn trainer(config: TrainerConfig) -> Trainer {
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    Trainer::new(policy, tokenizer, prompts, rewards(), config).unwrap()
}

fn count(outcome: &StepOutcome, fate: Fate) -> u64 {
    outcome.groups.iter().filter(|record| record.fate == fate).count() as u64
}

/// The advantages of a group's samples that have one.
fn advantages(record: &GroupRecord) -> impl Iterator<Item = f32> {
    record.group.samples.iter().filter_map(|sample| sample.advantage)
}

/// Log-probs of a completion after its prompt.
fn score(policy: &Decoder, prompt: &[u32], completion: &[u32]) -> Vec<f32> {
    let token_ids = [prompt, completion].concat();
    let segments = Arc::new(Segments::new(vec![(token_ids.len(), None)]).unwrap());
    let targets = (prompt.len()..token_ids.len()).collect();
    policy.logprobs(&TokenBatch { token_ids, segments, targets }, 1.0).unwrap().logprobs
}

#[test]
fn what_was_generated_is_what_is_trained() {
    let mut trainer =
        trainer(TrainerConfig { optimizer: OptimizerConfig { lr: 0.0, ..config().optimizer }, ..config() });
    let outcome = trainer.step().unwrap();
    // The training forward scored the generated ids: every log-prob came out the same to the last bit.
    assert_eq!(outcome.metrics.logp_difference_max, Some(0.0));
    assert!(outcome.metrics.updates > 0);
    let mut differ_as_text = 0;
    for record in &outcome.groups {
        for Sample { completion, text, .. } in &record.group.samples {
            let scored = score(trainer.policy(), &record.group.prompt.token_ids, &completion.token_ids);
            assert_eq!(scored, completion.logprobs);
            // Text does not lead back to the ids: it has no stop token.
            let again = trainer.tokenizer().encode(text, false).unwrap();
            differ_as_text += usize::from(again != completion.token_ids);
            let stopped = completion.finish_reason == FinishReason::Stop;
            assert_eq!(stopped, trainer.policy().config().eos_token_ids.contains(completion.token_ids.last().unwrap()));
        }
    }
    assert!(differ_as_text > 0, "re-tokenised text would have served as well: nothing was shown");
}

#[test]
fn every_group_has_one_fate_and_the_account_counts_them() {
    let mut trainer = trainer(config());
    let mut total = Account::default();
    let (mut carried, mut with_fresh) = (0, 0);
    for _ in 0..4 {
        let outcome = trainer.step().unwrap();
        let account = outcome.metrics.dynamic_sampling;
        account.check().unwrap();
        for (fate, term) in [
            (Fate::Trained, account.trained),
            (Fate::Filled, account.filled),
            (Fate::AllCorrect, account.all_correct),
            (Fate::AllWrong, account.all_incorrect),
            (Fate::Other, account.other),
            (Fate::Discarded, account.discarded),
            (Fate::Expired, account.expired),
            (Fate::CarriedOut, account.carried_out),
        ] {
            assert_eq!(count(&outcome, fate), term, "{fate:?}");
        }
        assert_eq!(outcome.groups.len() as u64, account.generated + account.carried_in);
        assert_eq!(outcome.groups.iter().filter(|r| r.age > 0).count() as u64, account.carried_in);
        assert_eq!(account.carried_in, carried);
        carried = account.carried_out;
        // Carried groups were drawn by an earlier policy; those of this step by the one that is updated.
        let (stale, trained) = (outcome.trained().filter(|r| r.age > 0).count(), outcome.trained().count());
        assert_eq!(outcome.metrics.stale_fraction, Some(stale as f64 / trained as f64));
        let is_fresh = stale < trained;
        with_fresh += usize::from(is_fresh);
        assert_eq!(outcome.metrics.logp_difference_max, is_fresh.then_some(0.0));
        let advantages: Vec<f32> = outcome.trained().flat_map(advantages).collect();
        assert!(!advantages.is_empty() && advantages.iter().sum::<f32>().abs() < 1e-4);
        total += account;
    }
    total.check().unwrap();
    assert!(total.carried_in > 0 && with_fresh > 0, "no group was carried, or none was fresh: nothing was shown");
}

#[test]
fn a_first_mini_batch_of_carried_groups_does_not_hide_the_difference_of_the_others() {
    let sampler = SamplerConfig { gen_batch: GenBatch::Fixed(8), ..config().sampler };
    let mut trainer = trainer(TrainerConfig { sampler, mini_batches: 4, ..config() });
    let mut shown = 0;
    for _ in 0..8 {
        let outcome = trainer.step().unwrap();
        let ages: Vec<u32> = outcome.trained().map(|record| record.age).collect();
        let is_fresh = ages.contains(&0);
        // Scored before the first update moved the policy.
        assert_eq!(outcome.metrics.logp_difference_max, is_fresh.then_some(0.0), "{ages:?}");
        assert_eq!(outcome.metrics.logp_difference_mean, is_fresh.then_some(0.0));
        shown += usize::from(is_fresh && ages[0] > 0);
    }
    assert!(shown > 0, "no step began with a carried group and had a fresh one");
}

#[test]
fn more_completions_are_drawn_until_a_prompt_differs() {
    // Without a KL term in the reward the policy keeps the prompts; with one it is asked again.
    for kl_in_reward in [0.0, 0.1] {
        let per_prompt = Some(PerPrompt { increment: 2, max_samples: 10 });
        let sampler = SamplerConfig { per_prompt, ..config().sampler };
        let mut adding = trainer(TrainerConfig { sampler, kl_in_reward, ..config() });
        let mut at_once = trainer(TrainerConfig { group_size: 10, kl_in_reward, ..config() });
        let (adding, at_once) = (adding.step().unwrap(), at_once.step().unwrap());
        let mut sizes = std::collections::BTreeSet::new();
        for record in &adding.groups {
            let n = record.group.samples.len();
            sizes.insert(n);
            let correct = record.group.correct();
            assert!((0 < correct && correct < n) || n == 10, "{n} completions, {correct} correct");
            // They are the completions that a larger group would have had.
            let whole = at_once.groups.iter().find(|other| other.group.draw == record.group.draw).unwrap();
            for (sample, of_whole) in record.group.samples.iter().zip(&whole.group.samples) {
                assert_eq!((&sample.completion, &sample.reward), (&of_whole.completion, &of_whole.reward));
                assert_eq!(sample.kl_term.is_some(), kl_in_reward > 0.0);
            }
        }
        assert!(sizes.len() > 1, "all groups have {sizes:?} completions");
    }
}

#[test]
fn dropped_members_leave_the_baseline_and_masked_ones_stay() {
    let with = |filter| TrainerConfig { overlong_filter: filter, max_new_tokens: 24, ..config() };
    let off = trainer(with(OverlongFilter::Off)).step().unwrap();
    let mask = trainer(with(OverlongFilter::Mask)).step().unwrap();
    let drop = trainer(with(OverlongFilter::Drop)).step().unwrap();
    let mut truncated = 0;
    for record in mask.trained() {
        let same = off.trained().find(|other| other.group.draw == record.group.draw).unwrap();
        for (sample, unmasked) in record.group.samples.iter().zip(&same.group.samples) {
            assert_eq!(sample.advantage, unmasked.advantage);
            let masked = if sample.is_truncated() { SampleOutcome::Masked } else { SampleOutcome::InLoss };
            assert_eq!((sample.outcome, unmasked.outcome), (masked, SampleOutcome::InLoss));
            assert_eq!(sample.in_loss(), !sample.is_truncated());
            truncated += usize::from(sample.is_truncated());
        }
    }
    assert!(truncated > 0, "nothing was truncated");
    for record in drop.trained() {
        for sample in &record.group.samples {
            assert_eq!(sample.advantage.is_none(), sample.is_truncated());
            assert_eq!(sample.outcome == SampleOutcome::OutsideBaseline, sample.is_truncated());
        }
        // What is left has a baseline, and a signal.
        let left: Vec<f32> = advantages(record).collect();
        assert!(left.len() >= 2 && left.iter().sum::<f32>().abs() < 1e-4);
    }
    // A group of which fewer than two members are left is counted, not lost.
    assert!(drop.groups.iter().all(|r| r.fate != Fate::Trained || advantages(r).count() >= 2));
}

#[test]
fn the_kl_term_is_that_of_the_reference() {
    let kl = Kl { coef: 0.3, ..Kl::default() };
    let with = |every| {
        let mut config = config();
        config.loss.kl = kl;
        config.reference_sync = ReferenceSync { every, mixup: 1.0 };
        config
    };
    let mut still = trainer(with(None));
    let (initial, _) = model();
    let first = still.step().unwrap();
    // The policy is its reference until it is updated.
    assert_eq!(first.metrics.ref_kl, Some(0.0));
    // k3 of the next step's trained tokens, from the definition.
    let before = still.policy().frozen_copy().unwrap();
    let second = still.step().unwrap();
    let (mut sum, mut tokens) = (0.0, 0);
    for record in second.trained() {
        for Sample { completion, .. } in record.group.samples.iter().filter(|sample| sample.advantage.is_some()) {
            let prompt = &record.group.prompt.token_ids;
            let now = score(&before, prompt, &completion.token_ids);
            let reference = score(&initial, prompt, &completion.token_ids);
            for (now, reference) in now.iter().zip(reference) {
                let k = f64::from(*now) - f64::from(reference);
                sum += (-k).exp() + k - 1.0;
                tokens += 1;
            }
        }
    }
    let expected = sum / f64::from(tokens);
    assert!(expected > 1e-6, "the policy has not moved");
    let found = second.metrics.ref_kl.unwrap();
    assert!((found - expected).abs() < 1e-4 * expected, "{found} and {expected}");
    // A reference that follows every step is the policy again.
    let mut following = trainer(with(Some(1)));
    following.step().unwrap();
    assert_eq!(following.step().unwrap().metrics.ref_kl, Some(0.0));
}

#[test]
fn kl_in_the_reward_is_part_of_the_final_reward_alone() {
    let mut trainer = trainer(TrainerConfig { kl_in_reward: 0.5, ..config() });
    let (initial, _) = model();
    trainer.step().unwrap();
    let policy = trainer.policy().frozen_copy().unwrap();
    let outcome = trainer.step().unwrap();
    let mut largest = 0.0f64;
    for record in outcome.groups.iter().filter(|record| record.age == 0) {
        for sample in &record.group.samples {
            let completion = &sample.completion;
            let prompt = &record.group.prompt.token_ids;
            let now = score(&policy, prompt, &completion.token_ids);
            let reference = score(&initial, prompt, &completion.token_ids);
            let k1: f64 = now.iter().zip(reference).map(|(a, b)| f64::from(*a) - f64::from(b)).sum();
            let with = sample.final_reward().unwrap();
            let without = sample.reward.total.unwrap();
            assert!((with - without + 0.5 * k1).abs() < 1e-6, "{with} {without} {k1}");
            largest = largest.max((with - without).abs());
        }
    }
    assert!(largest > 1e-4, "the policy has not moved");
}

#[test]
fn the_metric_must_be_measured() {
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let sampler = SamplerConfig { metric: FilterMetric::Component("format".into()), ..config().sampler };
    let config = TrainerConfig { sampler, ..config() };
    let error = Trainer::new(policy, tokenizer, prompts, rewards(), config).unwrap_err().to_string();
    assert!(error.starts_with("sampler.metric is format, expected acc"), "{error}");
    assert!(error.ends_with("accuracy, soft_overlong"), "{error}");
}

#[test]
fn a_step_that_generates_nothing_measures_nothing() {
    let sampler = SamplerConfig { gen_batch: GenBatch::Fixed(24), ..config().sampler };
    let mut trainer = trainer(TrainerConfig { sampler, ..config() });
    let first = trainer.step().unwrap().metrics;
    assert!(first.dynamic_sampling.carried_out >= 4, "the next step needs no completions");
    assert!(first.reward.is_some() && first.mean_length.is_some() && first.stale_fraction == Some(0.0));
    let second = trainer.step().unwrap().metrics;
    assert_eq!((second.dynamic_sampling.generated, second.num_tokens), (0, first.num_tokens));
    let json = serde_json::to_value(&second).unwrap();
    for name in [
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "rewards/accuracy/mean",
        "rewards/soft_overlong/mean",
        "accuracy",
        "completions/mean_length",
        "completions/clipped_ratio",
        "completions/mean_terminated_length",
        "mean_token_prob",
        "sampling/logp_difference/max",
        "sampling/logp_difference/mean",
    ] {
        assert_eq!(json.get(name), Some(&serde_json::Value::Null), "{name}");
    }
    assert_eq!(json["sampling/stale_fraction"], 1.0);
    assert!(second.entropy.is_some() && second.loss.is_some() && second.updates == 1);
}

#[test]
fn the_default_draws_what_is_missing_and_trains_on_fresh_groups() {
    let sampler = SamplerConfig { train_batch: 4, ..SamplerConfig::default() };
    let mut trainer = trainer(TrainerConfig { sampler, ..config() });
    for _ in 0..6 {
        let metrics = trainer.step().unwrap().metrics;
        assert_eq!((metrics.dynamic_sampling.trained, metrics.stale_fraction), (4, Some(0.0)));
        assert_eq!(metrics.logp_difference_max, Some(0.0));
        assert_eq!(metrics.kl, Some(0.0), "one update, by the policy that generated: the ratio is 1");
    }
}

#[test]
fn without_dynamic_sampling_a_reward_that_judges_no_answer_trains() {
    #[derive(Debug)]
    struct Length;
    impl dapo_reward::RewardFn for Length {
        fn name(&self) -> &'static str {
            "length"
        }
        fn score(&self, input: &dapo_reward::RewardInput<'_>) -> Result<dapo_reward::Score, dapo_reward::RewardFault> {
            Ok(dapo_reward::Score::value(-(input.num_tokens as f64)))
        }
    }
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let sampler = SamplerConfig { enabled: false, ..config().sampler };
    assert_eq!(sampler.metric, FilterMetric::Acc);
    let rewards = RewardSum::new(vec![(1.0, Box::new(Length))]).unwrap();
    let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, TrainerConfig { sampler, ..config() }).unwrap();
    let metrics = trainer.step().unwrap().metrics;
    assert_eq!(metrics.dynamic_sampling.trained, metrics.dynamic_sampling.generated);
}

#[test]
fn a_discarding_sampler_trains_on_policy_only() {
    let sampler = SamplerConfig { surplus: SurplusPolicy::Discard, ..config().sampler };
    let mut trainer = trainer(TrainerConfig { sampler, ..config() });
    let mut discarded = 0;
    for _ in 0..3 {
        let outcome = trainer.step().unwrap();
        assert!(outcome.groups.iter().all(|record| record.age == 0));
        discarded += outcome.metrics.dynamic_sampling.discarded;
        assert_eq!(outcome.metrics.kl, Some(0.0), "one update, by the policy that generated: the ratio is 1");
    }
    assert!(discarded > 0, "there was no surplus");
}
