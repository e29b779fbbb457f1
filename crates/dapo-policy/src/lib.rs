//! The policy of a reinforcement-learning run: a decoder-only language model that can be sampled from, scored and
//! trained.
//!
//! - [`load`] reads a Hugging Face folder or a GGUF file of the Qwen3, Qwen2.5 or Llama family; [`save_checkpoint`]
//!   writes the folder form, which transformers, vLLM and llama.cpp's converter read.
//! - [`Policy::generate`] samples completions, batched and cached; [`Policy::logprobs`] scores completions in packed
//!   batches; [`Policy::logprobs_backward`] does so while a loss hands back its gradients.
//! - [`Decoder::with_lora`] freezes the weights and trains low-rank adapters instead; [`save_adapter`] writes them as
//!   PEFT does.
//! - [`Decoder::base_logprobs`] and [`Decoder::frozen_copy`] give the reference of a KL term.
//! - A sampled token's log-prob and its log-prob when scored are equal, bit for bit: one forward serves both
//!   (see [`dapo_kernels`]).
//!
//! - [`candle::PolicyVars`] makes variables of the weights and scores differentiably, for loops with candle's optimisers.
//!
//! The CPU and CUDA are backends behind one trait; a scheduler for both decides what is generated when.
//!
//! The feature `schema` gives the JSON schema of the settings.
//!
//! When not to use it: for serving. It keeps f32 weights, twice on a CPU, so that they can be trained.
//!
//! ```no_run
//! use dapo_policy::{GenerationConfig, Policy, Request, StopTokens, load};
//! # fn main() -> Result<(), dapo_policy::PolicyError> {
//! let (policy, tokenizer) = load("path/to/model".as_ref())?;
//! let prompt_ids = tokenizer.encode("12+34=", false)?;
//! let requests = [Request { prompt_ids, samples: 4, first_sample: 0, draw: 0 }];
//! let config = GenerationConfig::new(StopTokens::of(policy.config(), &tokenizer));
//! for completion in &policy.generate(&requests, &config)?[0] {
//!     println!("{} ({:?})", tokenizer.decode(&completion.token_ids, true)?, completion.finish_reason);
//! }
//! # Ok(())
//! # }
//! ```

mod activations;
mod backend;
mod batch;
pub mod candle;
mod chat;
mod check;
mod checkpoint;
mod config;
mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
mod decoder;
mod device;
mod error;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod generate;
mod generator;
mod gguf;
mod gradients;
mod guard;
mod lora;
mod moments;
mod pack;
mod policy;
mod random;
mod request;
mod sampling;
mod scheduler;
mod stop;
mod stop_strings;
mod tokenizer;
mod turns;
mod value_head;

pub use activations::activation_bytes;
pub use backend::{Compute, LayerMemory, WeightFormat};
pub use batch::{Loss, TokenBatch, TokenLogprobs};
pub use chat::{ChatOptions, Message};
pub use check::LARGEST_WEIGHT;
pub use checkpoint::{
    Checkpoint, TensorFile, adapter_base, adapter_tokenizer, load, load_adapter, load_checkpoint, load_in_memory,
    read_adapter, read_tensors, read_weights, save_adapter, save_checkpoint, save_checkpoint_with, write_tensors,
    write_tensors_with, write_weights, write_weights_with,
};
pub use config::{Architecture, ModelConfig, RopeScaling, SourceFields};
pub use dapo_kernels::adamw::AdamWStep;
pub use dapo_kernels::attention::{Segment, Segments};
pub use dapo_kernels::logprobs::{RowGradients, Rows};
pub use decoder::Decoder;
pub use device::{Device, cuda_device_count, cuda_devices, cuda_memory};
pub use error::PolicyError;
pub use gradients::Gradients;
pub use guard::guarded;
pub use lora::{LoraConfig, LoraTarget};
pub use moments::Moments;
pub use pack::{CompletionTokens, PackedTokens, TokenGroup, pack_tokens};
pub use policy::{Each, GenerationProgress, More, Policy, Watch, WatchTokens};
pub use request::{Completion, ContextTokens, FinishReason, GenerationConfig, Request, TurnLimits};
pub use sampling::{Purpose, SamplingConfig};
pub use stop::StopTokens;
pub use stop_strings::StopStrings;
pub use tokenizer::Tokenizer;
pub use turns::{AfterTurn, EndedTurn, TurnAnswer, Turns};
pub use value_head::{ValueHead, ValueLossFn};
