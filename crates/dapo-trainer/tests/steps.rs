//! What a training step does with its groups, on the tiny model.
#![allow(clippy::unwrap_used)]

use dapo_loss::{Denominator, Kl, LossConfig, LossError};
use dapo_policy::{
    Decoder, FinishReason, GenerationConfig, Gradients, Policy, SamplingConfig, Segments, StopTokens, TokenBatch,
    Tokenizer,
};
use dapo_reward::{Accuracy, OverlongFilter, RewardSum, SoftOverlong, TagCount};
use dapo_sampler::{Account, FilterMetric, GenBatch, OnExhausted, PerPrompt, SamplerConfig, SurplusPolicy};
use dapo_trainer::tasks::{Split, addition_problems};
use dapo_trainer::{
    Fate, GroupRecord, OptimizerConfig, Prompt, PromptStyle, ReferenceSync, Sample, SampleOutcome, StepOutcome,
    Trainer, TrainerConfig, TrainerError, TrainingGroup, TrainingSequence, Update, accumulate, encode_prompts,
    evaluate, pack,
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
    let mut carried = 0;
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
        assert_eq!(outcome.metrics.logp_difference_max, (stale < trained).then_some(0.0));
        let advantages: Vec<f32> = outcome.trained().flat_map(advantages).collect();
        assert!(!advantages.is_empty() && advantages.iter().sum::<f32>().abs() < 1e-4);
        total += account;
    }
    total.check().unwrap();
    assert!(total.carried_in > 0, "no group was carried: nothing was shown");
}

