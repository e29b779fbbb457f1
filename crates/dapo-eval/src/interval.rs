//! Means over problems, and how sure they are.

use serde::Serialize;

/// A mean over problems with its 95 % confidence interval.
///
/// The problems are taken as a random sample of all such problems, and each gives one score in [0, 1], whatever number of
/// completions it was made from: completions of one problem are no independent evidence about other problems. The
/// interval says where the mean over all such problems may lie.
///
/// # Formula
/// N scores with mean m and variance s² (divided by N − 1). Scores in [0, 1] with mean μ have variance φ·μ(1 − μ) for some
/// φ ≤ 1. The interval holds every μ with
///
/// (m − μ)² ≤ q²·φ·μ(1 − μ) / N,
///
/// which is Wilson's score interval with N/φ, the effective number of problems, in the place of N:
///
/// - scores that are all 0 or 1 have φ = 1, and q = 1.95996 is the normal quantile: Wilson's interval itself.
/// - Others have the estimate φ = s² / (m(1 − m)), at most 1, and q is Student's quantile with N − 1 degrees of freedom. φ
///   is at least 1/n, the value for the mean of n completions when all problems are equally hard. So scores that happen to
///   be equal claim no certainty.
///
/// Unlike m ± q·s/√N it stays within [0, 1], and says something where all scores are 0 or all are 1; a bootstrap over
/// problems does not there, and both hold the true mean too rarely with few problems or a mean near 0 or 1. So does
/// this one, though less, with a dozen problems or fewer of which hardly any is solved, or hardly any is not: about 86
/// times in 100 for ten problems with solution probabilities from Beta(0.1, 1).
///
/// Sources: Wilson 1927; effective sample size, Korn and Graubard 1998, and in Wilson's interval, Franco, Little, Louis and
/// Slud (PMC6690503); problems as the sampled unit, Miller 2024 (arXiv 2411.00640).
///
/// # Example
/// ```
/// use dapo_eval::Estimate;
///
/// let seven_of_ten = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
/// let estimate = Estimate::of(&seven_of_ten, 1);
/// assert_eq!(format!("{estimate:.3}"), "0.700  0.397 to 0.892");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The normal distribution's 97.5 % quantile.
const NORMAL: f64 = 1.959_963_984_540_054;

impl Estimate {
    /// The mean of `scores`, one a problem and each in [0, 1], made from `samples` completions each. Without scores it is 0,
    /// and the interval everything.
    pub fn of(scores: &[f64], samples: usize) -> Self {
        let n = scores.len() as f64;
        // The sum of no numbers, and of negative zeros, is a negative zero.
        let mean = 0.0 + scores.iter().sum::<f64>() / n.max(1.0);
        let spread = mean * (1.0 - mean);
        let (dispersion, quantile) = if scores.iter().all(|score| *score == 0.0 || *score == 1.0) {
            (1.0, NORMAL)
        } else {
            let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0);
            ((variance / spread).max(1.0 / samples.max(1) as f64).min(1.0), student(scores.len() - 1))
        };
        // The two roots of the quadratic equation in μ.
        let a = quantile * quantile * dispersion / n;
        if !a.is_finite() {
            return Self { mean, low: 0.0, high: 1.0 };
        }
        let centre = (mean + a / 2.0) / (1.0 + a);
        let half = (a * spread + a * a / 4.0).sqrt() / (1.0 + a);
        // Rounding must not push the mean out.
        Self { mean, low: (centre - half).clamp(0.0, mean), high: (centre + half).clamp(mean, 1.0) }
    }
}

impl Estimate {
    /// The mean of `scores` of any size, one a problem, with Student's interval m ± q·s/√N; `None` without scores. One score
    /// alone says nothing about others: both ends are the score.
    pub fn of_any(scores: &[f64]) -> Option<Self> {
        let n = scores.len() as f64;
        let mean = 0.0 + scores.iter().sum::<f64>() / n.max(1.0);
        let half = match scores.len() {
            0 => return None,
            1 => 0.0,
            count => {
                let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0);
                student(count - 1) * (variance / n).sqrt()
            }
        };
        Some(Self { mean, low: mean - half, high: mean + half })
    }
}

