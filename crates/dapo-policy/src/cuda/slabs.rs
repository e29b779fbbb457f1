//! Where the model's tensors lie on the device: those that one matmul reads lie in one array, a slab.

use crate::backend::{ParameterId, ParameterSet, Trained};
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::lora::{LoraConfig, LoraTarget, module, name_of_a, name_of_b};
use std::collections::HashMap;
use std::ops::Range;

/// A parameter's place: its slab, and where in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) slab: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Projections that read the same: their weights are one below another in one slab, and so are their biases.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
    pub(super) adapters: Option<AdapterSlabs>,
}

/// Their low-rank adapters.
#[derive(Debug)]
pub(super) struct AdapterSlabs {
    /// A of all of them, `[n·r, in]`.
    pub(super) a: usize,
    pub(super) parts: Vec<AdapterPart>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct AdapterPart {
    /// B, `[out, r]`.
    pub(super) b: usize,
    /// Where its projection's outputs begin in a row, and how many there are.
    pub(super) start: usize,
    pub(super) out: usize,
}

/// The slabs of a layer, by number.
#[derive(Debug)]
pub(super) struct LayerSlabs {
    pub(super) input_norm: usize,
    /// Queries, keys and values.
    pub(super) qkv: Linear,
    /// Of queries and of keys.
    pub(super) head_norms: Option<(usize, usize)>,
    pub(super) output: Linear,
    pub(super) mlp_norm: usize,
    /// Gate and up.
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
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
    /// Those that are trained.
    pub(super) trained: Range<usize>,
    /// Of the model's own parameters, in the configuration's order.
    own: Vec<Place>,
    /// Of the adapters, in their order.
    adapters: Vec<Place>,
}

/// Puts tensors into slabs.
struct Planner {
    /// Number and shape of each parameter, by name.
    parameters: HashMap<String, (usize, Vec<usize>)>,
    lens: Vec<usize>,
    places: Vec<Place>,
}

impl Planner {
    fn new(shapes: Vec<(String, Vec<usize>)>, lens: Vec<usize>) -> Self {
        let places = vec![Place::default(); shapes.len()];
        let parameters = shapes.into_iter().enumerate().map(|(i, (name, shape))| (name, (i, shape))).collect();
        Self { parameters, lens, places }
    }

    fn slab(&mut self, names: &[String]) -> Result<usize, PolicyError> {
        let slab = self.lens.len();
        let mut start = 0;
        for name in names {
            let Some((index, shape)) = self.parameters.get(name) else {
                return Err(PolicyError::Internal(format!("the device needs a parameter {name}, which is not listed")));
            };
            let len = shape.iter().product();
            self.places[*index] = Place { slab, start, len };
            start += len;
        }
        self.lens.push(start);
        Ok(slab)
    }

    fn one(&mut self, name: String) -> Result<usize, PolicyError> {
        self.slab(&[name])
    }

