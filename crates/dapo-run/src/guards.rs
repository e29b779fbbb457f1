//! Guards: they see in a run's own figures that training has gone wrong.

use crate::settings::{GuardAction, GuardsSection};
use dapo_trainer::StepMetrics;
use serde::Deserialize;
use std::collections::VecDeque;
use std::fmt;

/// Best accuracy that a fall is measured against; below it, differences are chance.
const LEAST_BEST: f64 = 0.1;

/// A guard whose condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The key of the guard, such as `guards.entropy`.
    pub key: String,
    /// The step, from 1.
    pub step: u64,
    /// What the figures say, and what most often causes it.
    pub message: String,
    /// Whether the settings ask for the end of the run.
    pub stops: bool,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {} ({})", self.step, self.message, self.key)
    }
}

/// What guards look at, as a step's metrics or a line of their log have it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Figures {
    step: u64,
    kl: Option<f64>,
    #[serde(rename = "clip_ratio/region_mean")]
    clipped: Option<f64>,
    entropy: Option<f64>,
    frac_reward_zero_std: Option<f64>,
    /// The critic's learning rate; unset without a critic.
    #[serde(rename = "critic/lr")]
    critic_lr: Option<f64>,
    #[serde(rename = "completions/clipped_ratio")]
    truncated: Option<f64>,
    accuracy: Option<f64>,
}

impl From<&StepMetrics> for Figures {
    fn from(metrics: &StepMetrics) -> Self {
        Self {
            step: metrics.step,
            kl: metrics.kl,
            clipped: metrics.clip_region,
            entropy: metrics.entropy,
            frac_reward_zero_std: metrics.frac_reward_zero_std,
            critic_lr: metrics.critic.as_ref().map(|critic| critic.lr),
            truncated: metrics.clipped_ratio,
            accuracy: metrics.accuracy,
        }
    }
}

/// Steps in a row in which a condition held. A step without the figure changes nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Streak(u64);

impl Streak {
    /// Whether it is time to say so: after `steps` steps in a row, and again after as many more.
    fn add(&mut self, holds: Option<bool>, steps: u64) -> bool {
        match holds {
            Some(true) => self.0 += 1,
            Some(false) => self.0 = 0,
            None => return false,
        }
        self.0 > 0 && self.0.is_multiple_of(steps)
    }
}

/// The guards of a run. What they say depends on the figures of the steps alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    entropy: Streak,
    rewards: Streak,
    truncation: Streak,
    fall: Streak,
    accuracies: VecDeque<f64>,
    best: f64,
}

impl Guards {
    /// Takes a step's figures; gives the guards that have something to say.
    pub(crate) fn observe(&mut self, figures: &Figures, settings: &GuardsSection) -> Vec<Alarm> {
        let steps = settings.steps.max(1);
        let mut alarms = Vec::new();
        let mut alarm = |name: &str, action: GuardAction, message: String| {
            if action != GuardAction::Off {
                let (key, stops) = (format!("guards.{name}"), action == GuardAction::Stop);
                alarms.push(Alarm { key, step: figures.step, message, stops });
            }
        };
        if let Some(kl) = figures.kl.filter(|kl| kl.abs() > settings.max_kl) {
            let message = format!(
                "the updates moved the policy by {kl:.3} nats a token, more than {}: lower optimizer.lr, or \
                 train.updates_per_batch and train.mini_batches",
                settings.max_kl
            );
            alarm("kl", settings.kl, message);
        }
        if let Some(clipped) = figures.clipped.filter(|clipped| *clipped > settings.max_clipped) {
            let message = format!(
                "importance ratios of {:.0} % of the tokens are outside the clip range, more than {:.0} %: lower \
                 optimizer.lr, or train on fresher groups",
                100.0 * clipped,
                100.0 * settings.max_clipped
            );
            alarm("ratio", settings.ratio, message);
        }
        if self.entropy.add(figures.entropy.map(|entropy| entropy < settings.min_entropy), steps) {
            let message = format!(
                "the entropy has been below {} nats for {} steps, now {:.5}: the policy hardly varies any more; raise \
                 loss.policy_loss.clip.high or loss.entropy_coef, or lower optimizer.lr",
                settings.min_entropy,
                self.entropy.0,
                figures.entropy.unwrap_or_default()
            );
            alarm("entropy", settings.entropy, message);
        }
        // With a critic, groups learn from equal rewards too.
        let flat = figures.frac_reward_zero_std.filter(|_| figures.critic_lr.is_none());
        if self.rewards.add(flat.map(|share| share >= 1.0), steps) {
            let message = format!(
                "all completions of each group have had the same reward for {} steps: nothing is learnt; check the reward, \
                 and the values of correct and incorrect",
                self.rewards.0
            );
            alarm("rewards", settings.rewards, message);
        }
        if self.truncation.add(figures.truncated.map(|share| share >= 1.0), steps) {
            let message = format!(
                "no completion has ended by itself for {} steps: raise rollout.max_new_tokens, or check the model's stop \
                 token and chat template",
                self.truncation.0
            );
            alarm("truncation", settings.truncation, message);
        }
        if let Some((mean, best)) = self.fallen(figures.accuracy, settings, steps) {
            let message = format!(
                "the mean accuracy of {steps} steps is {mean:.3}, and was {best:.3} at best: resume from an earlier \
                 checkpoint with a lower optimizer.lr"
            );
            alarm("accuracy", settings.accuracy, message);
        }
        alarms
    }

