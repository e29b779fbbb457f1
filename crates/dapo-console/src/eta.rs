//! How long a run may still take.

/// Weight of a step's time relative to that of the step after it: the mean is over about the latest 14 steps.
const DECAY: f64 = 0.93;

/// Estimates how long a run may still take from how long its parts have taken so far.
///
/// Steps, evaluations and checkpoints have means of their own, each over the latest ones: completions grow and shrink as a
/// policy learns. The first step is left out once there are others, as it warms up caches. Where steps take twice as long
/// at the end of a run as at its start, the first estimates are too low by about a quarter.
///
/// ```
/// use dapo_console::{Estimator, Left};
/// let mut estimator = Estimator::default();
/// assert_eq!(estimator.seconds(Left { steps: 10, ..Left::default() }, 0.0), None);
/// estimator.step(9.0);
/// estimator.step(2.0);
/// estimator.evaluation(5.0);
/// assert_eq!(estimator.seconds(Left { steps: 10, evaluations: 2, checkpoints: 1 }, 0.5), Some(29.5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Estimator {
    first: Option<f64>,
    steps: Mean,
    evaluations: Mean,
    checkpoints: Mean,
}

/// What of a run is still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Steps, the present one included.
    pub steps: u64,
    /// Evaluations.
    pub evaluations: u64,
    /// Checkpoints.
    pub checkpoints: u64,
}

/// A mean in which later values weigh more.
#[derive(Clone, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum = self.sum * DECAY + value;
        self.weight = self.weight * DECAY + 1.0;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl Estimator {
    /// A step took this many seconds, without evaluation and checkpoint.
    pub fn step(&mut self, seconds: f64) {
        match self.first {
            None => self.first = Some(seconds),
            Some(_) => self.steps.add(seconds),
        }
    }

    /// An evaluation took this many seconds.
    pub fn evaluation(&mut self, seconds: f64) {
        self.evaluations.add(seconds);
    }

    /// A checkpoint took this many seconds.
    pub fn checkpoint(&mut self, seconds: f64) {
        self.checkpoints.add(seconds);
    }

    /// Seconds that what is left may take; `spent` of them have passed in the present step. `None` before the first step.
    /// Evaluations and checkpoints count once there was one.
    pub fn seconds(&self, left: Left, spent: f64) -> Option<f64> {
        let step = self.steps.value().or(self.first)?;
        let steps = left.steps as f64 * step - if left.steps > 0 { spent.min(step) } else { 0.0 };
        let of = |mean: &Mean, count: u64| mean.value().unwrap_or(0.0) * count as f64;
        Some(steps + of(&self.evaluations, left.evaluations) + of(&self.checkpoints, left.checkpoints))
    }
}
