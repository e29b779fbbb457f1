//! Bytes that a model of given widths takes for its tokens, as its forward and backward passes are written. Values are
//! f32, on a GPU bf16.

use super::Work;
use crate::settings::RunConfig;
use dapo_kernels::logprobs::chunk_rows;
use dapo_policy::{Compute, LayerMemory, ModelConfig};

/// Prompt tokens that are computed at a time.
const PREFILL_TOKENS: f64 = 4096.0;

/// A model's widths.
pub(super) struct Shape {
    /// Whether it is on a GPU.
    pub(super) gpu: bool,
    pub(super) layers: f64,
    pub(super) hidden: f64,
    pub(super) intermediate: f64,
    pub(super) heads: f64,
    pub(super) queries: f64,
    pub(super) keys: f64,
    head_dim: f64,
    pub(super) vocab: f64,
    chunk_rows: f64,
    pub(super) qk_norm: bool,
}

impl Shape {
    pub(super) fn of(model: &ModelConfig, gpu: bool) -> Self {
        let head_dim = model.head_dim as f64;
        Self {
            gpu,
            heads: model.num_attention_heads as f64,
            layers: model.num_hidden_layers as f64,
            hidden: model.hidden_size as f64,
            intermediate: model.intermediate_size as f64,
            queries: model.num_attention_heads as f64 * head_dim,
            keys: model.num_key_value_heads as f64 * head_dim,
            head_dim,
            vocab: model.vocab_size as f64,
            chunk_rows: chunk_rows(model.vocab_size) as f64,
            qk_norm: model.qk_norm,
        }
    }

    /// Completions that grow at a time at most, however large the cache.
    pub(super) fn most_at_a_time(&self) -> f64 {
        if self.gpu { 512.0 } else { 256.0 }
    }

    /// Keys and values of some positions in all layers; room is made for multiples of 32.
    pub(super) fn cache(&self, positions: f64) -> f64 {
        let pair = if self.gpu { 4.0 } else { 8.0 };
        pair * (positions / 32.0).ceil() * 32.0 * self.layers * self.keys
    }

    /// Values a token of a layer that its backward needs: its input, the sum after attention; queries and keys before (with
    /// QK-norm) and after rotation, values, what attention gives; gate and up.
    fn layer(&self) -> f64 {
        let plain = if self.qk_norm { self.queries + self.keys } else { 0.0 };
        2.0 * self.hidden + 2.0 * self.queries + 2.0 * self.keys + 2.0 * self.intermediate + plain
    }

    /// Values a token that one layer at a time works with, forward and backward.
    fn scratch(&self) -> f64 {
        2.0 * self.hidden + self.intermediate + 2.0 * self.queries + 2.0 * self.keys
    }

    /// Keys and values of all completions that grow at a time.
    pub(super) fn growing(&self, config: &RunConfig, work: &Work) -> f64 {
        let prompt = work.prompt as f64;
        let of = |at_a_time: u64, tokens: usize| at_a_time as f64 * self.cache(prompt + tokens as f64);
        let context = config.max_tokens_after_prompt() - config.rollout.max_new_tokens;
        let evaluated = config.eval.max_new_tokens.unwrap_or(config.rollout.max_new_tokens).saturating_add(context);
        of(work.at_a_time, config.max_tokens_after_prompt()).max(of(work.evaluated_at_a_time, evaluated))
    }

    /// Prompts computed together, with their caches, one layer's values and logits; and logits of the growing
    /// completions. Those of an evaluation, where they take more.
    pub(super) fn prefill(&self, config: &RunConfig, work: &Work) -> f64 {
        let prompt = work.prompt as f64;
        let of = |growing: u64, of_each: u64, prompts: f64| {
            let wanted = (growing as f64 / of_each.max(1) as f64).ceil();
            let together = (PREFILL_TOKENS / prompt).floor().min(wanted).min(prompts).max(1.0);
            together * self.cache(prompt)
                + 4.0 * together * prompt * (self.layer() + self.scratch() + self.hidden)
                + 4.0 * (together + growing as f64) * self.vocab
        };
        let evaluated = config.eval.limit.map_or(f64::MAX, |limit| limit as f64);
        of(work.at_a_time, work.completions_a_prompt, work.prompts_a_round as f64).max(of(
            work.evaluated_at_a_time,
            config.eval.samples as u64,
            evaluated,
        ))
    }

    /// Tokens of a micro-batch: a mini-batch's groups fill it or not; a prompt and a completion are never parted.
    pub(super) fn micro_batch(config: &RunConfig, work: &Work) -> f64 {
        let (prompt, completion) = (work.prompt as f64, config.max_tokens_after_prompt() as f64);
        let groups = (config.sampler.train_batch as f64 / config.train.mini_batches.max(1) as f64).ceil();
        let mini_batch = groups * (prompt + work.completions_a_prompt as f64 * completion);
        mini_batch.min((config.train.micro_batch_tokens as f64).max(prompt + completion))
    }

    /// What an update's forward pass keeps for its backward pass, and what that needs of its own.
    pub(super) fn activations(&self, config: &RunConfig, work: &Work) -> f64 {
        let kept = match config.train.layer_memory {
            LayerMemory::Keep => self.layers * self.layer(),
            LayerMemory::Recompute => self.layers * self.hidden + self.layer(),
        };
        self.with_ends(kept, config, work)
    }

    /// What a backward pass needs that starts from kept activations, which it takes up a layer at a time.
    pub(super) fn one_layer(&self, config: &RunConfig, work: &Work) -> f64 {
        self.with_ends(self.layer(), config, work)
    }

    /// Bytes of `values` values a token, those of one layer at a time, the residual stream, and the rotary table.
    fn with_ends(&self, values: f64, config: &RunConfig, work: &Work) -> f64 {
        4.0 * Self::micro_batch(config, work) * (values + self.scratch() + self.hidden + self.head_dim)
    }

    /// Logits of a chunk of rows, and once more rounded for products in bf16; hidden states of all rows before and after
    /// the norm, and their gradients.
    pub(super) fn head(&self, config: &RunConfig, work: &Work) -> f64 {
        let rows = Self::micro_batch(config, work);
        let rounded = if config.model.compute == Compute::Bf16 { 0.5 } else { 0.0 };
        4.0 * (rows.min(self.chunk_rows) * self.vocab * (1.0 + rounded) + 4.0 * rows * self.hidden)
    }

    /// What a tokenizer of this vocabulary takes, about.
    pub(super) fn tokenizer(&self) -> f64 {
        1024.0 * self.vocab
    }
}
