//! Deciding whether two answers mean the same.

mod compare;
mod judge;
mod measure;
mod prepare;
mod real_set;
mod relation;
mod scalar;
mod subject;
#[cfg(test)]
mod tests;

pub(crate) use compare::compare;
