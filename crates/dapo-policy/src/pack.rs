//! Packing completions into batches of bounded size, for scoring and for training alike.

use crate::batch::TokenBatch;
use crate::error::PolicyError;
use crate::request::{Completion, ContextTokens};
use dapo_kernels::attention::Segments;
use std::sync::Arc;

/// A prompt and completions of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGroup<'a> {
    /// Token ids of the prompt; not empty.
    pub prompt_ids: &'a [u32],
    /// The tokens of each completion.
    pub completions: Vec<CompletionTokens<'a>>,
}

impl<'a> TokenGroup<'a> {
    /// A prompt and completions of it, such as [`Completion`]s or slices of token ids.
    pub fn new(prompt_ids: &'a [u32], completions: impl IntoIterator<Item: Into<CompletionTokens<'a>>>) -> Self {
        Self { prompt_ids, completions: completions.into_iter().map(Into::into).collect() }
    }
}

/// The tokens that follow a prompt: those that were generated, and those of others in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletionTokens<'a> {
    /// The tokens that were generated.
    pub token_ids: &'a [u32],
    /// What others said in between, in order; [`at`](ContextTokens::at) is at most the number of generated tokens.
    pub context: &'a [ContextTokens],
}

impl CompletionTokens<'_> {
    /// All tokens, those of others included.
    fn total(&self) -> usize {
        self.token_ids.len() + self.context.iter().map(|context| context.token_ids.len()).sum::<usize>()
    }
}

impl<'a> From<&'a [u32]> for CompletionTokens<'a> {
    fn from(token_ids: &'a [u32]) -> Self {
        Self { token_ids, context: &[] }
    }
}

impl<'a> From<&'a Completion> for CompletionTokens<'a> {
    fn from(completion: &'a Completion) -> Self {
        Self { token_ids: &completion.token_ids, context: &completion.context }
    }
}

/// A packed batch whose targets are the generated tokens of whole completions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTokens {
    /// Prompt segments, each followed by completions of it; the tokens that were generated are the targets.
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
/// its prompt has a batch of its own. A completion in which nothing was generated has nothing to score and is in no batch.
///
/// # Errors
/// [`PolicyError`] when a prompt that has a completion is empty, or what others said is not in order or not within its
/// completion.
///
/// # Example
/// ```
/// use dapo_policy::{TokenGroup, pack_tokens};
/// let groups = [
///     TokenGroup::new(&[1, 2], [&[3, 4, 5][..], &[6]]),
///     TokenGroup::new(&[7], [&[8][..]]),
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
            if completion.token_ids.is_empty() {
                continue;
            }
            let missing = if prompt.is_none() { group.prompt_ids.len() } else { 0 };
            let size = builder.token_ids.len() + missing + completion.total();
            if size > max_tokens && !builder.targets.is_empty() {
                batches.push(std::mem::take(&mut builder).finish()?);
                prompt = None;
            }
            let prompt = *prompt.get_or_insert_with(|| builder.segment(group.prompt_ids, None));
            builder.completion(completion, prompt, number)?;
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

    fn completion(
        &mut self,
        completion: &CompletionTokens<'_>,
        prompt: usize,
        number: usize,
    ) -> Result<(), PolicyError> {
        let start = self.token_ids.len();
        let mut drawn = 0;
        for (i, context) in completion.context.iter().enumerate() {
            let Some(before) = completion.token_ids.get(drawn..context.at) else {
                return Err(PolicyError::Setting {
                    field: format!("context[{i}].at"),
                    found: context.at.to_string(),
                    expected: format!("from {drawn} to {}", completion.token_ids.len()),
                });
            };
            self.targets(before);
            self.token_ids.extend_from_slice(&context.token_ids);
            drawn = context.at;
        }
        self.targets(&completion.token_ids[drawn..]);
        self.segments.push((self.token_ids.len() - start, Some(prompt)));
        self.ends.push(self.targets.len());
        self.numbers.push(number);
        Ok(())
    }

    /// Tokens that were generated.
    fn targets(&mut self, token_ids: &[u32]) {
        let start = self.token_ids.len();
        self.token_ids.extend_from_slice(token_ids);
        self.targets.extend(start..self.token_ids.len());
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
        GROUPS.iter().map(|&(prompt_ids, of)| TokenGroup::new(prompt_ids, of.iter().copied())).collect()
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
    fn what_others_say_is_in_a_completion_and_no_target() {
        let said = |at, token_ids: &[u32]| ContextTokens { at, token_ids: token_ids.to_vec() };
        let context = [said(1, &[90, 91]), said(3, &[92]), said(3, &[93])];
        let first = CompletionTokens { token_ids: &[3, 4, 5, 6], context: &context };
        let groups = [TokenGroup::new(&[1, 2], [first, (&[7][..]).into()])];
        let batch = pack_tokens(&groups, 100).expect("valid").remove(0);
        assert_eq!(batch.tokens.token_ids, [1, 2, 3, 90, 91, 4, 5, 92, 93, 6, 7]);
        assert_eq!(batch.tokens.segments.positions(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2]);
        assert_eq!((&batch.tokens.targets[..], &batch.cu_seqlens[..]), (&[2, 5, 6, 9, 10][..], &[0, 4, 5][..]));
        // The budget counts them.
        assert_eq!(pack_tokens(&groups, 10).expect("valid").len(), 2);
        for context in [[said(5, &[9])].as_slice(), &[said(2, &[9]), said(1, &[9])]] {
            let wrong = CompletionTokens { token_ids: &[3, 4, 5, 6], context };
            assert!(pack_tokens(&[TokenGroup::new(&[1], [wrong])], 10).is_err());
        }
    }

    #[test]
    fn an_empty_prompt_is_an_error_where_something_follows_it() {
        let group = |completion: &'static [u32]| [TokenGroup::new(&[], [completion])];
        assert!(pack_tokens(&group(&[1]), 10).is_err());
        assert!(pack_tokens(&group(&[]), 10).is_ok_and(|batches| batches.is_empty()));
    }
}
