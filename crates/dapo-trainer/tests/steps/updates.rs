//! What the updates of a step compute, and with which weights, learning rates and mini-batches.

use crate::{config, model, prompts, rewards, trainer};
use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{PromptStyle, encode_prompts};
use dapo_loss::{
    AdvantageNorm, AdvantageScale, Advantages, Aggregation, Denominator, ImportanceLevel, Kl, LossBatch, LossConfig,
    Outside, RejectBy, Rejection, RolloutCorrection, TokenChunk, policy_loss, top_entropy_threshold,
};
use dapo_policy::{Decoder, Gradients, Policy};
use dapo_reward::{RewardFault, RewardFn, RewardInput, RewardSum, SampleReward, Score};
use dapo_sampler::{FilterMetric, GenBatch, OnExhausted, SamplerConfig, SurplusPolicy};
use dapo_trainer::{
    OptimizerConfig, SampleOutcome, Schedule, Trainer, TrainerConfig, TrainerError, TrainingGroup, TrainingSequence,
    Update, accumulate, pack,
};

#[test]
fn a_gradient_that_is_not_finite_is_named_with_its_step_and_the_updates_before_it() {
    /// Rewards of a sane size in the first step; in the second one beyond f32 from its third group on.
    #[derive(Debug)]
    struct Growing(std::sync::atomic::AtomicUsize);
    impl RewardFn for Growing {
        fn name(&self) -> &'static str {
            "growing"
        }
        fn score(&self, _: &RewardInput<'_>) -> Result<Score, RewardFault> {
            unreachable!("batches only")
        }
        fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
            let is_second = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
            let score = |number: usize| {
                let scale = if is_second && number >= 8 { 1e38 } else { 1.0 };
                Score::value(scale * (number % 4) as f64)
            };
            Ok((0..inputs.len()).map(score).collect())
        }
    }
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let rewards = RewardSum::new(vec![(1.0, Box::new(Growing(std::sync::atomic::AtomicUsize::new(0))))]).unwrap();
    let sampler = SamplerConfig { enabled: false, metric: FilterMetric::SeqReward, ..config().sampler };
    let advantage = AdvantageNorm { scale: AdvantageScale::None, ..AdvantageNorm::default() };
    let config = TrainerConfig { sampler, advantage, mini_batches: 2, ..config() };
    let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap();
    assert_eq!(trainer.step().unwrap().metrics.updates, 2);
    let error = trainer.step().unwrap_err();
    assert!(matches!(error, TrainerError::NotFinite { step: Some(2), update: 2, .. }), "{error}");
    assert!(error.to_string().ends_with("; update 1 of the step had been made"), "{error}");
    assert!(!trainer.is_whole());
}

#[test]
fn a_run_of_one_falling_step_trains_and_a_longer_one_is_resumed_on_its_own_line() {
    let falling = |steps| {
        let (schedule, decay_steps) = (Schedule::Linear, Some(steps));
        TrainerConfig { optimizer: OptimizerConfig { schedule, decay_steps, ..config().optimizer }, ..config() }
    };
    let weights = |trainer: &Trainer| {
        let tensors = trainer.policy().tensors().unwrap();
        tensors["model.norm.weight"].to_vec1::<f32>().unwrap()
    };
    let mut short = trainer(falling(1));
    let before = weights(&short);
    assert_eq!(short.step().unwrap().metrics.lr, 1e-4);
    assert_ne!(weights(&short), before);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    short.save(&checkpoint, "tiny").unwrap();
    // `steps` is the length of the whole run: step 2 of 4 has 3/4 of the rate.
    let mut longer = trainer(falling(4));
    longer.restore(&checkpoint).unwrap();
    assert_eq!(longer.step().unwrap().metrics.lr, 0.75 * 1e-4);
    // Beyond its planned end a run stays at the floor.
    assert_eq!(short.step().unwrap().metrics.lr, 0.0);
}

/// A generator of small numbers that is the same everywhere.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Gradients of one update over the groups, and the loss's derivative for every computed token, by sample and position.
type Computed = (Vec<Vec<f32>>, std::collections::BTreeMap<(u64, usize, usize), u32>, usize);

