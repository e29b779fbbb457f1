//! Log-probs of completions under a model, however many fit into a batch.

use crate::error::TrainerError;
use crate::team::{Team, unreadable};
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

/// [`score`] of groups that all ranks have, each of which scores its part.
///
/// # Errors
/// As there, on all ranks.
pub(crate) fn score_together(
    team: &Team,
    groups: &[TokenGroup<'_>],
    max_tokens: usize,
    mut logprobs: impl FnMut(&TokenBatch) -> Result<TokenLogprobs, PolicyError>,
) -> Result<Vec<Vec<f32>>, TrainerError> {
    by_completion_together(team, groups, max_tokens, |batch| Ok(logprobs(batch)?.logprobs))
}

/// [`by_completion`], likewise.
///
/// # Errors
/// As there.
pub(crate) fn by_completion_together(
    team: &Team,
    groups: &[TokenGroup<'_>],
    max_tokens: usize,
    mut numbers: impl FnMut(&TokenBatch) -> Result<Vec<f32>, PolicyError>,
) -> Result<Vec<Vec<f32>>, TrainerError> {
    if team.is_alone() {
        return by_completion(groups, max_tokens, numbers);
    }
    let mine = &groups[team.part(groups.len(), team.world().rank())];
    let scored = by_completion(mine, max_tokens, |batch| {
        team.heartbeat();
        numbers(batch)
    });
    let bytes = |scored: &Vec<Vec<f32>>| scored.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let ((), all) = team.exchange(scored.map(|scored| ((), bytes(&scored))))?;
    let mut scored = Vec::new();
    for (rank, bytes) in all.iter().enumerate() {
        // A number for each token, so that the lengths are known.
        let mut values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let completions = groups[team.part(groups.len(), rank)].iter().flat_map(|group| &group.completions);
        let lengths: Vec<usize> = completions.map(|completion| completion.token_ids.len()).collect();
        let tokens: usize = lengths.iter().sum();
        if bytes.len() != 4 * tokens {
            let expected = format!("a number for each of {tokens} tokens");
            return Err(unreadable(rank, &format!("{} bytes", bytes.len()), &expected).into());
        }
        scored.extend(lengths.iter().map(|length| values.by_ref().take(*length).collect::<Vec<_>>()));
    }
    Ok(scored)
}
