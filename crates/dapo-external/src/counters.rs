//! Requests, faults and latency: [`Counters`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Most faults whose text is kept between two readings.
const EVENTS: usize = 20;

/// Requests since the last reading, their faults and their latency. For timings: nothing here can be repeated.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Requests, those that failed included; the retries of a request are not counted here.
    pub requests: u64,
    /// Samples in these requests.
    pub samples: u64,
    /// Samples whose answer was known from an earlier request.
    pub replayed: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Workers that were started again after a fault.
    pub restarts: u64,
    /// Requests that failed, by [kind of fault](crate::Fault::kind).
    pub faults: BTreeMap<&'static str, u64>,
    /// Samples that abstain because their request failed.
    pub abstained: u64,
    /// Tokens of the prompts that judges read, as their servers count them.
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_tokens: u64,
    /// Tokens that judges wrote.
    #[serde(skip_serializing_if = "is_zero")]
    pub completion_tokens: u64,
    /// Time that requests took, summed, in seconds.
    pub latency_s: f64,
    /// Time that the slowest request took, in seconds.
    pub max_latency_s: f64,
    /// The first faults, in words, each with its step.
    #[serde(skip)]
    pub events: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counters {
    fn add_request(&mut self, samples: usize, took: Duration) {
        self.requests += 1;
        self.samples += samples as u64;
        self.latency_s += took.as_secs_f64();
        self.max_latency_s = self.max_latency_s.max(took.as_secs_f64());
    }

    fn add_fault(&mut self, kind: &'static str, event: String) {
        *self.faults.entry(kind).or_default() += 1;
        if self.events.len() < EVENTS {
            self.events.push(event);
        }
    }
}

/// Counters that many threads add to.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counters>);

impl Tally {
    fn counters(&self) -> MutexGuard<'_, Counters> {
        // Sums are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was sent again.
    pub fn retry(&self) {
        self.counters().retries += 1;
    }

    /// Counts a worker that was started again.
    pub fn restart(&self) {
        self.counters().restarts += 1;
    }

    /// Counts the tokens that a model read and wrote for a request.
    pub fn tokens(&self, prompt: u64, completion: u64) {
        let mut counters = self.counters();
        counters.prompt_tokens += prompt;
        counters.completion_tokens += completion;
    }

    pub(crate) fn replayed(&self, samples: usize) {
        self.counters().replayed += samples as u64;
    }

    pub(crate) fn request(&self, samples: usize, took: Duration) {
        self.counters().add_request(samples, took);
    }

    pub(crate) fn fault(&self, kind: &'static str, event: String) {
        self.counters().add_fault(kind, event);
    }

    pub(crate) fn abstained(&self, samples: usize) {
        self.counters().abstained += samples as u64;
    }

    pub(crate) fn take(&self) -> Counters {
        std::mem::take(&mut self.counters())
    }
}