fn gradients_of(policy: &Decoder, groups: &[TrainingGroup], config: &LossConfig, max_tokens: usize) -> Computed {
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let denominator = Denominator::of_step(config.aggregation, &lengths, config.empty_sequences).unwrap();
    let mut gradients = Gradients::new(policy.parameters().len());
    let (mut of_tokens, mut tokens) = (std::collections::BTreeMap::new(), 0);
    for batch in pack(groups, max_tokens).unwrap() {
        tokens += batch.tokens.token_ids.len();
        let mut update = Update::default();
        accumulate(policy, &batch, 1.0, config, denominator, &mut gradients, &mut update).unwrap();
        let advantages = Advantages::PerSequence(&batch.advantages);
        let loss_batch = LossBatch::new(&batch.cu_seqlens, advantages, &batch.old_logprobs);
        let logprobs = policy.logprobs(&batch.tokens, 1.0).unwrap().logprobs;
        let mut of_batch = vec![0.0; logprobs.len()];
        policy_loss(config, denominator, loss_batch, TokenChunk::whole(&logprobs), of_batch.as_mut_slice().into())
            .unwrap();
        for (sample, ends) in batch.samples.iter().zip(batch.cu_seqlens.windows(2)) {
            let values = of_batch[ends[0]..ends[1]].iter().enumerate();
            of_tokens.extend(
                values.filter(|(_, v)| **v != 0.0).map(|(i, v)| ((sample.draw, sample.sample, i), v.to_bits())),
            );
        }
    }
    let all = (0..policy.parameters().len()).map(|index| {
        let tensor = gradients.get(index).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|value| value + 0.0).collect()
    });
    (all.collect(), of_tokens, tokens)
}

#[test]
fn groups_without_a_gradient_are_not_computed_and_change_no_bit_of_the_others() {
    let (policy, _) = model();
    for seed in 0..12 {
        let mut below = numbers(seed);
        let mut groups: Vec<TrainingGroup> = (0..6)
            .map(|draw| {
                let zero = below(2) == 0;
                let sequences = (0..=below(4) as usize).map(|sample| {
                    let token_ids: Vec<u32> = (0..=below(20)).map(|_| 3 + below(20) as u32).collect();
                    let old_logprobs = token_ids.iter().map(|_| -(below(400) as f32) / 100.0).collect();
                    let advantage = if zero { 0.0 } else { below(200) as f32 / 100.0 - 1.005 };
                    let in_loss = below(5) != 0;
                    TrainingSequence { sample, token_ids, old_logprobs, advantage, in_loss, ..Default::default() }
                });
                let sequences = sequences.collect();
                TrainingGroup { draw, prompt_ids: vec![3, 4, 5], sequences, zero_gradient: zero, ..Default::default() }
            })
            .collect();
        groups[0].zero_gradient = false;
        groups[0].sequences[0] = TrainingSequence { advantage: 1.0, in_loss: true, ..groups[0].sequences[0].clone() };
        let computed = |groups: &[TrainingGroup]| -> Vec<TrainingGroup> {
            groups.iter().map(|group| TrainingGroup { zero_gradient: false, ..group.clone() }).collect()
        };
        for name in ["dapo", "gspo", "cispo", "sapo", "gmpo"] {
            let config = LossConfig::of(name.parse().unwrap());
            let without = gradients_of(&policy, &groups, &config, 64);
            // Where they stand, every other token has the same derivative, to the bit.
            let with = gradients_of(&policy, &computed(&groups), &config, 64);
            assert_eq!(with.1, without.1, "{name}, seed {seed}");
            assert!(with.2 >= without.2);
            // Behind the others, where they change the packing of none, so has every weight.
            groups.sort_by_key(|group| group.zero_gradient);
            let without = gradients_of(&policy, &groups, &config, 64);
            let with = gradients_of(&policy, &computed(&groups), &config, 64);
            for (index, (with, without)) in with.0.iter().zip(&without.0).enumerate() {
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert!(bits(with) == bits(without), "{name}, seed {seed}: {}", policy.parameters()[index].0);
            }
            groups.sort_by_key(|group| group.draw);
        }
    }
}

