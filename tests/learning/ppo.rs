//! PPO learns, and it learns through its critic: where the reward reaches few tokens by itself, values that stay at zero or
//! stand at the wrong tokens teach less.
//!
//! Accuracy is that of one greedy completion of each of 192 held-out problems.
use super::{LR, MAX_NEW_TOKENS, generation, model, prompts, rewards};
use dapo::data::Prompt;
use dapo::data::tasks::Split;
use dapo::eval::evaluate;
use dapo::loss::{
    ClipRange, Denominator, Gae, GaeBatch, LossConfig, PolicyLoss, ValueBatch, ValueLoss, ValueOutput, batch_gae,
    token_rewards, value_loss, whiten,
};
use dapo::policy::{
    AdamWStep, Decoder, GenerationConfig, Gradients, Moments, Purpose, SamplingConfig, TokenGroup, Tokenizer,
    ValueHead, pack_tokens,
};
use dapo::sampler::SamplerConfig;
use dapo::sampler::SplitMix;
use dapo::trainer::{
    AdamW, CriticConfig, Group, OptimizerConfig, SampleOutcome, TokenTargets, Trainer, TrainerConfig, TrainingGroup,
    Update, accumulate, pack, roll_out,
};

const GROUPS: usize = 12;
const CRITIC_LR: f64 = 1e-3;

fn accuracy(policy: &Decoder, tokenizer: &Tokenizer) -> f64 {
    let held_out = prompts(Split::HeldOut, 192, 1, tokenizer);
    let sampling = SamplingConfig { temperature: 0.0, ..SamplingConfig::default() };
    let generation = GenerationConfig { sampling, ..generation(policy, tokenizer, 0, Purpose::Evaluation) };
    evaluate(policy, tokenizer, &held_out, 1, &generation, &rewards()).unwrap().accuracy()
}

fn optimizer(lr: f64) -> OptimizerConfig {
    OptimizerConfig { lr, weight_decay: 0.0, warmup_steps: 0, ..OptimizerConfig::default() }
}

fn loss() -> LossConfig {
    let policy_loss = PolicyLoss::Ppo { clip: ClipRange { low: 0.2, high: 0.2 }, dual_clip: None };
    LossConfig { policy_loss, ..LossConfig::default() }
}

#[test]
fn three_seeds_learn_with_a_critic() {
    for seed in 0..3 {
        let (policy, tokenizer) = model();
        let before = accuracy(&policy, &tokenizer);
        let critic = CriticConfig { lambda: 0.95, optimizer: optimizer(CRITIC_LR), ..CriticConfig::default() };
        let config = TrainerConfig {
            seed,
            max_new_tokens: MAX_NEW_TOKENS,
            sampler: SamplerConfig { enabled: false, train_batch: GROUPS, ..SamplerConfig::default() },
            loss: loss(),
            optimizer: OptimizerConfig { lr: LR, warmup_steps: 5, ..OptimizerConfig::default() },
            critic: Some(critic),
            mini_batches: 2,
            ..TrainerConfig::default()
        };
        let problems = prompts(Split::Train, 2048, seed, &tokenizer);
        let mut trainer = Trainer::new(policy, tokenizer, problems, rewards(), config).unwrap();
        let mut explained = 0.0;
        for _ in 0..30 {
            let metrics = trainer.step().unwrap().metrics;
            explained += metrics.critic.unwrap().explained_variance.unwrap() / 30.0;
        }
        let after = accuracy(trainer.policy(), trainer.tokenizer());
        println!("seed {seed}: {before:.3} to {after:.3}, explained variance {explained:.3}");
        assert!(before <= 0.45, "before training: {before}");
        assert!(after >= 0.8, "seed {seed}: {before} to {after}");
        assert!(explained > 0.1, "seed {seed}: {explained}");
    }
}

/// A value for every token of the groups, end to end, and the offsets of the completions.
fn values(critic: &Decoder, head: &ValueHead, groups: &[Group]) -> (Vec<f32>, Vec<usize>) {
    let tokens: Vec<TokenGroup<'_>> = groups
        .iter()
        .map(|group| {
            TokenGroup::new(
                &group.prompt.token_ids,
                group.samples.iter().map(|sample| &sample.completion.token_ids[..]),
            )
        })
        .collect();
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    for batch in pack_tokens(&tokens, usize::MAX).unwrap() {
        values.extend(critic.values(&batch.tokens, head).unwrap());
        offsets.extend(&batch.cu_seqlens[1..]);
    }
    (values, offsets)
}