#[test]
fn more_completions_are_drawn_until_a_prompt_differs() {
    let per_prompt = Some(PerPrompt { increment: 2, max_samples: 10 });
    let sampler = SamplerConfig { per_prompt, ..config().sampler };
    let mut adding = trainer(TrainerConfig { sampler: sampler.clone(), ..config() });
    let mut at_once = trainer(TrainerConfig { group_size: 10, ..config() });
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
        }
    }
    assert!(sizes.len() > 1, "all groups have {sizes:?} completions");
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
    let mut still = trainer(with(0));
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
    let mut following = trainer(with(1));
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
fn a_step_that_fails_leaves_the_trainer_as_it_was() {
    /// Fails on purpose, by a reward that is not a number, from its given call on.
    #[derive(Debug)]
    struct Failing(std::sync::atomic::AtomicUsize);
    impl dapo_reward::RewardFn for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }
        fn score(&self, _: &dapo_reward::RewardInput<'_>) -> Result<dapo_reward::Score, dapo_reward::RewardFault> {
            let order = std::sync::atomic::Ordering::SeqCst;
            let left = self.0.fetch_update(order, order, |left| Some(left.saturating_sub(1))).unwrap();
            Ok(dapo_reward::Score::value(if left == 0 { f64::NAN } else { 0.0 }))
        }
    }
    let with = |calls| {
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let failing = Failing(std::sync::atomic::AtomicUsize::new(calls));
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(failing))]).unwrap();
        Trainer::new(policy, tokenizer, prompts, rewards, config()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    // The first step scores 12 groups of 4; the third one draws again.
    let (mut failing, mut sound) = (with(50), with(usize::MAX));
    let mut steps = 0;
    let error = loop {
        match failing.step() {
            Ok(_) => steps += 1,
            Err(error) => break error,
        }
    };
    assert!(steps > 0 && failing.is_whole(), "{error}");
    // It names the function whose value is not a number.
    let TrainerError::Reward(fault) = &error else { panic!("{error}") };
    assert!(fault.to_string().contains(r#"reward "failing""#) && fault.to_string().contains("NaN"), "{fault}");
    for _ in 0..steps {
        sound.step().unwrap();
    }
    failing.save(&folder.path().join("failing"), "tiny").unwrap();
    sound.save(&folder.path().join("sound"), "tiny").unwrap();
    for file in ["trainer.json", "optimizer.safetensors", "model/model.safetensors"] {
        let read = |name: &str| std::fs::read(folder.path().join(name).join(file)).unwrap();
        assert!(read("failing") == read("sound"), "{file}");
    }
}

#[test]
fn a_step_that_fails_between_two_updates_cannot_be_saved() {
    // The first update destroys the weights; the second one finds a loss that is not a number.
    let optimizer = OptimizerConfig { lr: 1e30, warmup_steps: 0, ..OptimizerConfig::default() };
    let mut trainer = trainer(TrainerConfig { optimizer, mini_batches: 2, ..config() });
    assert!(trainer.is_whole());
    let error = trainer.step().unwrap_err();
    assert!(!trainer.is_whole(), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let refused = trainer.save(&folder.path().join("checkpoint"), "tiny").unwrap_err();
    assert!(matches!(refused, TrainerError::Torn { step: 1 }), "{refused}");
}

#[test]
fn mastery_is_judged_by_correctness_and_by_enough_groups() {
    // Greedy to all intents: the completions of a group are alike, so that no group carries a signal.
    let alike = SamplingConfig { temperature: 1e-3, ..SamplingConfig::default() };
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let generation = GenerationConfig {
        max_new_tokens: MAX_NEW_TOKENS,
        sampling: SamplingConfig::GREEDY,
        ..GenerationConfig::new(StopTokens::of(policy.config(), &tokenizer))
    };
    let greedy = evaluate(&policy, &tokenizer, &prompts, 1, &generation, &rewards()).unwrap();
    let solved: Vec<Prompt> = prompts
        .iter()
        .zip(&greedy.groups)
        .filter(|(_, group)| group.samples[0].reward.correct == Some(true))
        .map(|(prompt, _)| prompt.clone())
        .collect();
    assert!(!solved.is_empty(), "the model solves none of the problems");
    let unsolved = |prompt: &Prompt| Prompt { answer: "1000".into(), ..prompt.clone() };
    let end = |prompts: Vec<Prompt>, gen_batch: usize, metric: FilterMetric| {
        let (policy, tokenizer) = model();
        let sampler = SamplerConfig {
            train_batch: 2,
            gen_batch: GenBatch::Fixed(gen_batch),
            max_gen_rounds: 2,
            metric,
            ..SamplerConfig::default()
        };
        let config = TrainerConfig { sampling: alike, sampler, ..config() };
        // Worth 1 whatever the answer: a metric above 0 does not mean that the answer is correct.
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(TagCount))]).unwrap();
        let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap();
        let mut skipped = 0;
        loop {
            match trainer.step() {
                Ok(outcome) => {
                    assert_eq!((outcome.metrics.updates, outcome.trained().count()), (0, 0));
                    skipped += 1;
                    assert!(skipped < 20);
                }
                Err(TrainerError::NoSignal(end)) => return (end.ends_well, skipped),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let few = solved[..2].to_vec();
    assert_eq!(end(few, 2, FilterMetric::Acc), (true, 0), "as many groups as there are problems");
    let many: Vec<Prompt> = (0..20).map(|i| solved[i % solved.len()].clone()).collect();
    assert_eq!(end(many.clone(), 1, FilterMetric::Acc), (true, 3), "two groups a step, until they are four batches");
    let incorrect: Vec<Prompt> = many.iter().map(unsolved).collect();
    assert_eq!(end(incorrect.clone(), 4, FilterMetric::Acc), (false, 0));
    assert_eq!(end(incorrect, 4, FilterMetric::Component("tag_count".into())), (false, 0));
    let half: Vec<Prompt> =
        many.iter().enumerate().map(|(i, p)| if i % 2 == 0 { unsolved(p) } else { p.clone() }).collect();
    assert_eq!(end(half, 10, FilterMetric::Acc), (false, 0), "half of the problems are not mastered");
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

#[test]
fn the_loss_names_the_sample_it_refuses() {
    let (policy, _) = model();
    let sequence = |sample, old: f32| TrainingSequence {
        sample,
        token_ids: vec![5, 6, 7],
        old_logprobs: vec![-1.0, old, -1.0],
        advantage: 1.0,
        in_loss: sample != 4,
        ..TrainingSequence::default()
    };
    let group = |draw, sequences| TrainingGroup { draw, prompt_ids: vec![3, 4], sequences, on_policy: false };
    let groups = [
        group(11, vec![sequence(0, -1.0)]),
        group(12, vec![sequence(4, -1.0), sequence(5, -2.0), sequence(7, f32::NAN)]),
    ];
    let batch = &pack(&groups, 1000).unwrap()[0];
    let config = LossConfig::default();
    let denominator = Denominator::of_step(config.aggregation, &[3, 3, 3], config.empty_sequences).unwrap();
    let (mut gradients, mut update) = (Gradients::new(policy.parameters().len()), Update::default());
    let error = accumulate(&policy, batch, 1.0, &config, denominator, &mut gradients, &mut update).unwrap_err();
    let TrainerError::Loss { draw: Some(12), sample: Some(7), source } = &error else { panic!("{error:?}") };
    assert!(matches!(source, LossError::NonFinite { array: "old_logprobs", sequence: 2, position: 1, .. }), "{source}");
    assert_eq!(error.to_string(), format!("draw 12, sample 7: {source}"));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), source.to_string());
}

#[test]
fn a_step_with_too_few_groups_shows_all_of_them_where_that_is_an_error() {
    let sampler =
        SamplerConfig { train_batch: 12, max_gen_rounds: 1, on_exhausted: OnExhausted::Error, ..config().sampler };
    let mut trainer = trainer(TrainerConfig { sampler, ..config() });
    let Err(TrainerError::NoSignal(end)) = trainer.step() else { panic!("the batch is full, or another error") };
    let kept = end.groups.iter().filter(|record| record.fate == Fate::Kept).count();
    assert!(kept > 0 && kept == end.shortage.kept, "{end:?}");
    assert_eq!(end.groups.len(), 12);
    assert!(end.groups.is_sorted_by_key(|record| record.group.draw));
    assert!(!end.ends_well && !end.is_mastered() && trainer.is_whole());
    assert!(
        end.to_string().starts_with(&format!("too few groups to train on: {kept} of 12 groups were kept")),
        "{end}"
    );
}

/// Makes of a `trainer.json` what the first format had; gives the number of its groups.
fn to_format_1(state: &mut serde_json::Value) -> usize {
    const LISTS: [(&str, &str); 4] =
        [("completion", "completions"), ("text", "texts"), ("reward", "rewards"), ("kl_term", "kl_terms")];
    state["format"] = 1.into();
    let entries = state["sampler"]["kept"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        let mut group = serde_json::json!({ "prompt": entry["group"]["prompt"] });
        let samples = entry["group"]["samples"].as_array().unwrap();
        for (of, list) in LISTS {
            group[list] = samples.iter().filter_map(|sample| sample.get(of).cloned()).collect();
        }
        entry["group"] = group;
    }
    entries.len()
}

#[test]
fn a_checkpoint_of_the_first_format_continues_to_the_bit() {
    for kl_in_reward in [0.0, 0.5] {
        let config = TrainerConfig { kl_in_reward, ..config() };
        let mut whole = trainer(config.clone());
        whole.step().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        whole.save(&checkpoint, "tiny").unwrap();
        let file = checkpoint.join("trainer.json");
        let mut state = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert!(to_format_1(&mut state) > 0, "no group was carried: nothing was shown");
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();

        let mut resumed = trainer(config);
        resumed.restore(&checkpoint).unwrap();
        let (expected, found) = (whole.step().unwrap(), resumed.step().unwrap());
        assert_eq!(expected.metrics, found.metrics);
        assert_eq!(expected.groups, found.groups);
        assert!(found.groups.iter().any(|record| record.age > 0 && record.fate.is_trained()));

        state["format"] = 3.into();
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();
        let error = resumed.restore(&checkpoint).unwrap_err().to_string();
        assert!(error.ends_with("trainer.json: format 3, expected format 1 to 2"), "{error}");
    }
}
