//! The optimizer's settings, and the learning rate that follows from them.

use crate::error::TrainerError;
use serde::{Deserialize, Serialize};

/// The learning rate's course after the warm-up.
///
/// A falling schedule ends after the run's last step, not on it: with T steps after the warm-up, the k-th of them has the
/// value at k/T, k = 0 … T − 1. Five linear steps have the shares 1, 0.8, 0.6, 0.4, 0.2, as in transformers; a run of one
/// step trains at the full rate. Steps beyond the planned ones have `min_lr_ratio`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls on a line to `min_lr_ratio` after the last step.
    Linear,
    /// It falls along half a cosine to `min_lr_ratio` after the last step.
    Cosine,
}

/// The optimizer's settings; the defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Rollout steps over which the learning rate grows linearly to `lr`: step s of w, from 0, has (s + 1)/w of it, so that
    /// the first one trains and the last one has all of it.
    pub warmup_steps: u64,
    /// Warm-up as a share of `decay_steps`; replaces `warmup_steps` by ⌈warmup_ratio · decay_steps⌉.
    pub warmup_ratio: Option<f64>,
    /// Course of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// Rollout steps of the run, warm-up included: a falling schedule has fallen after the last of them. In a run by
    /// default `train.steps`.
    pub decay_steps: Option<u64>,
    /// Learning rate at the end of a falling schedule, as a share of `lr`.
    pub min_lr_ratio: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on all parameters.
    pub weight_decay: f64,
    /// Largest global gradient norm; infinity (`inf`) does not clip.
    pub max_grad_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 20,
            warmup_ratio: None,
            schedule: Schedule::Constant,
            decay_steps: None,
            min_lr_ratio: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// # Errors
    /// Names the first field outside its range.
    pub fn validate(&self) -> Result<(), TrainerError> {
        let at_least_0 = |field: &str, value: f64| {
            if value.is_finite() && value >= 0.0 {
                return Ok(());
            }
            Err(TrainerError::setting(field, &value, "a finite number of at least 0"))
        };
        at_least_0("lr", self.lr)?;
        at_least_0("eps", self.eps)?;
        at_least_0("weight_decay", self.weight_decay)?;
        if !(0.0..=1.0).contains(&self.min_lr_ratio) {
            return Err(TrainerError::setting("min_lr_ratio", &self.min_lr_ratio, "from 0 to 1"));
        }
        if self.schedule != Schedule::Constant && self.decay_steps.is_none() {
            return Err(TrainerError::setting(
                "decay_steps",
                &"unset",
                "the steps of the run where the schedule falls",
            ));
        }
        if let Some(ratio) = self.warmup_ratio {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(TrainerError::setting("warmup_ratio", &ratio, "from 0 to 1"));
            }
            if self.decay_steps.is_none() {
                let expected = "the steps of the run where the warm-up is a share of them";
                return Err(TrainerError::setting("decay_steps", &"unset", expected));
            }
        }
        for (field, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(TrainerError::setting(field, &beta, "at least 0 and below 1"));
            }
        }
        if self.max_grad_norm.is_nan() || self.max_grad_norm <= 0.0 {
            return Err(TrainerError::setting("max_grad_norm", &self.max_grad_norm, "above 0"));
        }
        Ok(())
    }

    /// Learning rate of a rollout step, counted from 0.
    pub fn lr_at(&self, rollout_step: u64) -> f64 {
        let warmup = self.warmup();
        if rollout_step >= warmup {
            return self.lr * self.share(rollout_step);
        }
        self.lr * (rollout_step + 1) as f64 / warmup as f64
    }

    /// Steps of the warm-up.
    fn warmup(&self) -> u64 {
        match (self.warmup_ratio, self.decay_steps) {
            // What rounding adds to a whole number is no further step.
            (Some(ratio), Some(steps)) => (ratio * steps as f64 * (1.0 - 1e-12)).ceil() as u64,
            _ => self.warmup_steps,
        }
    }

    /// The share of the learning rate at a rollout step after the warm-up.
    fn share(&self, step: u64) -> f64 {
        let (warmup, steps, min_ratio) = (self.warmup(), self.decay_steps.unwrap_or(u64::MAX), self.min_lr_ratio);
        let progress = ((step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64).min(1.0);
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - (1.0 - min_ratio) * progress,
            Schedule::Cosine => min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_linear_in_rollout_steps() {
        let config = OptimizerConfig { lr: 1.0, warmup_steps: 4, ..Default::default() };
        let rates: Vec<f64> = (0..6).map(|s| config.lr_at(s)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(OptimizerConfig { warmup_steps: 0, ..config }.lr_at(0), 1.0);
        // A tenth of 40 steps, and of 31, rounded up.
        for steps in [40, 31] {
            let share =
                OptimizerConfig { warmup_ratio: Some(0.1), decay_steps: Some(steps), warmup_steps: 9, ..config };
            assert!((0..6).all(|step| share.lr_at(step) == config.lr_at(step)), "{steps}");
        }
    }

    #[test]
    fn schedules_fall_to_their_share_after_the_last_step() {
        let with = |schedule, min_lr_ratio| {
            let decay_steps = Some(6);
            OptimizerConfig { lr: 1.0, warmup_steps: 2, schedule, decay_steps, min_lr_ratio, ..Default::default() }
        };
        let rates =
            |schedule, min_lr_ratio| -> Vec<f64> { (0..6).map(|s| with(schedule, min_lr_ratio).lr_at(s)).collect() };
        let linear = rates(Schedule::Linear, 0.2);
        for (rate, expected) in linear.iter().zip([0.5, 1.0, 1.0, 0.8, 0.6, 0.4]) {
            assert!((rate - expected).abs() < 1e-12, "{linear:?}");
        }
        let cosine = rates(Schedule::Cosine, 0.1);
        for (step, rate) in cosine.iter().enumerate().skip(2) {
            let turn = std::f64::consts::PI * (step as f64 - 2.0) / 4.0;
            assert!((rate - (0.55 + 0.45 * turn.cos())).abs() < 1e-12, "{cosine:?}");
        }
        // A run that is continued beyond its planned end stays at the floor.
        assert_eq!(with(Schedule::Linear, 0.25).lr_at(9), 0.25);
        assert!((with(Schedule::Cosine, 0.25).lr_at(6) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn the_shares_of_a_run_without_a_warm_up_are_those_of_transformers() {
        // get_linear_schedule_with_warmup: (5 − k)/5; get_cosine_schedule_with_warmup: (1 + cos(π·k/5))/2.
        let expected = [
            (Schedule::Linear, [1.0, 0.8, 0.6, 0.4, 0.2]),
            (
                Schedule::Cosine,
                [
                    1.0,
                    0.904_508_497_187_473_7,
                    0.654_508_497_187_473_7,
                    0.345_491_502_812_526_3,
                    0.095_491_502_812_526_3,
                ],
            ),
        ];
        let of = |schedule, steps| OptimizerConfig {
            lr: 1.0,
            warmup_steps: 0,
            schedule,
            decay_steps: Some(steps),
            min_lr_ratio: 0.0,
            ..Default::default()
        };
        for (schedule, shares) in expected {
            let config = of(schedule, 5);
            for (step, share) in (0..).zip(shares) {
                assert!((config.lr_at(step) - share).abs() < 1e-12, "step {step}: {} and {share}", config.lr_at(step));
            }
            assert_eq!(of(schedule, 1).lr_at(0), 1.0, "a run of one step trains");
        }
    }

    #[test]
    fn validation_names_the_field() {
        let share = OptimizerConfig { warmup_ratio: Some(0.1), ..Default::default() };
        assert!(share.validate().is_err(), "a share needs the steps it is one of");
        assert!(OptimizerConfig { decay_steps: Some(5), ..share }.validate().is_ok());
        assert!(OptimizerConfig { warmup_ratio: Some(1.5), decay_steps: Some(5), ..share }.validate().is_err());
        let bad = OptimizerConfig { beta2: 1.0, ..Default::default() };
        let error = bad.validate().unwrap_err().to_string();
        assert_eq!(error, "beta2 is 1, expected at least 0 and below 1");
        assert!(OptimizerConfig { lr: f64::NAN, ..Default::default() }.validate().is_err());
        assert!(OptimizerConfig { max_grad_norm: 0.0, ..Default::default() }.validate().is_err());
    }
}
