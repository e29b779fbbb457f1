//! What dynamic sampling may do: which groups count, how many prompts each round draws, when to stop.

use serde::{Deserialize, Serialize};

use crate::{
    error::{SamplerError, expect, expect_config},
    metric::FilterMetric,
    per_prompt::PerPrompt,
};

/// How many prompts one round draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum GenBatch {
    /// As many as are missing, more where the recent keep rate is below 1/2, but at least `gen_batch_min` and at most
    /// `gen_batch_max`.
    ///
    /// ```text
    /// needed  = ⌈missing · (judged + 2) / (kept + 1)⌉
    /// prompts = clamp(max(missing, ⌊needed / 2⌋), min, max)     in the first three quarters of `max_gen_rounds`
    /// prompts = clamp(needed, min, max)                         in the last quarter
    /// ```
    ///
    /// `kept` of `judged` groups were informative in the latest rounds that together hold 4 · `train_batch` groups.
    /// Before the first round the rate counts as 1/2. An early round fills about half of what is missing. With
    /// `gen_batch_min` = 1 there is no surplus while at least half of the groups are kept, and hardly any below that.
    /// (Nearly) every group is trained on by the policy that generated it. Late rounds draw as many as should fill the
    /// batch.
    #[default]
    Adaptive,
    /// Always this many, however few groups are missing.
    #[serde(untagged)]
    Fixed(usize),
}

/// What happens to informative groups beyond `train_batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SurplusPolicy {
    /// They stay for the next `max_age` steps, to be trained with the log-probs they were generated with.
    #[default]
    Carry,
    /// They are dropped.
    Discard,
}

/// What happens when the last permitted round leaves a batch short of `train_batch` groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnExhausted {
    /// [`SamplerError::Exhausted`].
    Error,
    /// The step trains on the groups that were kept; none at all is [`SamplerError::NothingKept`].
    #[default]
    TrainShort,
    /// This step's uninformative groups fill the batch in draw order, except those with fewer than two graded
    /// completions, which have no baseline. None at all is [`SamplerError::NothingKept`].
    KeepZeroStd,
}

/// The settings of a [`DynamicSampler`](crate::DynamicSampler).
///
/// The default carries surplus for one step and adapts its rounds to the keep rate. The published script's settings
/// are `train_batch` 512, `GenBatch::Fixed(1536)`, ten rounds, `SurplusPolicy::Discard` and `OnExhausted::Error`.
///
/// ```
/// use dapo_sampler::{GenBatch, SamplerConfig};
///
/// let config = SamplerConfig { train_batch: 100, gen_batch: GenBatch::Fixed(5), ..SamplerConfig::default() };
/// let error = config.validate().unwrap_err();
/// assert_eq!(error.to_string(), "gen_batch is 5, expected at least 10, or 10 rounds cannot fill train_batch = 100");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SamplerConfig {
    /// Whether groups without a training signal are dropped and replaced.
    ///
    /// Files call it `dynamic`. If it is off, a step is one round of `train_batch` prompts and every group with at
    /// least two completions that have a reward is kept; `metric` (but for `per_prompt`), `gen_batch`, `max_gen_rounds`
    /// and `on_exhausted` have no effect.
    #[serde(rename = "dynamic", alias = "enabled")]
    pub enabled: bool,
    /// Whether a group with a single such completion is kept, too, when `dynamic` is off: something other than the group is
    /// its baseline, as PPO's critic. No part of files: who knows the baseline sets it.
    #[serde(skip)]
    pub keeps_lone: bool,
    /// The value that must differ within a group: `acc`, `score` (the value of `rewards.accuracy`, where that is on),
    /// `seq_reward` (the total reward), `seq_final_reward` (less KL in the reward), or the name of a reward component.
    ///
    /// The caller puts it into [`Drawn::metric`](crate::Drawn::metric), as [`judged_metric`](Self::judged_metric) says.
    pub metric: FilterMetric,
    /// A group is informative iff its largest value exceeds its smallest by more than this.
    pub tolerance: f64,
    /// A completion with a value above this is correct. It only decides whether a dropped group counts as all correct
    /// or all incorrect; 0 serves metrics of 1 and 0 and of 1 and −1.
    pub correct_above: f64,
    /// P, the groups one step trains on.
    pub train_batch: usize,
    /// Prompts of a round: a number, or `"adaptive"`, as many as groups are missing, more where the recent keep rate is
    /// below 1/2 or few rounds are left, between `gen_batch_min` and `gen_batch_max`.
    pub gen_batch: GenBatch,
    /// Fewest prompts of an adaptive round. Larger values keep a device busier but produce more surplus groups, which are
    /// trained on in a later step or discarded.
    pub gen_batch_min: usize,
    /// Most prompts of an adaptive round; large ones take memory. By default three times `train_batch`.
    pub gen_batch_max: Option<usize>,
    /// Most rounds of one step. 0: any number, until the step has drawn as many prompts as the data set has.
    pub max_gen_rounds: u32,
    /// What happens to informative groups beyond `train_batch`.
    pub surplus: SurplusPolicy,
    /// Number of steps after its own in which a carried group may still be trained on; older groups expire.
    pub max_age: u32,
    /// What happens when the rounds end with too few informative groups.
    pub on_exhausted: OnExhausted,
    /// Adds completions to individual prompts until their values differ, with or without dynamic sampling.
    pub per_prompt: Option<PerPrompt>,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            keeps_lone: false,
            metric: FilterMetric::Acc,
            tolerance: 0.0,
            correct_above: 0.0,
            train_batch: 8,
            gen_batch: GenBatch::Adaptive,
            gen_batch_min: 1,
            gen_batch_max: None,
            max_gen_rounds: 10,
            surplus: SurplusPolicy::Carry,
            max_age: 1,
            on_exhausted: OnExhausted::TrainShort,
            per_prompt: None,
        }
    }
}

