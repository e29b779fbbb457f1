//! Log-probs of completions under a model, however many fit into a batch.

use crate::error::TrainerError;
use dapo_policy::{PolicyError, TokenBatch, TokenGroup, TokenLogprobs, pack_tokens};

/// Log-probs of every completion's tokens, in nats, in the order of the groups; `logprobs` scores a batch of at most
/// `max_tokens` tokens.
///
/// # Errors
/// When a prompt is empty, or the model fails.
pub(crate) fn score(
    groups: &[TokenGroup<'_>],
    max_tokens: usize,
    mut logprobs: impl FnMut(&TokenBatch) -> Result<TokenLogprobs, PolicyError>,
) -> Result<Vec<Vec<f32>>, TrainerError> {
    by_completion(groups, max_tokens, |batch| Ok(logprobs(batch)?.logprobs))
}

/// A number for each token of every completion, likewise.
///
/// # Errors
/// As there.
pub(crate) fn by_completion(
    groups: &[TokenGroup<'_>],
    max_tokens: usize,
    mut numbers: impl FnMut(&TokenBatch) -> Result<Vec<f32>, PolicyError>,
) -> Result<Vec<Vec<f32>>, TrainerError> {
    let mut scored = vec![Vec::new(); groups.iter().map(|group| group.completions.len()).sum()];
    for batch in pack_tokens(groups, max_tokens)? {
        let of_batch = numbers(&batch.tokens)?;
        for (number, of_completion) in batch.by_completion(&of_batch) {
            scored[number] = of_completion.to_vec();
        }
    }
    Ok(scored)
}
