//! Sampling completions on the device: prompts are computed once and their blocks of the cache shared, tokens are drawn without
//! asking the host, and the batch is refilled as completions end.

use super::array::Array;
use super::blocks::{BLOCK_SIZE, FreeBlocks, of_completion, of_prompt};
use super::cache::{Cache, Places};
use super::compute::Compute;
use super::forward::{Attend, Pass};
use super::model::Model;
use super::workspace::Workspace;
use crate::backend::Adapters;
use crate::error::PolicyError;
use crate::request::{Completion, FinishReason, GenerationConfig, Request};
use dapo_kernels::attention::Segments;
use dapo_kernels::cuda::attention::{BlockTable, CacheShape, Plan, copy_blocks};
use dapo_kernels::cuda::decoding::StepInputs;
use dapo_kernels::cuda::embedding;
use dapo_kernels::cuda::sampling::{Assignment, SamplingRule, Sequences, draw};
use dapo_kernels::cuda::{Buffer, Gpu};
use std::collections::VecDeque;

/// Most completions in one decoding batch.
const MAX_BATCH: usize = 512;
/// Prompt tokens computed in one packed batch.
const PREFILL_TOKENS: usize = 8192;
/// Tokens drawn between two looks at which completions have ended.
const POLL: usize = 8;

/// A computed prompt.
struct Prompt {
    request: usize,
    next_sample: usize,
    /// Its row among the logits of its batch.
    row: usize,
    blocks: Vec<u32>,
    /// Completions that read its blocks or will.
    users: usize,
}

/// A completion that is growing.
struct Growing {
    /// Number of its prompt.
    prompt: usize,
    sample: usize,
    own: Vec<u32>,
    /// Tokens drawn when the host last looked.
    length: usize,
}

/// The rows of the decoding batch, as the device needs them.
struct Live {
    slots: Vec<usize>,
    on_device: Buffer<i32>,
    table: Buffer<u32>,
    max_blocks: usize,
    inputs: StepInputs,
    /// Longest sequence when the host last looked.
    longest: usize,
}

/// The work of one call.
pub(super) struct Generator<'a, T> {
    model: &'a Model<T>,
    requests: &'a [Request],
    config: &'a GenerationConfig,
    rule: SamplingRule,
    stops: Buffer<u32>,
    waiting: VecDeque<usize>,
    prompts: Vec<Prompt>,
    /// Computed prompts, by number, with completions that have not begun.
    ready: VecDeque<usize>,
    slots: Vec<Option<Growing>>,
    sequences: Sequences,
    free: FreeBlocks,
    cache: Cache<T>,
    workspace: Workspace<T>,
    /// Of the last prompts.
    prompt_logits: Array<f32>,
    logits: Array<f32>,
    finished: Vec<Vec<Option<Completion>>>,
}

impl<T: Compute> Model<T> {
    pub(super) fn complete(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
    ) -> Result<Vec<Vec<Completion>>, PolicyError> {
        if requests.iter().all(|request| request.samples == 0) {
            return Ok(vec![Vec::new(); requests.len()]);
        }
        let mut generator = Generator::new(self, requests, config)?;
        generator.run()?;
        self.put_workspace(generator.workspace);
        Ok(generator.finished.into_iter().map(|group| group.into_iter().flatten().collect()).collect())
    }
}

impl<'a, T: Compute> Generator<'a, T> {
    fn new(model: &'a Model<T>, requests: &'a [Request], config: &'a GenerationConfig) -> Result<Self, PolicyError> {
        let gpu = &model.gpu;
        let blocks = model.plan_blocks(requests, config)?;
        let shape = CacheShape { heads: model.heads(), blocks, block_size: BLOCK_SIZE };
        let batch = MAX_BATCH.min(requests.iter().map(|r| r.samples).sum());
        let sampling = &config.sampling;
        // Arrays on a device are not empty; no token has this number.
        let stops = if config.stop.is_empty() { vec![u32::MAX] } else { config.stop.ids().to_vec() };
        Ok(Self {
            model,
            requests,
            config,
            rule: SamplingRule {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                seed: config.seed,
                purpose: config.purpose as u64,
            },
            stops: gpu.upload(&stops)?,
            waiting: (0..requests.len()).filter(|i| requests[*i].samples > 0).collect(),
            prompts: Vec::new(),
            ready: VecDeque::new(),
            slots: (0..batch).map(|_| None).collect(),
            sequences: Sequences::new(gpu, batch, config.max_new_tokens)?,
            free: FreeBlocks::new(blocks),
            cache: Cache::new(gpu, shape, model.config.num_hidden_layers)?,
            workspace: model.take_workspace(),
            prompt_logits: Array::default(),
            logits: Array::default(),
            finished: requests.iter().map(|r| vec![None; r.samples]).collect(),
        })
    }

