//! Several processes that train as one: bytes between ranks with deadlines, and arithmetic whose bits do not depend on the
//! number of ranks.
//!
//! - [`World`] moves bytes between ranks: [`Solo`] is one rank, [`threads`] are ranks of one process, and with the feature
//!   `mpi` [`open`] gives processes that a launcher started. Every operation has a deadline and names the rank that is
//!   missing, the operation, and the phase of training.
//! - [`Shards`], [`TreeSum`], [`Exchange`] and [`Blocks`] sum gradients over V virtual shards in one fixed binary tree and
//!   leave each rank the blocks that it owns.
//! - [`Dealing`] says which rank makes which draw.
//! - [`supervise`] makes a killed rank a silent one, so that the others end the job with their report.
//! - [`handshake`], [`widen`] and [`Launch`] find out at the start what would go unnoticed later: different settings,
//!   ranks on one core, processes that do not know each other.
//!
//! The crate knows neither models nor tensors.
//!
//! The feature `mpi` needs MPI and libclang for building (Debian: `openmpi-bin libopenmpi-dev libclang-dev`). Without it
//! nothing of MPI is linked.
//!
//! When not to use it: ranks that come and go. A world has a fixed size, and a missing rank ends it.
//!
//! ```
//! use dapo_dist::{Blocks, Exchange, Shards, TreeSum, threads};
//! use std::time::Duration;
//!
//! // Gradients of two values from four shards, at one, two and four ranks.
//! let gradients = [[1e8, 1.0], [1.0, 2.0], [-1e8, 3.0], [1.0, 4.0]];
//! for size in [1, 2, 4] {
//!     let totals = threads::run(size, Duration::from_secs(5), |world| {
//!         let (shards, blocks) = (Shards::new(4, size)?, Blocks::with_size(2, 1)?);
//!         let mine = shards.of_rank(world.rank(), size);
//!         let mut local = TreeSum::new(mine.start);
//!         for shard in mine {
//!             local.push_shard(Some(gradients[shard].to_vec()));
//!         }
//!         let mut own = vec![0.0; blocks.owned(world.rank(), size).len()];
//!         world.phase("step 1: gradients");
//!         Exchange::new().reduce_scatter(world, shards, blocks, &local, &mut own)?;
//!
//!         let mut total = vec![0.0; 2];
//!         total[blocks.owned(world.rank(), size)].copy_from_slice(&own);
//!         blocks.all_gather(world, &mut total)?;
//!         Ok(total)
//!     });
//!     assert!(totals.into_iter().all(|total| total == Ok(vec![0.0, 10.0])));
//! }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod affinity;
mod blocks;
mod collect;
mod draws;
mod error;
mod exchange;
mod handshake;
mod launch;
mod link;
mod messenger;
#[cfg(feature = "mpi")]
mod mpi;
mod note;
mod open;
mod options;
mod solo;
mod supervise;
pub mod threads;
mod tree;
mod wire;
mod world;

pub use affinity::{Binding, widen};
pub use blocks::Blocks;
pub use collect::{gather, share, share_of, sum_counts};
pub use draws::Dealing;
pub use error::{DistError, Place};
pub use exchange::Exchange;
pub use handshake::{Difference, cpu, differences, handshake};
pub use launch::{Launch, launched, ranks_here};
pub use open::{mpi_version, open};
pub use options::Options;
pub use solo::Solo;
pub use supervise::supervise;
pub use tree::{Node, Shards, TreeSum};
pub use world::{EXIT_MISSING_RANK, Inbox, World};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeExamples;
