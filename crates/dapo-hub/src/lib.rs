//! Models and data files from the Hugging Face hub, kept in its cache.
//!
//! - [`Hub::model`] brings what `dapo_policy::load_checkpoint` reads and returns the folder;
//!   [`Hub::dataset_file`] brings one file of a data set; [`HubPath`] parses `hf://` addresses.
//! - The cache is the one of `huggingface_hub` (`models--ORG--NAME/{blobs,refs,snapshots}`): each side uses what the
//!   other has downloaded, and nothing in it is asked for twice. So a branch stays at the commit it was first seen at,
//!   until its file in `refs` is deleted.
//! - Every file is checked against the size and the hash that the hub states for it, and one that differs is removed. A cut
//!   connection is taken up where it ended.
//!
//! ```no_run
//! use dapo_hub::Hub;
//!
//! let hub = Hub::from_env()?;
//! let folder = hub.model("Qwen/Qwen3-0.6B", "main", &mut |p| eprint!("\r{}: {}/{}", p.file, p.done, p.total))?;
//! let checkpoint = dapo_policy::load_checkpoint(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod client;
mod connect;
mod digest;
mod env;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod model;
mod path;
mod repo;
mod request;
mod transfer;

pub use client::{Hub, Network, Progress, Retry};
pub use error::HubError;
pub use path::HubPath;
