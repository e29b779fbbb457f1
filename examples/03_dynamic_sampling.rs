//! Lesson 3: dynamic sampling. Groups that teach nothing are dropped, and more are drawn until the batch is full.
//!
//! `cargo run --release --example 03_dynamic_sampling`
//!
//! Equations are those of the DAPO paper, arXiv 2503.14476; the loop is the first half of its Algorithm 1.

use anyhow::Result;
use dapo::data::tasks::{Split, addition_problems};
use dapo::data::{Prompt, PromptStyle, encode_prompts};
use dapo::loss::{AdvantageNorm, group_advantages};
use dapo::policy::{GenerationConfig, StopTokens};
use dapo::reward::{Accuracy, RewardSum, RewardTerm};
use dapo::run::{ModelSource, TINY};
use dapo::sampler::{DataOrder, Drawn, DynamicSampler, SamplerConfig, judge};
use dapo::trainer::{Group, Sample, roll_out};

/// G, completions of each prompt.
const GROUP: usize = 4;

fn main() -> Result<()> {
    // Eq. 11 keeps a group if 0 < #correct < G. Where all completions are alike, every advantage of Eq. 9 is 0, and so
    // is the gradient: the group would only make the batch smaller than it seems.
    println!("a group of four, 1 for each correct completion");
    for correct in [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]] {
        let (verdict, norm) = (judge(&correct.map(Some), 0.0, 0.0), AdvantageNorm::default());
        println!("  {correct:.0?}  advantages {:5.2?}  {verdict:?}", group_advantages(&correct, &norm)?.values());
    }

    // The model, its task, and what judges its answers.
    let (policy, tokenizer) = ModelSource::find(TINY, "main")?.load()?;
    let problems = addition_problems(Split::Train, 512, 0);
    let (prompts, _too_long) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 64)?;
    let stop = StopTokens::of(policy.config(), &tokenizer);
    let generation = GenerationConfig { max_new_tokens: 72, ..GenerationConfig::new(stop) };
    let rewards = RewardSum::of(vec![RewardTerm::new(1.0, Accuracy::default())])?;

    // A step needs 16 groups that carry a signal. `order` gives each draw a prompt and an index, which keys its random
    // numbers; `sampler` says how many groups to draw next, judges them and counts them.
    let mut order = DataOrder::new(0, prompts.len())?;
    let mut sampler =
        DynamicSampler::new(SamplerConfig { train_batch: 16, ..SamplerConfig::default() }, prompts.len())?;
    println!("\nrounds until 16 groups are kept");
    while let Some(count) = sampler.next_round() {
        let draws = order.next_draws(count);
        let draws: Vec<(u64, &Prompt)> = draws.into_iter().map(|(draw, prompt)| (draw, &prompts[prompt])).collect();
        let groups = roll_out(&policy, &tokenizer, &draws, GROUP, &generation, &rewards, 1)?;
        let drawn = groups.into_iter().map(|group| Drawn { draw: group.draw, metric: metric(&group), group });
        sampler.push_round(drawn.collect())?;
        println!("  drew {count:2} groups, {:2} still missing", sampler.missing());
    }

    // Every group is in exactly one term of the account.
    let batch = sampler.take_batch()?;
    let account = batch.account;
    account.check()?;
    println!("\n{} groups generated", account.generated);
    println!("  {:2} kept for training", account.trained);
    println!("  {:2} dropped, all correct", account.all_correct);
    println!("  {:2} dropped, all incorrect", account.all_incorrect);
    let lost = batch.dropped.iter().filter(|group| group.draw < 16).count();
    println!("without dynamic sampling, {lost} of the first 16 groups would have had no gradient");
    Ok(())
}

/// What groups are judged by: whether each completion is correct. Penalties, such as that for length, play no part.
fn metric(group: &Group) -> Vec<Option<f64>> {
    group.samples.iter().map(Sample::accuracy).collect()
}
