//! The kernel on the CPU, thread by thread.

#![expect(unsafe_code, reason = "calling the emulation's C interface")]

use super::call::{Addresses, calls, partial_len};
use super::{LossSums, SUMS};
use crate::{
    config::LossConfig,
    error::{LossError, expect_len},
};
use std::ffi::{CStr, CString, c_char, c_void};

unsafe extern "C" {
    fn dapo_loss_emulation_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: usize,
        arguments: *const *mut c_void,
        sizes: *const usize,
        count: usize,
        order: u64,
    ) -> *const c_char;
}

/// The arrays of a loss on a device, as slices of T values.
#[derive(Clone, Copy, Debug)]
pub struct EmulatedBatch<'a> {
    /// Under the current policy, in nats.
    pub logprobs: &'a [f32],
    /// Under the behaviour policy.
    pub old_logprobs: &'a [f32],
    /// Under the reference, where `kl.coef` is not 0.
    pub ref_logprobs: Option<&'a [f32]>,
    /// Entropies in nats.
    pub entropies: Option<&'a [f32]>,
    /// A.
    pub advantages: &'a [f32],
    /// As [`token_weights`](super::token_weights) gives them.
    pub weights: &'a [f32],
}

/// What the kernel on a device does: writes the gradients and adds to the sums. `order` is that in which blocks and threads
/// take turns: 0 ascending, 1 descending, else shuffled.
///
/// # Errors
/// Lengths that disagree, settings outside their range or not made for a device.
///
/// # Panics
/// When the emulation refuses a launch, which is a mistake in this crate.
pub fn policy_loss_emulated(
    config: &LossConfig,
    batch: EmulatedBatch<'_>,
    d_logprobs: &mut [f32],
    d_entropies: Option<&mut [f32]>,
    sums: &mut LossSums,
    order: u64,
) -> Result<(), LossError> {
    let tokens = batch.logprobs.len();
    let lens = [batch.old_logprobs.len(), batch.advantages.len(), batch.weights.len(), d_logprobs.len()];
    let optional = [batch.ref_logprobs, batch.entropies, d_entropies.as_deref()];
    for len in lens.into_iter().chain(optional.into_iter().flatten().map(<[f32]>::len)) {
        expect_len("policy_loss", "an array", len, tokens)?;
    }
    let address = |slice: Option<&[f32]>| slice.map_or(0, |slice| slice.as_ptr() as u64);
    let mut partial = vec![0.0f64; partial_len(tokens)];
    let at = Addresses {
        logprobs: address(Some(batch.logprobs)),
        old_logprobs: address(Some(batch.old_logprobs)),
        reference: address(batch.ref_logprobs),
        entropies: address(batch.entropies),
        advantages: address(Some(batch.advantages)),
        weights: address(Some(batch.weights)),
        d_logprobs: d_logprobs.as_mut_ptr() as u64,
        d_entropies: d_entropies.map_or(0, |slice| slice.as_mut_ptr() as u64),
        partial: partial.as_mut_ptr() as u64,
        totals: sums.0.as_mut_ptr() as u64,
    };
    debug_assert_eq!(sums.0.len(), SUMS);
    for mut call in calls(config, &at, tokens)? {
        let name = CString::new(call.kernel).expect("kernels' names have no zeros");
        let arguments: Vec<*mut c_void> =
            call.values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        // SAFETY: the arrays have the lengths given; the emulation checks the number and sizes of the arguments, whose
        // pointers are those of the slices above.
        let message = unsafe {
            dapo_loss_emulation_launch(
                name.as_ptr(),
                [call.blocks, 1, 1].as_ptr(),
                [call.threads, 1, 1].as_ptr(),
                0,
                arguments.as_ptr(),
                call.sizes.as_ptr(),
                arguments.len(),
                order,
            )
        };
        // SAFETY: a message is a string that stays until this thread's next launch.
        assert!(message.is_null(), "{}", unsafe { CStr::from_ptr(message) }.to_string_lossy());
    }
    Ok(())
}
