//! How policy loss, aggregation and rollout correction are written in files: a name, or a table with the rest defaulted.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    aggregation::Aggregation,
    policy::{ClipRange, PolicyLoss},
    rollout_correction::{ImportanceLevel, Outside, RejectBy, Rejection, RolloutCorrection},
};

/// Reads a name as `named` has it, or a table as `T` has it.
struct NameOrTable<T, F> {
    expected: &'static str,
    named: F,
    table: PhantomData<T>,
}

impl<'de, T, V, E, F> Visitor<'de> for NameOrTable<T, F>
where
    T: Deserialize<'de> + TryInto<V, Error = String>,
    E: fmt::Display,
    F: Fn(&str) -> Result<V, E>,
{
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<D: Error>(self, name: &str) -> Result<V, D> {
        (self.named)(name).map_err(D::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(A::Error::custom)
    }
}

/// A policy loss as a table; what is left out keeps the values of its paper.
///
/// In the schema, `x-name` is the field that a string in the table's place stands for, and `x-of` says to which names a
/// field belongs.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("x-name" = "name")))]
pub(crate) struct PolicyLossTable {
    /// The surrogate, with the constants of its paper: `dapo`, `ppo` (both sides clipped at 0.2), `gspo`, `cispo`, `sapo`
    /// or `gmpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["dapo", "ppo", "gspo", "cispo", "sapo", "gmpo"])))]
    name: Option<String>,
    /// The clip range; by default that of the policy loss's paper.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-of" = ["dapo", "ppo", "gspo", "cispo", "gmpo"])))]
    clip: Option<ClipTable>,
    /// Dual clip c: for A < 0 the loss is at most −c·A; unset by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-of" = ["dapo", "ppo"])))]
    dual_clip: Option<f32>,
    /// τ for A > 0; 1.0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-of" = ["sapo"])))]
    tau_positive: Option<f32>,
    /// τ otherwise; 1.05 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("x-of" = ["sapo"])))]
    tau_negative: Option<f32>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ClipTable {
    /// ε_low, subtracted from 1.
    low: Option<f32>,
    /// ε_high, added to 1.
    high: Option<f32>,
}

impl ClipTable {
    fn over(self, clip: ClipRange) -> ClipRange {
        ClipRange { low: self.low.unwrap_or(clip.low), high: self.high.unwrap_or(clip.high) }
    }
}

impl From<ClipRange> for ClipTable {
    fn from(clip: ClipRange) -> Self {
        Self { low: Some(clip.low), high: Some(clip.high) }
    }
}

impl TryFrom<PolicyLossTable> for PolicyLoss {
    type Error = String;

    fn try_from(table: PolicyLossTable) -> Result<Self, String> {
        let name = table.name.as_deref().unwrap_or("dapo");
        let foreign = |field: &str| format!("the policy loss `{name}` has no field `{field}`");
        let mut loss = Self::from_str(name).map_err(|error| error.to_string())?;
        if let Some(new) = table.clip {
            match &mut loss {
                Self::Ppo { clip, .. } | Self::Gspo { clip } | Self::Cispo { clip } | Self::Gmpo { clip } => {
                    *clip = new.over(*clip);
                }
                Self::Sapo { .. } => return Err(foreign("clip")),
            }
        }
        if let Some(c) = table.dual_clip {
            match &mut loss {
                Self::Ppo { dual_clip, .. } => *dual_clip = Some(c),
                _ => return Err(foreign("dual_clip")),
            }
        }
        if let Some(tau) = table.tau_positive {
            match &mut loss {
                Self::Sapo { tau_positive, .. } => *tau_positive = tau,
                _ => return Err(foreign("tau_positive")),
            }
        }
        if let Some(tau) = table.tau_negative {
            match &mut loss {
                Self::Sapo { tau_negative, .. } => *tau_negative = tau,
                _ => return Err(foreign("tau_negative")),
            }
        }
        Ok(loss)
    }
}

impl<'de> Deserialize<'de> for PolicyLoss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the name of a policy loss, or a table of its fields";
        let table = PhantomData::<PolicyLossTable>;
        deserializer.deserialize_any(NameOrTable { expected, named: Self::from_str, table })
    }
}

