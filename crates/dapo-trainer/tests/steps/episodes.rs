//! Episodes with an environment: the tiny model with a calculator, and with a number to guess.

use crate::{config, model, prompts};
use dapo_loss::Kl;
use dapo_policy::{Policy, TokenGroup, pack_tokens};
use dapo_reward::{
    EnvFault, EnvLimits, EnvProblem, EnvReward, EnvStart, EnvStep, EnvTurn, Environment, RewardSum, RewardTerm, Said,
    SampleReward,
};
use dapo_sampler::{FilterMetric, GenBatch, PerPrompt, SamplerConfig};
use dapo_trainer::{OptimizerConfig, StepOutcome, Trainer, TrainerConfig, TrainerError, roll_out};
use serde_json::json;

/// Answers `a+b=` by the sum, and ends the episode with anything else: 1 for the sum of the problem behind `####`, else 0.
/// The state counts the calls.
struct Calculator;

impl Environment for Calculator {
    fn reset(&self, _: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
        Ok(EnvStart { state: json!(0), ..EnvStart::default() })
    }

    fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
        let calls = turn.state.as_u64().ok_or("no count of calls")?;
        let step = match turn.text.strip_suffix('=') {
            Some(sum) if !turn.is_last => {
                let sum = sum.rsplit(|c: char| !(c.is_ascii_digit() || c == '+')).next().unwrap_or_default();
                let result: u64 = sum.split('+').filter_map(|part| part.parse::<u64>().ok()).sum();
                EnvStep::says("tool", result.to_string())
            }
            _ => {
                let is_correct = turn.text.rsplit("####").next() == Some(turn.problem.answer);
                EnvStep::done(f64::from(u8::from(is_correct))).with_correct(is_correct)
            }
        };
        let log = [("calls".to_owned(), calls as f64)].into();
        Ok(EnvStep { log, ..step.with_state(json!(calls + 1)) })
    }
}

pub(crate) fn calculator() -> EnvReward {
    let limits = EnvLimits { max_turns: 8, max_turn_tokens: None, max_context_tokens: 24 };
    EnvReward::new(Calculator).with_limits(limits).judging(true)
}

/// Turns end with a question to the calculator.
pub(crate) fn of_turns() -> TrainerConfig {
    TrainerConfig { stop: vec!["=".into()], max_new_tokens: 48, ..config() }
}

fn trainer(env: EnvReward, config: TrainerConfig) -> Trainer {
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    Trainer::new(policy, tokenizer, prompts, RewardSum::of(vec![RewardTerm::new(1.0, env)]).unwrap(), config).unwrap()
}

fn samples(outcome: &StepOutcome) -> impl Iterator<Item = &dapo_trainer::Sample> {
    outcome.groups.iter().flat_map(|record| &record.group.samples)
}

