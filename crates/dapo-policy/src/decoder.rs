//! The decoder: embeddings, layers of attention and SwiGLU, final norm and language-model head.
//!
//! T tokens of a packed batch, H hidden size, V vocabulary.

use crate::{ModelConfig, PolicyError, Segments};
use candle_core::{Tensor, Var};
use dapo_kernels::attention::{Heads, KvCache, attention, decode_attention};
use dapo_kernels::logprobs::Head;
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{RotaryTable, linear, norm_rope, rms_norm, swiglu, with_slice, with_slice_mut};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a backward pass keeps of each layer's forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerMemory {
    /// All intermediate values.
    #[default]
    Keep,
    /// The layer's input only; the rest is computed again (about a third more work, a fraction of the memory).
    Recompute,
}

/// Whether a forward records what a backward needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    Record,
    Detached,
}

/// A trainable tensor and its place among [`Decoder::parameters`].
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) index: usize,
    pub(crate) var: Var,
}

impl Parameter {
    fn tensor(&self, tracking: Tracking) -> Tensor {
        match tracking {
            Tracking::Record => self.var.as_tensor().clone(),
            Tracking::Detached => self.var.as_detached_tensor(),
        }
    }
}

/// A linear layer: weight, optional bias, and the packed copy of the weight.
#[derive(Debug)]
struct Projection {
    weight: Parameter,
    bias: Option<Parameter>,
    packed: Arc<PackedMatrix>,
}

impl Projection {
    fn forward(&self, x: &Tensor, tracking: Tracking) -> Result<Tensor, PolicyError> {
        let bias = self.bias.as_ref().map(|b| b.tensor(tracking));
        Ok(linear(x, &self.weight.tensor(tracking), &self.packed, bias.as_ref())?)
    }

    fn repack(&mut self) -> Result<(), PolicyError> {
        repack(&mut self.packed, &self.weight.var)
    }
}

fn pack(weight: &Var) -> Result<Arc<PackedMatrix>, PolicyError> {
    let (n, k) = weight.dims2()?;
    Ok(with_slice(weight, |w| Ok(Arc::new(PackedMatrix::from_transposed(w, n, k))))?)
}