impl Serialize for PolicyLoss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = PolicyLossTable { name: Some(self.name().to_owned()), ..PolicyLossTable::default() };
        match *self {
            Self::Ppo { clip, dual_clip } => (table.clip, table.dual_clip) = (Some(clip.into()), dual_clip),
            Self::Gspo { clip } | Self::Cispo { clip } | Self::Gmpo { clip } => table.clip = Some(clip.into()),
            Self::Sapo { tau_positive, tau_negative } => {
                (table.tau_positive, table.tau_negative) = (Some(tau_positive), Some(tau_negative));
            }
        }
        table.serialize(serializer)
    }
}

/// An aggregation as a table: its name beside its length, or its name as the key of a table with the length.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("x-name" = "name")))]
pub(crate) struct AggregationTable {
    /// The mode: `token-mean`, `seq-mean-token-mean`, `seq-mean-token-sum`, `seq-mean-token-sum-norm` or, for comparison,
    /// `local-token-mean`; by default that of the policy loss's paper.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum",
        "seq-mean-token-sum-norm", "local-token-mean"])))]
    name: Option<String>,
    /// The constant length of `seq-mean-token-sum-norm`, in tokens; in a run by default `rollout.max_new_tokens`.
    #[cfg_attr(feature = "schema", schemars(extend("x-of" = ["seq-mean-token-sum-norm"])))]
    max_len: Option<usize>,
    #[serde(rename = "seq-mean-token-sum-norm", skip_serializing)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    norm: Option<NormTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NormTable {
    max_len: usize,
}

impl TryFrom<AggregationTable> for Aggregation {
    type Error = String;

    fn try_from(table: AggregationTable) -> Result<Self, String> {
        match table {
            AggregationTable { name: Some(name), max_len, norm: None } => {
                let aggregation = Self::from_name(&name, max_len.unwrap_or(0)).map_err(|error| error.to_string())?;
                let has_length = matches!(aggregation, Self::SeqMeanTokenSumNorm { .. });
                if has_length || max_len.is_none() {
                    Ok(aggregation)
                } else {
                    Err(format!("the aggregation `{name}` has no field `max_len`"))
                }
            }
            AggregationTable { name: None, max_len: None, norm: Some(NormTable { max_len }) } => {
                Ok(Self::SeqMeanTokenSumNorm { max_len })
            }
            _ => Err("expected the `name` of an aggregation".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Aggregation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the name of an aggregation, or a table of `name` and `max_len`";
        let named = |name: &str| Self::from_name(name, 0);
        deserializer.deserialize_any(NameOrTable { expected, named, table: PhantomData::<AggregationTable> })
    }
}

impl Serialize for Aggregation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::SeqMeanTokenSumNorm { max_len } if max_len > 0 => {
                let name = Some(self.name().to_owned());
                AggregationTable { name, max_len: Some(max_len), norm: None }.serialize(serializer)
            }
            _ => serializer.serialize_str(self.name()),
        }
    }
}

/// A rollout correction as a table.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CorrectionTable {
    level: ImportanceLevel,
    outside: Outside,
    low: f32,
    high: f32,
    reject: Option<Rejection>,
}

impl Default for CorrectionTable {
    fn default() -> Self {
        let RolloutCorrection { level, outside, low, high, reject } = RolloutCorrection::default();
        Self { level, outside, low, high, reject }
    }
}

impl TryFrom<CorrectionTable> for RolloutCorrection {
    type Error = String;

    fn try_from(table: CorrectionTable) -> Result<Self, String> {
        let CorrectionTable { level, outside, low, high, reject } = table;
        Ok(Self { level, outside, low, high, reject })
    }
}

impl<'de> Deserialize<'de> for RolloutCorrection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the level of a rollout correction, or a table of its fields";
        let named = |name: &str| ImportanceLevel::from_str(name).map(|level| Self { level, ..Self::default() });
        deserializer.deserialize_any(NameOrTable { expected, named, table: PhantomData::<CorrectionTable> })
    }
}

/// A rejection as a table.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RejectionTable {
    by: RejectBy,
    low: Option<f32>,
    high: Option<f32>,
}

impl TryFrom<RejectionTable> for Rejection {
    type Error = String;

    fn try_from(RejectionTable { by, low, high }: RejectionTable) -> Result<Self, String> {
        Ok(Self { by, low, high })
    }
}

impl<'de> Deserialize<'de> for Rejection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "the ratio that is judged, or a table of its fields";
        let named = |name: &str| RejectBy::from_str(name).map(|by| Self { by, ..Self::default() });
        deserializer.deserialize_any(NameOrTable { expected, named, table: PhantomData::<RejectionTable> })
    }
}