#[test]
fn a_step_of_groups_without_a_signal_decays_the_weights_and_computes_no_token() {
    // Every completion is worth the same.
    let equal =
        || RewardSum::new(vec![(1.0, Box::new(SampleReward::new("equal", |_| 0.5)) as Box<dyn RewardFn>)]).unwrap();
    let with = |loss| {
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let sampler = SamplerConfig { enabled: false, metric: FilterMetric::SeqReward, ..config().sampler };
        let optimizer = OptimizerConfig { lr: 0.1, weight_decay: 0.5, ..config().optimizer };
        let mut trainer =
            Trainer::new(policy, tokenizer, prompts, equal(), TrainerConfig { sampler, optimizer, loss, ..config() })
                .unwrap();
        (trainer.step().unwrap().metrics, trainer)
    };
    let (metrics, trainer) = with(LossConfig::default());
    assert_eq!((metrics.updates, metrics.loss, metrics.grad_norm), (1, Some(0.0), Some(0.0)));
    assert_eq!((metrics.entropy, metrics.kl, metrics.logp_difference_max), (None, None, None));
    let initial = model().0.tensors().unwrap();
    for (name, tensor) in trainer.policy().tensors().unwrap() {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (now, before) in values(&tensor).iter().zip(values(&initial[&name])) {
            assert!((now - before * 0.95).abs() <= 1e-6 * before.abs(), "{name}: {now} {before}");
        }
    }
    // An entropy bonus needs every token, and so do a quantile of entropies and a judgement of every sequence.
    let rollout_correction = Some(RolloutCorrection { reject: Some(Rejection::default()), ..Default::default() });
    for loss in [
        LossConfig { entropy_coef: 1e-3, ..LossConfig::default() },
        LossConfig { top_entropy_quantile: 0.2, ..LossConfig::default() },
        LossConfig { rollout_correction, ..LossConfig::default() },
    ] {
        assert!(with(loss).0.entropy.is_some());
    }
}

#[test]
fn a_short_batch_makes_fewer_updates_of_the_same_size_and_none_below_the_floor() {
    // So many problems, each drawn once a step: a batch of as many groups.
    let of = |prompts: usize, train_batch, mini_batches, min_mini_batch| {
        let sampler = SamplerConfig {
            train_batch,
            gen_batch: GenBatch::Fixed(prompts),
            max_gen_rounds: 0,
            on_exhausted: OnExhausted::KeepZeroStd,
            surplus: SurplusPolicy::Discard,
            ..config().sampler
        };
        let (policy, tokenizer) = model();
        let prompts =
            encode_prompts(&addition_problems(Split::Train, prompts, 5), &tokenizer, &PromptStyle::default(), 64);
        let config = TrainerConfig { sampler, mini_batches, min_mini_batch, ..config() };
        Trainer::new(policy, tokenizer, prompts.unwrap().0, rewards(), config).unwrap()
    };
    for (prompts, train_batch, mini_batches, updates) in
        [(16, 16, 4, 4), (5, 16, 4, 2), (4, 16, 4, 1), (1, 16, 16, 1), (7, 7, 3, 3)]
    {
        let outcome = of(prompts, train_batch, mini_batches, None).step().unwrap();
        assert_eq!(outcome.trained().count(), prompts);
        assert_eq!((outcome.metrics.updates, outcome.metrics.skipped_steps), (updates, None));
    }
    // Four of 16 groups in mini-batches of four: as a whole batch of four would be trained.
    let (mut short, mut whole) = (of(4, 16, 4, None), of(4, 4, 1, None));
    let (short, whole) = (short.step().unwrap().metrics, whole.step().unwrap().metrics);
    assert_eq!((short.updates, short.grad_norm), (1, whole.grad_norm));
    assert!(short.grad_norm > Some(0.0));
    // Two of four groups are half of a mini-batch.
    assert_eq!(of(2, 16, 4, Some(0.5)).step().unwrap().metrics.updates, 1);
    let mut skipping = of(2, 16, 4, Some(0.75));
    let folder = tempfile::tempdir().unwrap();
    for step in 1..=2 {
        let metrics = skipping.step().unwrap().metrics;
        assert_eq!((metrics.updates, metrics.skipped_steps, metrics.loss), (0, Some(step), None));
        let json = serde_json::to_value(&metrics).unwrap();
        assert_eq!(json["skipped_steps"], step);
        let checkpoint = folder.path().join(step.to_string());
        skipping.save(&checkpoint, "tiny").unwrap();
        skipping = of(2, 16, 4, Some(0.75));
        skipping.restore(&checkpoint).unwrap();
    }
}

