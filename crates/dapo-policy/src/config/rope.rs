//! Scaled rotary embeddings: how a model trained on short sequences is stretched to longer ones.

use super::fields::Fields;
use crate::error::PolicyError;
use serde_json::{Map, Value, json};
use std::f64::consts::PI;

/// A change of the rotary frequencies f_i = θ^(−2i/d), i < d/2, as `rope_parameters` or `rope_scaling` names it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// f_i / `factor`: position interpolation ([arXiv 2306.15595](https://arxiv.org/abs/2306.15595)).
    Linear {
        /// How much longer sequences may become.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// How much longer sequences may become.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The length the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
    },
    /// YaRN ([arXiv 2309.00071](https://arxiv.org/abs/2309.00071)): interpolation by frequency band, with a temperature on
    /// attention through the rotary table.
    Yarn {
        /// How much longer sequences may become.
        factor: f64,
        /// Rotations within the original length above which a frequency is kept.
        beta_fast: f64,
        /// Rotations within the original length below which a frequency is divided by `factor`.
        beta_slow: f64,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// Whether the bounds of the bands are rounded to whole dimensions.
        truncate: bool,
        /// The length the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// YaRN with its paper's bands and temperature.
    pub fn yarn(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: temperature(factor, 1.0),
            truncate: true,
            original_max_position_embeddings,
        }
    }

    /// The frequencies f_i, `[head_dim / 2]`, and the factor of cosines and sines.
    pub(crate) fn apply(scaling: Option<&Self>, head_dim: usize, theta: f64) -> (Vec<f32>, f32) {
        let exponent = |i: usize| 2.0 * i as f64 / head_dim as f64;
        let plain = |i| 1.0 / theta.powf(exponent(i));
        let half = head_dim / 2;
        let all = |frequency: &dyn Fn(usize) -> f64| (0..half).map(|i| frequency(i) as f32).collect();
        match scaling {
            None => (all(&plain), 1.0),
            Some(Self::Linear { factor }) => (all(&|i| plain(i) / factor), 1.0),
            Some(Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) => {
                let original = *original_max_position_embeddings as f64;
                let scaled = |i| {
                    let frequency = plain(i);
                    let rotations = original * frequency / (2.0 * PI);
                    let kept = ((rotations - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                };
                (all(&scaled), 1.0)
            }
            Some(Self::Yarn {
                factor,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
                original_max_position_embeddings,
            }) => {
                // The dimension that makes so many rotations within the original length.
                let dimension = |rotations: f64| {
                    let original = *original_max_position_embeddings as f64;
                    head_dim as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let scaled = |i: usize| {
                    let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    interpolated * plain(i) / factor + (1.0 - interpolated) * plain(i)
                };
                (all(&scaled), *attention_factor as f32)
            }
        }
    }

    /// The longest sequence that the scaling is meant for, where it says so.
    pub(super) fn longest(&self) -> Option<usize> {
        match self {
            Self::Yarn { factor, original_max_position_embeddings: original, .. } => {
                Some((*original as f64 * factor) as usize)
            }
            _ => None,
        }
    }

    /// The entries of `rope_parameters`, in the spelling of transformers.
    pub(super) fn to_json(self) -> Map<String, Value> {
        let entries = match self {
            Self::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            Self::Yarn {
                factor,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "attention_factor": attention_factor,
                "truncate": truncate,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        };
        match entries {
            Value::Object(entries) => entries,
            _ => Map::new(),
        }
    }

    /// What is wrong with the values: field, found, expected.
    pub(super) fn check(&self) -> Result<(), (&'static str, String, String)> {
        let above_0 = |name, value: f64| {
            let good = value.is_finite() && value > 0.0;
            if good { Ok(()) } else { Err((name, value.to_string(), "a finite number above 0".to_owned())) }
        };
        let factor_of = |factor: f64| {
            let good = factor.is_finite() && factor >= 1.0;
            let expected = || "a finite number of at least 1".to_owned();
            if good { Ok(()) } else { Err(("rope_parameters.factor", factor.to_string(), expected())) }
        };
        match *self {
            Self::Linear { factor } => factor_of(factor),
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, .. } => {
                factor_of(factor)?;
                above_0("rope_parameters.low_freq_factor", low)?;
                if !(high.is_finite() && high > low) {
                    let expected = format!("a finite number above low_freq_factor = {low}");
                    return Err(("rope_parameters.high_freq_factor", high.to_string(), expected));
                }
                Ok(())
            }
            Self::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
                factor_of(factor)?;
                above_0("rope_parameters.beta_slow", beta_slow)?;
                above_0("rope_parameters.attention_factor", attention_factor)?;
                if !(beta_fast.is_finite() && beta_fast > beta_slow) {
                    let expected = format!("a finite number above beta_slow = {beta_slow}");
                    return Err(("rope_parameters.beta_fast", beta_fast.to_string(), expected));
                }
                Ok(())
            }
        }
    }
}

/// YaRN's temperature: 0.1 · `scale` · ln s + 1 for s > 1.
fn temperature(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

/// A configuration's rotary fields: the base θ and the scaling.
///
/// Both `rope_parameters` (transformers 5) and `rope_scaling` with `rope_theta` beside it (before) are read, with `type`
/// for `rope_type`.
pub(super) fn read(fields: &Fields<'_>, longest: usize) -> Result<(f64, Option<RopeScaling>), PolicyError> {
    let mut theta = fields.number("rope_theta")?;
    if let Some(found) = fields.get("partial_rotary_factor").filter(|found| found.as_f64() != Some(1.0)) {
        return Err(fields.error("partial_rotary_factor", found, "1: partial rotary embeddings are not supported"));
    }
    let mut scaling = None;
    for field in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = fields.get(field) else { continue };
        let Some(entries) = rope.as_object() else { return Err(fields.error(field, rope, "an object or null")) };
        let entries = Entries { fields, field, values: entries };
        theta = entries.number("rope_theta")?.or(theta);
        scaling = entries.scaling(longest)?.or(scaling);
    }
    Ok((theta.unwrap_or(10_000.0), scaling))
}

/// The entries of `rope_scaling` or `rope_parameters`.
struct Entries<'a> {
    fields: &'a Fields<'a>,
    field: &'static str,
    values: &'a Map<String, Value>,
}