    /// Weights and, where there are any, biases of projections that read the same.
    fn linear(&mut self, modules: &[String], bias: bool) -> Result<Linear, PolicyError> {
        let named = |kind: &str| -> Vec<String> { modules.iter().map(|module| format!("{module}.{kind}")).collect() };
        let weight = self.slab(&named("weight"))?;
        let bias = if bias { Some(self.slab(&named("bias"))?) } else { None };
        Ok(Linear { weight, bias, adapters: None })
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<LayerSlabs, PolicyError> {
        let p = format!("model.layers.{index}");
        let modules = |group: &[LoraTarget]| -> Vec<String> { group.iter().map(|t| module(index, *t)).collect() };
        let [qkv, output, gate_up, down] = GROUPS;
        let qkv = self.linear(&modules(qkv), config.qkv_bias)?;
        let output = self.linear(&modules(output), config.o_bias)?;
        let gate_up = self.linear(&modules(gate_up), config.mlp_bias)?;
        let down = self.linear(&modules(down), config.mlp_bias)?;
        let head_norms = if config.qk_norm {
            let query = self.one(format!("{p}.self_attn.q_norm.weight"))?;
            Some((query, self.one(format!("{p}.self_attn.k_norm.weight"))?))
        } else {
            None
        };
        let input_norm = self.one(format!("{p}.input_layernorm.weight"))?;
        let mlp_norm = self.one(format!("{p}.post_attention_layernorm.weight"))?;
        Ok(LayerSlabs { input_norm, qkv, head_norms, output, mlp_norm, gate_up, down })
    }

    /// The adapters of a group of projections of a layer.
    fn adapters(
        &mut self,
        config: &ModelConfig,
        lora: &LoraConfig,
        layer: usize,
        group: &[LoraTarget],
    ) -> Result<Option<AdapterSlabs>, PolicyError> {
        let targets: Vec<LoraTarget> = group.iter().copied().filter(|t| lora.targets.contains(t)).collect();
        if targets.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = targets.iter().map(|target| name_of_a(&module(layer, *target))).collect();
        let a = self.slab(&names)?;
        let (mut parts, mut start) = (Vec::new(), 0);
        for target in group {
            let out = outputs(config, *target);
            if targets.contains(target) {
                parts.push(AdapterPart { b: self.one(name_of_b(&module(layer, *target)))?, start, out });
            }
            start += out;
        }
        Ok(Some(AdapterSlabs { a, parts }))
    }

    /// The slabs' lengths and the parameters' places.
    fn finish(self) -> Result<(Vec<usize>, Vec<Place>), PolicyError> {
        match self.places.iter().position(|place| place.len == 0) {
            Some(missed) => Err(PolicyError::Internal(format!("parameter {missed} has no place on the device"))),
            None => Ok((self.lens, self.places)),
        }
    }
}

/// The projections that read the same, in the order of a layer.
const GROUPS: [&[LoraTarget]; 4] = {
    use LoraTarget::{Down, Gate, Key, Output, Query, Up, Value};
    [&[Query, Key, Value], &[Output], &[Gate, Up], &[Down]]
};

/// How wide a projection's output is.
fn outputs(config: &ModelConfig, target: LoraTarget) -> usize {
    match target {
        LoraTarget::Query => config.num_attention_heads * config.head_dim,
        LoraTarget::Key | LoraTarget::Value => config.num_key_value_heads * config.head_dim,
        LoraTarget::Output | LoraTarget::Down => config.hidden_size,
        LoraTarget::Gate | LoraTarget::Up => config.intermediate_size,
    }
}

impl Slabs {
    pub(super) fn of(config: &ModelConfig, lora: Option<&LoraConfig>, trained: Trained) -> Result<Self, PolicyError> {
        let mut planner = Planner::new(config.parameter_shapes(), Vec::new());
        let embeddings = planner.one("model.embed_tokens.weight".into())?;
        let norm = planner.one("model.norm.weight".into())?;
        let head = if config.tie_word_embeddings { embeddings } else { planner.one("lm_head.weight".into())? };
        let layers = 0..config.num_hidden_layers;
        let mut layers = layers.map(|i| planner.layer(config, i)).collect::<Result<Vec<_>, _>>()?;
        let (lens, own) = planner.finish()?;
        let own_slabs = lens.len();
        let (mut lens, mut adapters) = (lens, Vec::new());
        if let Some(lora) = lora {
            let mut planner = Planner::new(lora.parameter_shapes(config)?, lens);
            for (index, layer) in layers.iter_mut().enumerate() {
                let linears = [&mut layer.qkv, &mut layer.output, &mut layer.gate_up, &mut layer.down];
                for (linear, group) in linears.into_iter().zip(GROUPS) {
                    linear.adapters = planner.adapters(config, lora, index, group)?;
                }
            }
            (lens, adapters) = planner.finish()?;
        }
        let trained = match trained {
            Trained::Base => 0..own_slabs,
            Trained::Adapters => own_slabs..lens.len(),
            Trained::Nothing => 0..0,
        };
        Ok(Self { embeddings, norm, head, layers, lens, trained, own, adapters })
    }

    pub(super) fn place(&self, parameter: ParameterId) -> Place {
        match parameter.set {
            ParameterSet::Own => self.own[parameter.index],
            ParameterSet::Adapters => self.adapters[parameter.index],
        }
    }

    /// Lengths of the slabs that are trained.
    pub(super) fn trained_lens(&self) -> &[usize] {
        &self.lens[self.trained.clone()]
    }

    /// Whether a slab is trained.
    pub(super) fn trains(&self, slab: usize) -> bool {
        self.trained.contains(&slab)
    }
}
