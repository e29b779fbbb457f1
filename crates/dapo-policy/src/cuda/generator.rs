//! Generation on the device: sequences share their prompt's blocks of the cache, and draw several tokens an advance without
//! asking the host.

use super::active::Active;
use super::array::Array;
use super::blocks::{BLOCK_SIZE, FreeBlocks, of_completion, of_prompt};
use super::cache::{Cache, Places};
use super::compute::Compute;
use super::forward::{Attend, Pass};
use super::model::Model;
use super::workspace::Workspace;
use crate::backend::Adapters;
use crate::error::PolicyError;
use crate::generator::{Ended, Ending, Generator, PromptCache, Room, Start, not_active};
use crate::request::{Completion, FinishReason, GenerationConfig, Request};
use crate::stop_strings::Tail;
use dapo_kernels::attention::Segments;
use dapo_kernels::cuda::attention::{BlockTable, CacheShape, Plan, copy_blocks};
use dapo_kernels::cuda::decoding::StepInputs;
use dapo_kernels::cuda::embedding;
use dapo_kernels::cuda::sampling::{Assignment, SamplingRule, Sequences, draw};
use dapo_kernels::cuda::{Buffer, Gpu};

/// Most sequences in one decoding batch.
const MAX_BATCH: usize = 512;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 8192;
/// Tokens drawn between two looks at which sequences have ended.
const POLL: usize = 8;

/// A computed prompt.
struct Prompt {
    /// Its row among the logits of its batch.
    row: usize,
    len: usize,
    blocks: Vec<u32>,
}

/// The rows of the decoding batch, as the device needs them.
pub(super) struct Batch {
    places: Vec<usize>,
    on_device: Buffer<i32>,
    table: Buffer<u32>,
    max_blocks: usize,
    inputs: StepInputs,
    /// Longest sequence when the host last looked.
    longest: usize,
}

/// The sequences of one call.
pub(super) struct CudaGenerator<'a, T> {
    pub(super) model: &'a Model<T>,
    pub(super) config: &'a GenerationConfig,
    room: Room,
    pub(super) rule: SamplingRule,
    pub(super) stops: Buffer<u32>,
    /// By the number of the request.
    prompts: Vec<Option<Prompt>>,
    /// By place.
    pub(super) active: Vec<Option<Active>>,
    /// `None` after a change of what is active.
    pub(super) batch: Option<Batch>,
    pub(super) sequences: Sequences,
    free: FreeBlocks,
    pub(super) cache: Cache<T>,
    pub(super) workspace: Workspace<T>,
    /// Of the last prompts.
    prompt_logits: Array<f32>,
    pub(super) logits: Array<f32>,
}

impl<'a, T: Compute> CudaGenerator<'a, T> {
    /// Plans the cache for these requests, of which one has samples.
    pub(super) fn new(
        model: &'a Model<T>,
        requests: &[Request],
        config: &'a GenerationConfig,
    ) -> Result<Self, PolicyError> {
        let gpu = &model.gpu;
        if config.sampling.penalizes() {
            return Err(PolicyError::Setting {
                field: "repetition_penalty".into(),
                found: config.sampling.repetition_penalty.to_string(),
                expected: "1 on a GPU, which draws without a penalty; a CPU has one".into(),
            });
        }
        let blocks = model.plan_blocks(requests, config)?;
        let shape = CacheShape { heads: model.heads(), blocks, block_size: BLOCK_SIZE };
        let places = MAX_BATCH.min(requests.iter().map(|r| r.samples).sum());
        let sampling = &config.sampling;
        // Arrays on a device are not empty; no token has this number.
        let stops = if config.stop.is_empty() { vec![u32::MAX] } else { config.stop.ids().to_vec() };
        Ok(Self {
            model,
            config,
            room: Room { places, blocks, prefill_tokens: PREFILL_TOKENS, prompts: PromptCache::Shared },
            rule: SamplingRule {
                temperature: sampling.temperature,
                top_k: sampling.top_k.unwrap_or(0),
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                seed: config.seed,
                purpose: config.purpose as u64,
            },
            stops: gpu.upload(&stops)?,
            prompts: Vec::new(),
            active: (0..places).map(|_| None).collect(),
            batch: None,
            sequences: Sequences::new(gpu, places, config.max_new_tokens)?,
            free: FreeBlocks::new(blocks),
            cache: Cache::new(gpu, shape, model.config.num_hidden_layers)?,
            workspace: model.take_workspace(),
            prompt_logits: Array::default(),
            logits: Array::default(),
        })
    }

