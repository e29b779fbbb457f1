//! The native half of the Python package `dapo_verifier`.
//!
//! Every function releases the GIL while it works, and raises a Python exception for whatever goes wrong.

mod arguments;
mod verifier;

use pyo3::prelude::*;

/// Functions of `dapo-reward`, with arguments checked and nothing else.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::verifier::{extract, judge, soft_overlong, verify, verify_batch};
}
