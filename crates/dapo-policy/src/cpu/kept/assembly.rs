//! A packed batch put together from kept rows and from those that are computed.

use super::layout::Layout;
use super::rows::KeptRows;
use crate::batch::Inputs;
use crate::cpu::workspace::Saved;
use crate::error::PolicyError;
use dapo_kernels::attention::Segments;
use dapo_kernels::buffer::sized;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows that a thread copies at a time.
const TOGETHER: usize = 32;

/// Where the rows of a batch's segments come from.
#[derive(Debug)]
pub(in crate::cpu) struct Assembly<'a> {
    layout: &'a Layout,
    /// Of each segment its length and source.
    parts: Vec<(usize, Source)>,
    /// What has to be computed: segments that are not kept, and the prompts that they continue.
    pub(in crate::cpu) missing: Missing,
}

/// Tokens to compute, as a packed batch of their own; there may be none.
#[derive(Debug, Default)]
pub(in crate::cpu) struct Missing {
    pub(in crate::cpu) token_ids: Vec<u32>,
    pub(in crate::cpu) segments: Segments,
}

#[derive(Debug)]
enum Source {
    Kept(Arc<KeptRows>),
    /// The first row among those that are computed.
    Computed(usize),
}

impl<'a> Assembly<'a> {
    /// `found` of each segment; `None` where all are to be computed anyhow.
    pub(super) fn new(
        layout: &'a Layout,
        inputs: &Inputs,
        found: Vec<Option<Arc<KeptRows>>>,
    ) -> Result<Option<Self>, PolicyError> {
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let segments = inputs.segments.list();
        let mut is_computed: Vec<bool> = found.iter().map(Option::is_none).collect();
        for (number, segment) in segments.iter().enumerate() {
            if let (None, Some(parent)) = (&found[number], segment.parent) {
                is_computed[parent] = true;
            }
        }
        let (mut token_ids, mut lengths, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = Vec::with_capacity(segments.len());
        for ((segment, kept), is_computed) in segments.iter().zip(found).zip(is_computed) {
            parts.push((segment.len, kept.map_or(Source::Computed(token_ids.len()), Source::Kept)));
            numbers.push(lengths.len());
            if is_computed {
                token_ids.extend_from_slice(&inputs.token_ids[segment.start..][..segment.len]);
                lengths.push((segment.len, segment.parent.map(|parent| numbers[parent])));
            }
        }
        Ok(Some(Self { layout, parts, missing: Missing { token_ids, segments: Segments::new(lengths)? } }))
    }

    /// What a layer's backward needs of all rows, in place of what `whole` held. `computed` is of the missing rows. What
    /// only this batch has of the layer is given up.
    pub(in crate::cpu) fn layer(&mut self, layer: usize, computed: Option<&Saved>, whole: &mut Saved) {
        let computed = computed.map_or([&[][..]; 10], Saved::fields);
        self.copy(layer, computed, whole.fields_mut(), self.layout.widths());
        self.release(layer);
    }

    /// The last layer's output of all rows, likewise.
    pub(in crate::cpu) fn last(&mut self, computed: &[f32], whole: &mut Vec<f32>) {
        let layer = self.layout.layers();
        self.copy(layer, [computed], [whole], [self.layout.hidden()]);
        self.release(layer);
    }

    fn copy<const N: usize>(&self, layer: usize, computed: [&[f32]; N], whole: [&mut Vec<f32>; N], widths: [usize; N]) {
        let total: usize = self.parts.iter().map(|(len, _)| len).sum();
        let mut kinds = widths.iter();
        let mut rest = whole.map(|whole| sized(whole, total * kinds.next().copied().unwrap_or_default()));
        let mut pieces = Vec::new();
        for (len, source) in &self.parts {
            for first in (0..*len).step_by(TOGETHER) {
                let rows = first..(first + TOGETHER).min(*len);
                let mut kinds = widths.iter();
                let to = rest.each_mut().map(|rest| {
                    let width = kinds.next().copied().unwrap_or_default();
                    rest.split_off_mut(..rows.len() * width).unwrap_or_default()
                });
                pieces.push((source, rows, to));
            }
        }
        pieces.into_par_iter().for_each(|(source, rows, mut to): (&Source, Range<usize>, _)| match source {
            Source::Kept(kept) => kept.read(layer, rows, &mut to, widths),
            Source::Computed(start) => {
                for ((to, computed), width) in to.into_iter().zip(computed).zip(widths) {
                    to.copy_from_slice(&computed[(start + rows.start) * width..][..rows.len() * width]);
                }
            }
        });
    }

    fn release(&mut self, layer: usize) {
        for (_, source) in &mut self.parts {
            if let Source::Kept(kept) = source
                && let Some(kept) = Arc::get_mut(kept)
            {
                kept.release(layer);
            }
        }
    }

    /// Segments whose rows of a layer were given up.
    #[cfg(test)]
    pub(super) fn without_memory(&self, layer: usize) -> usize {
        let is_empty =
            |source: &Source| matches!(source, Source::Kept(kept) if super::rows::tests::memory(kept, layer) == 0);
        self.parts.iter().filter(|(_, source)| is_empty(source)).count()
    }
}
