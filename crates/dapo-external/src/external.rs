//! A reward that is computed elsewhere: [`ExternalReward`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use dapo_reward::{RewardFault, RewardFn, RewardInput, Round, Score};

use crate::cache::{Answer, Cache, Key, Scores};
use crate::config::OnError;
use crate::counters::{Counters, Tally};
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::transport::{Batch, Transport};

/// How a round of samples becomes requests, and what their faults do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Most samples in one request; `None`: all samples of a round, spread evenly over the lanes.
    pub batch: Option<usize>,
    /// What a failed request does.
    pub on_error: OnError,
    /// Largest share of a round's samples that may abstain because of faults. With [`OnError::Abstain`].
    pub max_error_fraction: f64,
}

/// A reward whose scores come over a [`Transport`], and are asked for once.
///
/// A score must depend on its sample alone: which samples share a request depends on the settings and on what is known. A
/// transport that [compares](Transport::compares) samples gets those of a draw that are scored together.
pub struct ExternalReward {
    name: String,
    transport: Box<dyn Transport>,
    rules: Rules,
    cache: Option<Mutex<Cache<Scores>>>,
    requests: AtomicU64,
    tally: Tally,
}

impl std::fmt::Debug for ExternalReward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalReward").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl ExternalReward {
    /// A reward of this name over a transport. `state_dir` is the folder that keeps the answers, in
    /// `reward_cache/NAME.jsonl`; without one nothing is kept.
    ///
    /// # Errors
    /// [`ExternalError::Name`], and [`ExternalError::Io`] and [`ExternalError::Cache`] of the kept answers.
    pub fn new(
        name: &str,
        transport: Box<dyn Transport>,
        rules: Rules,
        state_dir: Option<&Path>,
    ) -> Result<Self, ExternalError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(ExternalError::Name { name: name.to_owned() });
        }
        let open = |dir: &Path| Cache::open(dir.join("reward_cache").join(format!("{name}.jsonl")));
        let cache = state_dir.map(open).transpose()?.map(Mutex::new);
        let (requests, tally) = (AtomicU64::new(0), Tally::default());
        Ok(Self { name: name.to_owned(), transport, rules, cache, requests, tally })
    }

    /// Rewrites the file of known answers, so that it does not depend on the order in which they came: those of this
    /// step and earlier ones in the order of draw, sample and hash, then those of later steps. To be called at every
    /// checkpoint.
    ///
    /// # Errors
    /// [`ExternalError::Io`].
    pub fn checkpoint(&self, step: u64) -> Result<(), ExternalError> {
        self.cache().map_or(Ok(()), |mut cache| cache.checkpoint(step))
    }

    /// The answers that have come since the last call or the last [`checkpoint`](Self::checkpoint), as lines of the file of
    /// known answers, for another process.
    ///
    /// # Errors
    /// [`ExternalError::Io`].
    pub fn news(&self) -> Result<Vec<u8>, ExternalError> {
        self.cache().map_or(Ok(Vec::new()), |mut cache| cache.news())
    }

    /// Takes over the [`news`](Self::news) of another process.
    ///
    /// # Errors
    /// [`ExternalError::Io`], and [`ExternalError::Cache`] for a line that is no answer.
    pub fn take_over(&self, lines: &[u8]) -> Result<(), ExternalError> {
        self.cache().map_or(Ok(()), |mut cache| cache.take_over(lines))
    }

    /// How many answers are known, and so not asked for again.
    pub fn known_answers(&self) -> usize {
        self.cache().map_or(0, |cache| cache.len())
    }

    /// The requests since the last call, with their faults and their latency.
    pub fn take_counters(&self) -> Counters {
        self.tally.take()
    }

    fn cache(&self) -> Option<MutexGuard<'_, Cache<Scores>>> {
        // It changes in its last step only.
        self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The scores of a round of samples, in order.
    ///
    /// # Errors
    /// [`ExternalError::Stopped`], [`ExternalError::TooManyFaults`], and [`ExternalError::Io`] of the kept answers.
    pub fn scores(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, ExternalError> {
        self.scores_of_part(inputs, &Round::new(inputs.len()))
    }

    /// The scores of a part of a round, in order: `max_error_fraction` is a share of the whole round.
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn scores_of_part(&self, inputs: &[RewardInput<'_>], round: &Round) -> Result<Vec<Score>, ExternalError> {
        let part = Part::new(self, inputs, round);
        let batches = part.batches();
        let next = AtomicUsize::new(0);
        let work = |lane| {
            while !part.has_failed() {
                let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                part.ask(lane, batch);
            }
        };
        match self.transport.lanes().min(batches.len()) {
            0 => {}
            1 => work(0),
            lanes => thread::scope(|scope| {
                for lane in 0..lanes {
                    scope.spawn(move || work(lane));
                }
            }),
        }
        part.finish()
    }
}

impl RewardFn for ExternalReward {
    fn name(&self) -> &str {
        &self.name
    }
    fn waits(&self) -> bool {
        true
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        self.scores(std::slice::from_ref(input))?.pop().ok_or_else(|| "0 results for 1 completion".into())
    }
    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        Ok(self.scores(group)?)
    }
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        Ok(self.scores(inputs)?)
    }
    fn score_part(&self, part: &[RewardInput<'_>], round: &Round) -> Result<Vec<Score>, RewardFault> {
        Ok(self.scores_of_part(part, round)?)
    }
}

