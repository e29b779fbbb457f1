//! Memory on the device that is kept from one pass to the next.

use candle_core::Result;
use dapo_kernels::cuda::{Buffer, DeviceValue, Gpu, In, Out};

/// An array that grows and is never given back; what it holds after a change of size does not matter.
#[derive(Debug, Default)]
pub(super) struct Array<T> {
    buffer: Option<Buffer<T>>,
    len: usize,
}

impl<T: DeviceValue> Array<T> {
    /// Has `len` elements from now on, and lets them be written.
    pub(super) fn sized(&mut self, gpu: &Gpu, len: usize) -> Result<Out<'_, T>> {
        self.len = len;
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() < len) {
            // The old one is given back before the new one is asked for.
            self.buffer = None;
            self.buffer = Some(gpu.zeros(len.max(1))?);
        }
        self.view_mut()
    }

    pub(super) fn view(&self) -> Result<In<'_, T>> {
        self.part(0, self.len)
    }

    /// `len` elements from `start` on.
    pub(super) fn part(&self, start: usize, len: usize) -> Result<In<'_, T>> {
        match &self.buffer {
            Some(buffer) => buffer.part(start..start + len),
            None => candle_core::bail!("an array that has not been written is read"),
        }
    }

    pub(super) fn view_mut(&mut self) -> Result<Out<'_, T>> {
        self.part_mut(0, self.len)
    }

    /// `len` elements from `start` on.
    pub(super) fn part_mut(&mut self, start: usize, len: usize) -> Result<Out<'_, T>> {
        match &mut self.buffer {
            Some(buffer) => buffer.part_mut(start..start + len),
            None => candle_core::bail!("an array that has not been sized is written"),
        }
    }
}