    /// Gives the memory of passes back to the model.
    pub(super) fn finish(self) {
        self.model.put_workspace(self.workspace);
    }

    fn prompt(&self, number: usize) -> Result<&Prompt, PolicyError> {
        let missing = || PolicyError::Internal(format!("prompt {number} has not been computed"));
        self.prompts.get(number).and_then(Option::as_ref).ok_or_else(missing)
    }

    fn take_blocks(&mut self, count: usize) -> Result<Vec<u32>, PolicyError> {
        self.free.take(count).ok_or_else(|| PolicyError::Internal(format!("{count} blocks of the cache are not free")))
    }

    /// Draws the first tokens of sequences from their prompts' logits, and copies what they need of a prompt's last block.
    fn draw_first(&mut self, starts: &[Start<'_>]) -> Result<(), PolicyError> {
        let (model, gpu) = (self.model, &self.model.gpu);
        let of = &mut self.sequences;
        let (mut draws, mut samples) = (gpu.read(of.draws.view())?, gpu.read(of.samples.view())?);
        let (mut limits, mut positions) = (gpu.read(of.limits.view())?, gpu.read(of.positions.view())?);
        let (mut lengths, mut finished) = (gpu.read(of.lengths.view())?, gpu.read(of.finished.view())?);
        let (mut rows, mut copies) = (Vec::new(), Vec::new());
        for Start { place, number, request, sample } in starts {
            let (Some(active), Some(prompt)) = (&self.active[*place], &self.prompts[*number]) else { continue };
            let key = self.config.stream(request, *sample);
            (draws[*place], samples[*place]) = (key.draw, key.sample);
            limits[*place] = self.config.turn_limit(0) as i32;
            positions[*place] = prompt.len as i32 - 1;
            (lengths[*place], finished[*place]) = (0, 0);
            rows.push(prompt.row as i32);
            if !prompt.len.is_multiple_of(BLOCK_SIZE) {
                let last = prompt.blocks[prompt.len / BLOCK_SIZE];
                copies.extend([last, active.own[0], (prompt.len % BLOCK_SIZE) as u32]);
            }
        }
        gpu.write(&draws, of.draws.view_mut())?;
        gpu.write(&samples, of.samples.view_mut())?;
        gpu.write(&limits, of.limits.view_mut())?;
        gpu.write(&positions, of.positions.view_mut())?;
        gpu.write(&lengths, of.lengths.view_mut())?;
        gpu.write(&finished, of.finished.view_mut())?;
        if !copies.is_empty() {
            let (copies, layers) = (gpu.upload(&copies)?, model.config.num_hidden_layers);
            let Cache { shape, k, v } = &mut self.cache;
            copy_blocks(gpu, *shape, layers, copies.view(), k.view_mut(), v.view_mut())?;
        }
        let numbers: Vec<i32> = starts.iter().map(|start| start.place as i32).collect();
        let (rows, numbers) = (gpu.upload(&rows)?, gpu.upload(&numbers)?);
        let logits = self.prompt_logits.view()?;
        let shape = model.logits_shape(logits.len() / model.logits_stride(), 1.0);
        let assignment = Assignment { rows: Some(rows.view()), sequences: Some(numbers.view()) };
        Ok(draw(gpu, &self.rule, shape, logits, starts.len(), assignment, self.stops.view(), of)?)
    }

    /// The blocks of a sequence, its prompt's first.
    pub(super) fn blocks_of(&self, active: &Active) -> Result<Vec<u32>, PolicyError> {
        let whole = active.prompt_len / BLOCK_SIZE;
        Ok([&self.prompt(active.number)?.blocks[..whole], active.own.as_slice()].concat())
    }

    /// The batch as it is now.
    fn batch(&self) -> Result<Batch, PolicyError> {
        let gpu = &self.model.gpu;
        let (mut places, mut blocks, mut longest) = (Vec::new(), Vec::new(), 0);
        for (place, active) in self.active.iter().enumerate() {
            let Some(active) = active.as_ref().filter(|active| !active.is_parked) else { continue };
            places.push(place);
            blocks.push(self.blocks_of(active)?);
            longest = longest.max(active.len());
        }
        let blocks: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
        let (table, max_blocks) = upload_table(gpu, &blocks)?;
        let numbers: Vec<i32> = places.iter().map(|place| *place as i32).collect();
        let (on_device, inputs) = (gpu.upload(&numbers)?, StepInputs::new(gpu, places.len())?);
        Ok(Batch { places, on_device, table, max_blocks, inputs, longest })
    }

    /// One more token for every active sequence; `step` tokens have been drawn since the host last looked.
    fn step(&mut self, batch: &mut Batch, step: usize) -> Result<(), PolicyError> {
        let (model, gpu, count) = (self.model, &self.model.gpu, batch.places.len());
        batch.inputs.gather(gpu, batch.on_device.view(), &self.sequences)?;
        let inputs = &batch.inputs;
        let places = Places {
            sequences: inputs.cache_rows.view(),
            positions: inputs.cache_positions.view(),
            table: BlockTable { blocks: batch.table.view(), max_blocks: batch.max_blocks },
        };
        let max_len = (batch.longest + step).min(batch.max_blocks * BLOCK_SIZE);
        let mut attend = Attend::Decode { cache: &mut self.cache, places, lengths: inputs.lengths.view(), max_len };
        let (ids, positions) = (inputs.tokens.view(), inputs.rotary_positions.view());
        let of = Pass { ids, positions, adapters: Adapters::On };
        model.forward(&of, &mut attend, None, &mut self.workspace)?;
        let (width, head) = (model.config.hidden_size, &mut self.workspace.head);
        model.norm(self.workspace.x.view()?, model.slabs.norm, head.normed.sized(gpu, count * width)?)?;
        model.logits_of(head.normed.view()?, &mut self.logits)?;
        let assignment = Assignment { rows: None, sequences: Some(batch.on_device.view()) };
        let (shape, logits) = (model.logits_shape(count, 1.0), self.logits.view()?);
        Ok(draw(gpu, &self.rule, shape, logits, count, assignment, self.stops.view(), &mut self.sequences)?)
    }

    /// The length with which a sequence of `drawn` tokens ends by a stop string, where it does: the device knows none.
    fn stop_string(&mut self, place: usize, drawn: usize) -> Result<Option<usize>, PolicyError> {
        let (strings, capacity) = (&self.config.stop_strings, self.sequences.capacity());
        let Some(active) = self.active[place].as_mut().filter(|active| active.searched < drawn) else {
            return Ok(None);
        };
        if strings.is_empty() {
            return Ok(None);
        }
        let new = place * capacity + active.searched..place * capacity + drawn;
        for token in self.model.gpu.read(self.sequences.completions.part(new)?)? {
            active.searched += 1;
            if strings.completes(&mut active.tail, token)? {
                return Ok(Some(active.searched));
            }
        }
        Ok(None)
    }

    /// Reports the sequences that have ended.
    fn collect(&mut self, batch: &mut Batch, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let gpu = &self.model.gpu;
        let finished = gpu.read(self.sequences.finished.view())?;
        let lengths = gpu.read(self.sequences.lengths.view())?;
        let capacity = self.sequences.capacity();
        batch.longest = 0;
        for &place in &batch.places {
            let drawn = lengths[place] as usize;
            let matched = self.stop_string(place, drawn)?;
            let length = matched.unwrap_or(drawn);
            let Some(active) = &mut self.active[place] else { continue };
            active.length = length;
            if finished[place] == 0 && matched.is_none() {
                batch.longest = batch.longest.max(active.len());
                continue;
            }
            let before = active.before;
            let range = place * capacity + before..place * capacity + length;
            let logprobs = gpu.read(self.sequences.logprobs.part(range.clone())?)?;
            let ending = match logprobs.iter().position(|logprob| !logprob.is_finite()) {
                Some(position) => Ending::NotFinite(before + position),
                None => Ending::Finished(Completion {
                    token_ids: gpu.read(self.sequences.completions.part(range)?)?,
                    logprobs,
                    finish_reason: match finished[place] {
                        2 if matched.is_none() => FinishReason::Length,
                        _ => FinishReason::Stop,
                    },
                    context: Vec::new(),
                }),
            };
            ended.push(Ended { place, ending });
        }
        Ok(())
    }
}

impl<T: Compute> Generator for CudaGenerator<'_, T> {
    fn room(&self) -> Room {
        self.room
    }

