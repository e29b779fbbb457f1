//! Sampling completions: prompts are computed once, their caches forked for each completion, and the batch refilled as
//! completions end.

use crate::decoder::{Adapters, Attend, Context, Saved, Scratch, check_ids};
use crate::sampling::{StreamKey, sample};
use crate::{Decoder, PolicyError, Purpose, SamplingConfig, Segments, StopTokens};
use dapo_kernels::attention::KvCache;
use dapo_kernels::{RotaryTable, threads};
use rayon::prelude::*;
use std::collections::VecDeque;

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
    pub stop: StopTokens,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What the completions are for.
    pub purpose: Purpose,
    /// Memory for keys and values, in bytes; it bounds how many completions grow at a time. On a GPU no more is taken than is
    /// free there. `None`: 2 GiB, on a GPU what is free.
    pub cache_bytes: Option<usize>,
}

impl GenerationConfig {
    /// Up to 256 tokens at temperature 1, seed 0. There is no default for the stop tokens: take [`StopTokens::of`] the model.
    pub fn new(stop: StopTokens) -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop,
            seed: 0,
            purpose: Purpose::Rollout,
            cache_bytes: None,
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

pub(crate) fn generate(
    decoder: &Decoder,
    requests: &[Request],
    config: &GenerationConfig,
) -> Result<Vec<Vec<Completion>>, PolicyError> {
    decoder.workspace().release_large();
    let mut engine = Engine::new(decoder, requests, config)?;
    threads::enter(|| {
        while !engine.is_done() {
            engine.admit()?;
            engine.step()?;
        }
        Ok(engine.finished.into_iter().map(|group| group.into_iter().flatten().collect()).collect())
    })
}

pub(crate) fn validate(decoder: &Decoder, requests: &[Request], config: &GenerationConfig) -> Result<(), PolicyError> {
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
        check_ids(&format!("requests[{i}].prompt_ids"), &request.prompt_ids, decoder.config().vocab_size)?;
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
    fn new(decoder: &'a Decoder, requests: &'a [Request], config: &'a GenerationConfig) -> Result<Self, PolicyError> {
        let c = decoder.config();
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
        let empty = |_: &usize| Vec::with_capacity(decoder.num_layers());
        let mut caches: Vec<Vec<KvCache>> = chosen.iter().map(empty).collect();
        for layer in 0..decoder.num_layers() {
            let mut layer_caches: Vec<KvCache> =
                segments.list().iter().map(|s| KvCache::new(decoder.heads(), s.len)).collect();
            buffers.layer(decoder, layer, &mut Attend::Prefill(&segments, &mut layer_caches))?;
            caches.iter_mut().zip(layer_caches).for_each(|(caches, cache)| caches.push(cache));
        }
        let width = decoder.config().hidden_size;
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
            let logits = logits[..decoder.config().vocab_size].to_vec();
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
        let (vocab, stride) = (decoder.config().vocab_size, buffers.logits.len() / self.growing.len());
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
    fn layer(&mut self, decoder: &Decoder, layer: usize, attend: &mut Attend<'_>) -> Result<(), PolicyError> {
        let context = Context { table: &self.table, adapters: Adapters::On };
        std::mem::swap(&mut self.saved.input, &mut self.x);
        decoder.layer_forward(layer, context, attend, &mut self.saved, &mut self.scratch, Some(&mut self.x))
    }

    /// The logits of the rows in `x`.
    fn logits(&mut self, decoder: &Decoder) -> Result<(), PolicyError> {
        decoder.final_norm(&self.x, &mut self.normed)?;
        decoder.with_head(1.0, |head| {
            head.logits(&self.normed, &mut self.logits);
            Ok(())
        })
    }
}

/// Draws the next token of a completion and says whether it was the last one; `None` where a logit is not finite.
fn push(growing: &mut Growing, logits: &[f32], requests: &[Request], config: &GenerationConfig) -> Option<bool> {
    let key = StreamKey {
        seed: config.seed,
        purpose: config.purpose,
        draw: requests[growing.request].draw,
        sample: (requests[growing.request].first_sample + growing.sample) as u64,
    };
    let Growing { completion, sums, .. } = growing;
    let (token, logprob) = sample(logits, &config.sampling, key, completion.token_ids.len() as u64, sums)?;
    completion.token_ids.push(token);
    completion.logprobs.push(logprob);
    if config.stop.contains(token) {
        completion.finish_reason = FinishReason::Stop;
        return Some(true);
    }
    Some(completion.token_ids.len() == config.max_new_tokens)
}
