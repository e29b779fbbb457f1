//! Activations that generation keeps, so that a backward pass need not begin with a forward.
//!
//! A row's bits do not depend on what is computed beside it: what a layer computes of a token while it is generated is
//! what the forward of training computes of it again. Kept rows are found by the tokens that they were computed of, and
//! given up whenever a weight changes. So nobody has to say what may be used: what is found holds, and what is not
//! found is computed.
//!
//! Rows lie in blocks of a few tokens of one sequence. Within a block each value of each layer has its rows one after
//! another, as a packed batch has them: putting a batch together copies runs of rows, a layer at a time.

mod assembly;
mod keeper;
mod layout;
mod pool;
mod rows;
mod store;

pub(super) use assembly::{Assembly, Missing};
pub(super) use keeper::{Keeper, Keeping};
pub(super) use rows::KeptRows;
pub(super) use store::{KeptStore, Use};
