//! Which groups carry a training signal.

use serde::{Deserialize, Serialize};

/// What a group's metric values say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupVerdict {
    /// The values differ: the group has advantages other than zero.
    Keep,
    /// All values are equal and stand for a correct completion.
    AllCorrect,
    /// All values are equal and stand for an incorrect completion.
    #[serde(alias = "all_wrong")]
    AllIncorrect,
    /// Fewer than two completions were graded, or the values differ by no more than the tolerance.
    Other,
}

/// Judges one group by one metric value per completion, `None` where the grader abstained.
///
/// ```text
/// keep ⇔ max(metric) − min(metric) > tolerance
/// ```
///
/// over the graded completions. Of the others, a group of equal values counts as all correct if they are above
/// `correct_above` and as all incorrect ([`GroupVerdict::AllIncorrect`]) if not. Values are expected to be finite.
///
/// ```
/// use dapo_sampler::{GroupVerdict, judge};
///
/// assert_eq!(judge(&[Some(1.0), Some(0.0), Some(0.0)], 0.0, 0.0), GroupVerdict::Keep);
/// assert_eq!(judge(&[Some(1.0), None, Some(1.0)], 0.0, 0.0), GroupVerdict::AllCorrect);
/// assert_eq!(judge(&[Some(-1.0), Some(-1.0)], 0.0, 0.0), GroupVerdict::AllIncorrect);
/// assert_eq!(judge(&[Some(1.0), None, None], 0.0, 0.0), GroupVerdict::Other);
/// assert_eq!(judge(&[Some(0.5), Some(0.6)], 0.2, 0.0), GroupVerdict::Other);
/// ```
///
/// Source: the constraint 0 < |{ correct }| < G of the DAPO paper's objective, for any metric.
pub fn judge(metric: &[Option<f64>], tolerance: f64, correct_above: f64) -> GroupVerdict {
    match extent(metric) {
        Some((min, max)) if max - min > tolerance => GroupVerdict::Keep,
        Some((min, max)) if min == max => {
            if max > correct_above {
                GroupVerdict::AllCorrect
            } else {
                GroupVerdict::AllIncorrect
            }
        }
        _ => GroupVerdict::Other,
    }
}

/// How many completions were graded.
pub(crate) fn graded(metric: &[Option<f64>]) -> usize {
    metric.iter().flatten().count()
}

/// Smallest and largest value of at least two graded completions.
fn extent(metric: &[Option<f64>]) -> Option<(f64, f64)> {
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for &value in metric.iter().flatten() {
        (min, max) = (min.min(value), max.max(value));
    }
    (graded(metric) >= 2).then_some((min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_group_iff_some_but_not_all_are_correct() {
        for group in 2..=8_u32 {
            for correct in 0..=group {
                let metric: Vec<_> = (0..group).map(|i| Some(f64::from(u8::from(i < correct)))).collect();
                let expected = match correct {
                    0 => GroupVerdict::AllIncorrect,
                    c if c == group => GroupVerdict::AllCorrect,
                    _ => GroupVerdict::Keep,
                };
                assert_eq!(judge(&metric, 0.0, 0.0), expected, "{correct} of {group}");
            }
        }
    }

    #[test]
    fn a_spread_equal_to_the_tolerance_is_not_kept() {
        assert_eq!(judge(&[Some(0.0), Some(0.25)], 0.25, 0.0), GroupVerdict::Other);
        assert_eq!(judge(&[Some(0.0), Some(0.26)], 0.25, 0.0), GroupVerdict::Keep);
    }

    #[test]
    fn abstained_is_not_zero() {
        assert_eq!(judge(&[Some(1.0), Some(1.0), None], 0.0, 0.0), GroupVerdict::AllCorrect);
        assert_eq!(judge(&[Some(-1.0), Some(-1.0), None], 0.0, 0.0), GroupVerdict::AllIncorrect);
    }

    #[test]
    fn fewer_than_two_graded_completions_are_no_group() {
        for metric in [&[][..], &[None], &[Some(1.0)], &[None, Some(0.0), None]] {
            assert_eq!(judge(metric, 0.0, 0.0), GroupVerdict::Other, "{metric:?}");
        }
    }

    #[test]
    fn the_threshold_of_correct_is_the_callers() {
        let metric = [Some(0.5), Some(0.5)];
        assert_eq!(judge(&metric, 0.0, 0.0), GroupVerdict::AllCorrect);
        assert_eq!(judge(&metric, 0.0, 0.5), GroupVerdict::AllIncorrect);
    }
}
