//! Memory of the forwards of generation, and the forwards themselves.

use super::active::{Active, Drawn};
use super::forward::{Attend, Context};
use super::kept::{Keeper, Keeping};
use super::model::Model;
use super::workspace::{Saved, Scratch};
use crate::backend::Adapters;
use crate::error::PolicyError;
use dapo_kernels::RotaryTable;
use dapo_kernels::attention::KvCache;

/// Memory of a forward, kept from token to token.
pub(super) struct Buffers {
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    /// Of each sequence the number of its rows.
    pub(super) counts: Vec<usize>,
    /// Of each sequence the number of its first row of the logits.
    pub(super) starts: Vec<usize>,
    pub(super) table: RotaryTable,
    pub(super) x: Vec<f32>,
    pub(super) saved: Saved,
    pub(super) scratch: Scratch,
    normed: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// What layers have computed of a small batch, until it is kept.
    pub(super) staged: Vec<Saved>,
    /// What the draws of each sequence led to, and the number of logits' rows that they used.
    pub(super) drawn: Vec<Result<(Drawn, usize), PolicyError>>,
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

    /// All layers over `counts` tokens of each sequence from number `first` on, which `caches` hold by layer.
    pub(super) fn layers(
        &mut self,
        model: &Model,
        active: &mut [Active],
        caches: &mut [Vec<KvCache>],
        first: usize,
        keeper: Option<&Keeper<'_>>,
    ) -> Result<(), PolicyError> {
        self.table.set(&self.positions);
        model.embed(&self.tokens, &mut self.x)?;
        let mut staged = std::mem::take(&mut self.staged);
        let mut keeping = keep(keeper, active, &mut staged, first, &self.counts);
        let counts = std::mem::take(&mut self.counts);
        let is_plain = counts.iter().all(|count| *count == 1);
        for (layer, caches) in caches.iter_mut().enumerate() {
            let caches = &mut caches[first..];
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

    /// The logits of the rows in `x`.
    pub(super) fn logits(&mut self, model: &Model) -> Result<(), PolicyError> {
        model.final_norm(&self.x, &mut self.normed)?;
        model.with_head(1.0, |head| {
            head.logits(&self.normed, &mut self.logits);
            Ok(())
        })
    }
}

/// Keeps the batch that is computed next: `counts` rows of each sequence from number `first` on.
fn keep<'b>(
    keeper: Option<&Keeper<'b>>,
    active: &'b mut [Active],
    staged: &'b mut Vec<Saved>,
    first: usize,
    counts: &[usize],
) -> Option<Keeping<'b>> {
    let keeper = keeper?;
    keeper.make_room(active.iter_mut().map(|active| &mut active.kept), |number| {
        number.checked_sub(first).map_or(0, |number| counts[number])
    });
    let mut start = 0;
    let list = active[first..].iter_mut().enumerate().filter_map(|(number, active)| {
        let rows = start..start + counts[number];
        start = rows.end;
        Some((active.kept.as_mut()?, rows))
    });
    let list = list.collect();
    Some(keeper.batch(list, start, staged))
}
