//! AdamW's moments.

use crate::error::{PolicyError, elsewhere};
use std::any::Any;
use std::fmt;

/// Moments as a backend keeps them.
pub(crate) trait MomentMemory: Any + fmt::Debug + Send + Sync {}

/// First and second moments of every parameter, where the decoder that they belong to computes.
#[derive(Debug)]
pub struct Moments(Box<dyn MomentMemory>);

impl Moments {
    pub(crate) fn new(memory: impl MomentMemory) -> Self {
        Self(Box::new(memory))
    }

    /// A backend's moments.
    pub(crate) fn memory<T: MomentMemory>(&self) -> Result<&T, PolicyError> {
        let memory: &dyn Any = self.0.as_ref();
        memory.downcast_ref().ok_or_else(|| elsewhere("moments"))
    }

    /// A backend's moments, to be changed.
    pub(crate) fn memory_mut<T: MomentMemory>(&mut self) -> Result<&mut T, PolicyError> {
        let memory: &mut dyn Any = self.0.as_mut();
        memory.downcast_mut().ok_or_else(|| elsewhere("moments"))
    }
}