/// PPO written out from its parts, with λ = 1/2: the reward itself reaches only a completion's last few tokens. `reorder`
/// gets the values before advantages are made of them. Accuracy after training, and the mean share of the returns' variance
/// that the values explain.
fn train_by_parts(seed: u64, critic_lr: f32, mut reorder: impl FnMut(&mut [f32])) -> (f64, f64) {
    const STEPS: usize = 25;
    let discounts = Gae { gamma: 1.0, lambda: 0.5 };
    let (mut policy, tokenizer) = model();
    let mut critic = policy.trainable_copy().unwrap();
    let (mut head, mut moments) = (ValueHead::new(critic.config().hidden_size), Moments::zeros(&critic).unwrap());
    let problems = prompts(Split::Train, STEPS * GROUPS, seed, &tokenizer);
    let mut of_policy = AdamW::new(&policy, optimizer(LR)).unwrap();
    let generation = generation(&policy, &tokenizer, seed, Purpose::Rollout);
    let (loss, value) = (loss(), ValueLoss { clip: 0.5 });
    let mut explained = 0.0;
    for (step, problems) in problems.chunks(GROUPS).enumerate() {
        let drawn: Vec<(u64, &Prompt)> = ((GROUPS * step) as u64..).zip(problems).collect();
        let mut groups = roll_out(&policy, &tokenizer, &drawn, 8, &generation, &rewards(), 1).unwrap();
        let (mut old_values, offsets) = values(&critic, &head, &groups);
        reorder(&mut old_values);
        let outcomes: Vec<f64> =
            groups.iter().flat_map(|group| &group.samples).map(|sample| sample.reward.total.unwrap()).collect();
        let rewards = token_rewards(&outcomes, None, &offsets, None).unwrap();
        let bootstraps = vec![0.0; outcomes.len()];
        let batch = GaeBatch {
            cu_seqlens: &offsets,
            mask: None,
            rewards: &rewards,
            values: &old_values,
            bootstraps: &bootstraps,
        };
        let mut advantages = batch_gae(batch, discounts).unwrap();
        let returns: Vec<f32> = advantages.iter().zip(&old_values).map(|(a, v)| a + v).collect();
        whiten(&mut advantages, None).unwrap();
        let mut ends = offsets.windows(2);
        let training: Vec<TrainingGroup> = groups
            .iter_mut()
            .map(|group| {
                for sample in &mut group.samples {
                    (sample.advantage, sample.outcome) = (Some(0.0), SampleOutcome::InLoss);
                }
                let mut training = TrainingGroup::of(group, true, &loss);
                training.zero_gradient = false;
                for sequence in &mut training.sequences {
                    let ends = ends.next().unwrap();
                    let of = |all: &[f32]| all[ends[0]..ends[1]].to_vec();
                    let (advantages, old_values, returns) = (of(&advantages), of(&old_values), of(&returns));
                    sequence.critic = Some(TokenTargets { advantages, old_values, returns });
                }
                training
            })
            .collect();
        let lengths: Vec<usize> = offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
        let denominator = Denominator::of_step(loss.aggregation, &lengths, loss.empty_sequences).unwrap();
        let mut of_critic = Gradients::new(critic.parameters().len());
        let mut gradients = Gradients::new(policy.parameters().len());
        let (mut update, mut output) = (Update::default(), ValueOutput::default());
        head.clear();
        for batch in pack(&training, 4096).unwrap() {
            accumulate(&policy, &batch, 1.0, &loss, denominator, &mut gradients, &mut update).unwrap();
            let targets = batch.critic.as_ref().unwrap();
            let mut of_values = |values: &[f32], into: &mut [f32]| {
                let (old_values, returns) = (&targets.old_values[..], &targets.returns[..]);
                let of = ValueBatch { cu_seqlens: &batch.cu_seqlens, mask: None, old_values, returns };
                output += value_loss(&value, denominator, of, values, into).unwrap();
                Ok(())
            };
            critic.values_backward(&batch.tokens, &mut head, &mut of_critic, &mut of_values).unwrap();
        }
        explained += output.metrics.explained_variance() / STEPS as f64;
        of_policy.update(&mut policy, &gradients, LR).unwrap();
        let of_step = AdamWStep {
            lr: critic_lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: step as u64 + 1,
            grad_scale: 1.0,
        };
        critic.adamw_with_head(&of_critic, &mut moments, &mut head, &of_step, 1.0).unwrap();
    }
    (accuracy(&policy, &tokenizer), explained)
}

#[test]
fn values_that_stay_at_zero_or_are_shuffled_teach_less() {
    for seed in 0..2 {
        let (learnt, explained) = train_by_parts(seed, CRITIC_LR as f32, |_| ());
        let (frozen, by_frozen) = train_by_parts(seed, 0.0, |_| ());
        let mut rng = SplitMix::new(1);
        let (shuffled, by_shuffled) = train_by_parts(seed, CRITIC_LR as f32, |values| {
            for i in (1..values.len()).rev() {
                values.swap(i, rng.below(i as u64 + 1) as usize);
            }
        });
        println!(
            "seed {seed}: a critic that learns {learnt:.3} ({explained:.3} of the variance explained), one that does not \
             {frozen:.3} ({by_frozen:.3}), shuffled values {shuffled:.3} ({by_shuffled:.3})"
        );
        assert!(explained > 0.2, "seed {seed}: {explained}");
        assert_eq!(by_frozen, 0.0, "seed {seed}: the values stay at zero");
        assert!(learnt > frozen + 0.1 && learnt > shuffled + 0.1, "seed {seed}: {learnt}, {frozen}, {shuffled}");
    }
}
