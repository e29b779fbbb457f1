//! Low-rank adapters on a decoder's projections.

use super::{Decoder, named};
use crate::backend::Trained;
use crate::check::check_tensor;
use crate::error::PolicyError;
use crate::lora::{LoraConfig, initial_tensors};
use candle_core::Tensor;
use std::collections::BTreeMap;

impl Decoder {
    /// This decoder with trainable low-rank adapters, its own weights frozen: y = W·x + b + s·B·(A·x), where
    /// s is α / r, or α / √r with [`LoraConfig::rslora`].
    ///
    /// A is drawn uniformly from ±1/√in, keyed by the seed and its name, and B is 0, so that the model computes what it
    /// did.
    ///
    /// # Errors
    /// When the configuration is invalid, or the decoder has adapters already.
    ///
    /// ```no_run
    /// use dapo_policy::{LoraConfig, load};
    /// let (policy, _) = load("path/to/model".as_ref())?;
    /// let policy = policy.with_lora(&LoraConfig::default(), 0)?;
    /// println!("{} trainable values", policy.num_parameters());
    /// # Ok::<(), dapo_policy::PolicyError>(())
    /// ```
    pub fn with_lora(self, lora: &LoraConfig, seed: u64) -> Result<Self, PolicyError> {
        let tensors = initial_tensors(&lora.parameter_shapes(self.config())?, seed)?;
        self.with_adapters(lora, tensors)
    }

    /// This decoder with the given adapters, by the names of [`LoraConfig::parameter_shapes`].
    pub(crate) fn with_adapters(
        mut self,
        lora: &LoraConfig,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self, PolicyError> {
        if let Some(present) = self.lora() {
            let found = format!("a second set of adapters (the first has rank {})", present.rank);
            let expected = "a model without adapters".into();
            return Err(PolicyError::Setting { field: "lora".into(), found, expected });
        }
        let shapes = lora.parameter_shapes(self.config())?;
        for (name, shape) in &shapes {
            check_tensor(name, shape, tensors.get(name))?;
        }
        self.factors = named(shapes);
        self.backend.adapt(lora, tensors)?;
        self.spec.lora = Some(lora.clone());
        self.spec.trained = Trained::Adapters;
        Ok(self)
    }

    /// The adapters' configuration, where there are adapters.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.spec.lora.as_ref()
    }
}
