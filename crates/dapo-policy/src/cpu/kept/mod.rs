//! Activations that generation keeps, so that a backward pass need not begin with a forward.
//!
//! A row's bits do not depend on what is computed beside it: what a layer computes of a token while it is generated is
//! what the forward of training computes of it again. Kept rows are found by the tokens that they were computed of, and
//! given up whenever a weight changes. So nobody has to say what may be used: what is found holds, and what is not
//! found is computed.
//!
//! Rows lie in blocks of a few tokens of one sequence, and a block has memory of its own for each layer. A backward
//! pass puts a batch together a layer at a time, from the last one to the first, and gives up the layer's blocks: their
//! memory serves for the layer's gradients.

mod assembly;
mod budget;
mod keeper;
mod layout;
mod rows;
mod store;

pub(super) use assembly::{Assembly, Missing};
pub(super) use keeper::{Keeper, Keeping};
pub(super) use rows::KeptRows;
pub(super) use store::{KeptStore, Use};