#[test]
fn a_model_learns_to_use_the_calculator() {
    let optimizer = OptimizerConfig { lr: 1e-4, warmup_steps: 0, ..OptimizerConfig::default() };
    let sampler = SamplerConfig { train_batch: 6, gen_batch: GenBatch::Fixed(12), ..SamplerConfig::default() };
    let mut trainer = trainer(calculator(), TrainerConfig { optimizer, sampler, group_size: 8, ..of_turns() });
    let mut accuracies = Vec::new();
    for _ in 0..20 {
        let metrics = trainer.step().unwrap().metrics;
        assert_eq!(metrics.components["env"], metrics.reward);
        // A step may train on carried groups alone.
        let Some(accuracy) = metrics.accuracy else { continue };
        assert!(metrics.logs["env"]["turns"] >= 1.0);
        accuracies.push(accuracy);
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (first, last) = (mean(&accuracies[..3]), mean(&accuracies[accuracies.len() - 3..]));
    assert!(last > first + 0.1, "{accuracies:?}");
}

#[test]
fn log_probs_are_those_of_the_whole_conversation_and_the_environments_tokens_are_not_in_the_loss() {
    let optimizer = OptimizerConfig { lr: 0.0, ..config().optimizer };
    let mut trainer = trainer(calculator(), TrainerConfig { optimizer, ..of_turns() });
    let outcome = trainer.step().unwrap();
    assert_eq!(outcome.metrics.logp_difference_max, Some(0.0));
    let (mut with_context, mut tokens, mut count) = (0, 0, 0);
    for record in &outcome.groups {
        for sample in &record.group.samples {
            let completion = &sample.completion;
            let group = TokenGroup::new(&record.group.prompt.token_ids, [completion]);
            let packed = pack_tokens(&[group], 1000).unwrap().remove(0);
            let scored = trainer.policy().logprobs(&packed.tokens, 1.0).unwrap().logprobs;
            assert_eq!(scored, completion.logprobs);
            with_context += usize::from(!completion.context.is_empty());
            tokens += completion.token_ids.len();
            count += 1;
            // The tokens, with those of the environment in their places, are the text that was said.
            let episode = sample.episode.as_ref().unwrap();
            let said: String = episode.turns.iter().map(|said| said.content.as_str()).collect();
            let mut all = packed.tokens.token_ids[record.group.prompt.token_ids.len()..].to_vec();
            all.retain(|id| !trainer.stop_tokens().contains(*id));
            assert_eq!(trainer.tokenizer().decode(&all, true).unwrap(), said);
            assert_eq!(episode.turns.iter().filter(|said| said.role == "tool").count(), completion.context.len());
            let turns = episode.turns.iter().filter(|said| said.role == "assistant").count();
            assert_eq!((episode.rewards.len(), sample.reward.components[0].log["turns"]), (turns, turns as f64));
        }
    }
    assert!(with_context > 10 && with_context < count, "{with_context} of {count}");
    // What was generated is what is measured.
    assert_eq!(outcome.metrics.num_tokens, tokens as u64);
    assert_eq!(outcome.metrics.mean_length, Some(tokens as f64 / count as f64));
}

#[test]
fn answers_that_come_side_by_side_change_nothing() {
    /// Answers slowly, and each turn after another time.
    struct Slow(usize);
    impl Environment for Slow {
        fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
            Calculator.reset(problem)
        }
        fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
            std::thread::sleep(std::time::Duration::from_micros((turn.text.len() as u64 * 7919) % 1500));
            Calculator.step(turn)
        }
        fn lanes(&self) -> usize {
            self.0
        }
    }
    let step = |env: EnvReward| trainer(env, of_turns()).step().unwrap();
    let limits = EnvLimits { max_turns: 8, max_turn_tokens: None, max_context_tokens: 24 };
    let quick = step(calculator());
    for lanes in [1, 5] {
        let slow = step(EnvReward::new(Slow(lanes)).with_limits(limits).judging(true));
        assert_eq!((&slow.metrics, &slow.groups), (&quick.metrics, &quick.groups), "{lanes} lanes");
    }
}

#[test]
fn episodes_go_through_every_part_of_a_step() {
    // More completions of a prompt, a reference, a KL in the loss and in the reward, other rewards beside the environment's.
    let per_prompt = Some(PerPrompt { max_samples: 8, increment: 2 });
    let sampler = SamplerConfig { per_prompt, metric: FilterMetric::SeqReward, ..config().sampler };
    let brevity = |input: &dapo_reward::RewardInput<'_>| 1.0 / (1.0 + input.num_tokens as f64);
    for (kl_in_reward, coef) in [(0.0, 0.1), (0.05, 0.0)] {
        let mut loss = of_turns().loss;
        loss.kl = Kl { coef, ..loss.kl };
        let config = TrainerConfig { sampler: sampler.clone(), kl_in_reward, loss, ..of_turns() };
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let terms =
            vec![RewardTerm::new(0.5, calculator()), RewardTerm::new(1.0, SampleReward::new("brevity", brevity))];
        let mut trainer = Trainer::new(policy, tokenizer, prompts, RewardSum::of(terms).unwrap(), config).unwrap();
        let outcome = trainer.step().unwrap();
        assert!(outcome.metrics.updates > 0 && outcome.metrics.ref_kl.is_some());
        let mut numbers = 0;
        for sample in samples(&outcome) {
            let [env, brevity] = &sample.reward.components[..] else { panic!("{:?}", sample.reward) };
            let total = 0.5 * env.value.unwrap() + brevity.value.unwrap();
            assert_eq!(sample.reward.total, Some(total));
            assert_eq!(brevity.value, Some(1.0 / (1.0 + sample.completion.token_ids.len() as f64)));
            numbers += usize::from(sample.kl_term.is_some());
        }
        assert_eq!(numbers > 0, kl_in_reward > 0.0);
    }
}

