//! The reward function.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dapo_reward::{RewardFault, RewardFn, RewardInput, Score};

use crate::config::{CodeReward, Language};
use crate::error::CodeError;
use crate::fence::last_block;
use crate::plan::{Runner, Tally};
use crate::problem::Problem;
use crate::session::{Confinement, Launcher};
use crate::toolchain::find;

/// Runs completions' programs against their problems' tests. The value is the share of tests passed; the completion is
/// correct when all are. `passed` and `total` are logged.
///
/// A completion without a whole code block passes none. A problem without tests has no value.
///
/// Values depend on completion and tests alone, as far as the programs do: limits of time, randomness and the clock are a
/// program's own.
#[derive(Debug)]
pub struct CodeScorer {
    name: String,
    runner: Runner,
}

impl CodeReward {
    /// A reward function with this name: finds the language's programs, and makes a sandbox to see that it can be made.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate); [`CodeError::Tool`] without the language's programs;
    /// [`CodeError::Refused`] where the system lacks a layer of the sandbox; [`CodeError::Launcher`] where the launcher
    /// does not answer.
    pub fn open(&self, name: impl Into<String>, launcher: Launcher) -> Result<CodeScorer, CodeError> {
        self.validate()?;
        let (tools, shown) = find(self)?;
        let (sandbox, disk_mib, peers) = (self.sandbox, self.disk_mib, self.num_workers() as u64);
        let confinement = Confinement { sandbox, shown, disk_mib, peers };
        let runner = Runner { config: self.clone(), launcher, confinement, tools };
        runner.try_out()?;
        Ok(CodeScorer { name: name.into(), runner })
    }
}

impl RewardFn for CodeScorer {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let config = &self.runner.config;
        let Some(problem) = Problem::read(input.column(&config.column), config)? else { return Ok(Score::abstain()) };
        let tally = match last_block(input.completion, &block_tags(config)) {
            Some(program) => self.runner.run(&program, &problem)?,
            None => Tally { passed: 0, total: problem.num_tests(config) },
        };
        let Tally { passed, total } = tally;
        let score = Score::value(passed as f64 / total.max(1) as f64).with_correct(passed == total);
        Ok(score.with_log("passed", passed as f64).with_log("total", total as f64))
    }

    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        self.score_batch(group)
    }

    /// As many at one time as there are workers.
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        let next = AtomicUsize::new(0);
        let scores = Mutex::new(inputs.iter().map(|_| None).collect::<Vec<Option<Result<Score, RewardFault>>>>());
        thread::scope(|scope| {
            for _ in 0..self.runner.config.num_workers().min(inputs.len()) {
                scope.spawn(|| {
                    while let Some((index, input)) = take(&next, inputs) {
                        let score = self.score(input);
                        if let Ok(mut scores) = scores.lock() {
                            scores[index] = Some(score);
                        }
                    }
                });
            }
        });
        // The first completion's error, whichever came first in time.
        let scores = scores.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        scores.into_iter().map(|score| score.unwrap_or_else(|| Err("a worker ended early".into()))).collect()
    }
}

/// The tags of code blocks that hold programs; none: any block.
fn block_tags(config: &CodeReward) -> Vec<&str> {
    match config.language {
        Language::Python => vec!["python", "py", "python3"],
        Language::Rust => vec!["rust", "rs"],
        Language::Command => config.tags.iter().map(String::as_str).collect(),
    }
}

/// The next input that no worker has taken.
fn take<'a, 'b>(next: &AtomicUsize, inputs: &'a [RewardInput<'b>]) -> Option<(usize, &'a RewardInput<'b>)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, inputs.get(index)?))
}
