//! Launches on a GPU through candle's device.

#![expect(unsafe_code, reason = "launching kernels")]

use super::call::{DeviceInfo, Form, Kernel, Output};
use super::memory::Element;
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result as cublas, sys as blas};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceSlice,
    LaunchConfig, PushKernelArg, sys,
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

/// Dynamic shared memory in bytes that a kernel has without asking: 48 KiB less what it has besides, and some KiB.
const DEFAULT_SHARED_BYTES: usize = 40 << 10;

/// A device, and the modules and functions loaded so far.
pub(crate) struct Driver {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    compute_capability: (i32, i32),
    /// Of its own: candle's may have another mode.
    blas: CudaBlas,
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

/// A device with a stream of its own. Uses of its arrays are not recorded by events, which would cost each launch more
/// than the launch itself: their order is that of the stream.
pub(crate) fn open(ordinal: usize) -> Result<CudaDevice> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: arrays are made on this stream, and used on it alone, as `Driver::own` sees to.
    unsafe { device.disable_event_tracking() };
    Ok(device)
}

impl Driver {
    pub(crate) fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let compute_capability = stream.context().compute_capability().w()?;
        let blas = CudaBlas::new(Arc::clone(&stream)).w()?;
        let mode = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle is valid.
        unsafe { blas::cublasSetMathMode(*blas.handle(), mode) }.result().w()?;
        Ok(Self { device: device.clone(), stream, compute_capability, blas, loaded: Mutex::default() })
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
        info(context, free_memory, total_memory)
    }

    /// Passes on memory of this stream; that of another would not wait for it.
    pub(crate) fn own<T, S: DeviceSlice<T>>(&self, memory: S) -> Result<S> {
        if memory.stream().cu_stream() == self.stream.cu_stream() {
            return Ok(memory);
        }
        bail!("an array of another device or stream, expected one of {:?}", self.device)
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
        // An attribute, as a GEMM of cuBLAS, is for the context of the calling thread.
        self.stream.context().bind_to_thread().w()?;
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

impl Driver {
    /// The GEMM of [`gemm`](super::gemm::gemm), whose caller has checked the sizes.
    pub(crate) fn gemm<X: Element, Y: Element>(
        &self,
        form: Form,
        [m, n, k]: [usize; 3],
        scale: f32,
        (a, a_stride): (CudaView<'_, X>, usize),
        (b, b_stride): (CudaView<'_, X>, usize),
        (c, c_stride): (CudaViewMut<'_, Y>, usize),
        into: Output,
    ) -> Result<()> {
        use blas::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        // cuBLAS reads by columns: it is asked for Cᵀ = Bᵀ·Aᵀ, and sees every matrix transposed already.
        let (of_a, of_b) = match form {
            Form::Plain => (CUBLAS_OP_N, CUBLAS_OP_N),
            Form::RightTransposed => (CUBLAS_OP_N, CUBLAS_OP_T),
            Form::LeftTransposed => (CUBLAS_OP_T, CUBLAS_OP_N),
        };
        let (alpha, beta) = (scale, if into == Output::Add { 1.0f32 } else { 0.0 });
        let kind_of = |wide: bool| {
            if wide { blas::cudaDataType_t::CUDA_R_32F } else { blas::cudaDataType_t::CUDA_R_16BF }
        };
        let (from, to) = (kind_of(X::pick(true, false)), kind_of(Y::pick(true, false)));
        let int = |name: &str, value: usize| match i32::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => bail!("gemm: {name} is {value}, too large"),
        };
        self.stream.context().bind_to_thread().w()?;
        let (a, b) = (self.own(a)?, self.own(b)?);
        let mut c = self.own(c)?;
        let (a, _a) = a.device_ptr(&self.stream);
        let (b, _b) = b.device_ptr(&self.stream);
        let (c, _c) = c.device_ptr_mut(&self.stream);
        // SAFETY: the matrices have the sizes that the shapes and strides need, and are on the device of the handle.
        unsafe {
            cublas::gemm_ex(
                *self.blas.handle(),
                of_b,
                of_a,
                int("n", n)?,
                int("m", m)?,
                int("k", k)?,
                std::ptr::from_ref(&alpha).cast(),
                b as *const _,
                from,
                int("b's stride", b_stride)?,
                a as *const _,
                from,
                int("a's stride", a_stride)?,
                std::ptr::from_ref(&beta).cast(),
                c as *mut _,
                to,
                int("c's stride", c_stride)?,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}

/// Devices that the driver knows; none where it does not start.
pub(crate) fn device_count() -> usize {
    CudaContext::device_count().map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

pub(crate) fn info(context: &Arc<CudaContext>, free_memory: usize, total_memory: usize) -> Result<DeviceInfo> {
    let multiprocessors = context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).w()?;
    Ok(DeviceInfo {
        name: context.name().w()?,
        total_memory,
        free_memory,
        multiprocessors: multiprocessors as usize,
        compute_capability: context.compute_capability().w()?,
    })
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
