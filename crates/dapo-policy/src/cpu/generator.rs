//! Generation on the CPU: a sequence continues a copy of its prompt's cache, and draws a token an advance.

use super::active::{Active, Parked};
use super::buffers::Buffers;
use super::draft::{Draft, Texts};
use super::forward::Attend;
use super::kept::Keeper;
use super::model::Model;
use super::shard::{self, Shard};
use crate::check::check_ids;
use crate::error::PolicyError;
use crate::generator::{Ended, Generator, PromptCache, Room, Start, not_active};
use crate::request::{GenerationConfig, Request};
use crate::sampling::Draws;
use dapo_kernels::attention::{KvCache, Segments};
use dapo_kernels::threads;
use std::collections::BTreeMap;

/// Memory for keys and values where nothing else is said.
const CACHE_BYTES: usize = 2 << 30;
/// Positions of a block.
const BLOCK_SIZE: usize = 32;
/// Most sequences in one decoding batch; more gain nothing on a CPU.
const MAX_BATCH: usize = 256;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 4096;

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
    keeper: Option<Keeper<'a>>,
    /// What guesses are made from.
    texts: Texts,
    /// Sequences whose turn has ended, by place.
    parked: BTreeMap<usize, Parked>,
    /// Of each active sequence the number of tokens that are computed next.
    counts: Vec<usize>,
    /// One for each part of a batch; there is always the first.
    buffers: Vec<Buffers>,
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
        let longest = longest_prompt + config.max_tokens_after_prompt();
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
            keeper: Keeper::new(&model.kept, if model.trained_len() > 0 { config.keep_activations_bytes } else { 0 }),
            texts: Texts::default(),
            parked: BTreeMap::new(),
            counts: Vec::with_capacity(places),
            buffers: vec![Buffers::new(model, places)],
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
        blocks(prompt_tokens + self.config.max_tokens_after_prompt())
    }

    fn prefill(&mut self, prompts: &[(usize, &Request)]) -> Result<(), PolicyError> {
        let (model, buffers) = (self.model, &mut self.buffers[0]);
        let tokens: Vec<u32> = prompts.iter().flat_map(|(_, request)| &request.prompt_ids).copied().collect();
        let segments = Segments::new(prompts.iter().map(|(_, request)| (request.prompt_ids.len(), None)))?;
        buffers.table.set(&segments.positions());
        model.embed(&tokens, &mut buffers.x)?;
        let mut kept = self.keeper.as_ref().map_or_else(Vec::new, |keeper| keeper.prompts(prompts));
        let mut staged = std::mem::take(&mut buffers.staged);
        let mut keeping = self.keeper.as_ref().map(|keeper| {
            let rows = segments.list().iter().map(|segment| segment.start..segment.start + segment.len);
            let list = kept.iter_mut().zip(rows).filter_map(|(kept, rows)| Some((kept.as_mut()?, rows))).collect();
            keeper.batch(list, tokens.len(), &mut staged)
        });
        let empty = || Vec::with_capacity(model.layers.len());
        let mut caches: Vec<Vec<KvCache>> = std::iter::repeat_with(empty).take(prompts.len()).collect();
        for layer in 0..model.layers.len() {
            let mut layer_caches: Vec<KvCache> =
                segments.list().iter().map(|s| KvCache::new(model.heads(), s.len)).collect();
            buffers.layer(model, layer, &mut Attend::Prefill(&segments, &mut layer_caches), keeping.as_mut())?;
            caches.iter_mut().zip(layer_caches).for_each(|(caches, cache)| caches.push(cache));
        }
        if let (Some(mut keeping), Some(keeper)) = (keeping, &self.keeper) {
            keeping.complete(&buffers.x, &tokens);
            keeper.put_prompts(kept);
        }
        buffers.staged = staged;
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
        let capacity = self.config.max_tokens_after_prompt();
        for start in starts {
            let Some(Some(prompt)) = self.prompts.get(start.number) else {
                return Err(PolicyError::Internal(format!("prompt {} has not been computed", start.number)));
            };
            let prompt_len = start.request.prompt_ids.len();
            let key = self.config.stream(start.request, start.sample);
            let draws = Draws::new(&self.config.sampling, key, &start.request.prompt_ids);
            let draft = (self.config.draft_tokens > 0).then(|| {
                self.texts.put_prompt(start.number, &start.request.prompt_ids);
                Draft::new(start.number, capacity)
            });
            let mut active = Active::new(start.place, prompt_len, self.config, draws).with_draft(draft);
            active.kept = self.keeper.as_ref().map(|keeper| keeper.completion(start));
            let drawn = active.draw(&prompt.logits, self.config)?;
            if let Some(end) = active.ended(&drawn) {
                ended.push(end);
                // One that may continue needs its cache.
                if self.config.turns.is_none() {
                    continue;
                }
            }
            for (caches, cache) in self.caches.iter_mut().zip(&prompt.caches) {
                caches.push(cache.fork(prompt_len + capacity));
            }
            self.active.push(active);
        }
        Ok(())
    }

    fn advance(&mut self, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let (model, config, count) = (self.model, self.config, self.active.len());
        self.counts.clear();
        for active in &mut self.active {
            active.guess(&self.texts, count, config.draft_tokens);
            self.counts.push(active.next_tokens().count());
        }
        self.make_room();
        let (parts, keeper) = (shard::parts(model.size, count), self.keeper.as_ref());
        if parts == 1 {
            let buffers = &mut self.buffers[0];
            buffers.advance(model, config, &mut self.active, from(&mut self.caches, 0), keeper)?;
            return buffers.settle(&mut self.active, from(&mut self.caches, 0), ended);
        }
        while self.buffers.len() < parts {
            self.buffers.push(Buffers::new(model, count));
        }
        let shards = Shard::divide(&mut self.active, from(&mut self.caches, 0), &mut self.buffers[..parts]);
        let mut shards: Vec<_> = shards.into_iter().map(|shard| (shard, Ok(()))).collect();
        threads::for_each_alone(&mut shards, |(shard, outcome)| *outcome = shard.advance(model, config, keeper));
        for (shard, outcome) in shards {
            outcome?;
            shard.settle(ended)?;
        }
        Ok(())
    }

    fn park(&mut self, place: usize) -> Result<(), PolicyError> {
        let Some(parked) = self.take(place) else {
            return Err(PolicyError::Internal(format!("place {place} is to be parked, where no sequence is")));
        };
        self.parked.insert(place, parked);
        Ok(())
    }

    fn append(&mut self, turns: &[(usize, Vec<u32>)], ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let mut rest = turns;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take_while(|(_, new)| {
                tokens += new.len() + 1;
                tokens <= PREFILL_TOKENS
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            self.extend(now, ended)?;
            rest = later;
        }
        Ok(())
    }

    fn tokens(&self, place: usize) -> Result<Vec<u32>, PolicyError> {
        let active = self.active.iter().find(|active| active.place == place);
        active.map(|active| active.token_ids.clone()).ok_or_else(|| not_active(place))
    }

    fn release(&mut self, place: usize) {
        // A sequence that ended with its first token may never have come here.
        let ended = self.parked.remove(&place).or_else(|| self.take(place));
        let Some(Parked { active, .. }) = ended else { return };
        if let (Some(kept), Some(keeper)) = (active.kept, &self.keeper) {
            keeper.put_completion(kept);
        }
        if let Some(draft) = active.draft {
            self.texts.put_completion(draft);
        }
    }

    fn release_prompt(&mut self, number: usize) {
        self.prompts[number] = None;
    }
}