    fn prompt_blocks(&self, tokens: usize) -> usize {
        of_prompt(tokens)
    }

    fn sequence_blocks(&self, prompt_tokens: usize) -> usize {
        of_completion(prompt_tokens, self.config.max_tokens_after_prompt())
    }

    fn prefill(&mut self, prompts: &[(usize, &Request)]) -> Result<(), PolicyError> {
        for (row, (number, request)) in prompts.iter().enumerate() {
            let len = request.prompt_ids.len();
            let blocks = self.take_blocks(of_prompt(len))?;
            self.prompts.resize_with(self.prompts.len().max(number + 1), || None);
            self.prompts[*number] = Some(Prompt { row, len, blocks });
        }
        let (model, gpu) = (self.model, &self.model.gpu);
        let tokens: Vec<u32> = prompts.iter().flat_map(|(_, request)| &request.prompt_ids).copied().collect();
        let segments = Segments::new(prompts.iter().map(|(_, request)| (request.prompt_ids.len(), None)))?;
        let plan = Plan::new(gpu, &segments, model.heads())?;
        let positions = segments.positions();
        let rotary: Vec<i32> = positions.iter().map(|p| *p as i32).collect();
        let rows: Vec<u32> =
            segments.list().iter().enumerate().flat_map(|(i, s)| std::iter::repeat_n(i as u32, s.len)).collect();
        let blocks = prompts.iter().map(|(number, _)| Ok(self.prompt(*number)?.blocks.as_slice()));
        let (table, max_blocks) = upload_table(gpu, &blocks.collect::<Result<Vec<_>, PolicyError>>()?)?;
        let (ids, rotary) = (gpu.upload(&tokens)?, gpu.upload(&rotary)?);
        let (rows, positions) = (gpu.upload(&rows)?, gpu.upload(&positions)?);
        let places = Places {
            sequences: rows.view(),
            positions: positions.view(),
            table: BlockTable { blocks: table.view(), max_blocks },
        };
        let mut attend = Attend::Prefill { plan: &plan, cache: &mut self.cache, places };
        let of = Pass { ids: ids.view(), positions: rotary.view(), adapters: Adapters::On };
        model.forward(&of, &mut attend, None, &mut self.workspace)?;
        let last: Vec<u32> = segments.list().iter().map(|s| (s.start + s.len - 1) as u32).collect();
        let last = gpu.upload(&last)?;
        let (width, head) = (model.config.hidden_size, &mut self.workspace.head);
        let plain = head.plain.sized(gpu, prompts.len() * width)?;
        embedding::gather(gpu, self.workspace.x.view()?, last.view(), width, plain)?;
        model.norm(head.plain.view()?, model.slabs.norm, head.normed.sized(gpu, prompts.len() * width)?)?;
        Ok(model.logits_of(head.normed.view()?, &mut self.prompt_logits)?)
    }

