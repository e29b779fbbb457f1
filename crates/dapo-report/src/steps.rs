//! Step numbers in words.

/// Ascending steps as ranges: `3, 5 to 7`; at most six of them are named.
pub(crate) fn ranges(steps: impl IntoIterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for step in steps {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == step => *last = step,
            _ => ranges.push((step, step)),
        }
    }
    in_words(&ranges)
}

/// The gaps between ascending steps, and before them from 1 on; empty where no step is missing.
pub(crate) fn gaps(steps: impl IntoIterator<Item = u64>) -> String {
    let (mut next, mut gaps) = (1, Vec::new());
    for step in steps {
        if step > next {
            gaps.push((next, step - 1));
        }
        next = step + 1;
    }
    in_words(&gaps)
}

fn in_words(ranges: &[(u64, u64)]) -> String {
    const NAMED: usize = 6;
    let word = |&(first, last): &(u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    let mut words: Vec<_> = ranges.iter().take(NAMED).map(word).collect();
    if ranges.len() > NAMED {
        words.push("and others".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_in_a_row_are_one_range() {
        assert_eq!(ranges([1, 3, 4, 7, 8, 9]), "1, 3, 4, 7 to 9");
        assert_eq!(ranges([]), "");
    }

    #[test]
    fn gaps_are_counted_from_the_first_step() {
        assert_eq!(gaps([1, 2, 3]), "");
        assert_eq!(gaps([3, 4, 9]), "1, 2, 5 to 8");
        assert_eq!(gaps([1, 1 << 50]), "2 to 1125899906842623");
    }

    #[test]
    fn many_ranges_are_not_all_named() {
        assert_eq!(ranges((0..20).map(|step| 2 * step)), "0, 2, 4, 6, 8, 10, and others");
    }
}