impl SamplerConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`SamplerError::Config`] names the first field that is out of range, its value and what is allowed.
    pub fn validate(&self) -> Result<(), SamplerError> {
        if let FilterMetric::Component(name) = &self.metric {
            expect_config(!name.is_empty(), "metric", &"empty", "the name of a reward component")?;
        }
        let tolerance = self.tolerance;
        expect_config(tolerance.is_finite() && tolerance >= 0.0, "tolerance", &tolerance, "a finite number from 0 on")?;
        expect_config(self.correct_above.is_finite(), "correct_above", &self.correct_above, "a finite number")?;
        expect_config(self.train_batch > 0, "train_batch", &self.train_batch, "at least 1")?;
        let (field, most) = match self.gen_batch {
            GenBatch::Fixed(prompts) => ("gen_batch", prompts),
            GenBatch::Adaptive => {
                let min = self.gen_batch_min;
                expect_config(min > 0, "gen_batch_min", &min, "at least 1")?;
                let max = self.most_prompts();
                expect(max >= min, "gen_batch_max", &max, || format!("at least gen_batch_min = {min}"))?;
                ("gen_batch_max", max)
            }
        };
        expect_config(most > 0, field, &most, "at least 1")?;
        if self.max_gen_rounds > 0 {
            let rounds = self.max_gen_rounds as usize;
            let least = self.train_batch.div_ceil(rounds);
            expect(!self.enabled || most >= least, field, &most, || {
                format!("at least {least}, or {rounds} rounds cannot fill train_batch = {}", self.train_batch)
            })?;
        }
        let expires = self.surplus == SurplusPolicy::Carry && self.max_age == 0;
        expect_config(!expires, "max_age", &self.max_age, "at least 1; the surplus policy `discard` carries nothing")?;
        self.per_prompt.as_ref().map_or(Ok(()), PerPrompt::validate)
    }

    /// Most prompts of a round.
    pub fn most_prompts(&self) -> usize {
        match self.gen_batch {
            GenBatch::Fixed(prompts) => prompts,
            GenBatch::Adaptive => self.gen_batch_max.unwrap_or_else(|| self.train_batch.saturating_mul(3)),
        }
    }

    /// The metric that groups are judged by: [`metric`](Self::metric), but where nothing is filtered the final reward, as
    /// a group is then kept for its reward alone.
    ///
    /// ```
    /// use dapo_sampler::{FilterMetric, SamplerConfig};
    ///
    /// let plain = SamplerConfig { enabled: false, ..SamplerConfig::default() };
    /// assert_eq!(plain.judged_metric(), &FilterMetric::SeqFinalReward);
    /// assert_eq!(SamplerConfig::default().judged_metric(), &FilterMetric::Acc);
    /// ```
    pub fn judged_metric(&self) -> &FilterMetric {
        if self.enabled { &self.metric } else { &FilterMetric::SeqFinalReward }
    }

    /// How many completions to add to a prompt that has these metric values so far; 0 when it has enough or
    /// `per_prompt` is off.
    pub fn more_completions(&self, metric: &[Option<f64>]) -> usize {
        self.per_prompt.map_or(0, |per_prompt| per_prompt.more(metric, self.tolerance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(SamplerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn out_of_range_fields_are_named_with_value_and_bounds() {
        let valid = SamplerConfig::default;
        for (config, message) in [
            (SamplerConfig { tolerance: -0.5, ..valid() }, "tolerance is -0.5, expected a finite number from 0 on"),
            (SamplerConfig { tolerance: f64::NAN, ..valid() }, "tolerance is NaN, expected a finite number from 0 on"),
            (
                SamplerConfig { correct_above: f64::INFINITY, ..valid() },
                "correct_above is inf, expected a finite number",
            ),
            (SamplerConfig { train_batch: 0, ..valid() }, "train_batch is 0, expected at least 1"),
            (SamplerConfig { gen_batch: GenBatch::Fixed(0), ..valid() }, "gen_batch is 0, expected at least 1"),
            (
                SamplerConfig { gen_batch_min: 0, gen_batch_max: Some(8), ..valid() },
                "gen_batch_min is 0, expected at least 1",
            ),
            (
                SamplerConfig { gen_batch_min: 9, gen_batch_max: Some(8), ..valid() },
                "gen_batch_max is 8, expected at least gen_batch_min = 9",
            ),
            (
                SamplerConfig { train_batch: 512, gen_batch_max: Some(24), ..valid() },
                "gen_batch_max is 24, expected at least 52, or 10 rounds cannot fill train_batch = 512",
            ),
            (
                SamplerConfig { max_age: 0, ..valid() },
                "max_age is 0, expected at least 1; the surplus policy `discard` carries nothing",
            ),
            (
                SamplerConfig { metric: FilterMetric::Component(String::new()), ..valid() },
                "metric is empty, expected the name of a reward component",
            ),
            (
                SamplerConfig { per_prompt: Some(PerPrompt { increment: 1, max_samples: 0 }), ..valid() },
                "per_prompt.max_samples is 0, expected at least 2",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn rounds_that_may_go_on_may_be_small() {
        let config =
            SamplerConfig { train_batch: 512, gen_batch_max: Some(24), max_gen_rounds: 0, ..SamplerConfig::default() };
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(SamplerConfig { enabled: false, max_gen_rounds: 1, ..config }.validate(), Ok(()));
    }

    #[test]
    fn reads_and_writes_the_names_users_know() {
        let text = r#"{
            "metric": "seq_final_reward", "gen_batch": 24, "surplus": "discard",
            "on_exhausted": "keep-zero-std", "per_prompt": {"max_samples": 16}
        }"#;
        let config: SamplerConfig = serde_json::from_str(text).unwrap();
        let expected = SamplerConfig {
            metric: FilterMetric::SeqFinalReward,
            gen_batch: GenBatch::Fixed(24),
            surplus: SurplusPolicy::Discard,
            on_exhausted: OnExhausted::KeepZeroStd,
            per_prompt: Some(PerPrompt { increment: 1, max_samples: 16 }),
            ..SamplerConfig::default()
        };
        assert_eq!(config, expected);
        let written = serde_json::to_string(&SamplerConfig::default()).unwrap();
        assert!(
            written.contains(r#""gen_batch":"adaptive","gen_batch_min":1,"gen_batch_max":null,"max_gen_rounds":10"#),
            "{written}"
        );
        assert!(written.contains(r#""surplus":"carry","max_age":1,"on_exhausted":"train-short""#), "{written}");
        assert!(serde_json::from_str::<SamplerConfig>(r#"{"max_num_gen_batches": 3}"#).is_err());
    }

    #[test]
    fn per_prompt_uses_the_tolerance_of_the_filter() {
        let per_prompt = Some(PerPrompt { increment: 3, max_samples: 8 });
        let config = SamplerConfig { tolerance: 0.5, per_prompt, ..SamplerConfig::default() };
        assert_eq!(config.more_completions(&[Some(0.0), Some(0.5)]), 3);
        assert_eq!(config.more_completions(&[Some(0.0), Some(0.6)]), 0);
        assert_eq!(SamplerConfig::default().more_completions(&[Some(0.0); 2]), 0);
    }
}
