//! The device on which kernels run.

use super::call::DeviceInfo;
use super::memory::{Buffer, DeviceValue, In, Memory, Out, Sink, Source};
use candle_core::Result;
#[cfg(all(feature = "cuda", feature = "emulate"))]
use candle_core::bail;

#[cfg(feature = "cuda")]
use super::driver::Driver;
#[cfg(feature = "emulate")]
use super::emulator::Emulator;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
#[cfg(feature = "cuda")]
use std::collections::HashMap;
#[cfg(feature = "cuda")]
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Those that candle's tensors lie on, by candle's number of the device; made once and kept.
#[cfg(feature = "cuda")]
static OF_TENSORS: LazyLock<Mutex<HashMap<DeviceId, Arc<Gpu>>>> = LazyLock::new(Mutex::default);

/// A GPU with the kernels of this crate, or their emulation.
///
/// Launches go to the stream of candle's device, in order, and return before they have run.
#[derive(Debug)]
pub struct Gpu(pub(crate) Backend);

#[derive(Debug)]
pub(crate) enum Backend {
    #[cfg(feature = "cuda")]
    Driver(Driver),
    #[cfg(feature = "emulate")]
    Emulator(Emulator),
}

/// How many devices this machine has; 0 where the driver does not start.
#[cfg(feature = "cuda")]
pub fn device_count() -> usize {
    super::driver::device_count()
}

/// The devices of this machine; none where the driver does not start. Each of them is opened for it.
///
/// # Errors
/// When a device does not answer.
#[cfg(feature = "cuda")]
pub fn devices() -> Result<Vec<DeviceInfo>> {
    (0..device_count()).map(device_info).collect()
}

/// What one of them says.
///
/// # Errors
/// When there is no such device, or it does not answer.
#[cfg(feature = "cuda")]
pub fn device_info(ordinal: usize) -> Result<DeviceInfo> {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    let context = CudaContext::new(ordinal).w()?;
    let (free_memory, total_memory) = context.mem_get_info().w()?;
    super::driver::info(&context, free_memory, total_memory)
}

impl Gpu {
    /// The kernels on candle's device.
    ///
    /// # Errors
    /// When the device does not answer.
    #[cfg(feature = "cuda")]
    pub fn new(device: &CudaDevice) -> Result<Self> {
        Ok(Self(Backend::Driver(Driver::new(device)?)))
    }

    /// The kernels on the device of a tensor: the same ones every time, since loading them takes long.
    ///
    /// # Errors
    /// When the device does not answer.
    #[cfg(feature = "cuda")]
    pub fn of(device: &CudaDevice) -> Result<Arc<Self>> {
        let mut known = OF_TENSORS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = known.get(&device.id()) {
            return Ok(Arc::clone(gpu));
        }
        let gpu = Arc::new(Self::new(device)?);
        known.insert(device.id(), Arc::clone(&gpu));
        Ok(gpu)
    }

    /// The kernels on device `ordinal`, on a stream of their own. Turns off, in this process, the events by which
    /// cudarc orders the uses of an array made from now on by several streams of that device: they cost each launch
    /// more than the launch itself.
    ///
    /// # Errors
    /// When there is no such device, or it does not answer.
    #[cfg(feature = "cuda")]
    pub fn open(ordinal: usize) -> Result<Self> {
        Self::new(&super::driver::open(ordinal)?)
    }

    /// The kernels on the CPU, thread by thread.
    #[cfg(feature = "emulate")]
    pub fn emulated() -> Self {
        Self::emulated_in_order(0)
    }

    /// The same, with blocks and threads taking turns in another order: 0 ascending, 1 descending, else shuffled by
    /// this seed. A kernel without races gives the same bits for all.
    #[cfg(feature = "emulate")]
    pub fn emulated_in_order(order: u64) -> Self {
        Self(Backend::Emulator(Emulator { order }))
    }

    /// Candle's device, where it is a real one.
    #[cfg(feature = "cuda")]
    pub fn device(&self) -> Option<&CudaDevice> {
        match &self.0 {
            Backend::Driver(driver) => Some(driver.device()),
            #[cfg(feature = "emulate")]
            Backend::Emulator(_) => None,
        }
    }

