//! Sampling completions: prompts are computed once, their caches forked for each completion, and the batch refilled as
//! completions end.

use crate::decoder::{Attend, Tracking};
use crate::sampling::{StreamKey, sample};
use crate::{Decoder, PolicyError, Purpose, SamplingConfig, Segments};
use candle_core::Tensor;
use dapo_kernels::attention::KvCache;
use dapo_kernels::with_slice;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// A prompt to complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The prompt; not empty.
    pub prompt_ids: Vec<u32>,
    /// Number of completions.
    pub samples: usize,
    /// Number of the first of them: above 0 to add to completions made before, as if all were made at once.
    pub first_sample: usize,
    /// Index of the draw: with the seed, the purpose and the sample's number it keys the random numbers.
    pub draw: u64,
}

/// How completions are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Tokens at most, the stop token included.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Tokens that end a completion (and belong to it).
    pub stop_token_ids: Vec<u32>,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What the completions are for.
    pub purpose: Purpose,
    /// Memory for keys and values, in bytes; it bounds how many completions grow at a time.
    pub cache_bytes: usize,
}

impl Default for GenerationConfig {
    /// Up to 256 tokens at temperature 1, no stop tokens, seed 0, 2 GiB of keys and values.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop_token_ids: Vec::new(),
            seed: 0,
            purpose: Purpose::Rollout,
            cache_bytes: 2 << 30,
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// It generated a stop token.
    Stop,
    /// It used up its tokens without one: it is truncated.
    Length,
}

/// A sampled completion.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Completion {
    /// Its tokens, the stop token included.
    pub token_ids: Vec<u32>,
    /// Log-prob of each token in the full softmax at the sampling temperature (at 1 where that is 0).
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Most completions in one decoding batch; more gain nothing on a CPU.
const MAX_BATCH: usize = 256;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 4096;

/// A completion that is growing.
struct Growing {
    request: usize,
    sample: usize,
    position: u32,
    caches: Vec<KvCache>,
    completion: Completion,
}

/// A computed prompt, waiting for its completions to start.
struct Prefilled {
    request: usize,
    next_sample: usize,
    caches: Vec<KvCache>,
    /// Logits for the first token.
    logits: Vec<f32>,
}

pub(crate) fn generate(
    decoder: &Decoder,
    requests: &[Request],
    config: &GenerationConfig,
) -> Result<Vec<Vec<Completion>>, PolicyError> {
    validate(decoder, requests, config)?;
    let mut engine = Engine::new(decoder, requests, config);
    while !engine.is_done() {
        engine.admit()?;
        engine.step()?;
    }
    Ok(engine.finished.into_iter().map(|group| group.into_iter().flatten().collect()).collect())
}

fn validate(decoder: &Decoder, requests: &[Request], config: &GenerationConfig) -> Result<(), PolicyError> {
    config.sampling.validate()?;
    let bad = |field: String, found: String, expected: String| Err(PolicyError::Setting { field, found, expected });
    if config.max_new_tokens == 0 {
        return bad("max_new_tokens".into(), "0".into(), "at least 1".into());
    }
    let limit = decoder.config().max_position_embeddings;
    for (i, request) in requests.iter().enumerate() {
        let length = request.prompt_ids.len();
        if length == 0 || length + config.max_new_tokens > limit {
            return bad(
                format!("requests[{i}].prompt_ids"),
                format!("{length} tokens"),
                format!("at least 1, and at most the model's {limit} with {} new ones", config.max_new_tokens),
            );
        }
    }
    Ok(())
}

struct Engine<'a> {
    decoder: &'a Decoder,
    requests: &'a [Request],
    config: &'a GenerationConfig,
    waiting: VecDeque<usize>,
    prefilled: VecDeque<Prefilled>,
    growing: Vec<Growing>,
    finished: Vec<Vec<Option<Completion>>>,
    max_batch: usize,
}

