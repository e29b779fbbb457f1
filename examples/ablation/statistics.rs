//! Means over seeds, with intervals.

use dapo::eval::Estimate;

/// A mean over seeds with its 95 % confidence interval.
#[derive(Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    /// Half its width.
    pub(crate) half: f64,
}

impl Interval {
    /// Student's interval of a mean; one value alone says nothing about others.
    pub(crate) fn of(values: &[f64]) -> Self {
        match Estimate::of_any(values) {
            Some(Estimate { mean, low, high }) if values.len() > 1 => Self { mean, half: (high - low) / 2.0 },
            Some(Estimate { mean, .. }) => Self { mean, half: f64::INFINITY },
            None => Self { mean: f64::NAN, half: f64::INFINITY },
        }
    }
}
