//! Accumulated gradients, and AdamW's moments, on the host.

use crate::error::PolicyError;
use crate::gradients::GradientMemory;
use crate::moments::MomentMemory;
use candle_core::{Device, Shape, Tensor};
use dapo_kernels::with_slice_mut;

/// The gradient of every parameter that is trained.
#[derive(Debug)]
pub(super) struct CpuGradients(Vec<Slot>);

#[derive(Clone, Debug, Default)]
struct Slot {
    tensor: Option<Tensor>,
    /// Whether the tensor holds anything of this step.
    written: bool,
}

impl CpuGradients {
    pub(super) fn new(parameters: usize) -> Self {
        Self(vec![Slot::default(); parameters])
    }

    /// Whether there is memory for one parameter's gradient.
    pub(super) fn has_memory(&self, index: usize) -> bool {
        self.0[index].tensor.is_some()
    }

    /// Lets `f` write one parameter's gradient, which has this shape: adding to what is there if its second argument is true,
    /// overwriting otherwise.
    pub(super) fn write(
        &mut self,
        index: usize,
        shape: &Shape,
        f: impl FnOnce(&mut [f32], bool),
    ) -> Result<(), PolicyError> {
        let slot = &mut self.0[index];
        let tensor = match &mut slot.tensor {
            Some(tensor) => tensor,
            none => none.insert(Tensor::from_vec(vec![0.0f32; shape.elem_count()], shape, &Device::Cpu)?),
        };
        let accumulate = std::mem::replace(&mut slot.written, true);
        with_slice_mut(tensor, |gradient| {
            f(gradient, accumulate);
            Ok(())
        })?;
        Ok(())
    }

    /// Lets `f` add to one parameter's gradient.
    pub(super) fn add(&mut self, index: usize, shape: &Shape, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        self.write(index, shape, |gradient, accumulate| {
            if !accumulate {
                gradient.fill(0.0);
            }
            f(gradient);
        })
    }
}

impl GradientMemory for CpuGradients {
    fn clear(&mut self) {
        self.0.iter_mut().for_each(|slot| slot.written = false);
    }

    fn release(&mut self) {
        self.0.fill(Slot::default());
    }

    fn get(&self, index: usize) -> Option<&Tensor> {
        let slot = self.0.get(index)?;
        slot.tensor.as_ref().filter(|_| slot.written)
    }
}

/// First and second moments of every parameter that is trained.
#[derive(Debug)]
pub(super) struct CpuMoments(pub(super) Vec<(Vec<f32>, Vec<f32>)>);

impl MomentMemory for CpuMoments {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleared_gradients_keep_their_memory_and_released_ones_do_not() {
        let (mut gradients, shape) = (CpuGradients::new(2), Shape::from(3));
        let add = |gradients: &mut CpuGradients| {
            gradients.add(1, &shape, |sum| sum.iter_mut().for_each(|sum| *sum += 2.0)).unwrap();
            gradients.get(1).unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!((add(&mut gradients), add(&mut gradients)), (vec![2.0; 3], vec![4.0; 3]));
        gradients.clear();
        assert!(gradients.get(1).is_none() && gradients.has_memory(1) && !gradients.has_memory(0));
        assert_eq!(add(&mut gradients), [2.0; 3]);
        gradients.release();
        assert!(gradients.get(1).is_none() && !gradients.has_memory(1));
        assert_eq!(add(&mut gradients), [2.0; 3]);
    }
}