impl CpuGenerator<'_> {
    /// Takes an active sequence out. The last one takes its place among the active ones.
    fn take(&mut self, place: usize) -> Option<Parked> {
        let i = self.active.iter().position(|active| active.place == place)?;
        let active = self.active.swap_remove(i);
        Some(Parked { active, caches: self.caches.iter_mut().map(|caches| caches.swap_remove(i)).collect() })
    }

    /// Makes room for what is kept of the tokens that are computed next.
    fn make_room(&mut self) {
        if let Some(keeper) = &self.keeper {
            let kept = self.active.iter_mut().map(|active| &mut active.kept);
            keeper.make_room(kept, |number| self.counts[number]);
        }
    }

    /// Computes tokens on top of parked sequences in one batch, and draws the first tokens of their next turns.
    fn extend(&mut self, turns: &[(usize, Vec<u32>)], ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let (model, config, buffers) = (self.model, self.config, &mut self.buffers[0]);
        let first = self.active.len();
        let mut lasts = Vec::with_capacity(turns.len());
        buffers.clear();
        self.counts.clear();
        self.counts.resize(first, 0);
        for (place, tokens) in turns {
            check_ids("the answer to a turn", tokens, model.spec.config.vocab_size)?;
            let Some(Parked { mut active, caches }) = self.parked.remove(place) else {
                return Err(PolicyError::Internal(format!(
                    "place {place} is to be continued, where no sequence is parked"
                )));
            };
            buffers.positions.extend(active.positions_of_next(tokens.len()));
            buffers.tokens.push(active.last);
            buffers.tokens.extend_from_slice(tokens);
            buffers.counts.push(tokens.len() + 1);
            self.counts.push(tokens.len() + 1);
            lasts.push(buffers.tokens.len() - 1);
            active.begin_turn(tokens, config);
            self.active.push(active);
            self.caches.iter_mut().zip(caches).for_each(|(caches, cache)| caches.push(cache));
        }
        self.make_room();
        let (buffers, active) = (&mut self.buffers[0], &mut self.active[first..]);
        buffers.layers(model, active, from(&mut self.caches, first), self.keeper.as_ref())?;
        buffers.keep_rows(&lasts, model.spec.config.hidden_size);
        buffers.draw(model, config, active)?;
        buffers.settle(active, from(&mut self.caches, first), ended)
    }
}

/// By layer, the caches of the sequences from number `first` on.
fn from(caches: &mut [Vec<KvCache>], first: usize) -> impl Iterator<Item = &mut [KvCache]> {
    caches.iter_mut().map(move |caches| &mut caches[first..])
}