    /// Name, memory and size of the device; the emulation has one multiprocessor and no memory of its own.
    ///
    /// # Errors
    /// When the device does not answer.
    pub fn info(&self) -> Result<DeviceInfo> {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Backend::Driver(driver) => driver.info(),
            #[cfg(feature = "emulate")]
            Backend::Emulator(_) => Ok(DeviceInfo {
                name: "emulated".into(),
                total_memory: 0,
                free_memory: 0,
                multiprocessors: 1,
                compute_capability: (0, 0),
            }),
        }
    }

    /// Waits until everything launched has run.
    ///
    /// # Errors
    /// What has gone wrong on the device since the last call.
    pub fn synchronize(&self) -> Result<()> {
        match &self.0 {
            #[cfg(feature = "cuda")]
            Backend::Driver(driver) => driver.stream().synchronize().w(),
            #[cfg(feature = "emulate")]
            Backend::Emulator(_) => Ok(()),
        }
    }

    /// A new array with these values.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn upload<T: DeviceValue>(&self, values: &[T]) -> Result<Buffer<T>> {
        Ok(Buffer(match &self.0 {
            #[cfg(feature = "cuda")]
            Backend::Driver(driver) => Memory::Device(driver.stream().clone_htod(values).w()?),
            #[cfg(feature = "emulate")]
            Backend::Emulator(_) => Memory::Host(values.to_vec()),
        }))
    }

    /// A new array of zeros.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn zeros<T: DeviceValue>(&self, len: usize) -> Result<Buffer<T>> {
        Ok(Buffer(match &self.0 {
            #[cfg(feature = "cuda")]
            Backend::Driver(driver) => Memory::Device(driver.stream().alloc_zeros(len).w()?),
            #[cfg(feature = "emulate")]
            Backend::Emulator(_) => Memory::Host(vec![T::default(); len]),
        }))
    }

    /// Sets an array to zero.
    ///
    /// # Errors
    /// When the device fails.
    pub fn fill_zero<T: DeviceValue>(&self, array: Out<'_, T>) -> Result<()> {
        match (&self.0, array.0) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Sink::Device(view)) => driver.stream().memset_zeros(&mut driver.own(view)?).w(),
            #[cfg(feature = "emulate")]
            (Backend::Emulator(_), Sink::Host(slice)) => {
                slice.fill(T::default());
                Ok(())
            }
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => mixed("fill_zero"),
        }
    }

    /// Copies values into an array on the device.
    ///
    /// # Errors
    /// When the lengths differ, or the device fails.
    pub fn write<T: DeviceValue>(&self, values: &[T], to: Out<'_, T>) -> Result<()> {
        super::expect_len("write", "values", values.len(), to.len())?;
        match (&self.0, to.0) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Sink::Device(view)) => {
                driver.stream().memcpy_htod(values, &mut driver.own(view)?).w()
            }
            #[cfg(feature = "emulate")]
            (Backend::Emulator(_), Sink::Host(slice)) => {
                slice.copy_from_slice(values);
                Ok(())
            }
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => mixed("write"),
        }
    }

    /// Copies an array on the device.
    ///
    /// # Errors
    /// When the lengths differ, or the device fails.
    pub fn copy<T: DeviceValue>(&self, from: In<'_, T>, to: Out<'_, T>) -> Result<()> {
        super::expect_len("copy", "source", from.len(), to.len())?;
        match (&self.0, from.0, to.0) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Source::Device(from), Sink::Device(to)) => {
                driver.stream().memcpy_dtod(&driver.own(from)?, &mut driver.own(to)?).w()
            }
            #[cfg(feature = "emulate")]
            (Backend::Emulator(_), Source::Host(from), Sink::Host(to)) => {
                to.copy_from_slice(from);
                Ok(())
            }
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => mixed("copy"),
        }
    }

    /// Copies an array to the host; waits for what was launched before.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read<T: DeviceValue>(&self, array: In<'_, T>) -> Result<Vec<T>> {
        match (&self.0, array.0) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Source::Device(view)) => {
                let values = driver.stream().clone_dtoh(&driver.own(view)?).w()?;
                driver.stream().synchronize().w()?;
                Ok(values)
            }
            #[cfg(feature = "emulate")]
            (Backend::Emulator(_), Source::Host(slice)) => Ok(slice.to_vec()),
            #[cfg(all(feature = "cuda", feature = "emulate"))]
            _ => mixed("read"),
        }
    }
}

#[cfg(all(feature = "cuda", feature = "emulate"))]
fn mixed<T>(operation: &str) -> Result<T> {
    bail!("{operation}: memory of the host for a device, or the reverse")
}
