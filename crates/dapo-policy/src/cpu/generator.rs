//! Generation on the CPU: a sequence continues a copy of its prompt's cache, and draws a token an advance.

use super::forward::{Attend, Context};
use super::model::Model;
use super::workspace::{Saved, Scratch};
use crate::backend::Adapters;
use crate::error::PolicyError;
use crate::generator::{Ended, Ending, Generator, PromptCache, Room, Start};
use crate::request::{Completion, FinishReason, GenerationConfig, Request};
use crate::sampling::Draws;
use crate::stop_strings::Tail;
use dapo_kernels::RotaryTable;
use dapo_kernels::attention::{KvCache, Segments};
use rayon::prelude::*;

/// Memory for keys and values where nothing else is said.
const CACHE_BYTES: usize = 2 << 30;
/// Positions of a block.
const BLOCK_SIZE: usize = 32;
/// Most sequences in one decoding batch; more gain nothing on a CPU.
const MAX_BATCH: usize = 256;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 4096;

/// An active sequence.
struct Active {
    place: usize,
    prompt_len: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    draws: Draws,
    tail: Tail,
}

/// What drawing a token led to.
enum Drawn {
    Active,
    Finished(FinishReason),
    NotFinite,
}

/// A computed prompt.
struct Prompt {
    /// By layer.
    caches: Vec<KvCache>,
    /// Logits for the first token.
    logits: Vec<f32>,
}

/// The sequences of one call.
pub(super) struct CpuGenerator<'a> {
    model: &'a Model,
    config: &'a GenerationConfig,
    room: Room,
    /// Whether the cache holds the longest prompt beside the longest sequence.
    can_keep: bool,
    /// By the number of the request.
    prompts: Vec<Option<Prompt>>,
    active: Vec<Active>,
    /// By layer, of each active sequence in order.
    caches: Vec<Vec<KvCache>>,
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
    /// Of each active sequence.
    drawn: Vec<Result<Drawn, PolicyError>>,
}

fn blocks(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_SIZE)
}

impl<'a> CpuGenerator<'a> {
    /// Plans the cache for these requests.
    pub(super) fn new(
        model: &'a Model,
        requests: &[Request],
        config: &'a GenerationConfig,
    ) -> Result<Self, PolicyError> {
        let c = &model.spec.config;
        let block_bytes = BLOCK_SIZE * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * 8;
        let longest_prompt = requests.iter().map(|r| r.prompt_ids.len()).max().unwrap_or(0);
        let longest = longest_prompt + config.max_new_tokens;
        let least = blocks(longest) * block_bytes;
        let cache_bytes = config.cache_bytes.unwrap_or(CACHE_BYTES);
        if cache_bytes < least {
            return Err(PolicyError::Setting {
                field: "cache_bytes".into(),
                found: cache_bytes.to_string(),
                expected: format!("at least {least}, the keys and values of one sequence of {longest} tokens"),
            });
        }
        let places = MAX_BATCH.min(requests.iter().map(|r| r.samples).sum());
        let empty = || Vec::with_capacity(places);
        Ok(Self {
            model,
            config,
            room: Room {
                places,
                blocks: cache_bytes / block_bytes,
                prefill_tokens: PREFILL_TOKENS,
                prompts: PromptCache::Copied,
            },
            can_keep: cache_bytes / block_bytes >= blocks(longest_prompt) + blocks(longest),
            prompts: Vec::new(),
            active: Vec::with_capacity(places),
            caches: std::iter::repeat_with(empty).take(c.num_hidden_layers).collect(),
            buffers: Buffers {
                tokens: Vec::with_capacity(places),
                positions: Vec::with_capacity(places),
                table: model.rotary_table(&[]),
                x: Vec::new(),
                saved: Saved::default(),
                scratch: Scratch::default(),
                normed: Vec::new(),
                logits: Vec::new(),
                drawn: Vec::with_capacity(places),
            },
        })
    }
}

