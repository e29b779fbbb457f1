//! Lesson 5: whole steps of DAPO, written out top-down: Algorithm 1 of the paper, arXiv 2503.14476.
//!
//! `cargo run --release --example 05_own_loop`
//!
//! `Trainer` is this loop with checkpoints, KL, a critic and more. The weights are those of `dapo train tiny`, bit for
//! bit.

use anyhow::{Context, Result};
use dapo::loss::{Denominator, group_advantages};
use dapo::policy::{Decoder, GenerationConfig, Gradients, StopTokens};
use dapo::run::{ModelSource, load_problems, resolve_words};
use dapo::sampler::{DataOrder, Drawn, DynamicSampler, KeptGroup};
use dapo::trainer::{AdamW, Group, Sample, SampleOutcome, TrainerConfig, TrainingGroup, TrainingSequence, Update};
use dapo::trainer::{accumulate, fingerprint_of_weights, pack, roll_out};

fn main() -> Result<()> {
    // The recipe `tiny`: chains of additions, 16 groups of 8 completions in a step, two updates.
    let settings = resolve_words(["tiny"])?.config;
    let (mut policy, tokenizer) = ModelSource::find(&settings.model.path, "main")?.load()?;
    let rewards = settings.reward_sum()?;
    let prompts = load_problems(&settings, &rewards, &tokenizer, settings.data.max_prompt_tokens)?.train;
    let config = settings.trainer_config();
    let stop = StopTokens::of(policy.config(), &tokenizer);
    let generation = GenerationConfig { max_new_tokens: config.max_new_tokens, ..GenerationConfig::new(stop) };

    let mut order = DataOrder::new(config.seed, prompts.len())?;
    let mut sampler = DynamicSampler::new(config.sampler.clone(), prompts.len())?;
    let mut optimizer = AdamW::new(&policy, config.optimizer)?;
    for step in 0..15 {
        // Eq. 11: prompts are completed G times each, until enough groups have correct and incorrect completions.
        let (mut correct, mut completions) = (0, 0);
        while let Some(count) = sampler.next_round() {
            let draws = order.next_draws(count);
            let draws: Vec<_> = draws.iter().map(|(draw, prompt)| (*draw, &prompts[*prompt])).collect();
            let groups = roll_out(&policy, &tokenizer, &draws, config.group_size, &generation, &rewards, step + 1)?;
            correct += groups.iter().map(Group::correct).sum::<usize>();
            completions += count * config.group_size;
            sampler.push_round(groups.into_iter().map(drawn).collect())?;
        }
        let mut batch = sampler.take_batch()?;
        batch.groups.iter_mut().try_for_each(|kept| set_advantages(&mut kept.group, &config))?;
        // Two updates, each by half of the groups. In the first one every ratio is 1; the second one may meet the clip.
        let of = |kept: &KeptGroup<Group>| TrainingGroup::of(&kept.group, kept.age == 0, &config.loss);
        for groups in batch.groups.iter().map(of).collect::<Vec<_>>().chunks(config.mini_batch_groups()) {
            update(&mut policy, &mut optimizer, groups, &config, config.optimizer.lr_at(step))?;
        }
        println!("step {:2}: {completions} completions, {:.2} correct", step + 1, correct as f64 / completions as f64);
    }
    println!("weights {}", fingerprint_of_weights(&policy)?);
    Ok(())
}

/// A group as the sampler judges it: by what is correct, and not by penalties.
fn drawn(group: Group) -> Drawn<Group> {
    Drawn { draw: group.draw, metric: group.samples.iter().map(Sample::accuracy).collect(), group }
}

/// Eq. 9: a completion's advantage is its reward less the mean of its group, divided by the group's standard deviation.
fn set_advantages(group: &mut Group, config: &TrainerConfig) -> Result<()> {
    let rewards: Vec<Option<f64>> = group.samples.iter().map(|sample| sample.reward.total).collect();
    let advantages = group_advantages(&rewards, &config.advantage)?.to_options();
    for (sample, advantage) in group.samples.iter_mut().zip(advantages) {
        (sample.advantage, sample.outcome) = (advantage, SampleOutcome::InLoss);
    }
    Ok(())
}

/// One update of AdamW by the gradient of Eq. 8: a mean over all tokens of the groups, whatever they are packed into.
fn update(policy: &mut Decoder, adam: &mut AdamW, of: &[TrainingGroup], config: &TrainerConfig, lr: f64) -> Result<()> {
    let lengths: Vec<_> = of.iter().flat_map(|group| &group.sequences).map(TrainingSequence::loss_tokens).collect();
    let denominator = Denominator::of_step(config.loss.aggregation, &lengths, config.loss.empty_sequences);
    let denominator = denominator.context("no token is in the loss")?;
    let (mut gradients, mut update) = (Gradients::new(policy.parameters().len()), Update::default());
    for batch in pack(of, config.micro_batch_tokens)? {
        // Forward pass, loss, backward pass; gradients add up over micro-batches.
        accumulate(policy, &batch, 1.0, &config.loss, denominator, &mut gradients, &mut update)?;
    }
    adam.update(policy, &gradients, lr)?;
    Ok(())
}
