//! Environments that answer elsewhere: [`ExternalEnvironment`].

mod answers;
mod config;
mod wire;

pub use config::EnvConfig;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dapo_reward::{EnvFault, EnvProblem, EnvStart, EnvStep, EnvTurn, Environment};

use crate::cache::Cache;
use crate::command::CommandTransport;
use crate::config::OnError;
use crate::counters::{Counters, Tally};
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::http::UrlTransport;
use crate::python;
use crate::transport::Exchange;

use answers::{Answer, Answers, Key, Known};
use config::Way;
use wire::Expected;

/// The name under which an environment's answers, words and counters are kept.
const NAME: &str = "env";

/// An environment whose answers come from a program, a server or a Python class, and are asked for once.
pub struct ExternalEnvironment {
    exchange: Box<dyn Exchange>,
    on_error: OnError,
    cache: Option<Mutex<Cache<Answers>>>,
    requests: AtomicU64,
    tally: Tally,
}

impl fmt::Debug for ExternalEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalEnvironment").field("on_error", &self.on_error).finish_non_exhaustive()
    }
}

impl ExternalEnvironment {
    /// Opens an environment. Nothing is started or sent before the first episode.
    ///
    /// Relative paths are those of `base_dir`, which is also a command's working directory. `state_dir` is the run's folder:
    /// answers are kept in `reward_cache/env.jsonl`, and what a command writes to stderr in `log-env.txt`. Without one no
    /// answer is kept, and a command's stderr is that of this process.
    ///
    /// # Errors
    /// As [`open`](crate::open()).
    pub fn open(config: &EnvConfig, base_dir: &Path, state_dir: Option<&Path>) -> Result<Self, ExternalError> {
        config.validate()?;
        let log = state_dir.map(|dir| dir.join(format!("log-{NAME}.txt")));
        let exchange: Box<dyn Exchange> = match config.way()? {
            Way::Command(config) => Box::new(CommandTransport::open(&config, base_dir, log.as_deref())?),
            Way::Url(config) => Box::new(UrlTransport::open(&config)?),
            Way::Python(config) => Box::new(python::open(&config, base_dir, log.as_deref())?),
        };
        let open = |dir: &Path| Cache::open(dir.join("reward_cache").join(format!("{NAME}.jsonl")));
        let cache = state_dir.map(open).transpose()?.map(Mutex::new);
        let (requests, tally) = (AtomicU64::new(0), Tally::default());
        Ok(Self { exchange, on_error: config.on_error, cache, requests, tally })
    }

    /// Rewrites the file of known answers as [`ExternalReward::checkpoint`](crate::ExternalReward::checkpoint) does.
    ///
    /// # Errors
    /// [`ExternalError::Io`].
    pub fn checkpoint(&self, step: u64) -> Result<(), ExternalError> {
        self.cache().map_or(Ok(()), |mut cache| cache.checkpoint(step))
    }

    /// The requests since the last call, with their faults and their latency.
    pub fn take_counters(&self) -> Counters {
        self.tally.take()
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

    fn cache(&self) -> Option<MutexGuard<'_, Cache<Answers>>> {
        // It changes in its last step only.
        self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, key: &Key) -> Option<Answer> {
        let known = self.cache()?.get(key).cloned()?;
        self.tally.replayed(1);
        Some(known.answer)
    }

    fn keep(&self, key: Key, step: u64, answer: Answer) -> Result<(), ExternalError> {
        self.cache().map_or(Ok(()), |mut cache| cache.add([(key, Known { step, answer })]))
    }

    /// The answer to one request; `None` where a fault makes the sample abstain.
    fn ask<T>(
        &self,
        (step, lane): (u64, u64),
        request: impl Fn(u64) -> Vec<u8>,
        read: impl Fn(&[u8], Expected) -> Result<T, Fault>,
    ) -> Result<Result<T, String>, ExternalError> {
        let id = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let expected = Expected { id, reply_id: self.exchange.reply_id() };
        let lane = lane % self.exchange.lanes().max(1) as u64;
        let (start, mut answer) = (Instant::now(), None);
        let asked = self.exchange.exchange(lane as usize, request(id), &self.tally, &mut |reply| {
            answer = Some(read(reply, expected)?);
            Ok(())
        });
        self.tally.request(1, start.elapsed());
        let fault = match (asked, answer) {
            (Ok(()), Some(answer)) => return Ok(Ok(answer)),
            (Err(fault), _) => fault,
            (Ok(()), None) => Fault::Reported { message: "nothing".to_owned() },
        };
        self.tally.fault(fault.kind(), format!("step {step}: {fault}"));
        if self.on_error == OnError::Stop || fault.is_final() {
            return Err(ExternalError::Stopped { step, fault });
        }
        self.tally.abstained(1);
        Ok(Err(fault.kind().to_owned()))
    }
}

impl Environment for ExternalEnvironment {
    fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
        let key = Key::of_start(problem);
        if let Some(Answer::Start(start)) = self.known(&key) {
            return Ok(start);
        }
        let asked = self.ask((problem.step, problem.draw), |id| wire::reset(id, problem), wire::start)?;
        let start = asked.unwrap_or_else(|fault| EnvStart { fault: Some(fault), ..EnvStart::default() });
        self.keep(key, problem.step, Answer::Start(start.clone()))?;
        Ok(start)
    }

    fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
        let key = Key::of_turn(turn);
        if let Some(Answer::Step(step)) = self.known(&key) {
            return Ok(step);
        }
        let lane = turn.problem.draw.wrapping_add(turn.sample as u64);
        let asked = self.ask((turn.problem.step, lane), |id| wire::step(id, turn), wire::answer)?;
        let step = asked.unwrap_or_else(|fault| EnvStep { fault: Some(fault), ..EnvStep::default() });
        self.keep(key, turn.problem.step, Answer::Step(step.clone()))?;
        Ok(step)
    }

    fn lanes(&self) -> usize {
        self.exchange.lanes()
    }
}
