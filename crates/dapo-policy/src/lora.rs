//! Low-rank adapters (LoRA, arXiv 2106.09685): what they are put on, how they begin, and how they are merged.
//!
//! r the rank; of a projection `[out, in]`, A is `[r, in]` and B `[out, r]`.

use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::random::uniform;
use candle_core::Tensor;
use dapo_kernels::matmul::{Lhs, Mode, Rhs, matmul};
use dapo_kernels::with_slice;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

/// A projection of every layer that adapters can be put on, by its Hugging Face name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LoraTarget {
    /// `q_proj`.
    #[serde(rename = "q_proj")]
    Query,
    /// `k_proj`.
    #[serde(rename = "k_proj")]
    Key,
    /// `v_proj`.
    #[serde(rename = "v_proj")]
    Value,
    /// `o_proj`.
    #[serde(rename = "o_proj")]
    Output,
    /// `gate_proj`.
    #[serde(rename = "gate_proj")]
    Gate,
    /// `up_proj`.
    #[serde(rename = "up_proj")]
    Up,
    /// `down_proj`.
    #[serde(rename = "down_proj")]
    Down,
}

impl LoraTarget {
    /// Every target, in the order in which a layer lists its projections.
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The Hugging Face name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    fn block(self) -> &'static str {
        match self {
            Self::Query | Self::Key | Self::Value | Self::Output => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }
}

impl fmt::Display for LoraTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LoraTarget {
    type Err = PolicyError;

    /// Reads the Hugging Face name.
    fn from_str(name: &str) -> Result<Self, PolicyError> {
        Self::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| PolicyError::Setting {
            field: "lora target".into(),
            found: name.into(),
            expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// Which projections get adapters, and how large these are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoraConfig {
    /// r, the rank.
    pub rank: usize,
    /// α: the product of the factors is multiplied by α / r, with `rslora` by α / √r.
    pub alpha: f64,
    /// Whether the scale is α / √r (rank-stabilised LoRA, arXiv 2312.03732), which does not fade with the rank.
    pub rslora: bool,
    /// The projections that get adapters, by their Hugging Face names, each at most once; their order means nothing.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraConfig {
    /// Rank 16 and α 32 on every projection, scaled by α / r.
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, rslora: false, targets: LoraTarget::ALL.to_vec() }
    }
}

impl LoraConfig {
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let bad = |field: &str, found: String, expected: &str| {
            Err(PolicyError::Setting { field: format!("lora.{field}"), found, expected: expected.into() })
        };
        if self.rank == 0 {
            return bad("rank", "0".into(), "at least 1");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return bad("alpha", self.alpha.to_string(), "a finite number above 0");
        }
        if self.targets.is_empty() {
            return bad(
                "targets",
                "empty".into(),
                &format!("some of {}", LoraTarget::ALL.map(LoraTarget::name).join(", ")),
            );
        }
        let twice = |i: &usize| self.targets[..*i].contains(&self.targets[*i]);
        if let Some(i) = (0..self.targets.len()).find(twice) {
            return bad(&format!("targets[{i}]"), self.targets[i].to_string(), "each target once");
        }
        Ok(())
    }

    /// α / r, or α / √r.
    pub(crate) fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }

    /// Layer by layer, the targeted projections' module names, in the order of the adapters.
    pub(crate) fn modules(&self, model: &ModelConfig) -> impl Iterator<Item = String> {
        let targets = LoraTarget::ALL.into_iter().filter(|target| self.targets.contains(target));
        (0..model.num_hidden_layers).flat_map(move |layer| targets.clone().map(move |target| module(layer, target)))
    }

    /// Every adapter tensor's name and shape, in the order of [`Decoder::parameters`](crate::Decoder::parameters).
    ///
    /// # Errors
    /// As [`LoraConfig::validate`], and when the rank exceeds the model's width, beyond which it adds nothing.
    pub fn parameter_shapes(&self, model: &ModelConfig) -> Result<Vec<(String, Vec<usize>)>, PolicyError> {
        self.validate()?;
        if self.rank > model.hidden_size {
            return Err(PolicyError::Setting {
                field: "lora.rank".into(),
                found: self.rank.to_string(),
                expected: format!("at most hidden_size = {}", model.hidden_size),
            });
        }
        let weights: HashMap<String, Vec<usize>> = model.parameter_shapes().into_iter().collect();
        let mut shapes = Vec::new();
        for module in self.modules(model) {
            let Some([out, width]) = weights.get(&format!("{module}.weight")).map(Vec::as_slice) else {
                return Err(PolicyError::Internal(format!("a model without the projection {module}")));
            };
            shapes.push((name_of_a(&module), vec![self.rank, *width]));
            shapes.push((name_of_b(&module), vec![*out, self.rank]));
        }
        Ok(shapes)
    }
}

/// The name of a layer's projection.
pub(crate) fn module(layer: usize, target: LoraTarget) -> String {
    format!("model.layers.{layer}.{}.{target}", target.block())
}

pub(crate) fn name_of_a(module: &str) -> String {
    format!("{module}.lora_A.weight")
}

pub(crate) fn name_of_b(module: &str) -> String {
    format!("{module}.lora_B.weight")
}

/// B is 0; A is uniform in ±1/√in, which is PEFT's Kaiming initialisation with a = √5.
pub(crate) fn initial_tensors(
    shapes: &[(String, Vec<usize>)],
    seed: u64,
) -> Result<BTreeMap<String, Tensor>, PolicyError> {
    let tensor = |(name, shape): &(String, Vec<usize>)| {
        let values = match shape[..] {
            [rank, width] if name.ends_with("lora_A.weight") => {
                uniform(name, seed, *b"lowrankA", rank * width, 1.0 / (width as f32).sqrt())
            }
            _ => vec![0.0; shape.iter().product()],
        };
        Ok((name.clone(), Tensor::from_vec(values, shape.as_slice(), &candle_core::Device::Cpu)?))
    };
    shapes.iter().map(tensor).collect()
}

/// W + scale · B·A.
///
/// # Shapes
/// W `[out, in]`, A `[r, in]`, B `[out, r]` → `[out, in]`.
pub(crate) fn merge(weight: &Tensor, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor, PolicyError> {
    let ((rank, width), out) = (a.dims2()?, b.dim(0)?);
    let mut merged = with_slice(weight, |w| Ok(w.to_vec()))?;
    let b: Vec<f32> = with_slice(b, |b| Ok(b.iter().map(|b| b * scale).collect()))?;
    with_slice(a, |a| {
        let (b, a) = (Lhs::rows(&b, rank), Rhs::Rows { data: a, stride: width });
        matmul(out, width, rank, b, a, &mut merged, width, Mode { accumulate: true, ..Mode::default() });
        Ok(())
    })?;
    Ok(Tensor::from_vec(merged, (out, width), weight.device())?)
}
