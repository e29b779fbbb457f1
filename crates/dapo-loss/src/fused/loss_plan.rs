//! The plan of a micro-batch's loss: its checks, and its evaluation chunk by chunk.

use rayon::prelude::*;

use crate::{
    batch::{Advantages, LossBatch, LossGradients, TokenChunk},
    config::LossConfig,
    denominator::Denominator,
    entropy_quantile::top_entropy_threshold,
    error::{LossError, expect_given, expect_len},
    fused::{
        sequence_terms::PlanTerms,
        tile_tree::{PARALLEL, Sweep, is_plain},
    },
    metrics::LossOutput,
};

pub(super) const NAME: &str = "policy_loss";

/// The loss of one micro-batch, ready to be evaluated on any contiguous chunk of its tokens.
///
/// Checks the settings and the batch once, and keeps what a token's loss needs to know about its sequence. Evaluating
/// allocates nothing. A language model's head can so be run on chunks of rows that do not end where sequences end: the
/// chunks' losses and metrics add up, and their gradients are bitwise those of the whole.
///
/// Losses that look at whole sequences (GSPO, GMPO) need [`set_sequence_ratios`](Self::set_sequence_ratios) first, with
/// the log-probabilities of a forward pass over all tokens. A loss of the tokens with the highest entropy needs
/// [`set_entropy_threshold`](Self::set_entropy_threshold) first, with the quantile of the entropies of all tokens of the
/// step. Sequences that a rollout correction rejects are left out as if they were masked.
///
/// ```
/// use dapo_loss::{Advantages, Aggregation, Denominator, EmptySequences, LossBatch, LossConfig, LossPlan, TokenChunk};
/// let config = LossConfig::default();
/// let batch = LossBatch::new(&[0, 2, 4], Advantages::PerSequence(&[1.0, -1.0]), &[-1.0, -1.0, -1.0, -1.0]);
/// let denominator = Denominator::of_step(Aggregation::TokenMean, &[2, 2], EmptySequences::Exclude).unwrap();
/// let plan = LossPlan::new(&config, denominator, batch)?;
///
/// // ρ = 1 everywhere: the gradient is −A / 4. The chunk covers the end of one sequence, the start of the next.
/// let chunk = TokenChunk::at(1, &[-1.0, -1.0]);
/// let mut gradient = [0.0; 2];
/// let output = plan.evaluate(chunk, gradient.as_mut_slice().into())?;
/// assert_eq!(gradient, [-0.25, 0.25]);
/// assert_eq!((output.loss, output.metrics.tokens), (0.0, 2));
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LossPlan<'a> {
    config: LossConfig,
    batch: LossBatch<'a>,
    denominator: Denominator,
    terms: PlanTerms,
    /// The mask without rejected sequences, where some may be.
    kept: Option<Vec<u8>>,
    entropy_threshold: Option<f32>,
}

impl<'a> LossPlan<'a> {
    /// Plans the loss of `batch`, a part of the step that `denominator` belongs to.
    ///
    /// # Errors
    /// Settings outside their range; a denominator made for another aggregation or, where every token counts, for a step
    /// with fewer tokens; lengths or offsets that disagree; reference or rollout log-probabilities that the settings need
    /// and the batch lacks; one advantage per token under a loss that works on whole sequences.
    pub fn new(config: &LossConfig, denominator: Denominator, batch: LossBatch<'a>) -> Result<Self, LossError> {
        config.validate()?;
        batch.validate(NAME)?;
        denominator.expect_made_for(config.aggregation)?;
        if config.policy_loss.is_sequence_level() && matches!(batch.advantages, Advantages::PerToken(_)) {
            let policy_loss = config.policy_loss.name();
            return Err(LossError::TokenAdvantages { function: NAME, policy_loss });
        }
        expect_given(NAME, "ref_logprobs", "kl.coef", config.kl.coef != 0.0, batch.ref_logprobs.is_some())?;
        let needed = config.rollout_correction.is_some();
        expect_given(NAME, "rollout_logprobs", "rollout_correction", needed, batch.rollout_logprobs.is_some())?;
        let kept = match config.rollout_correction {
            Some(correction) => correction.kept_mask(NAME, &batch)?,
            None => None,
        };
        if batch.mask.is_none() && kept.is_none() {
            denominator.expect_within_step(NAME, batch.tokens() as u64)?;
        }
        let terms = PlanTerms::new(config, denominator, &kept_of(batch, kept.as_deref()));
        Ok(Self { config: *config, batch, denominator, terms, kept, entropy_threshold: None })
    }

