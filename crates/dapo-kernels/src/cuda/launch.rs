//! One launch of a kernel: its arguments in order, its grid.

use super::call::Kernel;
use super::gpu::{Backend, Gpu};
use super::memory::{DeviceValue, In, Out, Sink, Source};
use candle_core::{Result, bail};

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::SyncOnDrop;

/// Most arguments of a kernel.
const MAX_ARGUMENTS: usize = 40;

/// Collects a kernel's arguments in its order.
pub(crate) struct Launch<'a> {
    gpu: &'a Gpu,
    kernel: Kernel,
    /// The bytes of each argument, the lowest first.
    values: [u64; MAX_ARGUMENTS],
    sizes: [usize; MAX_ARGUMENTS],
    count: usize,
    /// Record, when dropped, that the launch has used the memory.
    #[cfg(feature = "cuda")]
    guards: Vec<SyncOnDrop<'a>>,
    /// The first argument that cannot be used here.
    #[cfg(feature = "cuda")]
    refused: Option<candle_core::Error>,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(gpu: &'a Gpu, kernel: Kernel) -> Self {
        Self {
            gpu,
            kernel,
            values: [0; MAX_ARGUMENTS],
            sizes: [0; MAX_ARGUMENTS],
            count: 0,
            #[cfg(feature = "cuda")]
            guards: Vec::new(),
            #[cfg(feature = "cuda")]
            refused: None,
        }
    }

    fn push(mut self, value: u64, size: usize) -> Self {
        assert!(self.count < MAX_ARGUMENTS, "{}: too many arguments", self.kernel.name);
        self.values[self.count] = value;
        self.sizes[self.count] = size;
        self.count += 1;
        self
    }

    /// A pointer to memory that is read.
    pub(crate) fn input<T: DeviceValue>(self, input: In<'a, T>) -> Self {
        match (input.0, &self.gpu.0) {
            #[cfg(feature = "cuda")]
            (Source::Device(view), Backend::Driver(driver)) => match driver.own(view) {
                Ok(view) => {
                    let (address, guard) = view.view_ptr(driver.stream());
                    self.guarded(address, guard)
                }
                Err(error) => self.refuse(error),
            },
            #[cfg(feature = "emulate")]
            (Source::Host(slice), Backend::Emulator(_)) => self.push(slice.as_ptr() as u64, 8),
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => panic!("{}: memory of the host for a device, or the reverse", self.kernel.name),
        }
    }

    /// A pointer to memory that is read, or null.
    pub(crate) fn optional_input<T: DeviceValue>(self, input: Option<In<'a, T>>) -> Self {
        match input {
            Some(input) => self.input(input),
            None => self.push(0, 8),
        }
    }

    /// A pointer to memory that is written.
    pub(crate) fn output<T: DeviceValue>(self, output: Out<'a, T>) -> Self {
        match (output.0, &self.gpu.0) {
            #[cfg(feature = "cuda")]
            (Sink::Device(view), Backend::Driver(driver)) => match driver.own(view) {
                Ok(view) => {
                    let (address, guard) = view.view_ptr_mut(driver.stream());
                    self.guarded(address, guard)
                }
                Err(error) => self.refuse(error),
            },
            #[cfg(feature = "emulate")]
            (Sink::Host(slice), Backend::Emulator(_)) => self.push(slice.as_mut_ptr() as u64, 8),
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => panic!("{}: memory of the host for a device, or the reverse", self.kernel.name),
        }
    }

    /// A pointer to memory that is written, or null.
    pub(crate) fn optional_output<T: DeviceValue>(self, output: Option<Out<'a, T>>) -> Self {
        match output {
            Some(output) => self.output(output),
            None => self.push(0, 8),
        }
    }

    /// The same pointer as argument `index`, for memory that is read and written.
    pub(crate) fn same_as(self, index: usize) -> Self {
        let value = self.values[index];
        self.push(value, 8)
    }

    /// The pointer of argument `index`, moved on by `bytes`.
    pub(crate) fn beyond(self, index: usize, bytes: usize) -> Self {
        let value = self.values[index] + bytes as u64;
        self.push(value, 8)
    }

    #[cfg(feature = "cuda")]
    fn guarded(mut self, address: u64, guard: SyncOnDrop<'a>) -> Self {
        self.guards.push(guard);
        self.push(address, 8)
    }

    #[cfg(feature = "cuda")]
    fn refuse(mut self, error: candle_core::Error) -> Self {
        self.refused.get_or_insert(error);
        self.push(0, 8)
    }

    /// An `int`.
    pub(crate) fn int(self, value: usize) -> Self {
        assert!(i32::try_from(value).is_ok(), "{}: {value} is too large for an int", self.kernel.name);
        self.push(value as u64, 4)
    }

    /// A `size_t` or `unsigned long long`.
    pub(crate) fn long(self, value: u64) -> Self {
        self.push(value, 8)
    }

    /// A `float`.
    pub(crate) fn float(self, value: f32) -> Self {
        self.push(u64::from(value.to_bits()), 4)
    }

    /// Launches it. Nothing is launched for an empty grid.
    pub(crate) fn run(mut self, grid: [usize; 3], block: [usize; 3], shared_bytes: usize) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(error) = self.refused {
            return Err(error);
        }
        if grid.contains(&0) {
            return Ok(());
        }
        if grid[0] > i32::MAX as usize || grid[1] > 65_535 || grid[2] > 65_535 {
            bail!("{}: a grid of {grid:?} blocks is too large", self.kernel.name);
        }
        let (grid, block) = (grid.map(|n| n as u32), block.map(|n| n as u32));
        let values = &mut self.values[..self.count];
        match &self.gpu.0 {
            #[cfg(feature = "cuda")]
            Backend::Driver(driver) => driver.launch(self.kernel, grid, block, shared_bytes, values),
            #[cfg(feature = "emulate")]
            Backend::Emulator(emulator) => {
                emulator.launch(self.kernel, grid, block, shared_bytes, values, &self.sizes[..self.count])
            }
        }
    }
}

/// Threads for a row of `width` elements of which one thread takes `vector` at a time: whole warps, at most 512, and the
/// last round nearly full.
pub(crate) fn row_threads(width: usize, vector: usize) -> usize {
    let vectors = if width.is_multiple_of(vector) { width / vector } else { width };
    let rounds = vectors.div_ceil(512).max(1);
    vectors.div_ceil(rounds).next_multiple_of(32).max(32)
}
