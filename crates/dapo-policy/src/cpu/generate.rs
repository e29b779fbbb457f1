//! Sampling completions: prompts are computed once, their caches forked for each completion, and the batch refilled as
//! completions end.

use super::forward::{Attend, Context};
use super::model::Model;
use super::workspace::{Saved, Scratch};
use crate::backend::Adapters;
use crate::error::PolicyError;
use crate::request::{Completion, FinishReason, GenerationConfig, Request};
use crate::sampling::sample;
use dapo_kernels::attention::{KvCache, Segments};
use dapo_kernels::{RotaryTable, threads};
use rayon::prelude::*;
use std::collections::VecDeque;

/// Memory for keys and values where nothing else is said.
const CACHE_BYTES: usize = 2 << 30;
/// Most completions in one decoding batch; more gain nothing on a CPU.
const MAX_BATCH: usize = 256;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 4096;

/// A completion that is growing.
struct Growing {
    request: usize,
    sample: usize,
    completion: Completion,
    /// What drawing a token works with.
    sums: Vec<f64>,
}

impl Growing {
    /// The error for logits from which the next token cannot be drawn.
    fn not_finite(&self, requests: &[Request]) -> PolicyError {
        let request = &requests[self.request];
        PolicyError::Logits {
            draw: request.draw,
            sample: request.first_sample + self.sample,
            position: self.completion.token_ids.len(),
        }
    }
}

/// A computed prompt, waiting for its completions to start.
struct Prefilled {
    request: usize,
    next_sample: usize,
    /// By layer.
    caches: Vec<KvCache>,
    /// Logits for the first token.
    logits: Vec<f32>,
}

pub(super) fn generate(
    decoder: &Model,
    requests: &[Request],
    config: &GenerationConfig,
) -> Result<Vec<Vec<Completion>>, PolicyError> {
    decoder.store.release_large();
    let mut engine = Engine::new(decoder, requests, config)?;
    threads::enter(|| {
        while !engine.is_done() {
            engine.admit()?;
            engine.step()?;
        }
        Ok(engine.finished.into_iter().map(|group| group.into_iter().flatten().collect()).collect())
    })
}

struct Engine<'a> {
    decoder: &'a Model,
    requests: &'a [Request],
    config: &'a GenerationConfig,
    waiting: VecDeque<usize>,
    prefilled: VecDeque<Prefilled>,
    growing: Vec<Growing>,
    /// By layer, of each growing completion in order.
    caches: Vec<Vec<KvCache>>,
    finished: Vec<Vec<Option<Completion>>>,
    max_batch: usize,
    buffers: Buffers,
}

/// Memory of a forward, kept from token to token.
struct Buffers {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    table: RotaryTable,
    x: Vec<f32>,
    saved: Saved,
    scratch: Scratch,
    normed: Vec<f32>,
    logits: Vec<f32>,
    /// Whether each growing completion has ended; `None` where nothing could be drawn.
    ended: Vec<Option<bool>>,
}

