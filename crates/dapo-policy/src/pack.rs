//! Packing completions into batches of bounded size, for scoring and for training alike.

use crate::batch::TokenBatch;
use crate::error::PolicyError;
use dapo_kernels::attention::Segments;
use std::sync::Arc;

/// A prompt and completions of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGroup<'a> {
    /// Token ids of the prompt; not empty.
    pub prompt_ids: &'a [u32],
    /// Token ids of each completion.
    pub completions: Vec<&'a [u32]>,
}

/// A packed batch whose targets are the tokens of whole completions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTokens {
    /// Prompt segments, each followed by completions of it; the completions' tokens are the targets.
    pub tokens: TokenBatch,
    /// Offsets of the batch's completions among the targets: 0 first, the number of targets last.
    pub cu_seqlens: Vec<usize>,
    /// For each completion of the batch, its number among the completions of all groups, ascending.
    pub numbers: Vec<usize>,
}

impl PackedTokens {
    /// Values of the targets cut into completions, each with its number.
    ///
    /// # Shapes
    /// `values` has one value for each target.
    pub fn by_completion<'a, T>(&'a self, values: &'a [T]) -> impl Iterator<Item = (usize, &'a [T])> {
        self.numbers.iter().zip(self.cu_seqlens.windows(2)).map(|(number, ends)| (*number, &values[ends[0]..ends[1]]))
    }
}

/// Packs completions in their order into batches of at most `max_tokens` tokens, prompts included.
///
/// A prompt comes once in a batch, and its completions continue it. A completion that is longer than `max_tokens` with
/// its prompt has a batch of its own. An empty completion has nothing to score and is in no batch.
///
/// # Errors
/// [`PolicyError`] when a prompt that has a completion is empty.
///
/// # Example
/// ```
/// use dapo_policy::{TokenGroup, pack_tokens};
/// let groups = [
///     TokenGroup { prompt_ids: &[1, 2], completions: vec![&[3, 4, 5], &[6]] },
///     TokenGroup { prompt_ids: &[7], completions: vec![&[8]] },
/// ];
/// let batches = pack_tokens(&groups, 6)?;
/// assert_eq!(batches[0].tokens.token_ids, [1, 2, 3, 4, 5, 6]);
/// assert_eq!((&batches[0].tokens.targets[..], &batches[0].cu_seqlens[..]), (&[2, 3, 4, 5][..], &[0, 3, 4][..]));
/// assert_eq!((&batches[1].tokens.token_ids[..], &batches[1].numbers[..]), (&[7, 8][..], &[2][..]));
/// # Ok::<(), dapo_policy::PolicyError>(())
/// ```
pub fn pack_tokens(groups: &[TokenGroup<'_>], max_tokens: usize) -> Result<Vec<PackedTokens>, PolicyError> {
    let mut batches = Vec::new();
    let mut builder = Builder::default();
    let mut numbers = 0..;
    for group in groups {
        // The segment of the prompt, once it is in the present batch.
        let mut prompt = None;
        for (completion, number) in group.completions.iter().zip(&mut numbers) {
            if completion.is_empty() {
                continue;
            }
            let missing = if prompt.is_none() { group.prompt_ids.len() } else { 0 };
            let size = builder.token_ids.len() + missing + completion.len();
            if size > max_tokens && !builder.targets.is_empty() {
                batches.push(std::mem::take(&mut builder).finish()?);
                prompt = None;
            }
            let prompt = *prompt.get_or_insert_with(|| builder.segment(group.prompt_ids, None));
            builder.completion(completion, prompt, number);
        }
    }
    if !builder.targets.is_empty() {
        batches.push(builder.finish()?);
    }
    Ok(batches)
}

#[derive(Default)]
struct Builder {
    token_ids: Vec<u32>,
    segments: Vec<(usize, Option<usize>)>,
    targets: Vec<usize>,
    /// Where each completion ends among the targets.
    ends: Vec<usize>,
    numbers: Vec<usize>,
}

impl Builder {
    fn segment(&mut self, token_ids: &[u32], parent: Option<usize>) -> usize {
        self.token_ids.extend_from_slice(token_ids);
        self.segments.push((token_ids.len(), parent));
        self.segments.len() - 1
    }

    fn completion(&mut self, token_ids: &[u32], prompt: usize, number: usize) {
        let start = self.token_ids.len();
        self.segment(token_ids, Some(prompt));
        self.targets.extend(start..self.token_ids.len());
        self.ends.push(self.targets.len());
        self.numbers.push(number);
    }

    fn finish(self) -> Result<PackedTokens, PolicyError> {
        let segments = Arc::new(Segments::new(self.segments)?);
        let mut cu_seqlens = vec![0];
        cu_seqlens.extend(self.ends);
        let tokens = TokenBatch { token_ids: self.token_ids, segments, targets: self.targets };
        Ok(PackedTokens { tokens, cu_seqlens, numbers: self.numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [(&[u32], &[&[u32]]); 3] = [(&[1, 2], &[&[3, 4, 5], &[], &[6]]), (&[7], &[&[]]), (&[8], &[&[9, 10]])];

    fn groups() -> Vec<TokenGroup<'static>> {
        GROUPS.iter().map(|&(prompt_ids, of)| TokenGroup { prompt_ids, completions: of.to_vec() }).collect()
    }

    #[test]
    fn a_prompt_is_packed_once_and_an_empty_completion_not_at_all() {
        let batches = pack_tokens(&groups(), 100).expect("valid");
        assert_eq!(batches.len(), 1);
        let PackedTokens { tokens, cu_seqlens, numbers } = &batches[0];
        assert_eq!(tokens.token_ids, [1, 2, 3, 4, 5, 6, 8, 9, 10]);
        assert_eq!(tokens.segments.positions(), [0, 1, 2, 3, 4, 2, 0, 1, 2]);
        assert_eq!(tokens.targets, [2, 3, 4, 5, 7, 8]);
        assert_eq!((&cu_seqlens[..], &numbers[..]), (&[0, 3, 4, 6][..], &[0, 2, 4][..]));
    }

    #[test]
    fn a_split_group_repeats_its_prompt_and_loses_no_completion() {
        for budget in 1..12 {
            let batches = pack_tokens(&groups(), budget).expect("valid");
            let mut found = Vec::new();
            for batch in &batches {
                assert!(batch.tokens.token_ids.len() <= budget.max(5), "budget {budget}");
                assert_eq!(batch.tokens.segments.list()[0].parent, None);
                let targets: Vec<u32> = batch.tokens.targets.iter().map(|t| batch.tokens.token_ids[*t]).collect();
                found.extend(batch.by_completion(&targets).map(|(number, ids)| (number, ids.to_vec())));
            }
            assert_eq!(found, [(0, vec![3, 4, 5]), (2, vec![6]), (4, vec![9, 10])], "budget {budget}");
        }
    }

    #[test]
    fn an_empty_prompt_is_an_error_where_something_follows_it() {
        let group = |completion: &'static [u32]| [TokenGroup { prompt_ids: &[], completions: vec![completion] }];
        assert!(pack_tokens(&group(&[1]), 10).is_err());
        assert!(pack_tokens(&group(&[]), 10).is_ok_and(|batches| batches.is_empty()));
    }
}
