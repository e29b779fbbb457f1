//! What a run will need, before it starts: memory, tokens, updates, disk space.
//!
//! Figures assume completions of full length, so they are upper bounds; what cannot be bounded without running says on
//! what it rests.

mod disk;
mod gpu;
mod kept;
mod memory;
mod shape;
mod units;
mod work;

pub use disk::Disk;
pub(crate) use gpu::cache_left;
pub use memory::{Memory, Part, Phases};
pub use work::Work;

use crate::settings::RunConfig;
use dapo_policy::ModelConfig;
use kept::Kept;
use serde::Serialize;
use shape::Shape;
use std::fmt;
pub(crate) use units::bytes;
use units::count;

/// What is known of the data; with less, limits of the settings stand in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataSizes {
    /// Number of problems to train on.
    pub problems: Option<usize>,
    /// Tokens of the longest prompt; else `data.max_prompt_tokens`.
    pub longest_prompt: Option<usize>,
}

/// What a run will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostEstimate {
    /// Memory while it runs.
    pub memory: Memory,
    /// Tokens and updates.
    pub work: Work,
    /// Disk space of the run folder.
    pub disk: Disk,
}

/// What a run of these settings on a model of these sizes will need: on a GPU where `model.device` names one, else on the
/// processor.
///
/// ```
/// use dapo_run::{DataSizes, Layer, estimate, resolve};
/// # let model = serde_json::json!({"architectures": ["Qwen3ForCausalLM"], "vocab_size": 151_936, "hidden_size": 1024,
/// #     "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
/// #     "head_dim": 128, "tie_word_embeddings": true});
/// # let model = dapo_policy::ModelConfig::from_json(&model, "config.json".as_ref())?;
/// let config = resolve(&[Layer::parse("dapo")?])?.config;
/// let estimate = estimate(&config, &model, DataSizes::default());
/// let weights = &estimate.memory.parts[0];
/// assert_eq!((weights.name, weights.bytes), ("weights", 4 * 596_049_920));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn estimate(config: &RunConfig, model: &ModelConfig, data: DataSizes) -> CostEstimate {
    let room = model.max_position_embeddings.saturating_sub(config.max_tokens_after_prompt());
    let prompt = data.longest_prompt.unwrap_or(config.data.max_prompt_tokens.min(room)).max(1);
    let gpu = config.model.device.starts_with("cuda");
    let shape = Shape::of(model, gpu);
    let work = Work::of(config, data, prompt, &shape);
    let parameters = Parameters::of(config, model);
    let memory = if gpu {
        Memory::of_gpu(config, &shape, &parameters, &work)
    } else {
        Memory::of(config, &shape, &parameters, &work, Kept::of(config, model, &work))
    };
    let disk = Disk::of(config, &parameters, &work);
    CostEstimate { memory, work, disk }
}

impl CostEstimate {
    /// The line on the memory of ranks that train as one, `here` of them on this machine.
    pub fn of_ranks(&self, ranks: usize, here: usize) -> String {
        let each = self.memory.of_rank(ranks).peak();
        let together = each.saturating_mul(here as u64);
        let what = if self.memory.gpu { "GPU memory" } else { "memory" };
        format!(
            "{:<26}{ranks}, each with {} of {what} at most; {here} on this machine, with {} together",
            "ranks",
            bytes(each),
            bytes(together)
        )
    }
}

/// Numbers of values in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Of the model itself.
    pub(crate) model: u64,
    /// In the matrices, padded to whole panels.
    pub(crate) matrices: u64,
    /// Padding of those of them that matmuls read.
    pub(crate) padding: u64,
    /// In the packed copies of the adapters.
    pub(crate) packed_adapters: u64,
    /// Of adapters; 0 without.
    pub(crate) adapters: u64,
}

