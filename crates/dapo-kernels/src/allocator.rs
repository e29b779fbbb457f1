//! The allocator of the project's programs, with the feature `mimalloc`.
//!
//! A step of training needs the same memory as the step before, but not all the time. mimalloc gives freed memory back
//! to the system after a second, and a step of a model takes longer than that. Where pages are expensive, as they are
//! on many virtual machines, asking for the memory again then takes a large part of a step.
//!
//! ```
//! use dapo_kernels::allocator::{MiMalloc, hold_freed_memory};
//!
//! #[global_allocator]
//! static ALLOCATOR: MiMalloc = MiMalloc;
//!
//! hold_freed_memory();
//! ```
#![expect(unsafe_code, reason = "options of mimalloc, which is written in C")]

pub use mimalloc::MiMalloc;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use std::ffi::c_long;

/// `mi_option_purge_delay`, in milliseconds; the bindings have no name for it.
const PURGE_DELAY: mi_option_t = 15;
const MINUTE: c_long = 60_000;

/// Lets mimalloc hold freed memory for a minute, unless the environment variable `MIMALLOC_PURGE_DELAY` sets another time.
/// Call it once, at the start of a program whose global allocator is mimalloc.
pub fn hold_freed_memory() {
    // SAFETY: the option exists, and a number may be set at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, MINUTE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    #[test]
    fn freed_memory_is_held_for_a_minute() {
        // SAFETY: the option exists.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        // mimalloc's own default shows that the number names the right option.
        assert_eq!(delay(), 1000);
        hold_freed_memory();
        assert_eq!(delay(), 60_000);
    }
}