impl<'a> Engine<'a> {
    fn new(decoder: &'a Decoder, requests: &'a [Request], config: &'a GenerationConfig) -> Self {
        let c = decoder.config();
        let longest = requests.iter().map(|r| r.prompt_ids.len()).max().unwrap_or(0) + config.max_new_tokens;
        let bytes = longest.next_multiple_of(32) * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * 8;
        Self {
            decoder,
            requests,
            config,
            waiting: (0..requests.len()).filter(|i| requests[*i].samples > 0).collect(),
            prefilled: VecDeque::new(),
            growing: Vec::new(),
            finished: requests.iter().map(|r| vec![None; r.samples]).collect(),
            max_batch: (config.cache_bytes / bytes).clamp(1, MAX_BATCH),
        }
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
            let (sample, length) = (prompt.next_sample, request.prompt_ids.len());
            prompt.next_sample += 1;
            let mut growing = Growing {
                request: prompt.request,
                sample,
                position: length as u32,
                caches: Vec::new(),
                completion: Completion { token_ids: vec![], logprobs: vec![], finish_reason: FinishReason::Length },
            };
            let ended = push(&mut growing, &mut prompt.logits.clone(), self.requests, self.config);
            if !ended {
                let capacity = length + self.config.max_new_tokens;
                growing.caches = prompt.caches.iter().map(|c| c.fork(capacity)).collect();
            }
            if prompt.next_sample == request.samples {
                self.prefilled.pop_front();
            }
            if ended {
                self.finish(growing);
            } else {
                self.growing.push(growing);
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
        let decoder = self.decoder;
        let segments = Arc::new(Segments::new(lengths)?);
        let table = decoder.rotary_table(&segments.positions());
        let empty = |_| Vec::with_capacity(decoder.num_layers());
        let mut caches: Vec<Vec<KvCache>> = chosen.iter().map(empty).collect();
        let mut x = decoder.embed(&tokens)?;
        for layer in 0..decoder.num_layers() {
            let mut layer_caches: Vec<KvCache> =
                segments.list().iter().map(|s| KvCache::new(decoder.heads(), s.len)).collect();
            let mut attend = Attend::Prefill(&segments, &mut layer_caches);
            x = decoder.layer(layer, &x, &table, &mut attend, Tracking::Detached)?;
            caches.iter_mut().zip(layer_caches).for_each(|(caches, cache)| caches.push(cache));
        }
        let last: Vec<u32> = segments.list().iter().map(|s| (s.start + s.len - 1) as u32).collect();
        let last = Tensor::from_vec(last, segments.list().len(), x.device())?;
        let logits = self.logits(&x.index_select(&last, 0)?)?;
        let rows = logits.chunks_exact(decoder.config().vocab_size);
        for ((request, caches), logits) in chosen.into_iter().zip(caches).zip(rows) {
            self.prefilled.push_back(Prefilled { request, next_sample: 0, caches, logits: logits.to_vec() });
        }
        Ok(())
    }

    /// One more token for every growing completion.
    fn step(&mut self) -> Result<(), PolicyError> {
        if self.growing.is_empty() {
            return Ok(());
        }
        let decoder = self.decoder;
        let last: Vec<u32> = self.growing.iter().filter_map(|g| g.completion.token_ids.last().copied()).collect();
        let positions: Vec<u32> = self.growing.iter().map(|g| g.position).collect();
        let table = decoder.rotary_table(&positions);
        let mut x = decoder.embed(&last)?;
        for layer in 0..decoder.num_layers() {
            let mut caches: Vec<&mut KvCache> = self.growing.iter_mut().map(|g| &mut g.caches[layer]).collect();
            x = decoder.layer(layer, &x, &table, &mut Attend::Decode(&mut caches), Tracking::Detached)?;
        }
        let mut logits = self.logits(&x)?;
        let (requests, config) = (self.requests, self.config);
        let ended: Vec<bool> = self
            .growing
            .par_iter_mut()
            .zip(logits.par_chunks_mut(decoder.config().vocab_size))
            .map(|(growing, logits)| {
                growing.position += 1;
                push(growing, logits, requests, config)
            })
            .collect();
        for (i, ended) in ended.into_iter().enumerate().rev() {
            if ended {
                let growing = self.growing.remove(i);
                self.finish(growing);
            }
        }
        Ok(())
    }

    fn logits(&self, x: &Tensor) -> Result<Vec<f32>, PolicyError> {
        let hidden = self.decoder.final_norm(x, Tracking::Detached)?;
        let mut logits = Vec::new();
        self.decoder.with_head(1.0, |head| {
            Ok(with_slice(&hidden, |h| {
                head.logits(h, &mut logits);
                Ok(())
            })?)
        })?;
        Ok(logits)
    }

    fn finish(&mut self, growing: Growing) {
        self.finished[growing.request][growing.sample] = Some(growing.completion);
    }
}

/// Draws the next token of a completion; says whether it was the last one.
fn push(growing: &mut Growing, logits: &mut [f32], requests: &[Request], config: &GenerationConfig) -> bool {
    let key = StreamKey {
        seed: config.seed,
        purpose: config.purpose,
        draw: requests[growing.request].draw,
        sample: (requests[growing.request].first_sample + growing.sample) as u64,
    };
    let completion = &mut growing.completion;
    let (token, logprob) = sample(logits, &config.sampling, key, completion.token_ids.len() as u64);
    completion.token_ids.push(token);
    completion.logprobs.push(logprob);
    if config.stop_token_ids.contains(&token) {
        completion.finish_reason = FinishReason::Stop;
        return true;
    }
    completion.token_ids.len() == config.max_new_tokens
}
