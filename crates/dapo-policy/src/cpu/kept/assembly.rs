//! A packed batch put together from kept rows and from those that are computed.

use super::layout::Layout;
use super::rows::KeptRows;
use crate::batch::Inputs;
use crate::cpu::workspace::{Saved, sized};
use crate::error::PolicyError;
use dapo_kernels::attention::Segments;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

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

    /// What a layer's backward needs of all rows, in place of what `whole` held. `computed` is of the missing rows.
    pub(in crate::cpu) fn layer(&self, layer: usize, computed: Option<&Saved>, whole: &mut Saved) {
        let mut copies = Vec::new();
        let computed = computed.map(Saved::fields);
        for (field, (whole, width)) in whole.fields_mut().into_iter().zip(self.layout.widths()).enumerate() {
            let computed = computed.map_or(&[][..], |fields| fields[field]);
            self.plan(self.layout.field(layer, field), width, computed, whole, &mut copies);
        }
        copy(copies);
    }

    /// The last layer's output of all rows, in place of what `whole` held. `computed` is of the missing rows.
    pub(in crate::cpu) fn last(&self, computed: &[f32], whole: &mut Vec<f32>) {
        let mut copies = Vec::new();
        self.plan(self.layout.last(), self.layout.hidden(), computed, whole, &mut copies);
        copy(copies);
    }

    /// Lists the copies that make up one value of all rows.
    fn plan<'b>(
        &'b self,
        place: Range<usize>,
        width: usize,
        computed: &'b [f32],
        whole: &'b mut Vec<f32>,
        copies: &mut Vec<(&'b mut [f32], &'b [f32])>,
    ) {
        let rows: usize = self.parts.iter().map(|(len, _)| len).sum();
        let mut rest = sized(whole, rows * width);
        if width == 0 {
            return;
        }
        let mut add = |from: &'b [f32]| {
            let (to, behind) = std::mem::take(&mut rest).split_at_mut(from.len());
            copies.push((to, from));
            rest = behind;
        };
        for (len, source) in &self.parts {
            match source {
                Source::Kept(rows) => rows.runs(place.clone(), width, *len).for_each(&mut add),
                Source::Computed(start) => add(&computed[start * width..][..len * width]),
            }
        }
    }
}

fn copy(copies: Vec<(&mut [f32], &[f32])>) {
    copies.into_par_iter().with_min_len(16).for_each(|(to, from)| to.copy_from_slice(from));
}
