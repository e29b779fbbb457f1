//! Launches on a GPU through candle's device.

#![expect(unsafe_code, reason = "launching kernels")]

use super::gpu::DeviceInfo;
use super::launch::Kernel;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaStream, LaunchConfig, PushKernelArg, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Result, bail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A `kernel.cu` as the build script compiled it.
struct Compiled {
    name: &'static str,
    ptx: &'static str,
    /// Architecture (`80`, `90a`) and machine code.
    cubins: &'static [(&'static str, &'static [u8])],
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Dynamic shared memory in bytes that a kernel has without asking.
const DEFAULT_SHARED_BYTES: usize = 48 << 10;

/// A device, and the modules and functions loaded so far.
pub(crate) struct Driver {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    compute_capability: (i32, i32),
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<&'static str, CudaFunction>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let compute_capability = stream.context().compute_capability().w()?;
        Ok(Self { device: device.clone(), stream, compute_capability, loaded: Mutex::default() })
    }

    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(crate) fn info(&self) -> Result<DeviceInfo> {
        let context = self.stream.context();
        let (free_memory, total_memory) = context.mem_get_info().w()?;
        let multiprocessors =
            context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).w()?;
        Ok(DeviceInfo {
            name: context.name().w()?,
            total_memory,
            free_memory,
            multiprocessors: multiprocessors as usize,
            compute_capability: self.compute_capability,
        })
    }

    fn function(&self, kernel: Kernel) -> Result<CudaFunction> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(kernel.name) {
            return Ok(function.clone());
        }
        let module = if let Some(module) = loaded.modules.get(kernel.module) {
            Arc::clone(module)
        } else {
            let Some(compiled) = MODULES.iter().find(|compiled| compiled.name == kernel.module) else {
                bail!("{}: no module {}", kernel.name, kernel.module);
            };
            let module = self.stream.context().load_module(code_for(compiled, self.compute_capability)).w()?;
            loaded.modules.insert(kernel.module, Arc::clone(&module));
            module
        };
        let function = module.load_function(kernel.name).w()?;
        loaded.functions.insert(kernel.name, function.clone());
        Ok(function)
    }

    pub(crate) fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        values: &mut [u64],
    ) -> Result<()> {
        let function = self.function(kernel)?;
        if shared_bytes > DEFAULT_SHARED_BYTES {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared_bytes as i32).w()?;
        }
        let config =
            LaunchConfig { grid_dim: grid.into(), block_dim: block.into(), shared_mem_bytes: shared_bytes as u32 };
        let mut builder = self.stream.launch_builder(&function);
        for value in &*values {
            builder.arg(value);
        }
        // SAFETY: the wrappers give every kernel its arguments in number, order and size (the emulation checks that in
        // tests), and have checked that the arrays are as long as the grid needs.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// Machine code for the device where there is some, else PTX, which the driver compiles.
fn code_for(compiled: &Compiled, (major, minor): (i32, i32)) -> Ptx {
    let fits = |architecture: &str| match architecture.strip_suffix('a') {
        // Made for one capability alone.
        Some(exact) => exact == format!("{major}{minor}"),
        // Runs on the later ones of its generation.
        None => architecture.parse::<i32>().is_ok_and(|number| number / 10 == major && number % 10 <= minor),
    };
    match compiled.cubins.iter().find(|(architecture, _)| fits(architecture)) {
        Some((_, machine_code)) => Ptx::from_binary(machine_code.to_vec()),
        None => Ptx::from_src(compiled.ptx),
    }
}
