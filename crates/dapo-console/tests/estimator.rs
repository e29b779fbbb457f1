//! The estimate of the time left, against runs whose steps are known.

use dapo_console::{Estimator, Left};

/// A number in [0, 1) that looks random.
fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// Seconds of each step, evaluation and checkpoint of a run.
struct Run {
    steps: Vec<f64>,
    evaluation: f64,
    eval_every: usize,
    checkpoint: f64,
    checkpoint_every: usize,
}

impl Run {
    /// Whether something is due after this many steps.
    fn is_due(&self, every: usize, made: usize) -> bool {
        every > 0 && (made.is_multiple_of(every) || made == self.steps.len())
    }

    /// The largest relative error of the estimates from the tenth step on, for as long as a tenth of the run is left.
    fn worst(&self) -> f64 {
        let (all, mut estimator, mut worst) = (self.steps.len(), Estimator::default(), 0.0f64);
        if self.eval_every > 0 {
            estimator.evaluation(self.evaluation);
        }
        for made in 1..=all {
            estimator.step(self.steps[made - 1]);
            let is_due = |every, seconds: f64| if self.is_due(every, made) { seconds } else { 0.0 };
            if is_due(self.eval_every, 1.0) > 0.0 {
                estimator.evaluation(self.evaluation);
            }
            if is_due(self.checkpoint_every, 1.0) > 0.0 {
                estimator.checkpoint(self.checkpoint);
            }
            let count = |every: usize| (made + 1..=all).filter(|made| self.is_due(every, *made)).count() as u64;
            let left = Left {
                steps: (all - made) as u64,
                evaluations: count(self.eval_every),
                checkpoints: count(self.checkpoint_every),
            };
            let actual = self.steps[made..].iter().sum::<f64>()
                + left.evaluations as f64 * self.evaluation
                + left.checkpoints as f64 * self.checkpoint;
            if made >= 10 && made <= all * 9 / 10 {
                let estimate = estimator.seconds(left, 0.0).unwrap_or(f64::INFINITY);
                worst = worst.max((estimate / actual - 1.0).abs());
            }
        }
        worst
    }
}

#[test]
fn estimates_are_within_a_fifth_after_ten_steps() {
    for seed in 0..50 {
        let mut state = seed;
        // Steps of 20 s ± 30 %, the first one five times as long; completions that grow by half over the run.
        let steps = (0..100).map(|step| {
            let warm_up = if step == 0 { 5.0 } else { 1.0 };
            20.0 * warm_up * (0.85 + 0.3 * noise(&mut state)) * (1.0 + 0.25 * f64::from(step) / 100.0)
        });
        let run =
            Run { steps: steps.collect(), evaluation: 120.0, eval_every: 10, checkpoint: 15.0, checkpoint_every: 10 };
        assert!(run.worst() < 0.2, "seed {seed}: {}", run.worst());
    }
}

#[test]
fn evaluations_count_before_the_first_one_that_follows_a_step() {
    let run = Run { steps: vec![1.0; 40], evaluation: 30.0, eval_every: 20, checkpoint: 0.0, checkpoint_every: 0 };
    assert!(run.worst() < 1e-9, "{}", run.worst());
}

#[test]
fn steps_that_take_longer_and_longer_are_underestimated_by_less_than_three_tenths() {
    // A run of the tiny model, in hundredths of a second: it draws more groups as it learns.
    let times = [
        15, 18, 9, 7, 8, 11, 9, 8, 10, 9, 9, 11, 9, 10, 10, 12, 11, 13, 10, 14, 11, 11, 13, 11, 14, 13, 13, 15, 11, 13,
        12, 12, 14, 15, 14, 11, 14, 12, 16, 14, 17, 16, 16, 14, 14, 13, 15, 16, 14, 15,
    ];
    let steps: Vec<f64> = times.iter().map(|time| f64::from(*time)).collect();
    let run = Run { steps, evaluation: 0.0, eval_every: 0, checkpoint: 0.0, checkpoint_every: 0 };
    assert!(run.worst() < 0.3, "{}", run.worst());
}
