//! What one problem's completions come to: a score in [0, 1].

/// 1 − C(n − c, k) / C(n, k), as a product; with k > n, whether any was right.
pub(super) fn pass_at(n: usize, c: usize, k: usize) -> f64 {
    let k = k.min(n);
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// The vote of all completions, each for the class of its answer (`None`: for nothing): how right the class with most votes
/// is. Classes with equally many votes split the score evenly.
///
/// A class is as right as its members: 0 or 1, but where equivalence to the gold answer and to each other disagree, their
/// mean. Without any vote the score is 0.
pub(super) fn majority(votes: &[Option<usize>], is_right: &[bool]) -> f64 {
    let mut classes: Vec<(usize, usize)> = Vec::new();
    for (class, is_right) in votes.iter().zip(is_right) {
        let Some(class) = *class else { continue };
        classes.resize(classes.len().max(class + 1), (0, 0));
        classes[class].0 += 1;
        classes[class].1 += usize::from(*is_right);
    }
    let most = classes.iter().map(|(votes, _)| *votes).max().unwrap_or(0);
    let top: Vec<f64> = classes
        .iter()
        .filter(|c| c.0 == most && most > 0)
        .map(|(votes, right)| *right as f64 / *votes as f64)
        .collect();
    top.iter().sum::<f64>() / top.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_is_the_ratio_of_binomials() {
        fn binomial(n: usize, k: usize) -> f64 {
            (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
        }
        for n in 1..12 {
            for c in 0..=n {
                for k in 1..=n {
                    let exact = 1.0 - if n - c < k { 0.0 } else { binomial(n - c, k) / binomial(n, k) };
                    assert!((pass_at(n, c, k) - exact).abs() < 1e-12, "{n} {c} {k}");
                }
            }
        }
    }

    #[test]
    fn pass_at_k_is_the_share_of_k_subsets_with_a_right_completion() {
        for (n, c) in [(1, 0), (1, 1), (5, 2), (6, 1), (8, 3), (10, 0), (10, 9), (10, 10)] {
            for k in 1..=n {
                let subsets = (0u32..1 << n).filter(|set| set.count_ones() as usize == k);
                let solved = subsets.clone().filter(|set| set & ((1 << c) - 1) != 0).count();
                let share = solved as f64 / subsets.count() as f64;
                assert!((pass_at(n, c, k) - share).abs() < 1e-12, "{n} {c} {k}");
            }
        }
    }

    /// Votes as letters, `-` for none; the completions at `right` are right.
    fn vote(letters: &str, right: &[usize]) -> f64 {
        let votes: Vec<_> = letters.bytes().map(|b| (b != b'-').then(|| usize::from(b - b'a'))).collect();
        let is_right: Vec<bool> = (0..votes.len()).map(|i| right.contains(&i)).collect();
        majority(&votes, &is_right)
    }

    #[test]
    fn the_answer_with_most_votes_decides() {
        assert_eq!(vote("abb", &[1, 2]), 1.0);
        assert_eq!(vote("abb", &[0]), 0.0);
        assert_eq!(vote("aaaa", &[0, 1, 2, 3]), 1.0);
        assert_eq!(vote("aaaa", &[]), 0.0);
        assert_eq!(vote("a", &[0]), 1.0);
    }

    #[test]
    fn tied_answers_split_the_score() {
        assert_eq!(vote("ab", &[0]), 0.5);
        assert_eq!(vote("aabbc", &[2, 3]), 0.5);
        assert_eq!(vote("abcd", &[3]), 0.25);
        assert_eq!(vote("abcd", &[1, 3]), 0.5);
        assert_eq!(vote("aabbc", &[4]), 0.0, "a right answer with fewer votes");
    }

    #[test]
    fn a_completion_without_an_answer_votes_for_nothing() {
        assert_eq!(vote("---a", &[3]), 1.0);
        assert_eq!(vote("----", &[]), 0.0);
        assert_eq!(vote("", &[]), 0.0);
    }

    #[test]
    fn a_class_is_as_right_as_its_members() {
        assert_eq!(vote("aaaab", &[0, 1, 2, 4]), 0.75);
        assert_eq!(vote("aabb", &[0, 2, 3]), 0.75);
    }
}
