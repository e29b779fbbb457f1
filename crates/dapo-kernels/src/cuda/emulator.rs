//! Launches on the CPU: see `emulation/runtime.h`.

#![expect(unsafe_code, reason = "calling the emulation's C interface")]

use super::call::Kernel;
use candle_core::{Result, bail};
use std::ffi::{CStr, CString, c_char, c_void};

/// Runs kernels thread by thread.
#[derive(Debug)]
pub(crate) struct Emulator {
    /// In what order blocks and threads take turns.
    pub(crate) order: u64,
}

unsafe extern "C" {
    fn dapo_emulation_launch(
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

impl Emulator {
    pub(crate) fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        values: &mut [u64],
        sizes: &[usize],
    ) -> Result<()> {
        let name = CString::new(kernel.name).map_err(candle_core::Error::wrap)?;
        let arguments: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        // SAFETY: the arrays have the lengths given. The emulation checks the number and sizes of the arguments; the
        // pointers among them are those of slices that the launch holds, and its grid fits their lengths.
        let message = unsafe {
            dapo_emulation_launch(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared_bytes,
                arguments.as_ptr(),
                sizes.as_ptr(),
                arguments.len(),
                self.order,
            )
        };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: a message is a string that stays until this thread's next launch.
        bail!("{}", unsafe { CStr::from_ptr(message) }.to_string_lossy())
    }
}
