//! Curves of one line.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All values from the first to the last in at most `cells` characters: each the mean of its part, between the least and
/// the largest of these means. A blank where there is no finite value.
pub(crate) fn sparkline(values: &[Option<f64>], cells: usize) -> String {
    let cells = cells.min(values.len());
    let mean = |cell: usize| {
        let part = &values[cell * values.len() / cells..(cell + 1) * values.len() / cells];
        let finite: Vec<f64> = part.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
    };
    let means: Vec<Option<f64>> = (0..cells).map(mean).collect();
    let (low, high) = means
        .iter()
        .flatten()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), mean| (low.min(*mean), high.max(*mean)));
    let level = |mean: &f64| match (mean - low) / (high - low) {
        share if share.is_finite() => LEVELS[((share * 8.0) as usize).min(7)],
        // All are the same.
        _ => LEVELS[3],
    };
    means.iter().map(|mean| mean.as_ref().map_or(' ', level)).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn shows_all_values_between_the_least_and_the_largest() {
        let values: Vec<Option<f64>> = (0..8).map(|i| Some(f64::from(i))).collect();
        assert_eq!(sparkline(&values, 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&values, 20), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&values, 4), "▁▃▆█");
        assert_eq!(sparkline(&[Some(1.0), None, Some(f64::NAN), Some(2.0)], 9), "▁  █");
        assert_eq!(sparkline(&[Some(0.5); 3], 9), "▄▄▄");
        assert_eq!(sparkline(&[], 9), "");
        assert_eq!(sparkline(&values, 0), "");
    }
}