#[test]
fn limits_end_episodes() {
    let step = |limits, max_new_tokens| {
        trainer(
            EnvReward::new(Calculator).with_limits(limits).judging(true),
            TrainerConfig { max_new_tokens, ..of_turns() },
        )
        .step()
        .unwrap()
    };
    let limits = EnvLimits { max_turns: 3, max_turn_tokens: None, max_context_tokens: 24 };
    let few = step(limits, 48);
    let most = samples(&few).map(|sample| sample.episode.as_ref().unwrap().rewards.len()).max();
    assert_eq!(most, Some(3));
    // The calculator ends what it is told is the last turn.
    assert!(samples(&few).all(|sample| sample.episode.as_ref().unwrap().is_done));
    let short = step(EnvLimits { max_turn_tokens: Some(6), ..limits }, 48);
    for sample in samples(&short) {
        let mut before = 0;
        for at in sample.completion.context.iter().map(|c| c.at).chain([sample.completion.token_ids.len()]) {
            assert!((1..=6).contains(&(at - before)));
            before = at;
        }
    }
    // What the environment may not say ends an episode as truncated, without a reward.
    let silent = step(EnvLimits { max_context_tokens: 0, ..limits }, 48);
    let cut: Vec<_> = samples(&silent).filter(|sample| !sample.episode.as_ref().unwrap().is_done).collect();
    assert!(!cut.is_empty());
    for sample in cut {
        assert!(sample.is_truncated() && sample.completion.context.is_empty());
        assert_eq!(sample.reward.components[0].value, Some(0.0));
    }
    let tight = step(limits, 9);
    assert!(samples(&tight).all(|sample| sample.completion.token_ids.len() <= 9));
}

#[test]
fn a_failing_environment_stops_the_step_or_makes_its_samples_abstain() {
    struct Failing(&'static str);
    impl Environment for Failing {
        fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
            let fault = (self.0 == "reset" && problem.draw == 3).then(|| "timeout".to_owned());
            Ok(EnvStart { fault, ..Calculator.reset(problem)? })
        }
        fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
            match self.0 {
                "error" if turn.problem.draw == 2 => Err("no calculator".into()),
                "panic" if turn.problem.draw == 2 => panic!("no calculator"),
                "speaks" => Ok(EnvStep::says("assistant", "I")),
                "step" if turn.sample == 1 => Ok(EnvStep { fault: Some("exit".into()), ..EnvStep::default() }),
                _ => Calculator.step(turn),
            }
        }
    }
    let step = |how| {
        let limits = EnvLimits { max_context_tokens: 24, ..EnvLimits::default() };
        trainer(EnvReward::new(Failing(how)).with_limits(limits).judging(true), of_turns()).step()
    };
    let message = |how| step(how).unwrap_err().to_string();
    assert_eq!(message("error"), "env: no calculator");
    assert_eq!(message("panic"), "env: it panicked: no calculator");
    assert!(matches!(step("error"), Err(TrainerError::Environment(_))));
    assert!(message("speaks").starts_with("the role of what env says is assistant"), "{}", message("speaks"));
    for (how, abstains) in
        [("reset", (|draw, _| draw == 3) as fn(u64, usize) -> bool), ("step", |_, sample| sample == 1)]
    {
        let outcome = step(how).unwrap();
        for record in &outcome.groups {
            for (number, sample) in record.group.samples.iter().enumerate() {
                assert_eq!(sample.reward.total.is_none(), abstains(record.group.draw, number), "{how}");
            }
        }
    }
}