    fn run(&mut self) -> Result<(), PolicyError> {
        let mut live = None;
        loop {
            let changed = self.admit()?;
            let mut rows = match live.take() {
                Some(rows) if !changed => rows,
                _ => self.live()?,
            };
            if rows.slots.is_empty() {
                return Ok(());
            }
            for step in 0..POLL {
                self.step(&mut rows, step)?;
            }
            if !self.collect(&mut rows)? {
                live = Some(rows);
            }
        }
    }

    fn prompt_len(&self, prompt: usize) -> usize {
        self.requests[self.prompts[prompt].request].prompt_ids.len()
    }

    /// Fills the free places of the batch; says whether it changed.
    fn admit(&mut self) -> Result<bool, PolicyError> {
        let mut changed = false;
        while !self.ready.is_empty() || self.prefill()? {
            let mut begun = Vec::new();
            while let Some(slot) = self.begin() {
                begun.push(slot);
            }
            if begun.is_empty() {
                break;
            }
            changed = true;
            self.draw_first(&begun)?;
        }
        Ok(changed)
    }

    /// Gives the next completion a place and blocks, where there are any.
    fn begin(&mut self) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let number = *self.ready.front()?;
        let own = self.free.take(of_completion(self.prompt_len(number), self.config.max_new_tokens))?;
        let prompt = &mut self.prompts[number];
        self.slots[slot] = Some(Growing { prompt: number, sample: prompt.next_sample, own, length: 1 });
        prompt.next_sample += 1;
        if prompt.next_sample == self.requests[prompt.request].samples {
            self.ready.pop_front();
        }
        Some(slot)
    }

    /// Computes the next waiting prompts, end to end in one batch; says whether there were any and room for them.
    fn prefill(&mut self) -> Result<bool, PolicyError> {
        let places = self.slots.iter().filter(|slot| slot.is_none()).count();
        let (mut chosen, mut tokens, mut samples, mut reserved) = (Vec::new(), Vec::new(), 0, 0);
        while let Some(&request) = self.waiting.front() {
            let ids = &self.requests[request].prompt_ids;
            let own = of_completion(ids.len(), self.config.max_new_tokens);
            // Each must be able to begin at least one completion, or none might ever end.
            let fits = self.free.count() >= reserved + of_prompt(ids.len()) + own;
            let full = !chosen.is_empty() && tokens.len() + ids.len() > PREFILL_TOKENS;
            if samples >= places || !fits || full {
                break;
            }
            let Some(blocks) = self.free.take(of_prompt(ids.len())) else { break };
            self.waiting.pop_front();
            reserved += own;
            samples += self.requests[request].samples;
            let users = self.requests[request].samples;
            self.prompts.push(Prompt { request, next_sample: 0, row: chosen.len(), blocks, users });
            tokens.extend_from_slice(ids);
            chosen.push(self.prompts.len() - 1);
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        self.compute_prompts(&chosen, &tokens)?;
        self.ready.extend(chosen);
        Ok(true)
    }

    fn compute_prompts(&mut self, chosen: &[usize], tokens: &[u32]) -> Result<(), PolicyError> {
        let (model, gpu) = (self.model, &self.model.gpu);
        let segments = Segments::new(chosen.iter().map(|number| (self.prompt_len(*number), None)))?;
        let plan = Plan::new(gpu, &segments, model.heads())?;
        let positions = segments.positions();
        let rotary: Vec<i32> = positions.iter().map(|p| *p as i32).collect();
        let rows: Vec<u32> =
            segments.list().iter().enumerate().flat_map(|(i, s)| std::iter::repeat_n(i as u32, s.len)).collect();
        let blocks: Vec<&[u32]> = chosen.iter().map(|number| self.prompts[*number].blocks.as_slice()).collect();
        let (table, max_blocks) = upload_table(gpu, &blocks)?;
        let (ids, rotary) = (gpu.upload(tokens)?, gpu.upload(&rotary)?);
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
        let plain = head.plain.sized(gpu, chosen.len() * width)?;
        embedding::gather(gpu, self.workspace.x.view()?, last.view(), width, plain)?;
        model.norm(head.plain.view()?, model.slabs.norm, head.normed.sized(gpu, chosen.len() * width)?)?;
        Ok(model.logits_of(head.normed.view()?, &mut self.prompt_logits)?)
    }

    /// Draws the first tokens of completions from their prompts' logits, and copies what they need of a prompt's last block.
    fn draw_first(&mut self, begun: &[usize]) -> Result<(), PolicyError> {
        let (model, gpu) = (self.model, &self.model.gpu);
        let of = &mut self.sequences;
        let (mut draws, mut samples) = (gpu.read(of.draws.view())?, gpu.read(of.samples.view())?);
        let (mut limits, mut positions) = (gpu.read(of.limits.view())?, gpu.read(of.positions.view())?);
        let (mut lengths, mut finished) = (gpu.read(of.lengths.view())?, gpu.read(of.finished.view())?);
        let (mut rows, mut copies) = (Vec::new(), Vec::new());
        for slot in begun {
            let Some(growing) = &self.slots[*slot] else { continue };
            let prompt = &self.prompts[growing.prompt];
            let request = &self.requests[prompt.request];
            let len = request.prompt_ids.len();
            draws[*slot] = request.draw;
            samples[*slot] = (request.first_sample + growing.sample) as u64;
            limits[*slot] = self.config.max_new_tokens as i32;
            positions[*slot] = len as i32 - 1;
            (lengths[*slot], finished[*slot]) = (0, 0);
            rows.push(prompt.row as i32);
            if !len.is_multiple_of(BLOCK_SIZE) {
                copies.extend([prompt.blocks[len / BLOCK_SIZE], growing.own[0], (len % BLOCK_SIZE) as u32]);
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
        let numbers: Vec<i32> = begun.iter().map(|slot| *slot as i32).collect();
        let (rows, numbers) = (gpu.upload(&rows)?, gpu.upload(&numbers)?);
        let logits = self.prompt_logits.view()?;
        let shape = model.logits_shape(logits.len() / model.logits_stride(), 1.0);
        let assignment = Assignment { rows: Some(rows.view()), sequences: Some(numbers.view()) };
        Ok(draw(gpu, &self.rule, shape, logits, begun.len(), assignment, self.stops.view(), of)?)
    }

    /// The batch as it is now.
    fn live(&self) -> Result<Live, PolicyError> {
        let gpu = &self.model.gpu;
        let slots: Vec<usize> = (0..self.slots.len()).filter(|slot| self.slots[*slot].is_some()).collect();
        let growing = || self.slots.iter().flatten();
        let blocks: Vec<Vec<u32>> = growing()
            .map(|g| {
                let whole = self.prompt_len(g.prompt) / BLOCK_SIZE;
                [&self.prompts[g.prompt].blocks[..whole], g.own.as_slice()].concat()
            })
            .collect();
        let blocks: Vec<&[u32]> = blocks.iter().map(Vec::as_slice).collect();
        let (table, max_blocks) = upload_table(gpu, &blocks)?;
        let numbers: Vec<i32> = slots.iter().map(|slot| *slot as i32).collect();
        let on_device = gpu.upload(if numbers.is_empty() { &[0][..] } else { numbers.as_slice() })?;
        let inputs = StepInputs::new(gpu, slots.len().max(1))?;
        let longest = growing().map(|g| self.prompt_len(g.prompt) + g.length).max().unwrap_or(0);
        Ok(Live { slots, on_device, table, max_blocks, inputs, longest })
    }

    /// One more token for every growing completion; `step` tokens have been drawn since the host last looked.
    fn step(&mut self, rows: &mut Live, step: usize) -> Result<(), PolicyError> {
        let (model, gpu, count) = (self.model, &self.model.gpu, rows.slots.len());
        rows.inputs.gather(gpu, rows.on_device.view(), &self.sequences)?;
        let inputs = &rows.inputs;
        let places = Places {
            sequences: inputs.cache_rows.view(),
            positions: inputs.cache_positions.view(),
            table: BlockTable { blocks: rows.table.view(), max_blocks: rows.max_blocks },
        };
        let max_len = (rows.longest + step).min(rows.max_blocks * BLOCK_SIZE);
        let mut attend = Attend::Decode { cache: &mut self.cache, places, lengths: inputs.lengths.view(), max_len };
        let (ids, positions) = (inputs.tokens.view(), inputs.rotary_positions.view());
        let of = Pass { ids, positions, adapters: Adapters::On };
        model.forward(&of, &mut attend, None, &mut self.workspace)?;
        let (width, head) = (model.config.hidden_size, &mut self.workspace.head);
        model.norm(self.workspace.x.view()?, model.slabs.norm, head.normed.sized(gpu, count * width)?)?;
        model.logits_of(head.normed.view()?, &mut self.logits)?;
        let assignment = Assignment { rows: None, sequences: Some(rows.on_device.view()) };
        let (shape, logits) = (model.logits_shape(count, 1.0), self.logits.view()?);
        Ok(draw(gpu, &self.rule, shape, logits, count, assignment, self.stops.view(), &mut self.sequences)?)
    }

    /// Takes out the completions that have ended; says whether there were any.
    fn collect(&mut self, rows: &mut Live) -> Result<bool, PolicyError> {
        let gpu = &self.model.gpu;
        let finished = gpu.read(self.sequences.finished.view())?;
        let lengths = gpu.read(self.sequences.lengths.view())?;
        let capacity = self.sequences.capacity();
        let mut changed = false;
        rows.longest = 0;
        for slot in &rows.slots {
            let length = lengths[*slot] as usize;
            if finished[*slot] == 0 {
                if let Some(growing) = &mut self.slots[*slot] {
                    growing.length = length;
                    let prompt = self.prompts[growing.prompt].request;
                    rows.longest = rows.longest.max(self.requests[prompt].prompt_ids.len() + length);
                }
                continue;
            }
            let Some(growing) = self.slots[*slot].take() else { continue };
            changed = true;
            let range = slot * capacity..slot * capacity + length;
            let completion = Completion {
                token_ids: gpu.read(self.sequences.completions.part(range.clone())?)?,
                logprobs: gpu.read(self.sequences.logprobs.part(range)?)?,
                finish_reason: if finished[*slot] == 1 { FinishReason::Stop } else { FinishReason::Length },
            };
            self.free.give_back(growing.own);
            let prompt = &mut self.prompts[growing.prompt];
            if let Some(position) = completion.logprobs.iter().position(|logprob| !logprob.is_finite()) {
                let request = &self.requests[prompt.request];
                let sample = request.first_sample + growing.sample;
                return Err(PolicyError::Logits { draw: request.draw, sample, position });
            }
            prompt.users -= 1;
            if prompt.users == 0 {
                self.free.give_back(std::mem::take(&mut prompt.blocks));
            }
            self.finished[prompt.request][growing.sample] = Some(completion);
        }
        Ok(changed)
    }
}

/// Lists of blocks as the rows of a table.
fn upload_table(gpu: &Gpu, lists: &[&[u32]]) -> candle_core::Result<(Buffer<u32>, usize)> {
    let width = lists.iter().map(|list| list.len()).max().unwrap_or(0).max(1);
    let mut table = vec![0; width * lists.len().max(1)];
    for (row, list) in table.chunks_exact_mut(width).zip(lists) {
        row[..list.len()].copy_from_slice(list);
    }
    Ok((gpu.upload(&table)?, width))
}