impl<'a> Engine<'a> {
    fn new(decoder: &'a Model, requests: &'a [Request], config: &'a GenerationConfig) -> Result<Self, PolicyError> {
        let c = &decoder.spec.config;
        let longest = requests.iter().map(|r| r.prompt_ids.len()).max().unwrap_or(0) + config.max_new_tokens;
        let bytes = longest.next_multiple_of(32) * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * 8;
        let cache_bytes = config.cache_bytes.unwrap_or(CACHE_BYTES);
        if cache_bytes < bytes && !requests.is_empty() {
            return Err(PolicyError::Setting {
                field: "cache_bytes".into(),
                found: cache_bytes.to_string(),
                expected: format!("at least {bytes}, the keys and values of one sequence of {longest} tokens"),
            });
        }
        let max_batch = (cache_bytes / bytes).min(MAX_BATCH);
        let most = max_batch.min(requests.iter().map(|r| r.samples).sum());
        let empty = || Vec::with_capacity(most);
        Ok(Self {
            decoder,
            requests,
            config,
            waiting: (0..requests.len()).filter(|i| requests[*i].samples > 0).collect(),
            prefilled: VecDeque::new(),
            growing: Vec::with_capacity(most),
            caches: std::iter::repeat_with(empty).take(c.num_hidden_layers).collect(),
            finished: requests.iter().map(|r| vec![None; r.samples]).collect(),
            max_batch,
            buffers: Buffers {
                tokens: Vec::with_capacity(most),
                positions: Vec::with_capacity(most),
                table: decoder.rotary_table(&[]),
                x: Vec::new(),
                saved: Saved::default(),
                scratch: Scratch::default(),
                normed: Vec::new(),
                logits: Vec::new(),
                ended: Vec::with_capacity(most),
            },
        })
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.prefilled.is_empty() && self.growing.is_empty()
    }

    /// Fills the free places of the batch.
    fn admit(&mut self) -> Result<(), PolicyError> {
        while self.growing.len() < self.max_batch {
            if self.prefilled.is_empty() {
                if self.waiting.is_empty() {
                    break;
                }
                self.prefill()?;
            }
            let Some(prompt) = self.prefilled.front_mut() else { break };
            let request = &self.requests[prompt.request];
            let sample = prompt.next_sample;
            prompt.next_sample += 1;
            let tokens = self.config.max_new_tokens;
            let mut growing = Growing {
                request: prompt.request,
                sample,
                completion: Completion {
                    token_ids: Vec::with_capacity(tokens),
                    logprobs: Vec::with_capacity(tokens),
                    finish_reason: FinishReason::Length,
                },
                sums: Vec::new(),
            };
            let ended = push(&mut growing, &prompt.logits, self.requests, self.config)
                .ok_or_else(|| growing.not_finite(self.requests))?;
            if ended {
                self.finished[growing.request][growing.sample] = Some(growing.completion);
            } else {
                let capacity = request.prompt_ids.len() + tokens;
                for (caches, cache) in self.caches.iter_mut().zip(&prompt.caches) {
                    caches.push(cache.fork(capacity));
                }
                self.growing.push(growing);
            }
            if prompt.next_sample == request.samples {
                self.prefilled.pop_front();
            }
        }
        Ok(())
    }

    /// Computes the next waiting prompts, end to end in one batch.
    fn prefill(&mut self) -> Result<(), PolicyError> {
        let (mut tokens, mut lengths, mut chosen, mut samples) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some(&i) = self.waiting.front() {
            let prompt = &self.requests[i].prompt_ids;
            let full = tokens.len() + prompt.len() > PREFILL_TOKENS || samples >= self.max_batch;
            if full && !chosen.is_empty() {
                break;
            }
            self.waiting.pop_front();
            tokens.extend_from_slice(prompt);
            lengths.push((prompt.len(), None));
            chosen.push(i);
            samples += self.requests[i].samples;
        }
        let (decoder, buffers) = (self.decoder, &mut self.buffers);
        let segments = Segments::new(lengths)?;
        buffers.table.set(&segments.positions());
        decoder.embed(&tokens, &mut buffers.x)?;
        let empty = |_: &usize| Vec::with_capacity(decoder.layers.len());
        let mut caches: Vec<Vec<KvCache>> = chosen.iter().map(empty).collect();
        for layer in 0..decoder.layers.len() {
            let mut layer_caches: Vec<KvCache> =
                segments.list().iter().map(|s| KvCache::new(decoder.heads(), s.len)).collect();
            buffers.layer(decoder, layer, &mut Attend::Prefill(&segments, &mut layer_caches))?;
            caches.iter_mut().zip(layer_caches).for_each(|(caches, cache)| caches.push(cache));
        }
        let width = decoder.spec.config.hidden_size;
        let last: Vec<f32> = segments
            .list()
            .iter()
            .flat_map(|s| &buffers.x[(s.start + s.len - 1) * width..][..width])
            .copied()
            .collect();
        buffers.x = last;
        buffers.logits(decoder)?;
        let rows = buffers.logits.chunks_exact(buffers.logits.len() / chosen.len().max(1));
        for ((request, caches), logits) in chosen.into_iter().zip(caches).zip(rows) {
            let logits = logits[..decoder.spec.config.vocab_size].to_vec();
            self.prefilled.push_back(Prefilled { request, next_sample: 0, caches, logits });
        }
        Ok(())
    }

