//! Packed batches, what of them has to be computed, and what scoring them gives.

use crate::check::{check_ids, check_total};
use crate::error::PolicyError;
use dapo_kernels::attention::Segments;
use dapo_kernels::logprobs::{RowGradients, Rows};
use std::sync::Arc;

/// Tokens of a packed batch, and which of them are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// All tokens, segment after segment.
    pub token_ids: Vec<u32>,
    /// The sequences; a completion's segment may name its prompt's as parent.
    pub segments: Arc<Segments>,
    /// Indices of the tokens to score, ascending: completion tokens.
    pub targets: Vec<usize>,
}

/// Log-probs and entropies of a batch's targets, in nats, in the targets' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// log p(token | its past).
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that the token was drawn from.
    pub entropies: Vec<f32>,
}

/// A loss of log-probs: sees a run of rows and fills in its gradients with respect to them.
pub type Loss<'a> = dyn FnMut(Rows<'_>, RowGradients<'_>) -> Result<(), PolicyError> + Send + 'a;

/// The tokens that predict a target or come before one that does: the others, a completion's last token above all, are
/// not worth computing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) token_ids: Vec<u32>,
    pub(crate) segments: Segments,
    /// For each target, the token whose hidden state predicts it: its predecessor in the sequence.
    pub(crate) predictors: Vec<usize>,
    /// The targets themselves.
    pub(crate) targets: Vec<u32>,
}

impl TokenBatch {
    /// Checks the batch for a model of this vocabulary, and leaves out what no target depends on.
    pub(crate) fn inputs(&self, vocab: usize) -> Result<Inputs, PolicyError> {
        check_total(&self.token_ids, &self.segments)?;
        check_ids("token_ids", &self.token_ids, vocab)?;
        let segments = self.segments.list();
        // Of each target the segment and the place in it of its predictor; of each segment how much is needed.
        let mut places = Vec::with_capacity(self.targets.len());
        let mut needed = vec![0; segments.len()];
        let mut current = 0;
        for (i, target) in self.targets.iter().enumerate() {
            if i > 0 && self.targets[i - 1] >= *target || *target >= self.token_ids.len() {
                return Err(self.invalid(i, "an index above the one before it and below the number of tokens"));
            }
            while segments[current].start + segments[current].len <= *target {
                current += 1;
            }
            let segment = &segments[current];
            if let Some(parent) = segment.parent {
                needed[parent] = segments[parent].len;
            }
            let place = match (target - segment.start, segment.parent) {
                (0, None) => return Err(self.invalid(i, "a token with a predecessor")),
                (0, Some(parent)) => (parent, segments[parent].len - 1),
                (after, _) => (current, after - 1),
            };
            needed[place.0] = needed[place.0].max(place.1 + 1);
            places.push(place);
        }
        let mut token_ids = Vec::with_capacity(self.token_ids.len());
        let (mut starts, mut numbers, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (segment, needed) in segments.iter().zip(&needed) {
            starts.push(token_ids.len());
            numbers.push(kept.len());
            if *needed > 0 {
                kept.push((*needed, segment.parent.map(|parent| numbers[parent])));
                token_ids.extend_from_slice(&self.token_ids[segment.start..segment.start + needed]);
            }
        }
        Ok(Inputs {
            token_ids,
            segments: Segments::new(kept)?,
            predictors: places.into_iter().map(|(segment, place)| starts[segment] + place).collect(),
            targets: self.targets.iter().map(|target| self.token_ids[*target]).collect(),
        })
    }

    fn invalid(&self, i: usize, expected: &str) -> PolicyError {
        PolicyError::Setting {
            field: format!("targets[{i}]"),
            found: self.targets[i].to_string(),
            expected: expected.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lengths: &[(usize, Option<usize>)], targets: &[usize]) -> TokenBatch {
        let segments = Segments::new(lengths.iter().copied()).expect("valid");
        let token_ids = (0..segments.total() as u32).collect();
        TokenBatch { token_ids, segments: segments.into(), targets: targets.to_vec() }
    }

    #[test]
    fn last_tokens_and_what_predicts_nothing_are_left_out() {
        // Two completions of a prompt of 2 tokens, of 3 and of 1, a prompt without a target, a sequence whose end is not scored.
        let batch = batch(&[(2, None), (3, Some(0)), (1, Some(0)), (2, None), (4, None)], &[2, 3, 4, 5, 9]);
        let inputs = batch.inputs(12).expect("valid");
        assert_eq!(inputs.token_ids, [0, 1, 2, 3, 8]);
        assert_eq!(inputs.segments, Segments::new([(2, None), (2, Some(0)), (1, None)]).expect("valid"));
        assert_eq!(inputs.predictors, [1, 2, 3, 1, 4]);
        assert_eq!(inputs.targets, [2, 3, 4, 5, 9]);
    }

    #[test]
    fn a_prompt_is_needed_in_full_by_whatever_comes_later() {
        let inputs = batch(&[(3, None), (3, Some(0))], &[5]).inputs(6).expect("valid");
        assert_eq!((inputs.token_ids, inputs.predictors), (vec![0, 1, 2, 3, 4], vec![4]));
    }

    #[test]
    fn nothing_is_needed_where_nothing_is_scored() {
        let inputs = batch(&[(3, None)], &[]).inputs(6).expect("valid");
        assert!(inputs.token_ids.is_empty() && inputs.predictors.is_empty());
    }

    #[test]
    fn wrong_targets_and_tokens_are_named() {
        let error = |batch: TokenBatch| batch.inputs(6).map(drop).map_err(|error| error.to_string());
        assert_eq!(
            error(batch(&[(3, None)], &[0])),
            Err("targets[0] is 0, expected a token with a predecessor".to_owned())
        );
        assert!(error(batch(&[(3, None)], &[1, 1])).is_err_and(|error| error.starts_with("targets[1] is 1")));
        assert!(error(batch(&[(3, None)], &[3])).is_err_and(|error| error.starts_with("targets[0] is 3")));
        let mut outside = batch(&[(3, None)], &[1]);
        outside.token_ids[2] = 6;
        assert!(error(outside).is_err_and(|error| error.starts_with("token_ids[2] is 6")));
    }
}