    /// The batch without rejected sequences.
    fn kept_batch(&self) -> LossBatch<'_> {
        kept_of(self.batch, self.kept.as_deref())
    }

    /// Whether [`set_sequence_ratios`](Self::set_sequence_ratios) must come before evaluating chunks.
    pub const fn needs_sequence_ratios(&self) -> bool {
        self.config.policy_loss.is_sequence_level()
    }

    /// Fixes the ratio of every sequence from the log-probabilities of all T tokens of the batch.
    ///
    /// Nothing happens for losses that only look at tokens. Call it again whenever the policy has changed.
    ///
    /// # Errors
    /// A length other than T, a log-probability that counts and is not finite.
    pub fn set_sequence_ratios(&mut self, logprobs: &[f32]) -> Result<(), LossError> {
        if !self.needs_sequence_ratios() {
            return Ok(());
        }
        expect_len(NAME, "logprobs", logprobs.len(), self.batch.tokens())?;
        let (terms, config, batch) = (&self.terms, &self.config, &self.kept_batch());
        let sequences = 0..batch.sequences();
        let losses = if logprobs.len() < PARALLEL {
            sequences.map(|i| terms.sequence_loss(config, batch, i, logprobs)).collect()
        } else {
            sequences.into_par_iter().map(|i| terms.sequence_loss(config, batch, i, logprobs)).collect()
        };
        if !self.terms.set_sequence_losses(losses) {
            self.check_finite(&TokenChunk::whole(logprobs))?;
        }
        Ok(())
    }

    /// Whether an entropy threshold must be set before evaluating chunks.
    pub const fn needs_entropy_threshold(&self) -> bool {
        self.config.selects_by_entropy()
    }

    /// Sets the entropy, in nats, from which on a token has a policy loss:
    /// [`top_entropy_threshold`] of the tokens in the loss of all micro-batches of the step.
    ///
    /// Nothing happens where every token has one. Set it again whenever the policy has changed.
    pub const fn set_entropy_threshold(&mut self, threshold: f32) {
        if self.config.selects_by_entropy() {
            self.entropy_threshold = Some(threshold);
        }
    }

    /// Sets the threshold from the entropies of the T tokens of this batch, which is then the whole step.
    ///
    /// # Errors
    /// A length other than T.
    pub fn set_entropies(&mut self, entropies: &[f32]) -> Result<(), LossError> {
        if !self.needs_entropy_threshold() {
            return Ok(());
        }
        expect_len(NAME, "entropies", entropies.len(), self.batch.tokens())?;
        let mask = self.kept.as_deref().or(self.batch.mask);
        let kept = (0..entropies.len()).filter(|&token| mask.is_none_or(|mask| mask[token] != 0));
        let threshold = top_entropy_threshold(self.config.top_entropy_quantile, kept.map(|t| entropies[t]).collect());
        // Without a token there is nothing to choose from.
        self.set_entropy_threshold(threshold.unwrap_or_default());
        Ok(())
    }

    /// Evaluates the loss of a chunk: its share of the step's loss, its metrics, and the derivatives.
    ///
    /// One pass reads every array once; large chunks are shared among rayon's threads. The loss is bitwise the same for
    /// any number of threads, as sums run in f64 in an order fixed by the positions of the tokens.
    ///
    /// # Shapes
    /// `gradients.logprobs`, and `gradients.entropies` where given, are as long as `chunk.logprobs`.
    ///
    /// # Errors
    /// The first of these is named: lengths that disagree, a chunk beyond the batch, entropies that the settings need and the
    /// chunk lacks. Sequence ratios that are not set, or more tokens in the loss than the denominator's step has. A value
    /// that counts and is not finite. The gradients are then meaningless.
    pub fn evaluate(&self, chunk: TokenChunk<'_>, gradients: LossGradients<'_>) -> Result<LossOutput, LossError> {
        let n = chunk.logprobs.len();
        let left = self.batch.tokens().saturating_sub(chunk.start);
        if n > left {
            return Err(LossError::Length { function: NAME, array: "logprobs", len: n, expected: left });
        }
        expect_len(NAME, "gradients.logprobs", gradients.logprobs.len(), n)?;
        expect_len(NAME, "entropies", chunk.entropies.map_or(n, <[f32]>::len), n)?;
        let entropy_gradients = gradients.entropies.as_ref().map_or(n, |values| values.len());
        expect_len(NAME, "gradients.entropies", entropy_gradients, n)?;
        expect_given(NAME, "entropies", "entropy_coef", self.config.entropy_coef != 0.0, chunk.entropies.is_some())?;
        let selects = self.needs_entropy_threshold();
        expect_given(NAME, "entropies", "top_entropy_quantile", selects, chunk.entropies.is_some())?;
        let has_threshold = self.entropy_threshold.is_some();
        expect_given(NAME, "set_entropy_threshold", "top_entropy_quantile", selects, has_threshold)?;
        let ratios_set = self.terms.sequence_losses() == self.batch.sequences();
        expect_given(
            NAME,
            "set_sequence_ratios",
            self.config.policy_loss.name(),
            self.needs_sequence_ratios(),
            ratios_set,
        )?;
        if n == 0 {
            return Ok(LossOutput::default());
        }
        let batch = self.kept_batch();
        let sweep = Sweep {
            config: &self.config,
            batch: &batch,
            chunk: &chunk,
            terms: &self.terms,
            entropy_threshold: self.entropy_threshold,
            plain: is_plain(&self.config, &self.batch) && chunk.entropies.is_none() && gradients.entropies.is_none(),
        };
        let mut result = sweep.run(gradients);
        if !f32::from_bits(result.worst).is_finite() || !result.output.loss.is_finite() {
            self.check_finite(&chunk)?;
            return Err(LossError::Overflow { function: NAME, value: result.output.loss });
        }
        self.denominator.expect_within_step(NAME, result.output.metrics.tokens)?;
        if self.kept.is_some() {
            let tokens = chunk.start..chunk.start + n;
            let given = self.batch.mask.map_or(n, |mask| count_kept_tokens(&mask[tokens]));
            result.output.metrics.rejected = given as u64 - result.output.metrics.tokens;
        }
        Ok(result.output)
    }

    /// Names the first value of a chunk that counts and is not finite.
    fn check_finite(&self, chunk: &TokenChunk<'_>) -> Result<(), LossError> {
        let end = chunk.start + chunk.logprobs.len();
        let batch = self.kept_batch();
        let importance = batch.rollout_logprobs.filter(|_| self.config.rollout_correction.is_some());
        let reference = batch.ref_logprobs.filter(|_| self.config.kl.coef != 0.0);
        for sequence in 0..batch.sequences() {
            let first = batch.cu_seqlens[sequence];
            for token in batch.kept_tokens(sequence).filter(|token| (chunk.start..end).contains(token)) {
                let in_chunk = token - chunk.start;
                let advantage = match batch.advantages {
                    Advantages::PerSequence(values) => values[sequence],
                    Advantages::PerToken(values) => values[token],
                };
                let log_ratio = chunk.logprobs[in_chunk] - batch.old_logprobs[token];
                let values = [
                    ("logprobs", Some(chunk.logprobs[in_chunk])),
                    ("old_logprobs", Some(batch.old_logprobs[token])),
                    ("logprobs - old_logprobs", Some(log_ratio)),
                    ("advantages", Some(advantage)),
                    ("ref_logprobs", reference.map(|values| values[token])),
                    ("rollout_logprobs", importance.map(|values| values[token])),
                    ("entropies", chunk.entropies.map(|values| values[in_chunk])),
                ];
                for (array, value) in values {
                    if let Some(value) = value.filter(|value| !value.is_finite()) {
                        let position = token - first;
                        return Err(LossError::NonFinite { function: NAME, array, sequence, position, value });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The batch with another mask, where there is one.
fn kept_of<'b>(batch: LossBatch<'b>, kept: Option<&'b [u8]>) -> LossBatch<'b> {
    LossBatch { mask: kept.or(batch.mask), ..batch }
}

fn count_kept_tokens(mask: &[u8]) -> usize {
    mask.iter().filter(|&&keep| keep != 0).count()
}