    /// One more token for every growing completion.
    fn step(&mut self) -> Result<(), PolicyError> {
        if self.growing.is_empty() {
            return Ok(());
        }
        let (decoder, requests, config, buffers) = (self.decoder, self.requests, self.config, &mut self.buffers);
        buffers.tokens.clear();
        buffers.tokens.extend(self.growing.iter().filter_map(|g| g.completion.token_ids.last()));
        let position = |g: &Growing| (requests[g.request].prompt_ids.len() + g.completion.token_ids.len() - 1) as u32;
        buffers.positions.clear();
        buffers.positions.extend(self.growing.iter().map(position));
        buffers.table.set(&buffers.positions);
        decoder.embed(&buffers.tokens, &mut buffers.x)?;
        for (layer, caches) in self.caches.iter_mut().enumerate() {
            buffers.layer(decoder, layer, &mut Attend::Decode(caches))?;
        }
        buffers.logits(decoder)?;
        let (vocab, stride) = (decoder.spec.config.vocab_size, buffers.logits.len() / self.growing.len());
        self.growing
            .par_iter_mut()
            .zip(buffers.logits.par_chunks(stride))
            .map(|(growing, logits)| push(growing, &logits[..vocab], requests, config))
            .collect_into_vec(&mut buffers.ended);
        if let Some(i) = buffers.ended.iter().position(Option::is_none) {
            return Err(self.growing[i].not_finite(requests));
        }
        for i in (0..self.growing.len()).rev().filter(|i| buffers.ended[*i] == Some(true)) {
            // The last one takes the place of the one that leaves.
            let Growing { request, sample, completion, .. } = self.growing.swap_remove(i);
            for caches in &mut self.caches {
                caches.swap_remove(i);
            }
            self.finished[request][sample] = Some(completion);
        }
        Ok(())
    }
}

impl Buffers {
    /// One layer, from `x` to `x`.
    fn layer(&mut self, decoder: &Model, layer: usize, attend: &mut Attend<'_>) -> Result<(), PolicyError> {
        let context = Context { table: &self.table, adapters: Adapters::On };
        std::mem::swap(&mut self.saved.input, &mut self.x);
        decoder.layer_forward(layer, context, attend, &mut self.saved, &mut self.scratch, Some(&mut self.x))
    }

    /// The logits of the rows in `x`.
    fn logits(&mut self, decoder: &Model) -> Result<(), PolicyError> {
        decoder.final_norm(&self.x, &mut self.normed)?;
        decoder.with_head(1.0, |head| {
            head.logits(&self.normed, &mut self.logits);
            Ok(())
        })
    }
}

/// Draws the next token of a completion and says whether it was the last one; `None` where a logit is not finite.
fn push(growing: &mut Growing, logits: &[f32], requests: &[Request], config: &GenerationConfig) -> Option<bool> {
    let key = config.stream(&requests[growing.request], growing.sample);
    let Growing { completion, sums, .. } = growing;
    let (token, logprob) = sample(logits, &config.sampling, key, completion.token_ids.len() as u64, sums)?;
    completion.token_ids.push(token);
    completion.logprobs.push(logprob);
    let finish = config.finish(token, completion.token_ids.len());
    completion.finish_reason = finish.unwrap_or(completion.finish_reason);
    Some(finish.is_some())
}