#[test]
fn carried_episodes_are_saved_and_trained_on_as_they_were() {
    let optimizer = OptimizerConfig { lr: 1e-3, warmup_steps: 0, ..OptimizerConfig::default() };
    let sampler = SamplerConfig { train_batch: 3, gen_batch: GenBatch::Fixed(16), ..SamplerConfig::default() };
    let config = TrainerConfig { optimizer, sampler, ..of_turns() };
    let mut whole = trainer(calculator(), config.clone());
    whole.step().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("step-1");
    whole.save(&checkpoint, "tiny").unwrap();
    let text = std::fs::read_to_string(checkpoint.join("trainer.json")).unwrap();
    assert!(text.contains("\"context\"") && text.contains("\"turns\""), "an episode is carried");
    let mut resumed = trainer(calculator(), config);
    resumed.restore(&checkpoint).unwrap();
    let (expected, got) = (whole.step().unwrap(), resumed.step().unwrap());
    assert_eq!(expected.metrics, got.metrics);
    // Messages and columns are no part of checkpoints.
    let said = |outcome: &StepOutcome| samples(outcome).cloned().collect::<Vec<_>>();
    assert_eq!(said(&expected), said(&got));
    assert!(expected.groups.iter().any(|record| record.age == 1));
}

#[test]
fn an_evaluation_plays_episodes_too() {
    /// A number from 1 to 9; says it first, and after two turns.
    struct Guess;
    impl Environment for Guess {
        fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
            let messages = vec![Said::new("user", format!("{}+", problem.seed % 9 + 1))];
            Ok(EnvStart { messages, state: json!(problem.seed % 9 + 1), ..EnvStart::default() })
        }
        fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
            let number = turn.state.as_u64().ok_or("no number")?;
            let is_found = turn.text.contains(&number.to_string());
            if is_found || turn.turn == 3 || turn.is_last {
                return Ok(EnvStep::done(f64::from(u8::from(is_found))).with_correct(is_found));
            }
            Ok(EnvStep::says("user", format!("{number}")).with_state(turn.state.clone()))
        }
    }
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let trainer = trainer(calculator(), of_turns());
    let generation = dapo_policy::GenerationConfig {
        max_new_tokens: 40,
        purpose: dapo_policy::Purpose::Evaluation,
        ..dapo_policy::GenerationConfig::new(trainer.stop_tokens().clone())
    };
    let limits = EnvLimits { max_context_tokens: 24, ..EnvLimits::default() };
    let env = EnvReward::new(Guess).with_limits(limits).judging(true);
    let rewards = RewardSum::of(vec![RewardTerm::new(1.0, env)]).unwrap();
    let drawn: Vec<_> = (0..).zip(&prompts[..6]).collect();
    let groups = roll_out(&policy, &tokenizer, &drawn, 3, &generation, &rewards, 0).unwrap();
    for (group, prompt) in groups.iter().zip(&prompts) {
        let first = group.prompt.text.strip_prefix(&prompt.text).unwrap();
        assert!(first.len() == 2 && first.ends_with('+'), "{first}");
        assert!(group.prompt.token_ids.starts_with(&prompt.token_ids));
        assert!(group.samples.iter().all(|sample| sample.reward.correct.is_some()));
    }
    let again = roll_out(&policy, &tokenizer, &drawn, 3, &generation, &rewards, 0).unwrap();
    assert_eq!(groups, again);
    let seeds: std::collections::BTreeSet<&str> =
        groups.iter().map(|group| group.prompt.text.rsplit('=').next().unwrap()).collect();
    assert!(seeds.len() > 1, "draws have seeds of their own");
}