    fn start(&mut self, starts: &[Start<'_>], _ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        self.batch = None;
        for start in starts {
            let prompt_len = self.prompt(start.number)?.len;
            let own = self.take_blocks(self.sequence_blocks(prompt_len))?;
            self.active[start.place] = Some(Active {
                number: start.number,
                prompt_len,
                own,
                length: 1,
                before: 0,
                context: 0,
                is_parked: false,
                tail: Tail::default(),
                searched: 0,
            });
        }
        self.draw_first(starts)
    }

    fn advance(&mut self, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.batch()?,
        };
        for step in 0..POLL {
            self.step(&mut batch, step)?;
        }
        self.collect(&mut batch, ended)?;
        self.batch = Some(batch);
        Ok(())
    }

    fn park(&mut self, place: usize) -> Result<(), PolicyError> {
        self.batch = None;
        let missing = || PolicyError::Internal(format!("place {place} is to be parked, where no sequence is"));
        self.active[place].as_mut().ok_or_else(missing)?.is_parked = true;
        Ok(())
    }

    fn append(&mut self, turns: &[(usize, Vec<u32>)], _ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        self.batch = None;
        self.begin_turns(turns)
    }

    fn tokens_an_advance(&self) -> usize {
        POLL
    }

    fn tokens(&self, place: usize) -> Result<Vec<u32>, PolicyError> {
        let active = self.active[place].as_ref().ok_or_else(|| not_active(place))?;
        let start = place * self.sequences.capacity();
        Ok(self.model.gpu.read(self.sequences.completions.part(start..start + active.length)?)?)
    }

    fn release(&mut self, place: usize) {
        self.batch = None;
        if let Some(active) = self.active[place].take() {
            self.free.give_back(active.own);
        }
    }

    fn release_prompt(&mut self, number: usize) {
        if let Some(prompt) = self.prompts[number].take() {
            self.free.give_back(prompt.blocks);
        }
    }
}

/// Lists of blocks as the rows of a table.
pub(super) fn upload_table(gpu: &Gpu, lists: &[&[u32]]) -> candle_core::Result<(Buffer<u32>, usize)> {
    let width = lists.iter().map(|list| list.len()).max().unwrap_or(0).max(1);
    let mut table = vec![0; width * lists.len().max(1)];
    for (row, list) in table.chunks_exact_mut(width).zip(lists) {
        row[..list.len()].copy_from_slice(list);
    }
    Ok((gpu.upload(&table)?, width))
}
