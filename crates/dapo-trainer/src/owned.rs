//! What training keeps of the values that one rank owns (ZeRO-1): AdamW's moments, and the f32 values of weights in bf16.

use crate::error::TrainerError;
use crate::team::Team;
use candle_core::{Device, Shape, Tensor};
use dapo_dist::{Blocks, DistError, World, gather};
use dapo_kernels::adamw::{AdamWStep, adamw};
use dapo_kernels::{bf16, values};
use dapo_policy::Decoder;
use std::ops::Range;

/// A kind of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First moments.
    First,
    /// Second moments.
    Second,
    /// The f32 values of weights in bf16.
    Weights,
}

/// Moments, and f32 values of weights in bf16, of the blocks that a rank owns of one vector: the parameters of a decoder in
/// their order, and a value head's after them.
#[derive(Debug)]
pub(crate) struct Owned {
    blocks: Blocks,
    /// Values of the decoder's parameters.
    parameters: usize,
    own: Range<usize>,
    moments: [Vec<f32>; 2],
    /// Those of which the decoder has the rounded ones alone; 0 in place of a head's. `None`: it has its weights itself.
    weights: Option<Vec<f32>>,
    /// The values of all ranks, from [`gather`](Self::gather) to the next update, in the order of [`Kind`].
    whole: Vec<Tensor>,
}

impl Owned {
    /// Moments of 0 of a decoder with its weights.
    pub(crate) fn new(parameters: usize, of_head: usize, team: &Team) -> Self {
        let blocks = Blocks::new(parameters + of_head);
        let own = blocks.owned(team.world().rank(), team.world().size());
        let moments = [vec![0.0; own.len()], vec![0.0; own.len()]];
        Self { blocks, parameters, own, moments, weights: None, whole: Vec::new() }
    }

    /// Bytes of what this rank keeps.
    pub(crate) fn bytes(&self) -> u64 {
        let of_weights = self.weights.as_ref().map_or(0, Vec::len);
        4 * (2 * self.own.len() + of_weights) as u64
    }

    /// Whether the decoder has rounded weights alone, and the f32 values are here.
    pub(crate) fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// The values of a kind from `start` on, as a tensor of this shape.
    ///
    /// # Errors
    /// When another rank has them.
    pub(crate) fn tensor(&self, kind: Kind, start: usize, shape: &Shape) -> Result<Tensor, TrainerError> {
        let length = shape.elem_count();
        if let Some(whole) = self.whole.get(kind as usize) {
            return Ok(whole.narrow(0, start, length)?.reshape(shape)?);
        }
        let own = match kind {
            Kind::First => Some(&self.moments[0]),
            Kind::Second => Some(&self.moments[1]),
            Kind::Weights => self.weights.as_ref(),
        };
        let place = start.checked_sub(self.own.start).filter(|_| start + length <= self.own.end);
        let (place, own) = place.zip(own).ok_or_else(divided)?;
        Ok(Tensor::from_slice(&own[place..place + length], shape, &Device::Cpu)?)
    }

    /// Takes the moments of the values from `start` on, as far as this rank owns them.
    pub(crate) fn write(&mut self, start: usize, m: &[f32], v: &[f32]) {
        self.whole.clear();
        let part = self.part(&(start..start + m.len()));
        if part.is_empty() {
            return;
        }
        let (own, of) = (part.start - self.own.start..part.end - self.own.start, part.start - start..part.end - start);
        for (own_values, values) in self.moments.iter_mut().zip([m, v]) {
            own_values[own.clone()].copy_from_slice(&values[of.clone()]);
        }
    }

    /// Takes the f32 values of a decoder that trains in bf16 out of it, as far as this rank owns them; the decoder keeps the
    /// rounded ones alone.
    ///
    /// # Errors
    /// When a weight cannot be read or written.
    pub(crate) fn take_weights(&mut self, policy: &mut Decoder) -> Result<(), TrainerError> {
        self.whole.clear();
        let (mut weights, mut end) = (vec![0.0; self.own.len()], 0);
        for (index, length) in lengths(policy).into_iter().enumerate() {
            let start = end;
            end += length;
            // A copy: the tensor may be a handle on what changes.
            let all = policy.parameter(index)?.flatten_all()?.to_vec1::<f32>()?;
            let part = self.part(&(start..end));
            if !part.is_empty() {
                let own = part.start - self.own.start..part.end - self.own.start;
                weights[own].copy_from_slice(&all[part.start - start..part.end - start]);
            }
            policy.set_parameter_rounded(index, &all)?;
        }
        self.weights = Some(weights);
        Ok(())
    }

