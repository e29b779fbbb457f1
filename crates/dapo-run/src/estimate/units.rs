//! Figures for people.

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= step * 0.9995 {
        let Some(next) = units.next() else { break };
        value /= step;
        unit = next;
    }
    let digits = usize::from(value < 99.95);
    let text = format!("{value:.digits$}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Bytes in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

/// A number of things.
pub(super) fn count(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", " thousand", " million", " billion", " trillion"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_unit_and_two_or_three_digits() {
        assert_eq!([0, 1023, 1 << 20, 2_400_000_000].map(bytes), ["0 B", "1023 B", "1 MiB", "2.2 GiB"]);
        assert_eq!(
            [16, 999, 1000, 12_345, 999_999].map(count),
            ["16", "999", "1 thousand", "12.3 thousand", "1 million"]
        );
        assert_eq!(count(503_316_480), "503 million");
    }
}
