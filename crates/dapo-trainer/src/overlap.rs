//! Completions that are scored while others are still generated.

use crate::error::TrainerError;
use crate::judge::{Finished, Judge, Known};
use crate::sample::Group;
use dapo_policy::{GenerationConfig, GenerationProgress, Policy, Request, Watch};
use dapo_reward::{RewardError, RewardInput, Round, Score};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

/// Completions of each request with their texts, and the scores of all of them, in order, by the places of the components
/// that wait. Each of these components has a thread that scores the groups which are finished; it ends before this does.
///
/// # Errors
/// When generation fails, a completion cannot be decoded, or a component is at fault: the first of them.
pub(crate) fn generate_and_score(
    policy: &impl Policy,
    judge: Judge<'_>,
    groups: &[Group],
    requests: &[Request],
    generation: &GenerationConfig,
    watch: &mut Watch<'_>,
) -> Result<(Vec<Finished>, Known), TrainerError> {
    let finished: Vec<OnceLock<Finished>> = requests.iter().map(|_| OnceLock::new()).collect();
    let samples = requests.iter().map(|request| request.samples).sum();
    let is_over = AtomicBool::new(false);
    let scores = thread::scope(|scope| {
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for place in judge.rewards.waiting() {
            let (sender, receiver) = channel();
            let scorer = Scorer { judge, place, groups, finished: &finished, is_over: &is_over };
            senders.push(sender);
            threads.push((place, scope.spawn(move || scorer.run(&receiver, &Round::new(samples)))));
        }
        let (mut undecoded, mut progress) = (None, GenerationProgress::default());
        watch(progress);
        let generated = policy.generate_each(requests, generation, &mut |number, completions| {
            progress.requests += 1;
            progress.completions += completions.len();
            progress.tokens += completions.iter().map(|completion| completion.token_ids.len() as u64).sum::<u64>();
            watch(progress);
            match Finished::of(completions, judge.tokenizer, &groups[number], None) {
                Ok(group) => {
                    let _ = finished[number].set(group);
                    for sender in &senders {
                        // A component that has failed takes no more.
                        let _ = sender.send(number);
                    }
                }
                Err(error) => {
                    undecoded.get_or_insert(error);
                }
            }
        });
        let generated_all = Instant::now();
        is_over.store(generated.is_err() || undecoded.is_some(), Ordering::Relaxed);
        drop(senders);
        let scores: Vec<_> = threads
            .into_iter()
            .map(|(place, thread)| (place, thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
            .collect();
        judge.clock.add_since(generated_all);
        generated?;
        undecoded.map_or(Ok(()), |error| Err(TrainerError::from(error)))?;
        scores.into_iter().map(|(place, scores)| Ok((place, scores?))).collect::<Result<_, TrainerError>>()
    })?;
    Ok((finished.into_iter().map(|group| group.into_inner().unwrap_or_default()).collect(), scores))
}

/// A component of the reward at work beside generation.
struct Scorer<'a> {
    judge: Judge<'a>,
    place: usize,
    groups: &'a [Group],
    finished: &'a [OnceLock<Finished>],
    /// Whether the round has failed.
    is_over: &'a AtomicBool,
}

impl Scorer<'_> {
    /// The scores of all completions in the order of the groups, whose numbers come as they are finished.
    fn run(&self, numbers: &Receiver<usize>, round: &Round) -> Result<Vec<Score>, RewardError> {
        let mut scores = vec![Vec::new(); self.groups.len()];
        while let Ok(first) = numbers.recv() {
            let mut part: Vec<usize> = std::iter::once(first).chain(numbers.try_iter()).collect();
            if self.is_over.load(Ordering::Relaxed) {
                continue;
            }
            part.sort_unstable();
            let inputs: Vec<Vec<RewardInput<'_>>> = part.iter().map(|number| self.inputs(*number)).collect();
            let of_part = self.judge.rewards.score_part(self.place, &inputs.concat(), round)?;
            let mut of_part = of_part.into_iter();
            for (number, inputs) in part.into_iter().zip(&inputs) {
                scores[number] = of_part.by_ref().take(inputs.len()).collect();
            }
        }
        Ok(scores.concat())
    }

    fn inputs(&self, number: usize) -> Vec<RewardInput<'_>> {
        let finished = self.finished[number].get();
        finished.into_iter().flat_map(|finished| self.judge.inputs(&self.groups[number], finished)).collect()
    }
}