    /// Takes over the f32 values that the only rank had before.
    ///
    /// # Errors
    /// When there were several.
    pub(crate) fn take_weights_of(&mut self, before: &Self) -> Result<(), TrainerError> {
        let all = before.weights.as_ref().filter(|_| before.own.len() == self.blocks.len());
        self.weights = Some(all.ok_or_else(divided)?[self.own.clone()].to_vec());
        Ok(())
    }

    /// What this rank owns of a range; where that is nothing, it is empty at one of the ends of what is owned.
    fn part(&self, of: &Range<usize>) -> Range<usize> {
        let start = of.start.clamp(self.own.start, self.own.end);
        start..of.end.clamp(start, self.own.end)
    }

    /// Brings the values of all ranks to one.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn gather(&mut self, world: &dyn World, to: usize) -> Result<(), TrainerError> {
        self.whole.clear();
        if world.size() == 1 {
            return Ok(());
        }
        for own in self.moments.iter().chain(&self.weights) {
            if let Some(values) = self.blocks.gather(world, to, own)? {
                let length = values.len();
                self.whole.push(Tensor::from_vec(values, length, &Device::Cpu)?);
            }
        }
        Ok(())
    }

    /// The f32 values of all parameters, on every rank, where they are here.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn all_weights(&self, world: &dyn World) -> Result<Option<Tensor>, TrainerError> {
        let Some(weights) = &self.weights else { return Ok(None) };
        let mut all = vec![0.0; self.blocks.len()];
        all[self.own.clone()].copy_from_slice(weights);
        self.blocks.all_gather(world, &mut all)?;
        let length = all.len();
        Ok(Some(Tensor::from_vec(all, length, &Device::Cpu)?))
    }

    /// √Σ w² over the weights of all ranks, where they are here: the same bits at any number of ranks.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn weights_norm(&self, world: &dyn World) -> Result<Option<f64>, DistError> {
        let squares = self.weights.as_ref().map(|weights| self.blocks.sum_of_squares(world, weights)).transpose()?;
        Ok(squares.map(f64::sqrt))
    }

    /// Gives up what was gathered.
    pub(crate) fn forget(&mut self) {
        self.whole.clear();
    }

    /// Replaces the gradients that this rank owns by the updated weights in f32; a parameter without a gradient keeps its own.
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
        self.whole.clear();
        let (mut end, mut copy) = (0, Vec::new());
        for (index, (length, has_gradient)) in lengths(policy).into_iter().zip(has_gradient).enumerate() {
            let start = end;
            end += length;
            let part = self.part(&(start..end));
            if part.is_empty() || !has_gradient {
                continue;
            }
            let own = part.start - self.own.start..part.end - self.own.start;
            let weights = if let Some(weights) = &mut self.weights {
                &mut weights[own.clone()]
            } else {
                copy.clear();
                copy.extend_from_slice(&values(&policy.parameter(index)?)?[part.start - start..part.end - start]);
                &mut copy[..]
            };
            let [m, v] = &mut self.moments;
            adamw(weights, &vector[part.clone()], &mut m[own.clone()], &mut v[own], step);
            vector[part].copy_from_slice(weights);
        }
        Ok(())
    }

    /// Gives every rank the updated weights of all, rounded to bf16 where the f32 values are here, and the gradients of a head.
    ///
    /// # Shapes
    /// `vector`: what [`update`](Self::update) left.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn share(&self, world: &dyn World, vector: &mut [f32]) -> Result<(), DistError> {
        if self.weights.is_none() {
            return self.blocks.all_gather(world, vector);
        }
        // The gradients of a head are not rounded.
        let of_head = self.part(&(self.parameters..self.blocks.len()));
        let bytes: Vec<u8> = vector[of_head].iter().flat_map(|value| value.to_le_bytes()).collect();
        let of_head = gather(world, &bytes)?.concat();
        let mut rounded = vec![0; vector.len()];
        bf16::to_bits(&vector[self.own.clone()], &mut rounded[self.own.clone()]);
        self.blocks.all_gather(world, &mut rounded)?;
        bf16::from_bits(&rounded, vector);
        for (value, bytes) in vector[self.parameters..].iter_mut().zip(of_head.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// The error of one rank that is asked for what several have.
fn divided() -> TrainerError {
    let expected = "all of them: gather_moments brings them to one rank";
    TrainerError::setting("moments", &"those of one of several ranks", expected)
}

/// Numbers of values of a decoder's parameters.
fn lengths(policy: &Decoder) -> Vec<usize> {
    policy.parameters().iter().map(|(_, shape)| shape.elem_count()).collect()
}