impl Generator for CpuGenerator<'_> {
    fn room(&self) -> Room {
        self.room
    }

    fn keep_prompts(&mut self) {
        if self.can_keep {
            self.room.prompts = PromptCache::Kept;
        }
    }

    fn prompt_blocks(&self, tokens: usize) -> usize {
        if self.room.prompts == PromptCache::Kept { blocks(tokens) } else { 0 }
    }

    fn sequence_blocks(&self, prompt_tokens: usize) -> usize {
        blocks(prompt_tokens + self.config.max_new_tokens)
    }

    fn prefill(&mut self, prompts: &[(usize, &Request)]) -> Result<(), PolicyError> {
        let (model, buffers) = (self.model, &mut self.buffers);
        let tokens: Vec<u32> = prompts.iter().flat_map(|(_, request)| &request.prompt_ids).copied().collect();
        let segments = Segments::new(prompts.iter().map(|(_, request)| (request.prompt_ids.len(), None)))?;
        buffers.table.set(&segments.positions());
        model.embed(&tokens, &mut buffers.x)?;
        let empty = || Vec::with_capacity(model.layers.len());
        let mut caches: Vec<Vec<KvCache>> = std::iter::repeat_with(empty).take(prompts.len()).collect();
        for layer in 0..model.layers.len() {
            let mut layer_caches: Vec<KvCache> =
                segments.list().iter().map(|s| KvCache::new(model.heads(), s.len)).collect();
            buffers.layer(model, layer, &mut Attend::Prefill(&segments, &mut layer_caches))?;
            caches.iter_mut().zip(layer_caches).for_each(|(caches, cache)| caches.push(cache));
        }
        let width = model.spec.config.hidden_size;
        let last: Vec<f32> = segments
            .list()
            .iter()
            .flat_map(|s| &buffers.x[(s.start + s.len - 1) * width..][..width])
            .copied()
            .collect();
        buffers.x = last;
        buffers.logits(model)?;
        let rows = buffers.logits.chunks_exact(buffers.logits.len() / prompts.len());
        for (((number, _), caches), logits) in prompts.iter().zip(caches).zip(rows) {
            let logits = logits[..model.spec.config.vocab_size].to_vec();
            self.prompts.resize_with(self.prompts.len().max(number + 1), || None);
            self.prompts[*number] = Some(Prompt { caches, logits });
        }
        Ok(())
    }

    fn start(&mut self, starts: &[Start<'_>], ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let tokens = self.config.max_new_tokens;
        for start in starts {
            let Some(Some(prompt)) = self.prompts.get(start.number) else {
                return Err(PolicyError::Internal(format!("prompt {} has not been computed", start.number)));
            };
            let prompt_len = start.request.prompt_ids.len();
            let key = self.config.stream(start.request, start.sample);
            let mut active = Active {
                place: start.place,
                prompt_len,
                token_ids: Vec::with_capacity(tokens),
                logprobs: Vec::with_capacity(tokens),
                draws: Draws::new(&self.config.sampling, key, &start.request.prompt_ids),
                tail: Tail::default(),
            };
            let drawn = active.draw(&prompt.logits, self.config)?;
            if let Some(end) = active.ended(&drawn) {
                ended.push(end);
                continue;
            }
            for (caches, cache) in self.caches.iter_mut().zip(&prompt.caches) {
                caches.push(cache.fork(prompt_len + tokens));
            }
            self.active.push(active);
        }
        Ok(())
    }

    fn advance(&mut self, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let (model, config, buffers) = (self.model, self.config, &mut self.buffers);
        buffers.tokens.clear();
        buffers.tokens.extend(self.active.iter().filter_map(|active| active.token_ids.last()));
        buffers.positions.clear();
        buffers.positions.extend(self.active.iter().map(Active::position));
        buffers.table.set(&buffers.positions);
        model.embed(&buffers.tokens, &mut buffers.x)?;
        for (layer, caches) in self.caches.iter_mut().enumerate() {
            buffers.layer(model, layer, &mut Attend::Decode(caches))?;
        }
        buffers.logits(model)?;
        let (vocab, stride) = (model.spec.config.vocab_size, buffers.logits.len() / self.active.len());
        self.active
            .par_iter_mut()
            .zip(buffers.logits.par_chunks(stride))
            .map(|(active, logits)| active.draw(&logits[..vocab], config))
            .collect_into_vec(&mut buffers.drawn);
        for (active, drawn) in self.active.iter_mut().zip(buffers.drawn.drain(..)) {
            ended.extend(active.ended(&drawn?));
        }
        Ok(())
    }

    fn release(&mut self, place: usize) {
        // A sequence that ended with its first token never came here. The last one takes the place of the one that leaves.
        if let Some(i) = self.active.iter().position(|active| active.place == place) {
            self.active.swap_remove(i);
            for caches in &mut self.caches {
                caches.swap_remove(i);
            }
        }
    }

    fn release_prompt(&mut self, number: usize) {
        self.prompts[number] = None;
    }
}

impl Buffers {
    /// One layer, from `x` to `x`.
    fn layer(&mut self, model: &Model, layer: usize, attend: &mut Attend<'_>) -> Result<(), PolicyError> {
        let context = Context { table: &self.table, adapters: Adapters::On };
        std::mem::swap(&mut self.saved.input, &mut self.x);
        model.layer_forward(layer, context, attend, &mut self.saved, &mut self.scratch, Some(&mut self.x))
    }

    /// The logits of the rows in `x`.
    fn logits(&mut self, model: &Model) -> Result<(), PolicyError> {
        model.final_norm(&self.x, &mut self.normed)?;
        model.with_head(1.0, |head| {
            head.logits(&self.normed, &mut self.logits);
            Ok(())
        })
    }
}

impl Active {
    /// Of the token drawn last.
    fn position(&self) -> u32 {
        (self.prompt_len + self.token_ids.len() - 1) as u32
    }

    /// Draws the next token.
    fn draw(&mut self, logits: &[f32], config: &GenerationConfig) -> Result<Drawn, PolicyError> {
        let Some((token, logprob)) = self.draws.next(logits, &config.sampling, self.token_ids.len()) else {
            return Ok(Drawn::NotFinite);
        };
        self.token_ids.push(token);
        self.logprobs.push(logprob);
        let finish = config.finish(&mut self.tail, token, self.token_ids.len())?;
        Ok(finish.map_or(Drawn::Active, Drawn::Finished))
    }

    /// The report of a sequence that has ended, with what it has drawn.
    fn ended(&mut self, drawn: &Drawn) -> Option<Ended> {
        let ending = match drawn {
            Drawn::Active => return None,
            Drawn::NotFinite => Ending::NotFinite(self.token_ids.len()),
            Drawn::Finished(finish_reason) => Ending::Finished(Completion {
                token_ids: std::mem::take(&mut self.token_ids),
                logprobs: std::mem::take(&mut self.logprobs),
                finish_reason: *finish_reason,
            }),
        };
        Some(Ended { place: self.place, ending })
    }
}
