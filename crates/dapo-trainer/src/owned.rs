//! AdamW's moments of the values that one rank owns (ZeRO-1).

use crate::error::TrainerError;
use crate::team::Team;
use dapo_dist::{Blocks, DistError, World};
use dapo_kernels::adamw::{AdamWStep, adamw};
use dapo_kernels::values;
use dapo_policy::Decoder;
use std::ops::Range;

/// First and second moments of the blocks that a rank owns of one vector: the parameters of a decoder in their order, and a
/// value head's after them.
#[derive(Debug)]
pub(crate) struct OwnedMoments {
    blocks: Blocks,
    own: Range<usize>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Those of all ranks, from [`gather`](Self::gather) to the next update.
    whole: Option<(Vec<f32>, Vec<f32>)>,
}

impl OwnedMoments {
    pub(crate) fn zeros(parameters: usize, of_head: usize, team: &Team) -> Self {
        let blocks = Blocks::new(parameters + of_head);
        let own = blocks.owned(team.world().rank(), team.world().size());
        let zeros = || vec![0.0; own.len()];
        Self { blocks, m: zeros(), v: zeros(), own, whole: None }
    }

    pub(crate) fn bytes(&self) -> u64 {
        8 * self.own.len() as u64
    }

    /// The moments of some values of the vector.
    ///
    /// # Errors
    /// When another rank holds them.
    pub(crate) fn read(&self, of: Range<usize>) -> Result<(Vec<f32>, Vec<f32>), TrainerError> {
        if let Some((m, v)) = &self.whole {
            return Ok((m[of.clone()].to_vec(), v[of].to_vec()));
        }
        if of.start < self.own.start || of.end > self.own.end {
            let expected = "all of them: gather_moments brings them to one rank";
            return Err(TrainerError::setting("moments", &"those of one of several ranks", expected));
        }
        let of = of.start - self.own.start..of.end - self.own.start;
        Ok((self.m[of.clone()].to_vec(), self.v[of].to_vec()))
    }

    /// Takes the moments of the values from `start` on, as far as this rank owns them.
    pub(crate) fn write(&mut self, start: usize, m: &[f32], v: &[f32]) {
        self.whole = None;
        let part = self.part(&(start..start + m.len()));
        if part.is_empty() {
            return;
        }
        let (own, of) = (part.start - self.own.start..part.end - self.own.start, part.start - start..part.end - start);
        self.m[own.clone()].copy_from_slice(&m[of.clone()]);
        self.v[own].copy_from_slice(&v[of]);
    }

    /// What this rank owns of a range.
    fn part(&self, of: &Range<usize>) -> Range<usize> {
        let start = of.start.clamp(self.own.start, self.own.end);
        start..of.end.clamp(start, self.own.end)
    }

    /// Brings the moments of all ranks to one.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn gather(&mut self, world: &dyn World, to: usize) -> Result<(), DistError> {
        if world.size() > 1 {
            let (m, v) = (self.blocks.gather(world, to, &self.m)?, self.blocks.gather(world, to, &self.v)?);
            self.whole = m.zip(v);
        }
        Ok(())
    }

    /// Gives up what was gathered.
    pub(crate) fn forget(&mut self) {
        self.whole = None;
    }

    /// Replaces the gradients that this rank owns by the updated weights; a parameter without a gradient keeps its own.
    ///
    /// # Shapes
    /// `vector`: gradients of the whole vector, of which those that this rank owns are read.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub(crate) fn update(
        &mut self,
        policy: &Decoder,
        has_gradient: &[bool],
        vector: &mut [f32],
        step: &AdamWStep,
    ) -> Result<(), TrainerError> {
        self.whole = None;
        let lengths: Vec<usize> = policy.parameters().iter().map(|(_, shape)| shape.elem_count()).collect();
        let (mut end, mut weights) = (0, Vec::new());
        for (index, (length, has_gradient)) in lengths.into_iter().zip(has_gradient).enumerate() {
            let start = end;
            end += length;
            let part = self.part(&(start..end));
            if part.is_empty() || !has_gradient {
                continue;
            }
            weights.clear();
            weights.extend_from_slice(&values(&policy.parameter(index)?)?[part.start - start..part.end - start]);
            let own = part.start - self.own.start..part.end - self.own.start;
            adamw(&mut weights, &vector[part.clone()], &mut self.m[own.clone()], &mut self.v[own], step);
            vector[part].copy_from_slice(&weights);
        }
        Ok(())
    }
}