fn repack(packed: &mut Arc<PackedMatrix>, weight: &Var) -> Result<(), PolicyError> {
    if let Some(packed) = Arc::get_mut(packed) {
        with_slice(weight, |w| {
            packed.repack_transposed(w);
            Ok(())
        })?;
    } else {
        *packed = pack(weight)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Layer {
    input_norm: Parameter,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    query_norm: Option<Parameter>,
    key_norm: Option<Parameter>,
    mlp_norm: Parameter,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// How a layer's tokens see each other.
pub(crate) enum Attend<'a> {
    /// Packed sequences.
    Packed(&'a Arc<Segments>),
    /// Packed sequences without parents, whose keys and values are also appended to one cache each.
    Prefill(&'a Arc<Segments>, &'a mut [KvCache]),
    /// One new token per cache.
    Decode(&'a mut [&'a mut KvCache]),
}

/// A Qwen3, Qwen2.5 or Llama decoder with trainable f32 weights.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    names: Vec<String>,
    embeddings: Parameter,
    layers: Vec<Layer>,
    norm: Parameter,
    /// `None`: the embeddings serve as head.
    head: Option<Parameter>,
    packed_head: Arc<PackedMatrix>,
    layer_memory: LayerMemory,
}

/// Takes the tensors of a checkpoint one by one, in the order of the configuration's parameters.
struct Builder {
    names: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Builder {
    fn parameter(&mut self, name: &str) -> Result<Parameter, PolicyError> {
        let missing = || {
            PolicyError::Internal(format!("the decoder needs a parameter {name} that its configuration does not list"))
        };
        let index = self.names.iter().position(|n| n == name).ok_or_else(missing)?;
        let tensor = self.tensors.remove(name).ok_or_else(missing)?;
        Ok(Parameter { index, var: Var::from_tensor(&tensor)? })
    }

    fn projection(&mut self, name: &str, bias: bool) -> Result<Projection, PolicyError> {
        let weight = self.parameter(&format!("{name}.weight"))?;
        let bias = if bias { Some(self.parameter(&format!("{name}.bias"))?) } else { None };
        let packed = pack(&weight.var)?;
        Ok(Projection { weight, bias, packed })
    }

    fn layer(&mut self, config: &ModelConfig, i: usize) -> Result<Layer, PolicyError> {
        let p = format!("model.layers.{i}");
        let qk_norm = |builder: &mut Self, name: &str| {
            if config.qk_norm { builder.parameter(&format!("{p}.self_attn.{name}.weight")).map(Some) } else { Ok(None) }
        };
        Ok(Layer {
            input_norm: self.parameter(&format!("{p}.input_layernorm.weight"))?,
            query: self.projection(&format!("{p}.self_attn.q_proj"), config.qkv_bias)?,
            key: self.projection(&format!("{p}.self_attn.k_proj"), config.qkv_bias)?,
            value: self.projection(&format!("{p}.self_attn.v_proj"), config.qkv_bias)?,
            output: self.projection(&format!("{p}.self_attn.o_proj"), config.o_bias)?,
            query_norm: qk_norm(self, "q_norm")?,
            key_norm: qk_norm(self, "k_norm")?,
            mlp_norm: self.parameter(&format!("{p}.post_attention_layernorm.weight"))?,
            gate: self.projection(&format!("{p}.mlp.gate_proj"), config.mlp_bias)?,
            up: self.projection(&format!("{p}.mlp.up_proj"), config.mlp_bias)?,
            down: self.projection(&format!("{p}.mlp.down_proj"), config.mlp_bias)?,
        })
    }
}

impl Decoder {
    /// A decoder with the given weights, by their Hugging Face names.
    ///
    /// # Errors
    /// When the configuration is invalid, or a tensor is missing or has another shape.
    pub fn new(config: ModelConfig, mut tensors: BTreeMap<String, Tensor>) -> Result<Self, PolicyError> {
        config.validate()?;
        let shapes = config.parameter_shapes();
        for (name, shape) in &shapes {
            match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => {}
                found => {
                    return Err(PolicyError::Setting {
                        field: name.clone(),
                        found: found.map_or("nothing".into(), |t| format!("a tensor of shape {:?}", t.dims())),
                        expected: format!("a tensor of shape {shape:?}"),
                    });
                }
            }
        }
        let names: Vec<String> = shapes.into_iter().map(|(name, _)| name).collect();
        tensors.retain(|name, _| names.contains(name));
        let mut builder = Builder { names, tensors };
        let embeddings = builder.parameter("model.embed_tokens.weight")?;
        let layers = (0..config.num_hidden_layers).map(|i| builder.layer(&config, i)).collect::<Result<_, _>>()?;
        let norm = builder.parameter("model.norm.weight")?;
        let head = if config.tie_word_embeddings { None } else { Some(builder.parameter("lm_head.weight")?) };
        let packed_head = pack(&head.as_ref().unwrap_or(&embeddings).var)?;
        let names = builder.names;
        Ok(Self { config, names, embeddings, layers, norm, head, packed_head, layer_memory: LayerMemory::Keep })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Sets what backward passes keep.
    pub fn set_layer_memory(&mut self, layer_memory: LayerMemory) {
        self.layer_memory = layer_memory;
    }

    pub(crate) fn layer_memory(&self) -> LayerMemory {
        self.layer_memory
    }

    /// Every parameter with its Hugging Face name, in a fixed order; a tied head appears once, as the embeddings.
    pub fn parameters(&self) -> Vec<(&str, &Var)> {
        let mut parameters: Vec<&Parameter> = vec![&self.embeddings, &self.norm];
        parameters.extend(&self.head);
        for l in &self.layers {
            parameters.extend([&l.input_norm, &l.mlp_norm]);
            parameters.extend(l.query_norm.iter().chain(&l.key_norm));
            for p in [&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down] {
                parameters.push(&p.weight);
                parameters.extend(&p.bias);
            }
        }
        parameters.sort_by_key(|p| p.index);
        parameters.into_iter().map(|p| (self.names[p.index].as_str(), &p.var)).collect()
    }

    /// Copies of handles to all tensors by name, as a checkpoint holds them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.parameters().into_iter().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect()
    }

    /// Number of trainable values.
    pub fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Changes every parameter in place (index, name, values) and makes the change take effect.
    ///
    /// # Errors
    /// What `f` returns; some parameters may then have changed.
    pub fn update(
        &mut self,
        mut f: impl FnMut(usize, &str, &mut [f32]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let mut outcome = Ok(());
        for (index, (name, var)) in self.parameters().into_iter().enumerate() {
            with_slice_mut(var, |values| {
                outcome = f(index, name, values);
                Ok(())
            })?;
            if outcome.is_err() {
                break;
            }
        }
        self.repack()?;
        outcome
    }

    fn repack(&mut self) -> Result<(), PolicyError> {
        for l in &mut self.layers {
            for p in [&mut l.query, &mut l.key, &mut l.value, &mut l.output, &mut l.gate, &mut l.up, &mut l.down] {
                p.repack()?;
            }
        }
        repack(&mut self.packed_head, &self.head.as_ref().unwrap_or(&self.embeddings).var)
    }

    pub(crate) fn heads(&self) -> Heads {
        let c = &self.config;
        Heads { query: c.num_attention_heads, key_value: c.num_key_value_heads, dim: c.head_dim }
    }

    pub(crate) fn num_layers(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn rotary_table(&self, positions: &[u32]) -> Arc<RotaryTable> {
        Arc::new(RotaryTable::new(positions, self.config.head_dim, self.config.rope_theta))
    }

    /// Rows of the embedding matrix, `[T, H]`; recorded by nobody.
    pub(crate) fn embed(&self, token_ids: &[u32]) -> Result<Tensor, PolicyError> {
        let (vocab, width) = (self.config.vocab_size, self.config.hidden_size);
        if let Some(i) = token_ids.iter().position(|t| *t as usize >= vocab) {
            return Err(PolicyError::Setting {
                field: format!("token_ids[{i}]"),
                found: token_ids[i].to_string(),
                expected: format!("an id below the vocabulary size, {vocab}"),
            });
        }
        let mut rows = Vec::with_capacity(token_ids.len() * width);
        with_slice(&self.embeddings.var, |table| {
            for token in token_ids {
                rows.extend_from_slice(&table[*token as usize * width..][..width]);
            }
            Ok(())
        })?;
        Ok(Tensor::from_vec(rows, (token_ids.len(), width), self.embeddings.var.device())?)
    }

    /// One layer, `[T, H]` → `[T, H]`.
    pub(crate) fn layer(
        &self,
        index: usize,
        x: &Tensor,
        table: &Arc<RotaryTable>,
        attend: &mut Attend<'_>,
        tracking: Tracking,
    ) -> Result<Tensor, PolicyError> {
        let (layer, heads, eps) = (&self.layers[index], self.heads(), self.config.rms_norm_eps as f32);
        let h = rms_norm(x, &layer.input_norm.tensor(tracking), eps)?;
        let rotate = |x: Tensor, norm: &Option<Parameter>| {
            let norm = norm.as_ref().map(|n| n.tensor(tracking));
            norm_rope(&x, norm.as_ref().map(|n| (n, eps)), table)
        };
        let q = rotate(layer.query.forward(&h, tracking)?, &layer.query_norm)?;
        let k = rotate(layer.key.forward(&h, tracking)?, &layer.key_norm)?;
        let v = layer.value.forward(&h, tracking)?;
        let attended = match attend {
            Attend::Packed(segments) => attention(&q, &k, &v, heads, segments)?,
            Attend::Prefill(segments, caches) => {
                fill(caches, segments, &k, &v)?;
                attention(&q, &k, &v, heads, segments)?
            }
            Attend::Decode(caches) => decode_attention(&q, &k, &v, heads, caches)?,
        };
        let x = (x + layer.output.forward(&attended, tracking)?)?;
        let h = rms_norm(&x, &layer.mlp_norm.tensor(tracking), eps)?;
        let h = swiglu(&layer.gate.forward(&h, tracking)?, &layer.up.forward(&h, tracking)?)?;
        Ok((x + layer.down.forward(&h, tracking)?)?)
    }

    /// The final norm.
    pub(crate) fn final_norm(&self, x: &Tensor, tracking: Tracking) -> Result<Tensor, PolicyError> {
        Ok(rms_norm(x, &self.norm.tensor(tracking), self.config.rms_norm_eps as f32)?)
    }

    /// Runs `f` with the language-model head.
    pub(crate) fn with_head<T>(
        &self,
        temperature: f32,
        f: impl FnOnce(Head<'_>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        let mut outcome = None;
        with_slice(&self.head_parameter().var, |weight| {
            outcome = Some(f(Head { weight, packed: &self.packed_head, temperature }));
            Ok(())
        })?;
        outcome.unwrap_or_else(|| Err(PolicyError::Internal("the head was not used".into())))
    }

    pub(crate) fn head_parameter(&self) -> &Parameter {
        self.head.as_ref().unwrap_or(&self.embeddings)
    }

    pub(crate) fn embedding_parameter(&self) -> &Parameter {
        &self.embeddings
    }

    /// Logits of every token of a packed batch, `[T, V]`: for inspection and tests; training never forms them.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the ids do not fill the segments.
    pub fn logits(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Tensor, PolicyError> {
        let hidden = self.hidden_states(token_ids, segments)?.pop();
        let hidden = hidden.ok_or_else(|| PolicyError::Internal("no hidden states".into()))?;
        let mut logits = Vec::new();
        self.with_head(1.0, |head| {
            Ok(with_slice(&hidden, |h| {
                head.logits(h, &mut logits);
                Ok(())
            })?)
        })?;
        Ok(Tensor::from_vec(logits, (token_ids.len(), self.config.vocab_size), hidden.device())?)
    }

    /// The embeddings, the output of every layer but the last, and the final norm's output, each `[T, H]`.
    ///
    /// # Errors
    /// As [`Decoder::logits`].
    pub fn hidden_states(&self, token_ids: &[u32], segments: &Arc<Segments>) -> Result<Vec<Tensor>, PolicyError> {
        check_total(token_ids, segments)?;
        let table = self.rotary_table(&segments.positions());
        let mut states = vec![self.embed(token_ids)?];
        for i in 0..self.layers.len() {
            let x = self.layer(i, &states[i], &table, &mut Attend::Packed(segments), Tracking::Detached)?;
            states.push(x);
        }
        if let Some(last) = states.pop() {
            states.push(self.final_norm(&last, Tracking::Detached)?);
        }
        Ok(states)
    }
}

/// Fails when the tokens do not fill the segments.
pub(crate) fn check_total(token_ids: &[u32], segments: &Segments) -> Result<(), PolicyError> {
    if token_ids.len() == segments.total() {
        return Ok(());
    }
    Err(PolicyError::Setting {
        field: "token_ids".into(),
        found: format!("{} tokens", token_ids.len()),
        expected: format!("the segments' {}", segments.total()),
    })
}

fn fill(caches: &mut [KvCache], segments: &Segments, k: &Tensor, v: &Tensor) -> Result<(), PolicyError> {
    let width = k.dim(1)?;
    with_slice(k, |k| {
        with_slice(v, |v| {
            for (cache, segment) in caches.iter_mut().zip(segments.list()) {
                let rows = segment.start * width..(segment.start + segment.len) * width;
                cache.append(&k[rows.clone()], &v[rows])?;
            }
            Ok(())
        })
    })?;
    Ok(())
}
