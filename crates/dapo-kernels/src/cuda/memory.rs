//! Memory that kernels read and write: a device's, or a slice where they are emulated.

use candle_core::{Result, bail};
use half::bf16;
use std::ops::Range;

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DeviceRepr, ValidAsZeroBits};

/// A value that means the same on the host and on a device.
#[cfg(feature = "cuda")]
pub trait DeviceValue: Copy + Default + std::fmt::Debug + Send + Sync + DeviceRepr + ValidAsZeroBits + 'static {}
/// A value that means the same on the host and on a device.
#[cfg(not(feature = "cuda"))]
pub trait DeviceValue: Copy + Default + std::fmt::Debug + Send + Sync + 'static {}

macro_rules! device_values {
    ($($type:ty),*) => { $(impl DeviceValue for $type {})* };
}
device_values!(u8, i32, u32, i64, u64, f32, f64, bf16);

/// What activations and compute copies of weights may be: f32 or bf16.
pub trait Element: DeviceValue {
    /// Of two kernels, the one for this type.
    fn pick<K>(f32_kernel: K, bf16_kernel: K) -> K;
    /// The nearest value.
    fn from_f32(x: f32) -> Self;
    /// The element as an f32.
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    fn pick<K>(f32_kernel: K, _: K) -> K {
        f32_kernel
    }

    fn from_f32(x: f32) -> Self {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    fn pick<K>(_: K, bf16_kernel: K) -> K {
        bf16_kernel
    }

    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
}

/// A contiguous array that a kernel reads.
#[derive(Debug)]
pub struct In<'a, T>(pub(crate) Source<'a, T>);

#[derive(Debug)]
pub(crate) enum Source<'a, T> {
    #[cfg(feature = "cuda")]
    Device(CudaView<'a, T>),
    #[cfg(feature = "emulate")]
    Host(&'a [T]),
}

impl<T> Clone for In<'_, T> {
    fn clone(&self) -> Self {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Source::Device(view) => Self(Source::Device(view.slice(..))),
            #[cfg(feature = "emulate")]
            Source::Host(slice) => Self(Source::Host(slice)),
        }
    }
}

impl<T> In<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Source::Device(view) => view.len(),
            #[cfg(feature = "emulate")]
            Source::Host(slice) => slice.len(),
        }
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it.
    ///
    /// # Errors
    /// When the range leaves the array.
    pub fn slice(&self, range: Range<usize>) -> Result<Self> {
        check_range(&range, self.len())?;
        Ok(match &self.0 {
            #[cfg(feature = "cuda")]
            Source::Device(view) => Self(Source::Device(view.slice(range))),
            #[cfg(feature = "emulate")]
            Source::Host(slice) => Self(Source::Host(&slice[range])),
        })
    }
}

/// A contiguous array that a kernel writes, or reads and writes.
#[derive(Debug)]
pub struct Out<'a, T>(pub(crate) Sink<'a, T>);

#[derive(Debug)]
pub(crate) enum Sink<'a, T> {
    #[cfg(feature = "cuda")]
    Device(CudaViewMut<'a, T>),
    #[cfg(feature = "emulate")]
    Host(&'a mut [T]),
}

impl<T> Out<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Sink::Device(view) => view.len(),
            #[cfg(feature = "emulate")]
            Sink::Host(slice) => slice.len(),
        }
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it.
    ///
    /// # Errors
    /// When the range leaves the array.
    pub fn slice_mut(&mut self, range: Range<usize>) -> Result<Out<'_, T>> {
        check_range(&range, self.len())?;
        Ok(match &mut self.0 {
            #[cfg(feature = "cuda")]
            Sink::Device(view) => Out(Sink::Device(view.slice_mut(range))),
            #[cfg(feature = "emulate")]
            Sink::Host(slice) => Out(Sink::Host(&mut slice[range])),
        })
    }

    /// The whole of it, for a shorter time.
    pub fn reborrow(&mut self) -> Out<'_, T> {
        match &mut self.0 {
            #[cfg(feature = "cuda")]
            Sink::Device(view) => Out(Sink::Device(view.slice_mut(..))),
            #[cfg(feature = "emulate")]
            Sink::Host(slice) => Out(Sink::Host(slice)),
        }
    }

    /// The whole of it, to be read.
    pub fn view(&self) -> In<'_, T> {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Sink::Device(view) => In(Source::Device(view.as_view())),
            #[cfg(feature = "emulate")]
            Sink::Host(slice) => In(Source::Host(slice)),
        }
    }
}