impl Parameters {
    fn of(config: &RunConfig, model: &ModelConfig) -> Self {
        let (mut parameters, mut matrices, mut padding) = (0, 0, 0);
        let (mut adapters, mut packed_adapters) = (0.0, 0.0);
        // The last panel of 32 rows is padded.
        let panels = |rows: f64| (rows / 32.0).ceil() * 32.0;
        let rank = config.lora.as_ref().map_or(0, |lora| lora.rank) as f64;
        for (name, shape) in model.parameter_shapes() {
            let size: usize = shape.iter().product();
            parameters += size as u64;
            let [rows, columns] = shape[..] else { continue };
            let (rows, columns) = (rows as f64, columns as f64);
            let padded = (panels(rows) * columns) as u64;
            matrices += padded;
            // Embeddings are looked up, unless they are the head, too.
            if !name.starts_with("model.embed") || model.tie_word_embeddings {
                padding += padded.saturating_sub(size as u64);
            }
            let layer = name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
            if config.lora.iter().flat_map(|lora| &lora.targets).any(|target| target.name() == layer) {
                adapters += rank * (rows + columns);
                packed_adapters += panels(rank) * columns + panels(rows) * rank;
            }
        }
        // Room for the bytes of each, however absurd the rank.
        let bounded = |number: f64| (number as u64).min(u64::MAX / 32);
        let (adapters, packed_adapters) = (bounded(adapters), bounded(packed_adapters));
        Self { model: parameters, matrices, padding, packed_adapters, adapters }
    }

    /// Those that are trained.
    pub(crate) fn trained(&self) -> u64 {
        if self.adapters > 0 { self.adapters } else { self.model }
    }
}

impl fmt::Display for CostEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, work, disk } = self;
        let mut row = |name: &str, text: String| writeln!(f, "{name:<26}{text}");
        let (roll_out, update) = (bytes(memory.roll_out()), bytes(memory.update()));
        row(
            if memory.gpu { "GPU memory at most" } else { "memory at most" },
            if memory.loading() == memory.peak() {
                format!("{}, at the start; {roll_out} in rollouts; {update} in updates", bytes(memory.loading()))
            } else if memory.roll_out() > memory.update() {
                format!("{roll_out}, in rollouts; {update} in updates")
            } else {
                format!("{update}, in updates; {roll_out} in rollouts")
            },
        )?;
        for part in &memory.parts {
            let when = match part.phases {
                Phases::Always => "",
                Phases::Loading => "  at the start",
                Phases::RollOut => "  in rollouts",
                Phases::Update => "  in updates",
            };
            row(&format!("  {}", part.name), format!("{}{when}", bytes(part.bytes)))?;
        }
        row(
            "a step",
            format!(
                "{} prompts a round, {}, {} completions each, {} at a time",
                work.prompts_a_round,
                match work.rounds_at_most {
                    Some(1) => "one round".into(),
                    Some(most) => format!("{} of at most {most} rounds", work.rounds_expected),
                    None => format!("{} rounds, at most a pass over the data", work.rounds_expected),
                },
                work.completions_a_prompt,
                work.at_a_time,
            ),
        )?;
        let at_most = work.tokens_at_most.map_or("unbounded".into(), |tokens| format!("{} at most", count(tokens)));
        row(
            "  tokens generated",
            format!("{} if half of the groups are kept; {at_most}", count(work.tokens_expected)),
        )?;
        row("  tokens trained", format!("{} at most", count(work.tokens_trained)))?;
        row("  updates", work.updates.to_string())?;
        row(
            "the run",
            format!(
                "{} steps, {} updates, {} tokens generated if half of the groups are kept",
                work.steps,
                count(work.steps.saturating_mul(work.updates)),
                count(work.steps.saturating_mul(work.tokens_expected)),
            ),
        )?;
        row("disk at most", bytes(disk.total()))?;
        row("  checkpoints", format!("{} of {}", disk.checkpoints, bytes(disk.checkpoint)))?;
        row("  completions' texts", bytes(disk.completions))
    }
}
