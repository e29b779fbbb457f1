//! Numbers in few characters.

/// A time in seconds as `0:07`, `12:34`, `1:02:03` or `2 d 03:04`.
pub fn duration(seconds: f64) -> String {
    // Casts of floats saturate.
    let seconds = seconds.max(0.0).round() as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

/// The seconds of a step as `0.34 s`, `12.3 s` or `4:05`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 99.95 => format!("{s:.1} s"),
        s => duration(s),
    }
}

/// A count or rate as `123`, `1.23k`, `45.6M`.
pub(crate) fn count(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v < 999.5 => return format!("{v:.0}"),
        v if v < 999_500.0 => (v / 1e3, "k"),
        v if v < 999_500_000.0 => (v / 1e6, "M"),
        v => (v / 1e9, "G"),
    };
    let digits = usize::from(scaled < 99.95) + usize::from(scaled < 9.995);
    format!("{scaled:.digits$}{unit}")
}

/// A figure with some digits after its point, or shorter where it is large; `-` for none.
pub(crate) fn figure(value: Option<f64>, digits: usize) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if !value.is_finite() => format!("{value}"),
        Some(value) if value.abs() >= 1e6 => format!("{value:.1e}"),
        Some(value) if value.abs() >= 1e3 => format!("{value:.0}"),
        Some(value) => format!("{value:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_round_to_the_next_unit() {
        let of = [0.4, 59.6, 754.0, 3723.0, 183_840.0].map(duration);
        assert_eq!(of, ["0:00", "1:00", "12:34", "1:02:03", "2 d 03:04"]);
        assert_eq!([0.333, 9.996, 99.96].map(seconds), ["0.33 s", "10.0 s", "1:40"]);
        assert_eq!([0.0, 999.6, 12_345.0, 999_600.0, 1.5e9].map(count), ["0", "1.00k", "12.3k", "1.00M", "1.50G"]);
        let of = [None, Some(0.1234), Some(-1234.5), Some(2e7), Some(f64::NAN)].map(|value| figure(value, 3));
        assert_eq!(of, ["-", "0.123", "-1234", "2.0e7", "NaN"]);
    }
}
