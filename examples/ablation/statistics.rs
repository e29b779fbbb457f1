//! Means over seeds, with intervals.

/// A mean over seeds with its 95 % confidence interval.
#[derive(Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    /// Half its width.
    pub(crate) half: f64,
}

impl Interval {
    /// Student's interval of a mean: mean ± t · s / √n.
    pub(crate) fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.len() < 2 {
            return Self { mean, half: f64::INFINITY };
        }
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self { mean, half: quantile(values.len() - 1) * (variance / n).sqrt() }
    }
}

/// The 97.5 % quantile of Student's t.
fn quantile(degrees: usize) -> f64 {
    const TABLE: [f64; 15] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131];
    // Beyond the table, its expansion in 1 / degrees is good to the third decimal.
    TABLE.get(degrees - 1).copied().unwrap_or(1.96 + 2.4 / degrees as f64)
}