    /// The mean accuracy of the latest steps and the best one, where it is time to say that it has fallen.
    fn fallen(&mut self, accuracy: Option<f64>, settings: &GuardsSection, steps: u64) -> Option<(f64, f64)> {
        let window = usize::try_from(steps).unwrap_or(usize::MAX);
        self.accuracies.push_back(accuracy?);
        if self.accuracies.len() > window {
            self.accuracies.pop_front();
        }
        if self.accuracies.len() < window {
            return None;
        }
        let mean = self.accuracies.iter().sum::<f64>() / window as f64;
        self.best = self.best.max(mean);
        let holds = self.best >= LEAST_BEST && mean < settings.min_accuracy_share * self.best;
        self.fall.add(Some(holds), steps).then_some((mean, self.best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_trainer::CriticMetrics;

    /// The keys of the alarms of each step.
    fn alarms(figures: impl IntoIterator<Item = Figures>, settings: &GuardsSection) -> Vec<Vec<String>> {
        let mut guards = Guards::default();
        let keys = |alarms: Vec<Alarm>| alarms.into_iter().map(|alarm| alarm.key).collect();
        figures.into_iter().map(|figures| keys(guards.observe(&figures, settings))).collect()
    }

    #[test]
    fn what_lasts_is_said_after_so_many_steps_and_again_after_as_many() {
        /// Figures for which a condition holds, or does not.
        type Of = fn(bool) -> Figures;
        let settings = GuardsSection { steps: 3, ..GuardsSection::default() };
        let conditions: [(&str, Of); 3] = [
            ("guards.entropy", |bad| Figures { entropy: Some(if bad { 1e-4 } else { 0.3 }), ..Figures::default() }),
            ("guards.rewards", |bad| Figures {
                frac_reward_zero_std: Some(if bad { 1.0 } else { 0.9 }),
                ..Figures::default()
            }),
            ("guards.truncation", |bad| Figures {
                truncated: Some(if bad { 1.0 } else { 0.99 }),
                ..Figures::default()
            }),
        ];
        for (key, of) in conditions {
            // A step without figures in between does not count, a good one starts anew.
            let steps = [Some(true), Some(true), Some(false), Some(true), Some(true), None, Some(true), Some(true)]
                .map(|bad| bad.map_or_else(Figures::default, of));
            let more = [of(true), of(true), of(true)];
            let said = alarms(steps.into_iter().chain(more), &settings);
            let expected: Vec<Vec<String>> =
                (0..11).map(|i| if i == 6 || i == 9 { vec![key.to_owned()] } else { vec![] }).collect();
            assert_eq!(said, expected, "{key}");
        }
    }

    #[test]
    fn groups_of_equal_rewards_are_no_fault_under_a_critic() {
        let flat = |critic_lr| Figures { frac_reward_zero_std: Some(1.0), critic_lr, ..Figures::default() };
        let settings = GuardsSection { steps: 2, ..GuardsSection::default() };
        assert_eq!(alarms([flat(Some(0.0)); 4], &settings), [(); 4].map(|()| Vec::<String>::new()));
        assert_eq!(alarms([flat(None); 2], &settings)[1], ["guards.rewards"]);
    }

    #[test]
    fn a_policy_that_jumps_is_said_at_once() {
        let settings = GuardsSection { kl: GuardAction::Stop, ..GuardsSection::default() };
        let figures = Figures { step: 7, kl: Some(-1.5), clipped: Some(0.51), ..Figures::default() };
        let said = Guards::default().observe(&figures, &settings);
        let kinds: Vec<_> = said.iter().map(|alarm| (alarm.key.as_str(), alarm.step, alarm.stops)).collect();
        assert_eq!(kinds, [("guards.kl", 7, true), ("guards.ratio", 7, false)]);
        assert!(said[0].to_string().starts_with("step 7: the updates moved the policy by -1.500 nats a token"));
        let at_bounds = Figures { kl: Some(1.0), clipped: Some(0.5), ..Figures::default() };
        assert_eq!(alarms([at_bounds], &settings), [Vec::<String>::new()]);
        let off = GuardsSection { kl: GuardAction::Off, ratio: GuardAction::Off, ..GuardsSection::default() };
        assert_eq!(alarms([figures], &off), [Vec::<String>::new()]);
    }

    #[test]
    fn a_fall_is_measured_against_the_runs_own_best() {
        let settings = GuardsSection { steps: 2, ..GuardsSection::default() };
        let of = |accuracies: &[f64]| {
            let figures = accuracies.iter().map(|&accuracy| Figures { accuracy: Some(accuracy), ..Figures::default() });
            alarms(figures, &settings).iter().map(Vec::len).collect::<Vec<_>>()
        };
        // Means of two: 0.5, 0.7, 0.4, 0.2, 0.2. Below half of 0.7 twice.
        assert_eq!(of(&[0.4, 0.6, 0.8, 0.0, 0.4, 0.0]), [0, 0, 0, 0, 0, 1]);
        // Below 0.1 all is chance.
        assert_eq!(of(&[0.09, 0.09, 0.0, 0.0, 0.0, 0.0]), [0; 6]);
    }

    #[test]
    fn a_log_reads_back_as_the_figures() {
        let metrics = StepMetrics {
            step: 3,
            kl: Some(0.25),
            clip_region: Some(0.5),
            entropy: Some(0.125),
            frac_reward_zero_std: Some(1.0),
            clipped_ratio: Some(0.75),
            accuracy: None,
            critic: Some(CriticMetrics { lr: 1e-5, ..CriticMetrics::default() }),
            ..StepMetrics::default()
        };
        let line = serde_json::to_string(&metrics).unwrap();
        let read: Figures = serde_json::from_str(&line).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", Figures::from(&metrics)));
    }
}
