//! What a reward function of one's own sees of a training step, and what becomes of what it says.

use crate::{MAX_NEW_TOKENS, config, model};
use dapo_data::Problem;
use dapo_data::{PromptStyle, encode_prompts};
use dapo_policy::Message;
use dapo_reward::{Ending, RewardInput, RewardSum, RewardTerm, SampleReward, Score};
use dapo_sampler::SamplerConfig;
use dapo_trainer::{Trainer, TrainerConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a reward was shown of a sample, by draw and number.
#[derive(Debug, PartialEq)]
struct Seen {
    messages: Vec<Value>,
    level: u64,
    golds: Vec<String>,
    token_ids: Vec<u32>,
    text: String,
    ending: Ending,
    step: u64,
}

type Journal = Arc<Mutex<BTreeMap<(u64, usize), Seen>>>;

/// Problems of which no answer is asked, with a column of their own.
fn problems() -> Vec<Problem> {
    let problem = |i: u64| Problem {
        columns: Arc::new(json!({"level": i, "question": format!("{i}+{i}=")})),
        alternatives: vec!["another".into()],
        ..Problem::new(format!("p{i}"), vec![Message::user(format!("{i}+{i}="))], "one")
    };
    (1..24).map(problem).collect()
}

fn trainer(reward: impl Fn(&RewardInput<'_>) -> Score + Send + Sync + 'static, config: TrainerConfig) -> Trainer {
    let (policy, tokenizer) = model();
    let (prompts, _) = encode_prompts(&problems(), &tokenizer, &PromptStyle::default(), 64).unwrap();
    let rewards = RewardSum::of(vec![RewardTerm::new(1.0, SampleReward::new("own", reward))]).unwrap();
    Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap()
}

/// Rewards short completions.
fn shortness(input: &RewardInput<'_>) -> f64 {
    1.0 - input.num_tokens as f64 / MAX_NEW_TOKENS as f64
}

#[test]
fn a_reward_sees_all_that_is_known_of_a_sample() {
    let journal = Journal::default();
    let shared = journal.clone();
    let mut trainer = trainer(
        move |input| {
            let seen = Seen {
                messages: input.messages.to_vec(),
                level: input.column("level").and_then(Value::as_u64).unwrap(),
                golds: input.answers().map(str::to_owned).collect(),
                token_ids: input.token_ids.to_vec(),
                text: input.completion.to_owned(),
                ending: input.ending,
                step: input.step,
            };
            assert!(shared.lock().unwrap().insert((input.draw, input.sample), seen).is_none(), "scored once");
            Score::value(shortness(input))
        },
        config(),
    );
    for step in 1..=2 {
        let outcome = trainer.step().unwrap();
        let journal = journal.lock().unwrap();
        for record in outcome.groups.iter().filter(|record| record.age == 0) {
            let group = &record.group;
            let question = group.prompt.columns["question"].as_str().unwrap();
            for (number, sample) in group.samples.iter().enumerate() {
                let expected = Seen {
                    messages: vec![json!({"role": "user", "content": question})],
                    level: group.prompt.id[1..].parse().unwrap(),
                    golds: vec!["one".into(), "another".into()],
                    token_ids: sample.completion.token_ids.clone(),
                    text: sample.text.clone(),
                    ending: if sample.is_truncated() { Ending::Length } else { Ending::Stop },
                    step,
                };
                assert_eq!(journal[&(group.draw, number)], expected);
            }
        }
    }
}

#[test]
fn numbers_to_log_are_means_over_the_samples_that_have_them() {
    let judge = |input: &RewardInput<'_>| {
        let score = Score::value(shortness(input)).with_log("tokens", input.num_tokens as f64);
        if input.sample == 0 { score.with_log("first", input.draw as f64) } else { score }
    };
    let mut trainer = trainer(judge, config());
    let outcome = trainer.step().unwrap();
    let logs = &outcome.metrics.logs["own"];
    assert!((logs["tokens"] - outcome.metrics.mean_length.unwrap()).abs() < 1e-9);
    let draws: Vec<f64> = outcome.groups.iter().map(|record| record.group.draw as f64).collect();
    assert!((logs["first"] - draws.iter().sum::<f64>() / draws.len() as f64).abs() < 1e-9);
    let line = serde_json::to_value(&outcome.metrics).unwrap();
    assert_eq!(line["rewards/own/tokens"], logs["tokens"]);
    assert_eq!(line["rewards/own/first"], logs["first"]);
    assert!(line["rewards/own/mean"].is_number());
}

#[test]
fn without_a_judge_groups_are_chosen_by_their_reward() {
    let mut judgeless = trainer(|input| Score::value(shortness(input)), config());
    let outcome = judgeless.step().unwrap();
    assert_eq!(outcome.metrics.accuracy, None);
    assert!(outcome.metrics.updates > 0 && outcome.metrics.dynamic_sampling.trained == 4);
}

#[test]
fn carried_groups_have_their_columns_again_after_a_restore() {
    let small = || TrainerConfig { sampler: SamplerConfig { train_batch: 2, ..config().sampler }, ..config() };
    let new = || trainer(|input| Score::value(shortness(input)), small());
    let mut trainer = new();
    trainer.step().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("step-1");
    trainer.save(&checkpoint, "base").unwrap();
    let text = std::fs::read_to_string(checkpoint.join("trainer.json")).unwrap();
    assert!(!text.contains("\"columns\"") && !text.contains("\"messages\""));
    let mut restored = new();
    restored.restore(&checkpoint).unwrap();
    let (outcome, expected) = (restored.step().unwrap(), trainer.step().unwrap());
    assert!(expected.groups.iter().any(|record| record.age > 0), "none was carried");
    assert_eq!(outcome.groups, expected.groups);
}
