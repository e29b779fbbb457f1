//! The fused pass: loss and gradient of a packed batch in one reading of its arrays.
//!
//! From below: [`block_sums`] holds a block's scratch and its sums in a fixed order; [`sequence_terms`] what a token needs
//! to know about its sequence; [`surrogate_block`] evaluates a block of DAPO's own loss in one loop, [`staged_block`] a
//! block under any other settings; [`tile_tree`] goes from blocks to a chunk of the batch, over the threads;
//! [`loss_plan`] checks the input and evaluates chunks, [`whole_batch`] a micro-batch in one call.

mod block_sums;
pub(crate) mod loss_plan;
mod sequence_terms;
mod staged_block;
mod surrogate_block;
mod tile_tree;
pub(crate) mod whole_batch;