/// Samples that are scored together.
struct Part<'a, 'b> {
    reward: &'a ExternalReward,
    inputs: &'a [RewardInput<'b>],
    round: &'a Round,
    keys: Vec<Key>,
    /// Positions of the samples that are to be asked for.
    open: Vec<usize>,
    has_failed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    answers: Vec<Option<Answer>>,
    error: Option<ExternalError>,
}

impl<'a, 'b> Part<'a, 'b> {
    fn new(reward: &'a ExternalReward, inputs: &'a [RewardInput<'b>], round: &'a Round) -> Self {
        let part = |keys, open, answers| {
            let (has_failed, state) = (AtomicBool::new(false), Mutex::new(State { answers, error: None }));
            Self { reward, inputs, round, keys, open, has_failed, state }
        };
        let Some(cache) = reward.cache() else {
            return part(Vec::new(), (0..inputs.len()).collect(), vec![None; inputs.len()]);
        };
        let groups = || inputs.chunk_by(|a, b| a.draw == b.draw);
        let compares = reward.transport.compares();
        let keys: Vec<_> =
            if compares { groups().flat_map(Key::of_group).collect() } else { inputs.iter().map(Key::of).collect() };
        let mut answers: Vec<_> = keys.iter().map(|key| cache.get(key).cloned()).collect();
        if compares {
            let mut rest = &mut answers[..];
            for group in groups() {
                let (answers, others) = rest.split_at_mut(group.len());
                if answers.iter().any(Option::is_none) {
                    answers.fill(None);
                }
                rest = others;
            }
        }
        // Samples that are the same in everything that an answer is kept under have one answer.
        let mut seen = HashSet::new();
        let mut is_open = |&index: &usize| answers[index].is_none() && seen.insert(keys[index]);
        let open: Vec<_> = (0..inputs.len()).filter(&mut is_open).collect();
        // Those that abstain because of a fault count again.
        round.add_failed(answers.iter().flatten().filter(|answer| answer.fault.is_some()).count());
        reward.tally.replayed(inputs.len() - open.len());
        part(keys, open, answers)
    }

    /// The positions of each request's samples.
    fn batches(&self) -> Vec<&[usize]> {
        let transport = &self.reward.transport;
        if transport.compares() {
            return self.open.chunk_by(|a, b| self.inputs[*a].draw == self.inputs[*b].draw).collect();
        }
        let spread = || self.open.len().div_ceil(transport.lanes().max(1));
        self.open.chunks(self.reward.rules.batch.unwrap_or_else(spread).max(1)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Asks for the samples at these positions and keeps what is said.
    fn ask(&self, lane: usize, positions: &[usize]) {
        let samples: Vec<_> = positions.iter().map(|&index| &self.inputs[index]).collect();
        let step = samples.first().map_or(0, |input| input.step);
        let id = self.reward.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let tally = &self.reward.tally;
        let start = Instant::now();
        let result = self.reward.transport.ask(lane, &Batch { id, step, samples }, tally);
        tally.request(positions.len(), start.elapsed());
        let kept = match result {
            Ok(scores) => {
                let answer = |score| Answer { step, score, fault: None };
                self.keep(positions, scores.into_iter().map(answer))
            }
            Err(fault) => self.abstain(positions, step, fault),
        };
        if let Err(error) = kept {
            self.has_failed.store(true, Ordering::Relaxed);
            // The first names the cause.
            self.state().error.get_or_insert(error);
        }
    }

    fn abstain(&self, positions: &[usize], step: u64, fault: Fault) -> Result<(), ExternalError> {
        let Rules { on_error, max_error_fraction: allowed, .. } = self.reward.rules;
        let tally = &self.reward.tally;
        tally.fault(fault.kind(), format!("step {step}: {fault}"));
        if on_error == OnError::Stop || fault.is_final() {
            return Err(ExternalError::Stopped { step, fault });
        }
        let (samples, failed) = (self.round.samples(), self.round.add_failed(positions.len()));
        if failed as f64 > allowed * samples as f64 {
            return Err(ExternalError::TooManyFaults { step, failed, samples, allowed, fault });
        }
        tally.abstained(positions.len());
        let answer = |_: &usize| Answer { step, score: Score::abstain(), fault: Some(fault.kind().to_owned()) };
        self.keep(positions, positions.iter().map(answer))
    }

    fn keep(&self, positions: &[usize], answers: impl Iterator<Item = Answer>) -> Result<(), ExternalError> {
        let answers: Vec<_> = answers.collect();
        if let Some(mut cache) = self.reward.cache() {
            cache.add(positions.iter().zip(&answers).map(|(&index, answer)| (self.keys[index], answer.clone())))?;
        }
        let mut state = self.state();
        for (&index, answer) in positions.iter().zip(answers) {
            state.answers[index] = Some(answer);
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Score>, ExternalError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error {
            return Err(error);
        }
        let cache = self.reward.cache();
        let same = |index: usize| cache.as_ref()?.get(self.keys.get(index)?).cloned();
        let answers = state.answers.into_iter().enumerate().map(|(index, answer)| answer.or_else(|| same(index)));
        Ok(answers.flatten().map(|answer| answer.score).collect())
    }
}
