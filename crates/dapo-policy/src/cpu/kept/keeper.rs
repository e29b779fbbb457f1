//! Keeping the rows of sequences as they are generated.

use super::layout::Layout;
use super::rows::KeptRows;
use super::store::KeptStore;
use crate::cpu::workspace::Saved;
use crate::generator::Start;
use crate::request::Request;
use dapo_kernels::threads::least_share;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a batch whose layers are copied all at once, at its end: threads then meet once, not in every layer.
const MOST_STAGED: usize = 64;

/// Keeps rows within a budget. Where it is used up, the completion that was drawn last gives up its own, so that what
/// is kept is whole completions, of the earliest draws.
#[derive(Debug)]
pub(in crate::cpu) struct Keeper<'a> {
    store: &'a KeptStore,
    /// Blocks at most.
    limit: usize,
}

impl<'a> Keeper<'a> {
    /// `None` where the budget holds no block.
    pub(in crate::cpu) fn new(store: &'a KeptStore, bytes: usize) -> Option<Self> {
        let limit = bytes / store.layout.block_bytes();
        (limit > 0).then_some(Self { store, limit })
    }

    /// Room for the rows of prompts that are not kept yet, as far as there is some.
    pub(in crate::cpu) fn prompts(&self, prompts: &[(usize, &Request)]) -> Vec<Option<KeptRows>> {
        let room = |(_, request): &(usize, &Request)| {
            if self.store.has_prompt(&request.prompt_ids) {
                return None;
            }
            let mut rows = KeptRows::new(request.prompt_ids.as_slice().into(), (0, 0), &self.store.layout);
            rows.reserve(request.prompt_ids.len(), &self.store.budget, self.limit).then_some(rows)
        };
        let mut kept: Vec<Option<KeptRows>> = prompts.iter().map(room).collect();
        KeptRows::allocate(kept.iter_mut().flatten(), &self.store.layout);
        kept
    }

    /// No rows yet of a completion that begins.
    pub(in crate::cpu) fn completion(&self, start: &Start<'_>) -> KeptRows {
        let request = start.request;
        let id = (request.draw, request.first_sample + start.sample);
        KeptRows::new(request.prompt_ids.as_slice().into(), id, &self.store.layout)
    }

    pub(in crate::cpu) fn put_prompts(&self, prompts: Vec<Option<KeptRows>>) {
        prompts.into_iter().flatten().for_each(|rows| self.store.put_prompt(rows));
    }

    pub(in crate::cpu) fn put_completion(&self, rows: KeptRows) {
        self.store.put_completion(rows);
    }

    /// Makes room for `counts` more tokens of each sequence. Where there is too little, sequences lose what is kept of them,
    /// the one that was drawn last first.
    pub(in crate::cpu) fn make_room<'b>(
        &self,
        sequences: impl Iterator<Item = &'b mut Option<KeptRows>>,
        counts: impl Fn(usize) -> usize,
    ) {
        let mut sequences: Vec<(usize, &mut Option<KeptRows>)> = sequences.enumerate().collect();
        sequences.retain(|(_, rows)| rows.is_some());
        sequences.sort_by_key(|(_, rows)| rows.as_ref().map(|rows| rows.id));
        let mut first = 0;
        while first < sequences.len() {
            let (number, rows) = &mut sequences[first];
            let count = counts(*number);
            if rows.as_mut().is_none_or(|rows| rows.reserve(count, &self.store.budget, self.limit)) {
                first += 1;
            } else if let Some((_, last)) = sequences.pop() {
                *last = None;
            }
        }
        let kept = sequences.into_iter().filter_map(|(_, rows)| rows.as_mut());
        KeptRows::allocate(kept, &self.store.layout);
    }

    /// Keeps rows of a batch of so many; of each sequence those rows. `staged` is memory for a small batch.
    pub(in crate::cpu) fn batch<'b>(
        &self,
        list: Vec<(&'b mut KeptRows, Range<usize>)>,
        rows: usize,
        staged: &'b mut Vec<Saved>,
    ) -> Keeping<'b>
    where
        'a: 'b,
    {
        let layout = &self.store.layout;
        let is_staged = rows <= MOST_STAGED && !list.is_empty();
        staged.resize_with(if is_staged { layout.layers() } else { 0 }, Saved::default);
        Keeping { layout, list, staged }
    }
}

/// A batch in the course of a forward whose rows are kept.
pub(in crate::cpu) struct Keeping<'a> {
    layout: &'a Layout,
    list: Vec<(&'a mut KeptRows, Range<usize>)>,
    /// By layer; none where each layer's rows are copied at once.
    staged: &'a mut Vec<Saved>,
}

impl Keeping<'_> {
    /// Takes what a layer has computed, of which nothing is needed any more.
    pub(in crate::cpu) fn layer(&mut self, layer: usize, saved: &mut Saved) {
        let layout = self.layout;
        if let Some(staged) = self.staged.get_mut(layer) {
            std::mem::swap(staged, saved);
        } else {
            self.list
                .par_iter_mut()
                .with_min_len(least_share())
                .for_each(|(kept, rows)| kept.write(layout, layer, saved, rows.clone()));
        }
    }

    /// Takes the last layer's output.
    pub(in crate::cpu) fn complete(&mut self, x: &[f32], token_ids: &[u32]) {
        let Self { layout, list, staged } = self;
        list.par_iter_mut().with_min_len(least_share()).for_each(|(kept, rows)| {
            for (layer, saved) in staged.iter().enumerate() {
                kept.write(layout, layer, saved, rows.clone());
            }
            kept.complete(layout, x, token_ids, rows.clone());
        });
    }
}