#[test]
fn corrections_of_the_rollout_are_1_on_a_cpu_and_change_no_bit() {
    let steps = |rollout_correction| {
        let loss = LossConfig { rollout_correction, ..LossConfig::default() };
        let mut trainer = trainer(TrainerConfig { loss, mini_batches: 2, ..config() });
        let metrics: Vec<_> = (0..2).map(|_| trainer.step().unwrap().metrics).collect();
        let norm = trainer.policy().tensors().unwrap()["model.norm.weight"].to_vec1::<f32>().unwrap();
        (metrics, norm)
    };
    let (without, norm) = steps(None);
    for (level, outside, by) in [
        (ImportanceLevel::Token, Outside::Truncate, RejectBy::Product),
        (ImportanceLevel::Sequence, Outside::Mask, RejectBy::GeometricMean),
        (ImportanceLevel::Off, Outside::Truncate, RejectBy::Product),
    ] {
        let reject = Some(Rejection { by, low: Some(1.0), high: Some(1.0) });
        let (with, norm_with) = steps(Some(RolloutCorrection { level, outside, low: 1.0, high: 1.0, reject }));
        assert_eq!(norm_with, norm, "{level}");
        for (with, without) in with.iter().zip(&without) {
            let weight = (level != ImportanceLevel::Off).then_some(1.0);
            assert_eq!((with.importance_mean, without.importance_mean), (weight, None));
            assert_eq!((with.masked_tokens, with.masked_sequences), (Some(0.0), Some(0.0)));
            assert_eq!((without.masked_tokens, without.masked_sequences), (None, None));
            assert_eq!((with.loss, with.grad_norm), (without.loss, without.grad_norm));
        }
    }
}

#[test]
fn rollout_log_probs_weigh_the_loss_against_the_old_ones() {
    let (policy, _) = model();
    let gradient = |rollout: f32| {
        let sequence = TrainingSequence {
            token_ids: vec![5, 6, 7],
            old_logprobs: vec![-1.0; 3],
            rollout_logprobs: vec![-1.0 + rollout; 3],
            advantage: 1.0,
            in_loss: true,
            ..TrainingSequence::default()
        };
        let group = TrainingGroup { prompt_ids: vec![3, 4], sequences: vec![sequence], ..TrainingGroup::default() };
        let rollout_correction = Some(RolloutCorrection::default());
        let config = LossConfig { rollout_correction, ..LossConfig::default() };
        let denominator = Denominator::of_step(config.aggregation, &[3], config.empty_sequences).unwrap();
        let mut gradients = Gradients::new(policy.parameters().len());
        let mut update = Update::default();
        let batch = &pack(&[group], 100).unwrap()[0];
        accumulate(&policy, batch, 1.0, &config, denominator, &mut gradients, &mut update).unwrap();
        (update.loss, gradients.norm().unwrap())
    };
    let (loss, norm) = gradient(0.0);
    assert!(norm > 0.0);
    // exp(−ln 2) = 1/2, and exp(ln 8) cut to the cap of 2.
    for (rollout, weight) in [(std::f32::consts::LN_2, 0.5), (-8.0f32.ln(), 2.0)] {
        let (found, found_norm) = gradient(rollout);
        assert!((found - weight * loss).abs() < 1e-5 * loss.abs(), "{found} {loss}");
        assert!((found_norm - weight * norm).abs() < 1e-5 * norm, "{found_norm} {norm}");
    }
}