impl Entries<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn error(&self, name: &str, found: &Value, expected: &str) -> PolicyError {
        self.fields.error(&format!("{}.{name}", self.field), found, expected)
    }

    fn number(&self, name: &str) -> Result<Option<f64>, PolicyError> {
        self.get(name).map(|value| value.as_f64().ok_or_else(|| self.error(name, value, "a number"))).transpose()
    }

    fn required(&self, name: &str) -> Result<f64, PolicyError> {
        let missing = || {
            let path = format!("{}.{name}", self.field);
            PolicyError::field(self.fields.file, path, "missing", "a number")
        };
        self.number(name)?.ok_or_else(missing)
    }

    fn original_length(&self) -> Result<Option<usize>, PolicyError> {
        let name = "original_max_position_embeddings";
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..1 << 31).contains(n)) {
            Some(length) => Ok(Some(length)),
            None => Err(self.error(name, value, "a whole number above 0 and below 2^31")),
        }
    }

    /// Refuses what the kind of scaling does not know, for it could change the frequencies.
    fn check_known(&self, known: &[&str]) -> Result<(), PolicyError> {
        for (name, value) in self.values {
            let plain = match name.as_str() {
                "rope_type" | "type" | "rope_theta" => true,
                "partial_rotary_factor" => value.as_f64() == Some(1.0),
                other => known.contains(&other),
            };
            if !plain && !value.is_null() {
                return Err(self.error(name, value, "absent with this rope_type"));
            }
        }
        Ok(())
    }

    fn scaling(&self, longest: usize) -> Result<Option<RopeScaling>, PolicyError> {
        let (name, kind) = match (self.get("rope_type"), self.get("type")) {
            (Some(kind), _) => ("rope_type", kind),
            (None, Some(kind)) => ("type", kind),
            (None, None) => ("rope_type", &Value::Null),
        };
        let scaling = match kind.as_str() {
            None if kind.is_null() => None,
            Some("default") => None,
            Some("linear") => {
                self.check_known(&["factor"])?;
                return Ok(Some(RopeScaling::Linear { factor: self.required("factor")? }));
            }
            Some("llama3") => {
                let original = "original_max_position_embeddings";
                self.check_known(&["factor", "low_freq_factor", "high_freq_factor", original])?;
                Some(RopeScaling::Llama3 {
                    factor: self.required("factor")?,
                    low_freq_factor: self.required("low_freq_factor")?,
                    high_freq_factor: self.required("high_freq_factor")?,
                    original_max_position_embeddings: self.original_length()?.unwrap_or(longest),
                })
            }
            Some("yarn") => Some(self.yarn(longest)?),
            _ => {
                let expected = "\"default\", \"linear\", \"llama3\" or \"yarn\"";
                return Err(self.error(name, kind, expected));
            }
        };
        if scaling.is_none() {
            let factor = self.number("factor")?.filter(|factor| *factor == 1.0);
            self.check_known(if factor.is_some() { &["factor"] } else { &[] })?;
        }
        Ok(scaling)
    }

    fn yarn(&self, longest: usize) -> Result<RopeScaling, PolicyError> {
        let original = "original_max_position_embeddings";
        let [attention, mscale, all_dim] = ["attention_factor", "mscale", "mscale_all_dim"];
        self.check_known(&["factor", "beta_fast", "beta_slow", "truncate", original, attention, mscale, all_dim])?;
        let factor = self.required("factor")?;
        let scales = (self.number(mscale)?, self.number(all_dim)?);
        let implied = match scales {
            (Some(scale), Some(all_dim)) if scale != 0.0 && all_dim != 0.0 => {
                temperature(factor, scale) / temperature(factor, all_dim)
            }
            _ => temperature(factor, 1.0),
        };
        let truncate = match self.get("truncate") {
            None => true,
            Some(value) => value.as_bool().ok_or_else(|| self.error("truncate", value, "true or false"))?,
        };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.number("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.number("beta_slow")?.unwrap_or(1.0),
            attention_factor: self.number(attention)?.unwrap_or(implied),
            truncate,
            original_max_position_embeddings: self.original_length()?.unwrap_or(longest),
        })
    }
}