fn check_range(range: &Range<usize>, len: usize) -> Result<()> {
    if range.start > range.end || range.end > len {
        bail!("range {range:?} leaves an array of {len}");
    }
    Ok(())
}

/// An array of its own: on the device, or on the heap where kernels are emulated.
#[derive(Debug)]
pub struct Buffer<T>(pub(crate) Memory<T>);

#[derive(Debug)]
pub(crate) enum Memory<T> {
    #[cfg(feature = "cuda")]
    Device(CudaSlice<T>),
    #[cfg(feature = "emulate")]
    Host(Vec<T>),
}

impl<T> Buffer<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// To be read.
    pub fn view(&self) -> In<'_, T> {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Memory::Device(slice) => slice.into(),
            #[cfg(feature = "emulate")]
            Memory::Host(data) => data.as_slice().into(),
        }
    }

    /// A part of it, to be read.
    ///
    /// # Errors
    /// When the range leaves the array.
    pub fn part(&self, range: Range<usize>) -> Result<In<'_, T>> {
        self.view().slice(range)
    }

    /// A part of it, to be written.
    ///
    /// # Errors
    /// When the range leaves the array.
    pub fn part_mut(&mut self, range: Range<usize>) -> Result<Out<'_, T>> {
        check_range(&range, self.len())?;
        Ok(match &mut self.0 {
            #[cfg(feature = "cuda")]
            Memory::Device(slice) => slice.slice_mut(range).into(),
            #[cfg(feature = "emulate")]
            Memory::Host(data) => (&mut data[range]).into(),
        })
    }

    /// To be written.
    pub fn view_mut(&mut self) -> Out<'_, T> {
        match &mut self.0 {
            #[cfg(feature = "cuda")]
            Memory::Device(slice) => slice.into(),
            #[cfg(feature = "emulate")]
            Memory::Host(data) => data.as_mut_slice().into(),
        }
    }
}

#[cfg(feature = "cuda")]
mod device {
    use super::{Buffer, CudaSlice, CudaView, CudaViewMut, In, Memory, Out, Sink, Source};

    impl<'a, T> From<CudaView<'a, T>> for In<'a, T> {
        fn from(view: CudaView<'a, T>) -> Self {
            Self(Source::Device(view))
        }
    }

    impl<'a, T> From<&'a CudaSlice<T>> for In<'a, T> {
        fn from(slice: &'a CudaSlice<T>) -> Self {
            slice.as_view().into()
        }
    }

    impl<'a, T> From<CudaViewMut<'a, T>> for Out<'a, T> {
        fn from(view: CudaViewMut<'a, T>) -> Self {
            Self(Sink::Device(view))
        }
    }

    impl<'a, T> From<&'a mut CudaSlice<T>> for Out<'a, T> {
        fn from(slice: &'a mut CudaSlice<T>) -> Self {
            slice.as_view_mut().into()
        }
    }

    impl<T> From<CudaSlice<T>> for Buffer<T> {
        fn from(slice: CudaSlice<T>) -> Self {
            Self(Memory::Device(slice))
        }
    }
}

#[cfg(feature = "emulate")]
mod host {
    use super::{In, Out, Sink, Source};

    impl<'a, T> From<&'a [T]> for In<'a, T> {
        fn from(slice: &'a [T]) -> Self {
            Self(Source::Host(slice))
        }
    }

    impl<'a, T> From<&'a mut [T]> for Out<'a, T> {
        fn from(slice: &'a mut [T]) -> Self {
            Self(Sink::Host(slice))
        }
    }
}