impl std::fmt::Display for Estimate {
    /// The mean and the interval, with four decimals unless told otherwise.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self { mean, low, high }, digits) = (self, f.precision().unwrap_or(4));
        write!(f, "{mean:.digits$}  {low:.digits$} to {high:.digits$}")
    }
}

/// The 97.5 % quantile of Student's distribution.
///
/// With t = √ν·tan θ, P(|T| ≤ t) is a finite sum in sin θ and cos θ (Abramowitz and Stegun 26.7.3 and 26.7.4), which is
/// solved for θ by bisection.
fn student(degrees: usize) -> f64 {
    let within = |theta: f64| {
        let (sin, cos) = theta.sin_cos();
        let odd = degrees % 2 == 1;
        let (mut term, mut sum, first) = if odd { (cos, 0.0, 1) } else { (1.0, 0.0, 0) };
        for i in (first..degrees.saturating_sub(1)).step_by(2) {
            sum += term;
            term *= cos * cos * (i + 1) as f64 / (i + 2) as f64;
        }
        if odd { (theta + sin * sum) / std::f64::consts::FRAC_PI_2 } else { sin * sum }
    };
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if within(middle) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    if degrees == 0 { f64::INFINITY } else { (degrees as f64).sqrt() * high.tan() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::pass_at;
    use dapo_sampler::SplitMix;

    fn is_close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-12 * expected.abs().max(1.0)
    }

    #[test]
    fn students_quantiles_are_those_of_the_incomplete_beta_function() {
        for (degrees, expected) in [
            (1, 12.706_204_736_174_7),
            (2, 4.302_652_729_749_464),
            (3, 3.182_446_305_283_71),
            (4, 2.776_445_105_197_794),
            (9, 2.262_157_162_798_206),
            (10, 2.228_138_851_986_275),
            (29, 2.045_229_642_132_704),
            (30, 2.042_272_456_301_238),
            (99, 1.984_216_951_586_417),
            (1318, 1.961_765_512_767_315),
        ] {
            assert!(is_close(student(degrees), expected), "{degrees}: {}", student(degrees));
        }
        assert_eq!(student(0), f64::INFINITY);
    }

    #[test]
    fn intervals_are_the_roots_of_the_score_equation() {
        // Roots found by bisection at thirty digits.
        let of = |scores: &[f64], samples, expected: [f64; 3]| {
            let Estimate { mean, low, high } = Estimate::of(scores, samples);
            let found = [mean, low, high];
            assert!(found.iter().zip(expected).all(|(f, e)| is_close(*f, e)), "{scores:?}: {found:?}, {expected:?}");
        };
        let solved = |right: usize, n: usize| (0..n).map(|i| if i < right { 1.0 } else { 0.0 }).collect::<Vec<_>>();
        of(&solved(7, 10), 1, [0.7, 0.396_778_147_461_145_3, 0.892_208_732_593_699]);
        of(&solved(15, 30), 32, [0.5, 0.331_541_256_405_337_6, 0.668_458_743_594_662_4]);
        of(&solved(0, 30), 32, [0.0, 0.0, 0.113_513_393_173_968_8]);
        of(&solved(30, 30), 32, [1.0, 0.886_486_606_826_031_2, 1.0]);
        let mixed = [0.0, 0.0, 0.25, 0.5, 0.75, 1.0];
        of(&mixed, 4, [0.416_666_666_666_666_7, 0.127_156_141_010_564_3, 0.777_887_244_449_693_7]);
        let low: Vec<f64> = (0..30).map(|i| f64::from(i % 11) / 32.0).collect();
        of(&low, 32, [0.143_75, 0.111_500_731_687_944_4, 0.183_401_358_404_505_2]);
        // All problems equally hard: as sure as 80 coins, no more.
        of(&[0.5; 10], 8, [0.5, 0.377_401_905_932_444_4, 0.622_598_094_067_555_6]);
    }

    #[test]
    fn little_evidence_gives_wide_intervals() {
        assert_eq!(Estimate::of(&[], 4), Estimate { mean: 0.0, low: 0.0, high: 1.0 });
        assert_eq!(Estimate::of(&[0.25], 4), Estimate { mean: 0.25, low: 0.0, high: 1.0 });
        let one = Estimate::of(&[1.0], 4);
        assert!(one.high == 1.0 && (one.low - 0.206_5).abs() < 1e-4, "{one:?}");
        assert_eq!(Estimate::of(&[1.0, 1.0 - f64::EPSILON], 0).high, 1.0);
    }

    /// How often, out of 4,000 evaluations, the interval holds the true mean. A problem's probability of being solved
    /// is drawn by `problem`, and its number of right completions becomes a score by `score`.
    fn coverage(
        (problems, samples): (usize, usize),
        truth: f64,
        problem: impl Fn(&mut SplitMix) -> f64,
        score: impl Fn(usize) -> f64,
    ) -> f64 {
        let mut rng = SplitMix::new(2024);
        let trials = 4_000;
        let mut covered = 0;
        for _ in 0..trials {
            let scores: Vec<f64> = (0..problems)
                .map(|_| {
                    let probability = problem(&mut rng);
                    score((0..samples).filter(|_| rng.uniform() < probability).count())
                })
                .collect();
            let Estimate { low, high, .. } = Estimate::of(&scores, samples);
            covered += usize::from(low <= truth && truth <= high);
        }
        f64::from(covered as u32) / f64::from(trials)
    }

    #[test]
    fn intervals_hold_the_true_mean_about_95_times_in_100() {
        type Problem = fn(&mut SplitMix) -> f64;
        let uniform: Problem = |rng| rng.uniform();
        let hard: Problem = |rng| rng.uniform().powi(4);
        let easy: Problem = |rng| 1.0 - rng.uniform().powi(4);
        let mostly_hopeless: Problem = |rng| if rng.uniform() < 0.6 { 0.0 } else { rng.uniform() };
        let equally_hard: Problem = |_| 0.3;
        for (name, size, truth, problem) in [
            ("uniform", (30, 32), 0.5, uniform),
            ("uniform", (12, 4), 0.5, uniform),
            ("hard", (30, 32), 0.2, hard),
            ("hard", (200, 8), 0.2, hard),
            ("easy", (30, 32), 0.8, easy),
            ("mostly hopeless", (30, 32), 0.2, mostly_hopeless),
            ("equally hard", (30, 32), 0.3, equally_hard),
            ("equally hard", (100, 4), 0.3, equally_hard),
            ("one sample", (30, 1), 0.3, equally_hard),
            ("one sample", (100, 1), 0.2, hard),
        ] {
            let covered = coverage(size, truth, problem, |right| right as f64 / size.1 as f64);
            assert!((0.92..=0.98).contains(&covered), "{name} {size:?}: {covered}");
        }
        // pass@8 of 32: ∫ 1 − (1 − p)⁸ dp = 8/9, and 1 − ∫ (1 − u⁴)⁸ du by the beta function.
        let pass = |right| pass_at(32, right, 8);
        let beta = (1..=8).map(|i| f64::from(4 * i) / f64::from(4 * i + 1)).product::<f64>();
        for (truth, problem) in [(8.0 / 9.0, uniform), (1.0 - beta, hard)] {
            let covered = coverage((60, 32), truth, problem, pass);
            assert!((0.92..=0.98).contains(&covered), "pass@8 of {truth}: {covered}");
        }
    }
}
