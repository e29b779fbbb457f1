//! Small random decoders and packed batches for tests.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "no test file uses all of it")]

use candle_core::{Device, Tensor};
use dapo_policy::{
    AfterTurn, Architecture, Completion, Decoder, EndedTurn, GenerationConfig, LoraConfig, ModelConfig, Policy,
    PolicyError, Request, Segments, SourceFields, TokenBatch, TurnAnswer, Turns,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) architecture: Architecture,
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab: usize,
    pub(crate) tied: bool,
    pub(crate) seed: u64,
}

pub(crate) fn decoder(shape: Shape) -> Decoder {
    let Shape { architecture, layers, kv_heads, group, head_dim, vocab, tied, seed } = shape;
    let config = ModelConfig {
        architecture,
        vocab_size: vocab,
        hidden_size: 48,
        intermediate_size: 80,
        num_hidden_layers: layers,
        num_attention_heads: kv_heads * group,
        num_key_value_heads: kv_heads,
        head_dim,
        rope_theta: 1e4,
        rope_scaling: None,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: tied,
        qk_norm: architecture == Architecture::Qwen3,
        qkv_bias: architecture == Architecture::Qwen2,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 512,
        bos_token_id: None,
        eos_token_ids: vec![1],
        pad_token_id: None,
        source: SourceFields::default(),
    };
    let mut next = numbers(seed);
    let tensors: BTreeMap<String, Tensor> = config
        .parameter_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let n: usize = shape.iter().product();
            let norm = name.contains("norm");
            let values: Vec<f32> = (0..n).map(|_| if norm { 1.0 + 0.2 * next() } else { 0.4 * next() }).collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect();
    Decoder::new(config, tensors).unwrap()
}

/// Numbers in -1..1.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A decoder with adapters that have been trained: neither factor is zero.
pub(crate) fn adapted(shape: Shape, lora: &LoraConfig) -> Decoder {
    let mut decoder = decoder(shape).with_lora(lora, shape.seed).unwrap();
    let mut next = numbers(shape.seed.wrapping_add(77));
    decoder
        .update(|_, _, values| {
            for value in values {
                *value += 0.2 * next();
            }
            Ok(())
        })
        .unwrap();
    decoder
}

pub(crate) fn plain() -> Shape {
    let architecture = Architecture::Qwen3;
    Shape { architecture, layers: 2, kv_heads: 1, group: 2, head_dim: 32, vocab: 50, tied: true, seed: 5 }
}

/// Prompts and completions in one packed batch; with `shared`, every prompt once.
pub(crate) fn batch(requests: &[Request], groups: &[Vec<Completion>], shared: bool) -> TokenBatch {
    let (mut token_ids, mut layout, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (request, group) in requests.iter().zip(groups) {
        let prompt = layout.len();
        if shared {
            layout.push((request.prompt_ids.len(), None));
            token_ids.extend(&request.prompt_ids);
        }
        for completion in group {
            if shared {
                layout.push((completion.token_ids.len(), Some(prompt)));
            } else {
                layout.push((request.prompt_ids.len() + completion.token_ids.len(), None));
                token_ids.extend(&request.prompt_ids);
            }
            targets.extend(token_ids.len()..token_ids.len() + completion.token_ids.len());
            token_ids.extend(&completion.token_ids);
        }
    }
    TokenBatch { token_ids, segments: Arc::new(Segments::new(layout).unwrap()), targets }
}

pub(crate) fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Says something after each turn that depends on the turn alone, `delay` calls later, until `turns` are done.
pub(crate) struct Talk {
    pub(crate) vocab: usize,
    pub(crate) turns: usize,
    pub(crate) longest: usize,
    pub(crate) max_context: usize,
    pub(crate) max_new_tokens: usize,
    pub(crate) delay: usize,
    pub(crate) calls: usize,
    pub(crate) open: Vec<TurnAnswer>,
}

impl Turns for Talk {
    fn ended(&mut self, turn: EndedTurn<'_>) -> Result<(), PolicyError> {
        assert!(!turn.token_ids.is_empty());
        let mut hash =
            turn.token_ids.iter().fold(turn.turn as u64, |h, t| h.wrapping_mul(31).wrapping_add((*t).into()));
        let mut next = || {
            hash = hash.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (hash >> 33) as usize
        };
        let said: Vec<u32> = (0..next() % (self.longest + 1)).map(|_| (next() % self.vocab) as u32).collect();
        let is_full = turn.context + said.len() > self.max_context || turn.generated == self.max_new_tokens;
        let then = if turn.turn >= self.turns || is_full {
            AfterTurn::End(turn.finish_reason)
        } else {
            AfterTurn::Append(said)
        };
        self.open.push(TurnAnswer { id: turn.id, then });
        Ok(())
    }

    fn answers(&mut self, wait: bool) -> Result<Vec<TurnAnswer>, PolicyError> {
        self.calls += 1;
        let is_time = wait || self.delay == 0 || self.calls.is_multiple_of(self.delay + 1);
        Ok(if is_time { self.open.pop().into_iter().collect() } else { Vec::new() })
    }
}

/// All completions of all requests.
pub(crate) fn talk(
    policy: &impl Policy,
    requests: &[Request],
    config: &GenerationConfig,
    mut talk: Talk,
) -> Vec<Vec<Completion>> {
    let mut groups = vec![Vec::new(); requests.len()];
    policy
        .generate_turns(requests, config, &mut talk, &mut |number, group| {
            groups[number].extend(group);
            0
        })
        .unwrap();
    assert!(talk.open.is_empty());
    groups
}