#[test]
fn every_loss_that_validation_accepts_runs() {
    let (policy, _) = model();
    let sequence = |sample, advantage| TrainingSequence {
        sample,
        token_ids: vec![5, 6, 7],
        old_logprobs: vec![-1.0; 3],
        rollout_logprobs: vec![-1.1; 3],
        ref_logprobs: Some(vec![-1.2; 3]),
        advantage,
        in_loss: true,
        ..TrainingSequence::default()
    };
    let group = TrainingGroup {
        prompt_ids: vec![3, 4],
        sequences: vec![sequence(0, 1.0), sequence(1, -1.0)],
        ..TrainingGroup::default()
    };
    let batch = &pack(&[group], 100).unwrap()[0];
    let (mut accepted, mut refused) = (0, 0);
    for name in ["dapo", "ppo", "gspo", "cispo", "sapo", "gmpo"] {
        for aggregation in [
            Aggregation::TokenMean,
            Aggregation::SeqMeanTokenMean,
            Aggregation::SeqMeanTokenSum,
            Aggregation::SeqMeanTokenSumNorm { max_len: 8 },
            Aggregation::LocalTokenMean,
        ] {
            for (level, outside) in [
                (None, Outside::Truncate),
                (Some(ImportanceLevel::Token), Outside::Truncate),
                (Some(ImportanceLevel::Token), Outside::Mask),
                (Some(ImportanceLevel::Sequence), Outside::Mask),
                (Some(ImportanceLevel::Off), Outside::Truncate),
            ] {
                for (times_ratio, top_entropy_quantile) in [(false, 1.0), (true, 1.0), (false, 0.2)] {
                    let reject = Some(Rejection::default());
                    let of = |level| RolloutCorrection { level, outside, reject, ..RolloutCorrection::default() };
                    let kl = Kl { coef: 0.1, times_ratio, ..Kl::default() };
                    let loss = LossConfig {
                        policy_loss: name.parse().unwrap(),
                        aggregation,
                        kl,
                        rollout_correction: level.map(of),
                        entropy_coef: 0.1,
                        top_entropy_quantile,
                        ..LossConfig::default()
                    };
                    if (TrainerConfig { loss, ..config() }).validate().is_err() {
                        refused += 1;
                        continue;
                    }
                    accepted += 1;
                    let denominator = Denominator::of_step(aggregation, &[3, 3], loss.empty_sequences).unwrap();
                    let (mut gradients, mut update) = (Gradients::new(policy.parameters().len()), Update::default());
                    accumulate(&policy, batch, 1.0, &loss, denominator, &mut gradients, &mut update).unwrap();
                    assert_eq!(update.metrics.tokens, 6);
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 10, "{accepted} {refused}");
}

#[test]
fn a_step_leaves_out_sequences_that_are_too_far_from_their_rollout() {
    // No ratio is as large as 2, so that the rejection takes everything.
    let reject = Some(Rejection { low: Some(2.0), high: Some(3.0), ..Rejection::default() });
    let rollout_correction = Some(RolloutCorrection { reject, ..RolloutCorrection::default() });
    let loss = LossConfig { rollout_correction, ..LossConfig::default() };
    let mut all_rejected = trainer(TrainerConfig { loss, ..config() });
    let outcome = all_rejected.step().unwrap();
    assert_eq!((outcome.metrics.updates, outcome.metrics.loss), (0, None));
    assert_eq!((outcome.metrics.masked_tokens, outcome.metrics.masked_sequences), (Some(1.0), Some(1.0)));
    let json = serde_json::to_value(&outcome.metrics).unwrap();
    assert_eq!(json["sampling/rollout_correction/masked_sequences"], 1.0);
    for sample in outcome.trained().flat_map(|record| &record.group.samples) {
        assert_eq!((sample.outcome, sample.in_loss()), (SampleOutcome::Rejected, false));
        assert!(sample.advantage.is_some());
    }
    // Masked, everything stays in the denominator: an update without a policy loss.
    let outside = Outside::Mask;
    let correction = RolloutCorrection { outside, low: 2.0, high: 3.0, ..RolloutCorrection::default() };
    let loss = LossConfig { rollout_correction: Some(correction), ..LossConfig::default() };
    let metrics = trainer(TrainerConfig { loss, ..config() }).step().unwrap().metrics;
    assert_eq!((metrics.updates, metrics.loss, metrics.grad_norm), (1, Some(0.0), Some(0.0)));
    assert_eq!((metrics.masked_tokens, metrics.importance_mean), (Some(1.0), Some(0.0)));
}

#[test]
fn the_quantile_of_entropies_is_that_of_the_update_however_it_is_packed() {
    let (policy, _) = model();
    let mut below = numbers(3);
    let groups: Vec<TrainingGroup> = (0..4)
        .map(|draw| {
            let sequences = (0..3).map(|sample| {
                let token_ids: Vec<u32> = (0..4 + below(9)).map(|_| 3 + below(20) as u32).collect();
                let old_logprobs = token_ids.iter().map(|_| -(below(400) as f32) / 100.0).collect();
                let advantage = below(200) as f32 / 100.0 - 1.005;
                TrainingSequence { sample, token_ids, old_logprobs, advantage, in_loss: true, ..Default::default() }
            });
            TrainingGroup { draw, prompt_ids: vec![3, 4, 5], sequences: sequences.collect(), ..Default::default() }
        })
        .collect();
    let loss = LossConfig { top_entropy_quantile: 0.3, ..LossConfig::default() };
    let whole = &pack(&groups, 10_000).unwrap()[0];
    let entropies = policy.logprobs(&whole.tokens, 1.0).unwrap().entropies;
    let threshold = top_entropy_threshold(0.3, entropies.clone()).unwrap();
    let chosen = entropies.iter().filter(|&&entropy| entropy >= threshold).count();
    assert!(chosen > entropies.len() / 4 && chosen < entropies.len() / 2, "{chosen} of {}", entropies.len());
    let lengths: Vec<usize> = groups.iter().flat_map(|g| &g.sequences).map(TrainingSequence::loss_tokens).collect();
    let denominator = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences).unwrap();
    let update = |max_tokens| {
        let (mut gradients, mut update) = (Gradients::new(policy.parameters().len()), Update::default());
        let mut batches = pack(&groups, max_tokens).unwrap();
        for batch in &mut batches {
            batch.entropy_threshold = Some(threshold).filter(|_| max_tokens < 10_000);
            accumulate(&policy, batch, 1.0, &loss, denominator, &mut gradients, &mut update).unwrap();
        }
        (batches.len(), update.loss, gradients.norm().unwrap())
    };
    // Without a threshold a micro-batch takes its own.
    let (one, loss_of_one, norm_of_one) = update(10_000);
    let (several, loss_of_several, norm_of_several) = update(24);
    assert!(one == 1 && several > 3);
    assert!((loss_of_one - loss_of_several).abs() < 1e-6 && (norm_of_one / norm_of_several - 1.0).abs() < 1e-5);
}

#[test]
fn micro_batches_of_a_step_share_the_entropies_they_are_chosen_by() {
    let step = |top_entropy_quantile, micro_batch_tokens| {
        let loss = LossConfig { top_entropy_quantile, ..LossConfig::default() };
        trainer(TrainerConfig { loss, micro_batch_tokens, ..config() }).step().unwrap().metrics
    };
    let (whole, split, all) = (step(0.02, 100_000), step(0.02, 64), step(1.0, 64));
    let close = |a: Option<f64>, b: Option<f64>| (a.unwrap() / b.unwrap() - 1.0).abs() < 1e-4;
    assert!(close(whole.grad_norm, split.grad_norm), "{:?} {:?}", whole.grad_norm, split.grad_norm);
    assert!(!close(whole.grad_norm, all.grad_norm));
    assert_eq!(split.clip_low, all.clip_low);
}
