//! Accuracy on held-out problems.

use crate::{Group, Prompt, TrainerError, roll_out};
use dapo_policy::{GenerationConfig, Policy, Tokenizer};
use dapo_reward::RewardSum;

/// What was found on a set of problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Every problem with its completions.
    pub groups: Vec<Group>,
}

/// Completes every prompt `samples` times and judges the completions; the draw index is the prompt's place.
///
/// # Errors
/// As [`roll_out`].
pub fn evaluate(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    samples: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
) -> Result<Evaluation, TrainerError> {
    let drawn: Vec<(u64, &Prompt)> = (0..).zip(prompts).collect();
    Ok(Evaluation { groups: roll_out(policy, tokenizer, &drawn, samples, generation, rewards)? })
}

impl Evaluation {
    /// Mean over problems of the share of right completions (avg@k); an abstention counts as wrong.
    pub fn accuracy(&self) -> f64 {
        self.mean(|right, n| right as f64 / n as f64)
    }

    /// Mean over problems of the unbiased estimate of solving it with k samples out of n: 1 − C(n − c, k) / C(n, k).
    ///
    /// Source: Chen et al. 2021 (arXiv 2107.03374), Eq. 1.
    pub fn pass_at(&self, k: usize) -> f64 {
        self.mean(|right, n| pass_at(n, right, k))
    }

    /// Share of completions that used up their tokens.
    pub fn truncated(&self) -> f64 {
        let all = self.groups.iter().flat_map(|g| &g.completions);
        let truncated = all.clone().filter(|c| c.finish_reason == dapo_policy::FinishReason::Length).count();
        truncated as f64 / all.count().max(1) as f64
    }

    fn mean(&self, f: impl Fn(usize, usize) -> f64) -> f64 {
        let of_group = |group: &Group| {
            let right = group.rewards.iter().filter(|r| r.correct == Some(true)).count();
            f(right, group.rewards.len().max(1))
        };
        self.groups.iter().map(of_group).sum::<f64>() / self.groups.len().max(1) as f64
    }
}

/// 1 − C(n − c, k) / C(n, k), as a product; with k > n, whether any was right.
fn pass_at(n: usize, c: usize, k: usize) -> f64 {
    let k = k.min(n);
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
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
}
