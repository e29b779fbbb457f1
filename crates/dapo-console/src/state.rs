//! Where a training stands.

use crate::eta::{Estimator, Left};
use dapo_trainer::{Activity, StepMetrics};
use std::time::Instant;

/// What a run is going to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Steps in all.
    pub steps: u64,
    /// Steps made before.
    pub made: u64,
    /// Steps from one evaluation to the next; one more follows the last step. `None`: no evaluations.
    pub eval_every: Option<u64>,
    /// Steps from one checkpoint to the next; one more follows the last step. `None`: no checkpoints.
    pub checkpoint_every: Option<u64>,
}

impl Shape {
    /// What is left after `made` steps.
    fn left(&self, made: u64) -> Left {
        let due = |every: Option<u64>| match every {
            Some(every) if self.steps > made => {
                let multiples = |steps: u64| steps.checked_div(every).unwrap_or(0);
                let is_apart = self.steps.checked_rem(every) != Some(0);
                multiples(self.steps) - multiples(made) + u64::from(is_apart)
            }
            _ => 0,
        };
        Left {
            steps: self.steps.saturating_sub(made),
            evaluations: due(self.eval_every),
            checkpoints: due(self.checkpoint_every),
        }
    }
}

/// The figures with curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    Reward,
    Accuracy,
    Entropy,
    Length,
}

impl Curve {
    pub(crate) const ALL: [Self; 4] = [Self::Reward, Self::Accuracy, Self::Entropy, Self::Length];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Accuracy => "accuracy",
            Self::Entropy => "entropy",
            Self::Length => "length",
        }
    }

    /// Digits after the point.
    pub(crate) fn digits(self) -> usize {
        if self == Self::Length { 1 } else { 3 }
    }

    fn of(self, metrics: &StepMetrics) -> Option<f64> {
        match self {
            Self::Reward => metrics.reward,
            Self::Accuracy => metrics.accuracy,
            Self::Entropy => metrics.entropy,
            Self::Length => metrics.mean_length,
        }
    }
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Step,
    Evaluation,
    Checkpoint,
}

/// Where a training stands.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shape: Shape,
    pub(crate) made: u64,
    pub(crate) activity: Option<Activity>,
    /// Words in place of the activity.
    pub(crate) notice: Option<String>,
    pub(crate) estimator: Estimator,
    started: Instant,
    /// Of the present step.
    step_started: Instant,
    part: Part,
    part_started: Instant,
    /// Seconds of the present step's evaluations and checkpoints.
    besides: f64,
    curves: [Vec<Option<f64>>; 4],
}

impl State {
    pub(crate) fn new(shape: Shape) -> Self {
        let now = Instant::now();
        Self {
            shape,
            made: shape.made,
            activity: None,
            notice: None,
            estimator: Estimator::default(),
            started: now,
            step_started: now,
            part: Part::Step,
            part_started: now,
            besides: 0.0,
            curves: Default::default(),
        }
    }

    pub(crate) fn see(&mut self, activity: Activity) {
        let part = match activity {
            Activity::Evaluation { .. } => Part::Evaluation,
            // That of an evaluation, too.
            Activity::Scoring { .. } => self.part,
            Activity::Checkpoint => Part::Checkpoint,
            _ => Part::Step,
        };
        self.enter(part);
        self.activity = Some(activity);
    }

    fn enter(&mut self, part: Part) {
        if part == self.part {
            return;
        }
        let seconds = self.part_started.elapsed().as_secs_f64();
        match self.part {
            Part::Step => {}
            Part::Evaluation => self.estimator.evaluation(seconds),
            Part::Checkpoint => self.estimator.checkpoint(seconds),
        }
        if self.part != Part::Step {
            self.besides += seconds;
        }
        (self.part, self.part_started) = (part, Instant::now());
    }

    /// A step was made, with the evaluation and the checkpoint after it.
    pub(crate) fn step(&mut self, metrics: &StepMetrics) {
        self.idle();
        let seconds = self.step_started.elapsed().as_secs_f64() - self.besides;
        self.estimator.step(seconds.max(0.0));
        self.made = metrics.step;
        for (curve, values) in Curve::ALL.iter().zip(&mut self.curves) {
            values.push(curve.of(metrics));
        }
        (self.step_started, self.besides) = (Instant::now(), 0.0);
    }

    /// What was done besides steps is over.
    pub(crate) fn idle(&mut self) {
        self.enter(Part::Step);
        self.activity = None;
    }

    /// What came before a step, such as an evaluation at the start, is no part of it.
    pub(crate) fn before_step(&mut self) {
        self.idle();
        (self.step_started, self.besides) = (Instant::now(), 0.0);
    }

    pub(crate) fn curve(&self, curve: Curve) -> &[Option<f64>] {
        &self.curves[curve as usize]
    }

    pub(crate) fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds of the present step.
    pub(crate) fn in_step(&self) -> f64 {
        self.step_started.elapsed().as_secs_f64() - self.besides
    }

    /// Seconds of what is being done.
    pub(crate) fn in_part(&self) -> f64 {
        if self.part == Part::Step { self.in_step() } else { self.part_started.elapsed().as_secs_f64() }
    }

    /// Seconds that the rest of the run may take.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let spent = if self.part == Part::Step { self.in_step() } else { 0.0 };
        self.estimator.seconds(self.shape.left(self.made), spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_and_checkpoints_are_due_at_their_multiples_and_at_the_end() {
        let shape = Shape { steps: 25, made: 0, eval_every: Some(10), checkpoint_every: Some(5) };
        let left = |made| shape.left(made);
        assert_eq!(left(0), Left { steps: 25, evaluations: 3, checkpoints: 5 });
        assert_eq!(left(20), Left { steps: 5, evaluations: 1, checkpoints: 1 });
        assert_eq!(left(25), Left::default());
        let last_only = Shape { eval_every: None, checkpoint_every: Some(0), ..shape };
        assert_eq!(last_only.left(3), Left { steps: 22, evaluations: 0, checkpoints: 1 });
    }
}
