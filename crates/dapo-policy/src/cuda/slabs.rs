//! Where the model's tensors lie on the device: those that one product reads lie in one array, a slab.

use crate::lora::{LoraTarget, module};
use crate::{ModelConfig, PolicyError};
use std::collections::HashMap;

/// A parameter's place: its slab, and where in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) slab: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// The slabs of a layer, by number.
#[derive(Debug)]
pub(super) struct LayerSlabs {
    pub(super) input_norm: usize,
    /// Queries, keys and values.
    pub(super) qkv: usize,
    pub(super) qkv_bias: Option<usize>,
    /// Of queries and of keys.
    pub(super) head_norms: Option<(usize, usize)>,
    pub(super) output: usize,
    pub(super) output_bias: Option<usize>,
    pub(super) mlp_norm: usize,
    /// Gate and up.
    pub(super) gate_up: usize,
    pub(super) gate_up_bias: Option<usize>,
    pub(super) down: usize,
    pub(super) down_bias: Option<usize>,
}

/// The slabs of a model, by number.
#[derive(Debug)]
pub(super) struct Slabs {
    pub(super) embeddings: usize,
    pub(super) norm: usize,
    /// The head's weight; the embeddings where it is tied.
    pub(super) head: usize,
    pub(super) layers: Vec<LayerSlabs>,
    /// Elements of each.
    pub(super) lens: Vec<usize>,
    /// By parameter, in the configuration's order.
    pub(super) places: Vec<Place>,
}

/// Puts tensors into slabs.
struct Planner {
    /// Number and elements of each parameter, by name.
    parameters: HashMap<String, (usize, usize)>,
    lens: Vec<usize>,
    places: Vec<Place>,
}

impl Planner {
    fn slab(&mut self, names: &[String]) -> Result<usize, PolicyError> {
        let slab = self.lens.len();
        let mut start = 0;
        for name in names {
            let Some(&(index, len)) = self.parameters.get(name) else {
                return Err(PolicyError::Internal(format!("the device needs a parameter {name}, which is not listed")));
            };
            self.places[index] = Place { slab, start, len };
            start += len;
        }
        self.lens.push(start);
        Ok(slab)
    }

    fn one(&mut self, name: String) -> Result<usize, PolicyError> {
        self.slab(&[name])
    }

    /// Weights and, where there are any, biases of projections that read the same.
    fn linear(&mut self, modules: &[String], bias: bool) -> Result<(usize, Option<usize>), PolicyError> {
        let named = |kind: &str| -> Vec<String> { modules.iter().map(|module| format!("{module}.{kind}")).collect() };
        let weight = self.slab(&named("weight"))?;
        let bias = if bias { Some(self.slab(&named("bias"))?) } else { None };
        Ok((weight, bias))
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<LayerSlabs, PolicyError> {
        use LoraTarget::{Down, Gate, Key, Output, Query, Up, Value};
        let p = format!("model.layers.{index}");
        let (qkv, qkv_bias) = self.linear(&[Query, Key, Value].map(|t| module(index, t)), config.qkv_bias)?;
        let (output, output_bias) = self.linear(&[module(index, Output)], config.o_bias)?;
        let (gate_up, gate_up_bias) = self.linear(&[Gate, Up].map(|t| module(index, t)), config.mlp_bias)?;
        let (down, down_bias) = self.linear(&[module(index, Down)], config.mlp_bias)?;
        let head_norms = if config.qk_norm {
            let query = self.one(format!("{p}.self_attn.q_norm.weight"))?;
            Some((query, self.one(format!("{p}.self_attn.k_norm.weight"))?))
        } else {
            None
        };
        Ok(LayerSlabs {
            input_norm: self.one(format!("{p}.input_layernorm.weight"))?,
            qkv,
            qkv_bias,
            head_norms,
            output,
            output_bias,
            mlp_norm: self.one(format!("{p}.post_attention_layernorm.weight"))?,
            gate_up,
            gate_up_bias,
            down,
            down_bias,
        })
    }
}

impl Slabs {
    pub(super) fn of(config: &ModelConfig) -> Result<Self, PolicyError> {
        let shapes = config.parameter_shapes();
        let count = shapes.len();
        let parameters = shapes.into_iter().enumerate();
        let parameters = parameters.map(|(i, (name, shape))| (name, (i, shape.iter().product()))).collect();
        let mut planner = Planner { parameters, lens: Vec::new(), places: vec![Place::default(); count] };
        let embeddings = planner.one("model.embed_tokens.weight".into())?;
        let norm = planner.one("model.norm.weight".into())?;
        let head = if config.tie_word_embeddings { embeddings } else { planner.one("lm_head.weight".into())? };
        let layers = (0..config.num_hidden_layers).map(|i| planner.layer(config, i)).collect::<Result<_, _>>()?;
        if let Some(missed) = planner.places.iter().position(|place| place.len == 0) {
            return Err(PolicyError::Internal(format!("parameter {missed} has no place on the device")));
        }
        Ok(Self { embeddings, norm, head, layers, lens: planner.lens, places: planner.places })
    }
}
