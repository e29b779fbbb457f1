//! Properties of every parser of texts and files from outside, for a fuzzer and for the tests of the workspace.
//!
//! A target panics where an input breaks a property. Targets of [`models`] need Candle and the feature `models`.
#![allow(missing_docs)]

#[cfg(feature = "models")]
pub mod hub;
pub mod input;
pub mod light;
#[cfg(feature = "models")]
pub mod models;
