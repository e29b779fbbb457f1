//! Rewards that wait for somebody else are scored beside generation, and nothing depends on when.

use crate::{config, model, prompts, trainer};
use dapo_data::Prompt;
use dapo_policy::{
    Completion, Decoder, Each, GenerationConfig, Gradients, Loss, Policy, PolicyError, Request, StopTokens, TokenBatch,
    TokenLogprobs,
};
use dapo_reward::{Accuracy, GroupReward, RewardFault, RewardInput, RewardSum, RewardTerm, SampleReward, Score};
use dapo_sampler::SamplerConfig;
use dapo_trainer::{Group, Trainer, TrainerConfig, TrainerError, roll_out};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Hands groups over in an order of its own, and waits before the last one.
struct Ordered<'a> {
    policy: &'a Decoder,
    order: Vec<usize>,
    before_last: &'a (dyn Fn() + Sync),
    fails_at_last: bool,
}

impl Policy for Ordered<'_> {
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        self.policy.generate(requests, config)
    }

    fn generate_each(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        each: &mut Each<'_>,
    ) -> Result<(), PolicyError> {
        let groups = self.policy.generate(requests, config)?;
        for (i, number) in self.order.iter().enumerate() {
            if i + 1 == self.order.len() {
                (self.before_last)();
                if self.fails_at_last {
                    return Err(PolicyError::Internal("the device is gone".into()));
                }
            }
            each(*number, groups[*number].clone());
        }
        Ok(())
    }

    fn logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        self.policy.logprobs(batch, temperature)
    }

    fn logprobs_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        self.policy.logprobs_backward(batch, temperature, gradients, loss)
    }
}

/// Lengths of completions beside accuracy, and how long each is compared with the longest of its group.
fn lengths(
    slow: bool,
    look: impl Fn(&RewardInput<'_>) -> Result<(), RewardFault> + Send + Sync + 'static,
) -> RewardSum {
    let length = SampleReward::new("length", move |input| {
        look(input)?;
        Ok::<_, RewardFault>(Score::value(input.num_tokens as f64).with_log("step", input.step as f64))
    });
    let share = GroupReward::new("share", |group| {
        let most = group.iter().map(|input| input.num_tokens).max().unwrap_or(1);
        group.iter().map(|input| input.num_tokens as f64 / most as f64).collect::<Vec<_>>()
    });
    let (length, share) = if slow { (length.waiting(), share.waiting()) } else { (length, share) };
    let accuracy = RewardTerm::new(1.0, Accuracy::default());
    RewardSum::of(vec![RewardTerm::new(0.01, length), accuracy, RewardTerm::new(0.1, share)]).unwrap()
}

fn rolled_out(policy: &impl Policy, decoder: &Decoder, rewards: &RewardSum) -> Result<Vec<Group>, TrainerError> {
    let (_, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let drawn: Vec<(u64, &Prompt)> = (7..).zip(&prompts[..5]).collect();
    let stop = StopTokens::of(decoder.config(), &tokenizer);
    let generation = GenerationConfig { max_new_tokens: 24, ..GenerationConfig::new(stop) };
    roll_out(policy, &tokenizer, &drawn, 3, &generation, rewards, 4)
}

/// Waits until a condition holds, at most ten seconds.
fn wait_for(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    condition()
}

#[test]
fn groups_are_scored_while_others_are_generated_in_whatever_order() {
    let (decoder, _) = model();
    let expected = rolled_out(&decoder, &decoder, &lengths(false, |_| Ok(()))).unwrap();
    assert_eq!(expected.len(), 5);
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let scored = Arc::new(AtomicUsize::new(0));
        let count = scored.clone();
        let rewards = lengths(true, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let all_but_last_are_scored = || assert!(wait_for(|| scored.load(Ordering::SeqCst) == 12));
        let policy = Ordered {
            policy: &decoder,
            order: order.to_vec(),
            before_last: &all_but_last_are_scored,
            fails_at_last: false,
        };
        assert_eq!(rolled_out(&policy, &decoder, &rewards).unwrap(), expected, "{order:?}");
        assert_eq!(scored.load(Ordering::SeqCst), 15);
    }
    // The decoder itself hands over what is finished.
    assert_eq!(rolled_out(&decoder, &decoder, &lengths(true, |_| Ok(()))).unwrap(), expected);
}

#[test]
fn steps_are_the_same_with_delays() {
    let steps = |rewards: RewardSum| {
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config()).unwrap();
        let outcomes = [trainer.step().unwrap(), trainer.step().unwrap()];
        for outcome in &outcomes {
            assert!(outcome.timings.reward_time <= outcome.timings.rollout_time);
        }
        outcomes.map(|outcome| (outcome.metrics, outcome.groups))
    };
    let expected = steps(lengths(false, |_| Ok(())));
    for salt in [1, 5] {
        let delayed = lengths(true, move |input| {
            thread::sleep(Duration::from_millis((input.draw * 7 + input.sample as u64 * salt) % 5));
            Ok(())
        });
        assert!(steps(delayed) == expected, "{salt}");
    }
}

#[test]
fn faults_end_the_step_and_leave_no_thread_behind() {
    let failing = |slow: bool, calls: Arc<AtomicUsize>| {
        lengths(slow, move |input| {
            calls.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            if input.draw == 3 { Err("no such judge".into()) } else { Ok(()) }
        })
    };
    let error = |slow: bool| {
        let calls = Arc::new(AtomicUsize::new(0));
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let mut failing = Trainer::new(policy, tokenizer, prompts, failing(slow, calls.clone()), config()).unwrap();
        let error = failing.step().unwrap_err().to_string();
        assert!(failing.is_whole());
        let after = calls.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(calls.load(Ordering::SeqCst), after, "somebody is still scoring");
        error
    };
    assert_eq!(error(true), error(false));
    assert_eq!(error(true), "reward \"length\" failed: no such judge");
    // A panic is a fault.
    let (decoder, _) = model();
    let panics = lengths(true, |_| panic!("out of tokens"));
    let found = rolled_out(&decoder, &decoder, &panics).unwrap_err().to_string();
    assert!(found.contains("length") && found.contains("out of tokens"), "{found}");
}

#[test]
fn nothing_is_scored_after_generation_has_failed() {
    let (decoder, _) = model();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let rewards = lengths(true, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
        Ok(())
    });
    let has_begun = || assert!(wait_for(|| calls.load(Ordering::SeqCst) > 0));
    let policy = Ordered { policy: &decoder, order: vec![0, 1, 2], before_last: &has_begun, fails_at_last: true };
    let error = rolled_out(&policy, &decoder, &rewards).unwrap_err().to_string();
    assert!(error.contains("the device is gone"), "{error}");
    // The first part at most: one group, or both that were finished when it began.
    assert!(calls.load(Ordering::SeqCst) <= 6, "{calls:?}");
}

#[test]
fn rewards_that_do_not_wait_score_a_round_at_once() {
    let mut trainer =
        trainer(TrainerConfig { sampler: SamplerConfig { enabled: false, ..config().sampler }, ..config() });
    let outcome = trainer.step().unwrap();
    assert!(outcome.timings.reward_time > 0.0 && outcome.timings.reward_time < outcome.timings.rollout_time);
}
