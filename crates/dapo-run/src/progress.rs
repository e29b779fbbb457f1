//! What the steps of a run come to.

use crate::guards::Alarm;
use dapo_eval::EvalReport;
use dapo_trainer::{GroupRecord, Outcomes, StepMetrics, StepTimings};
use std::path::PathBuf;

/// What [`Run::step`](crate::Run::step) came to.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A step was made.
    Step(Box<RunStep>),
    /// None was made: the policy has mastered its data, and the run is finished.
    Mastered(Box<Mastered>),
}

impl Progress {
    /// The step, where one was made.
    pub fn step(&self) -> Option<&RunStep> {
        match self {
            Self::Step(step) => Some(step),
            Self::Mastered(_) => None,
        }
    }

    /// The evaluation that belongs to it, where one was due.
    pub fn evaluation(&self) -> Option<&EvalReport> {
        match self {
            Self::Step(step) => step.evaluation.as_ref(),
            Self::Mastered(end) => end.evaluation.as_ref(),
        }
    }
}

/// The end of a run that has nothing left to learn.
#[derive(Clone, Debug)]
pub struct Mastered {
    /// Steps made.
    pub steps: u64,
    /// How the groups came out in which no signal was found.
    pub outcomes: Outcomes,
    /// The evaluation of the final policy, where the run evaluates and there was none after the last step.
    pub evaluation: Option<EvalReport>,
    /// The checkpoint of the final policy.
    pub checkpoint: PathBuf,
}

/// What a step of a run did.
#[derive(Clone, Debug)]
pub struct RunStep {
    /// What it measured.
    pub metrics: StepMetrics,
    /// How long it took.
    pub timings: StepTimings,
    /// What the guards say of it.
    pub alarms: Vec<Alarm>,
    /// Every group that was generated in the step or carried into it, by draw index.
    pub groups: Vec<GroupRecord>,
    /// The first requests of the step for rewards computed elsewhere that failed, and trackers that are given up, in words.
    pub faults: Vec<String>,
    /// The evaluation after it, where one was due.
    pub evaluation: Option<EvalReport>,
    /// The checkpoint after it, where one was due.
    pub checkpoint: Option<PathBuf>,
}
