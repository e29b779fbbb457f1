//! Per-prompt dynamic sampling: more completions for one prompt instead of more prompts.

use serde::{Deserialize, Serialize};

use crate::{
    error::{SamplerError, expect_config},
    verdict::{GroupVerdict, judge},
};

/// Adds completions to a prompt until their metric values differ or a maximum is reached, so group sizes vary.
///
/// Stopping by what was seen biases the groups: drawing until the first success gives a mean share of successes of
/// p·ln(1/p)/(1 − p) instead of p. A larger increment biases less.
///
/// The caller starts with its usual group size and asks [`more`](Self::more) after every batch of completions. The
/// finished group is judged like any other.
///
/// ```
/// use dapo_sampler::PerPrompt;
///
/// let per_prompt = PerPrompt { increment: 2, max_samples: 5 };
/// assert_eq!(per_prompt.more(&[Some(0.0); 2], 0.0), 2);
/// assert_eq!(per_prompt.more(&[Some(0.0); 4], 0.0), 1);
/// assert_eq!(per_prompt.more(&[Some(0.0); 5], 0.0), 0);
/// assert_eq!(per_prompt.more(&[Some(0.0), Some(1.0)], 0.0), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PerPrompt {
    /// How many completions to add at a time.
    pub increment: usize,
    /// Most completions of one prompt, the first ones and those that abstained included.
    pub max_samples: usize,
}

impl Default for PerPrompt {
    /// One at a time, up to 16.
    fn default() -> Self {
        Self { increment: 1, max_samples: 16 }
    }
}

impl PerPrompt {
    /// Checks both fields. That `max_samples` exceeds the group size is the caller's to check.
    ///
    /// # Errors
    /// [`SamplerError::Config`] names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), SamplerError> {
        expect_config(self.increment > 0, "per_prompt.increment", &self.increment, "at least 1")?;
        expect_config(self.max_samples >= 2, "per_prompt.max_samples", &self.max_samples, "at least 2")
    }

    /// How many completions to add to a prompt with these metric values; 0 when it has enough.
    pub fn more(&self, metric: &[Option<f64>], tolerance: f64) -> usize {
        if needs_more(metric, tolerance, self.max_samples) {
            self.increment.clamp(1, self.max_samples - metric.len())
        } else {
            0
        }
    }
}

/// Whether a prompt with these metric values is worth another completion: there are fewer than `max_samples`, and
/// those graded do not differ by more than `tolerance`.
///
/// ```
/// use dapo_sampler::needs_more;
///
/// assert!(needs_more(&[Some(1.0), Some(1.0), None], 0.0, 8));
/// assert!(!needs_more(&[Some(1.0), Some(0.0)], 0.0, 8));
/// assert!(!needs_more(&[Some(1.0); 8], 0.0, 8));
/// ```
pub fn needs_more(metric: &[Option<f64>], tolerance: f64, max_samples: usize) -> bool {
    metric.len() < max_samples && judge(metric, tolerance, 0.0) != GroupVerdict::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples one prompt whose completions have `values` in turn.
    fn sample(per_prompt: PerPrompt, group: usize, values: &[Option<f64>]) -> usize {
        let mut len = group;
        loop {
            match per_prompt.more(&values[..len], 0.0) {
                0 => return len,
                more => len += more,
            }
        }
    }

    #[test]
    fn stops_at_the_first_difference() {
        let mut values = [Some(0.0); 16];
        values[6] = Some(1.0);
        assert_eq!(sample(PerPrompt { increment: 1, max_samples: 16 }, 4, &values), 7);
        assert_eq!(sample(PerPrompt { increment: 2, max_samples: 16 }, 4, &values), 8);
        assert_eq!(sample(PerPrompt { increment: 1, max_samples: 16 }, 8, &values), 8);
    }

    #[test]
    fn never_exceeds_the_maximum() {
        for increment in 1..6 {
            assert_eq!(sample(PerPrompt { increment, max_samples: 11 }, 4, &[Some(1.0); 16]), 11);
            assert_eq!(sample(PerPrompt { increment, max_samples: 11 }, 4, &[None; 16]), 11);
        }
        assert_eq!(sample(PerPrompt { increment: 1, max_samples: 11 }, 12, &[None; 16]), 12);
    }

    #[test]
    fn an_abstained_completion_is_no_difference() {
        assert!(needs_more(&[Some(1.0), None], 0.0, 4));
    }

    #[test]
    fn out_of_range_fields_are_named() {
        let error = PerPrompt { increment: 0, max_samples: 4 }.validate().unwrap_err();
        assert_eq!(error.to_string(), "per_prompt.increment is 0, expected at least 1");
        let error = PerPrompt { increment: 1, max_samples: 1 }.validate().unwrap_err();
        assert_eq!(error.to_string(), "per_prompt.max_samples is 1, expected at least 2");
    }
}
