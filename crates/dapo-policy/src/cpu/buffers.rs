//! Memory of the forwards of generation, and the forwards themselves.

use super::active::{Active, Drawn};
use super::forward::{Attend, Context};
use super::kept::{Keeper, Keeping};
use super::model::Model;
use super::workspace::{Saved, Scratch};
use crate::backend::Adapters;
use crate::error::PolicyError;
use crate::generator::Ended;
use crate::request::GenerationConfig;
use dapo_kernels::RotaryTable;
use dapo_kernels::attention::KvCache;
use dapo_kernels::threads::least_share;
use rayon::prelude::*;

/// Memory of a forward, kept from token to token.
pub(super) struct Buffers {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    /// Of each sequence the number of its rows.
    pub(super) counts: Vec<usize>,
    /// Of each sequence the number of its first row of the logits.
    starts: Vec<usize>,
    pub(super) table: RotaryTable,
    pub(super) x: Vec<f32>,
    pub(super) saved: Saved,
    pub(super) scratch: Scratch,
    normed: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// What layers have computed of a small batch, until it is kept.
    pub(super) staged: Vec<Saved>,
    /// What the draws of each sequence led to, and the number of logits' rows that they used.
    drawn: Vec<Result<(Drawn, usize), PolicyError>>,
}

impl Buffers {
    /// With room for one row of each of `sequences` sequences.
    pub(super) fn new(model: &Model, sequences: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(sequences),
            positions: Vec::with_capacity(sequences),
            counts: Vec::with_capacity(sequences),
            starts: Vec::with_capacity(sequences),
            table: model.rotary_table(&[]),
            x: Vec::new(),
            saved: Saved::default(),
            scratch: Scratch::default(),
            normed: Vec::new(),
            logits: Vec::new(),
            staged: Vec::new(),
            drawn: Vec::with_capacity(sequences),
        }
    }

    /// Forgets the tokens of the last forward.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.counts.clear();
    }

    /// All layers over `counts` tokens of each of these sequences, with their caches by layer.
    pub(super) fn layers<'c>(
        &mut self,
        model: &Model,
        active: &mut [Active],
        caches: impl Iterator<Item = &'c mut [KvCache]>,
        keeper: Option<&Keeper<'_>>,
    ) -> Result<(), PolicyError> {
        self.table.set(&self.positions);
        model.embed(&self.tokens, &mut self.x)?;
        let mut staged = std::mem::take(&mut self.staged);
        let mut keeping = keeper.map(|keeper| keep(keeper, active, &mut staged, &self.counts));
        let counts = std::mem::take(&mut self.counts);
        let is_plain = counts.iter().all(|count| *count == 1);
        for (layer, caches) in caches.enumerate() {
            let mut attend = if is_plain { Attend::Decode(caches) } else { Attend::Extend(caches, &counts) };
            self.layer(model, layer, &mut attend, keeping.as_mut())?;
        }
        if let Some(mut keeping) = keeping {
            keeping.complete(&self.x, &self.tokens);
        }
        (self.staged, self.counts) = (staged, counts);
        Ok(())
    }

    /// One layer, from `x` to `x`.
    pub(super) fn layer(
        &mut self,
        model: &Model,
        layer: usize,
        attend: &mut Attend<'_>,
        keeping: Option<&mut Keeping<'_>>,
    ) -> Result<(), PolicyError> {
        let context = Context { table: &self.table, adapters: Adapters::On };
        std::mem::swap(&mut self.saved.input, &mut self.x);
        model.layer_forward(layer, context, attend, &mut self.saved, &mut self.scratch, Some(&mut self.x))?;
        if let Some(keeping) = keeping {
            keeping.layer(layer, &mut self.saved);
        }
        Ok(())
    }

    /// Leaves of the layers' output one row of each sequence.
    pub(super) fn keep_rows(&mut self, rows: &[usize], width: usize) {
        for (to, from) in rows.iter().enumerate() {
            self.x.copy_within(from * width..(from + 1) * width, to * width);
        }
        self.x.truncate(rows.len() * width);
        self.counts.fill(1);
    }

    /// Computes the last token of every sequence and those that are guessed, and draws those that follow. Room is made for
    /// what is kept.
    pub(super) fn advance<'c>(
        &mut self,
        model: &Model,
        config: &GenerationConfig,
        active: &mut [Active],
        caches: impl Iterator<Item = &'c mut [KvCache]>,
        keeper: Option<&Keeper<'_>>,
    ) -> Result<(), PolicyError> {
        self.clear();
        for active in active.iter() {
            let before = self.tokens.len();
            for (token, position) in active.next_tokens() {
                self.tokens.push(token);
                self.positions.push(position);
            }
            self.counts.push(self.tokens.len() - before);
        }
        self.layers(model, active, caches, keeper)?;
        self.draw(model, config, active)
    }

    /// Draws tokens from the logits of the layers' output, which has the rows of each sequence.
    pub(super) fn draw(
        &mut self,
        model: &Model,
        config: &GenerationConfig,
        active: &mut [Active],
    ) -> Result<(), PolicyError> {
        self.logits(model)?;
        let vocab = model.spec.config.vocab_size;
        let Self { logits, counts, starts, drawn, .. } = self;
        let stride = logits.len() / counts.iter().sum::<usize>();
        starts.clear();
        starts.extend(counts.iter().scan(0, |start, count| Some(std::mem::replace(start, *start + count))));
        let of = |(active, (start, count)): (&mut Active, (&usize, &usize))| {
            let rows = logits[start * stride..(start + count) * stride].chunks_exact(stride);
            active.draw_rows(rows.map(|row| &row[..vocab]), config)
        };
        active
            .par_iter_mut()
            .zip(starts.par_iter().zip(counts.par_iter()))
            .with_min_len(least_share())
            .map(of)
            .collect_into_vec(drawn);
        Ok(())
    }

    /// Takes back the rows of guesses that were not drawn, and reports the sequences whose turn has ended.
    pub(super) fn settle<'c>(
        &mut self,
        active: &mut [Active],
        caches: impl Iterator<Item = &'c mut [KvCache]>,
        ended: &mut Vec<Ended>,
    ) -> Result<(), PolicyError> {
        let (counts, starts) = (&self.counts, &mut self.starts);
        // Of each sequence, as many rows are taken back.
        starts.clear();
        for ((active, count), drawn) in active.iter_mut().zip(counts).zip(self.drawn.drain(..)) {
            let (drawn, used) = drawn?;
            let unused = count - used;
            starts.push(unused);
            if let (Some(kept), 1..) = (&mut active.kept, unused) {
                kept.take_back(unused);
            }
            ended.extend(active.ended(&drawn));
        }
        if starts.iter().any(|unused| *unused > 0) {
            for caches in caches {
                for (cache, unused) in caches.iter_mut().zip(starts.iter()) {
                    cache.truncate(cache.len() - unused);
                }
            }
        }
        Ok(())
    }

    /// The logits of the rows in `x`.
    pub(super) fn logits(&mut self, model: &Model) -> Result<(), PolicyError> {
        model.final_norm(&self.x, &mut self.normed)?;
        model.with_head(1.0, |head| {
            head.logits(&self.normed, &mut self.logits);
            Ok(())
        })
    }
}

/// Keeps the batch that is computed next: `counts` rows of each sequence, for which room was made.
fn keep<'b>(
    keeper: &Keeper<'b>,
    active: &'b mut [Active],
    staged: &'b mut Vec<Saved>,
    counts: &[usize],
) -> Keeping<'b> {
    let mut start = 0;
    let list = active.iter_mut().enumerate().filter_map(|(number, active)| {
        let rows = start..start + counts[number];
        start = rows.end;
        Some((active.kept.as_mut()?, rows))
    });
    let list = list.collect();
    keeper.batch(list, start, staged)
}
