//! Launches on candle's device.

#![expect(unsafe_code, reason = "launching kernels")]

use super::call::{Addresses, calls, partial_len};
use super::{LossSums, SUMS};
use crate::{
    config::LossConfig,
    error::{LossError, expect_len},
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Error, Result};

const NAME: &str = "policy_loss";
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/policy_loss.ptx"));

/// Arrays of T tokens on the device, those of [`LossBatch`](crate::LossBatch) and
/// [`TokenChunk`](crate::TokenChunk) with everything by token.
#[derive(Debug)]
pub struct DeviceBatch<'a> {
    /// Under the current policy, in nats.
    pub logprobs: CudaView<'a, f32>,
    /// Under the behaviour policy.
    pub old_logprobs: CudaView<'a, f32>,
    /// Under the reference, where `kl.coef` is not 0.
    pub ref_logprobs: Option<CudaView<'a, f32>>,
    /// Entropies in nats, where `entropy_coef` is not 0 or they are to be measured.
    pub entropies: Option<CudaView<'a, f32>>,
    /// A.
    pub advantages: CudaView<'a, f32>,
    /// As [`token_weights`](super::token_weights) gives them; 0 leaves a token out.
    pub weights: CudaView<'a, f32>,
}

/// Where the derivatives of the loss go, T values each.
#[derive(Debug)]
pub struct DeviceGradients<'a> {
    /// ∂loss/∂logprobs.
    pub logprobs: CudaViewMut<'a, f32>,
    /// ∂loss/∂entropies.
    pub entropies: Option<CudaViewMut<'a, f32>>,
}

/// The sums of a step on the device, and scratch for those of its parts.
#[derive(Debug)]
pub struct DeviceSums {
    totals: CudaSlice<f64>,
    partial: CudaSlice<f64>,
}

impl DeviceSums {
    /// Zeros, with scratch for parts of at most `tokens` tokens.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(device: &CudaDevice, tokens: usize) -> Result<Self> {
        Ok(Self { totals: device.alloc_zeros(SUMS)?, partial: device.alloc_zeros(partial_len(tokens).max(1))? })
    }

    /// Sets the sums to zero, for the next step.
    ///
    /// # Errors
    /// When the device fails.
    pub fn reset(&mut self, device: &CudaDevice) -> Result<()> {
        device.cuda_stream().memset_zeros(&mut self.totals).w()
    }

    /// Waits for the launches so far and reads the sums.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self, device: &CudaDevice) -> Result<LossSums> {
        let values = device.clone_dtoh(&self.totals)?;
        let mut sums = LossSums::default();
        sums.0.copy_from_slice(&values);
        Ok(sums)
    }
}

/// Launches the loss of these tokens: writes its gradients and adds its sums to those of the step.
///
/// # Errors
/// Lengths that disagree or exceed the scratch, settings outside their range or not made for a device, something needed
/// that is not given, as wrapped [`LossError`]s; and what the device refuses.
pub fn policy_loss(
    device: &CudaDevice,
    config: &LossConfig,
    batch: &DeviceBatch<'_>,
    gradients: DeviceGradients<'_>,
    sums: &mut DeviceSums,
) -> Result<()> {
    let tokens = batch.logprobs.len();
    check(config, batch, &gradients, sums, tokens).map_err(Error::wrap)?;
    let stream = device.cuda_stream();
    let DeviceGradients { mut logprobs, mut entropies } = gradients;
    // The guards tell cudarc, when dropped, that the launches have used the memory.
    let mut guards = Vec::new();
    let mut at = Addresses {
        logprobs: read(&batch.logprobs, &stream, &mut guards),
        old_logprobs: read(&batch.old_logprobs, &stream, &mut guards),
        reference: batch.ref_logprobs.as_ref().map_or(0, |view| read(view, &stream, &mut guards)),
        entropies: batch.entropies.as_ref().map_or(0, |view| read(view, &stream, &mut guards)),
        advantages: read(&batch.advantages, &stream, &mut guards),
        weights: read(&batch.weights, &stream, &mut guards),
        ..Addresses::default()
    };
    let mut write = |(address, guard)| {
        guards.push(guard);
        address
    };
    at.d_logprobs = write(logprobs.device_ptr_mut(&stream));
    at.d_entropies = entropies.as_mut().map_or(0, |entropies| write(entropies.device_ptr_mut(&stream)));
    at.partial = write(sums.partial.device_ptr_mut(&stream));
    at.totals = write(sums.totals.device_ptr_mut(&stream));
    for call in calls(config, &at, tokens).map_err(Error::wrap)? {
        let function = device.get_or_load_custom_func(call.kernel, NAME, PTX)?;
        let mut builder = function.builder();
        for value in &call.values {
            builder.arg(value);
        }
        let grid = LaunchConfig { grid_dim: (call.blocks, 1, 1), block_dim: (call.threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the kernel's arguments in number, order and size, which the emulation checks in tests; the arrays
        // have the lengths that were checked above.
        unsafe { builder.launch(grid) }.w()?;
    }
    Ok(())
}

fn read<'a>(view: &'a CudaView<'_, f32>, stream: &'a CudaStream, guards: &mut Vec<SyncOnDrop<'a>>) -> u64 {
    let (address, guard) = view.device_ptr(stream);
    guards.push(guard);
    address
}

fn check(
    config: &LossConfig,
    batch: &DeviceBatch<'_>,
    gradients: &DeviceGradients<'_>,
    sums: &DeviceSums,
    tokens: usize,
) -> std::result::Result<(), LossError> {
    let same = |array, len| expect_len(NAME, array, len, tokens);
    same("old_logprobs", batch.old_logprobs.len())?;
    same("advantages", batch.advantages.len())?;
    same("weights", batch.weights.len())?;
    same("ref_logprobs", batch.ref_logprobs.as_ref().map_or(tokens, CudaView::len))?;
    same("entropies", batch.entropies.as_ref().map_or(tokens, CudaView::len))?;
    same("gradients.logprobs", gradients.logprobs.len())?;
    same("gradients.entropies", gradients.entropies.as_ref().map_or(tokens, CudaViewMut::len))?;
    let missing = |array, needed_by| LossError::Missing { function: NAME, array, needed_by };
    if config.kl.coef != 0.0 && batch.ref_logprobs.is_none() {
        return Err(missing("ref_logprobs", "kl.coef"));
    }
    if config.entropy_coef != 0.0 && batch.entropies.is_none() {
        return Err(missing("entropies", "entropy_coef"));
    }
    if partial_len(tokens) > sums.partial.len() {
        return Err(LossError::Length {
            function: NAME,
            array: "scratch",
            len: sums.partial.len(),
            expected: partial_len(tokens),
        });
    }
    Ok(())
}
