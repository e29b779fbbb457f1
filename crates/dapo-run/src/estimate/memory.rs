//! Memory, by what takes it and when.

use super::{Kept, Parameters, Shape, Work};
use crate::settings::RunConfig;
use dapo_policy::WeightFormat;
use serde::Serialize;

/// The program itself with a small tokenizer.
const PROGRAM: u64 = 64 << 20;
/// Freed memory that the allocator holds and that does not fit what is needed next, at most.
const MOST_HELD: u64 = 256 << 20;

/// When memory is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phases {
    /// From the first step to the last.
    Always,
    /// While the model is loaded, and then no longer.
    Loading,
    /// While completions are generated.
    RollOut,
    /// While the policy is updated.
    Update,
}

/// What takes memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Name of the part.
    pub name: &'static str,
    /// How much, in bytes.
    pub bytes: u64,
    /// When.
    pub phases: Phases,
}

/// Memory, by what takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Whether it is a GPU's. The processor's then holds the weights in f32, and little else.
    pub gpu: bool,
    /// What takes memory; parts of no bytes are left out.
    pub parts: Vec<Part>,
}

/// Moments of AdamW, and f32 values of weights in bf16.
const MOMENTS: [&str; 2] = ["optimiser's moments", "critic's moments"];
const IN_F32: [&str; 2] = ["f32 of what is trained", "critic's f32 of what is trained"];

/// Sums of gradients that one rank holds at a time: those of the tree over V shards, log2 V + 1, and the whole.
fn sums_of_shards(shards: usize) -> u64 {
    if shards > 1 { u64::from(shards.ilog2()) + 2 } else { 0 }
}

impl Memory {
    /// That of one of several ranks, of which each holds its share of the optimizer's moments and of the f32 values of weights
    /// in bf16: the most of any. On a GPU each holds all of them.
    #[must_use]
    pub fn of_rank(&self, ranks: usize) -> Self {
        let is_divided = |part: &Part| MOMENTS.iter().chain(&IN_F32).any(|name| *name == part.name);
        let share = |part: &Part| if is_divided(part) { part.bytes.div_ceil(ranks as u64) } else { part.bytes };
        let parts = self.parts.iter();
        let parts = parts.map(|part| Part { bytes: if self.gpu { part.bytes } else { share(part) }, ..part.clone() });
        Self { gpu: self.gpu, parts: parts.collect() }
    }

    /// The most that is in use at a time, in bytes.
    pub fn peak(&self) -> u64 {
        self.roll_out().max(self.update()).max(self.loading())
    }

    /// Before the first step, in bytes.
    pub fn loading(&self) -> u64 {
        let loaded = self.parts.iter().filter(|part| part.phases == Phases::Loading);
        loaded.fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
    }

    /// In rollouts, in bytes.
    pub fn roll_out(&self) -> u64 {
        self.sum(Phases::RollOut)
    }

    /// In updates, in bytes.
    pub fn update(&self) -> u64 {
        self.sum(Phases::Update)
    }

    fn sum(&self, phase: Phases) -> u64 {
        let used = self.parts.iter().filter(|part| part.phases == Phases::Always || part.phases == phase);
        used.fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
    }

    pub(super) fn of(
        config: &RunConfig,
        shape: &Shape,
        parameters: &Parameters,
        work: &Work,
        from_rollouts: Kept,
    ) -> Self {
        // With adapters, the model without them is the reference.
        let reference = config.has_reference() && parameters.adapters == 0;
        let is_half = config.model.weights == WeightFormat::Bf16;
        let (in_f32, in_bf16) = match config.model.weights {
            WeightFormat::F32 => (4 * (parameters.model + parameters.padding), 0),
            WeightFormat::Bf16 => (0, 2 * parameters.matrices),
        };
        // In bf16 what is trained, and a reference that moves, has f32 values, too.
        let f32_of = |has_them: bool| if is_half && has_them { 4 * parameters.model } else { 0 };
        let of_reference = in_f32 + in_bf16 + f32_of(config.reference_sync.every.is_some());
        let critic = u64::from(config.has_own_critic());
        let of_adapters = 4 * (parameters.adapters + parameters.packed_adapters);
        let of_critic = in_f32 + in_bf16 + of_adapters;
        let (gradients, activations) =
            (4 * parameters.trained(), shape.activations_beside(config, work, from_rollouts) as u64);
        let head = shape.head(config, work) as u64;
        let (keys_and_values, prompts) = (shape.growing(config, work) as u64, shape.prefill(config, work) as u64);
        let held = keys_and_values.saturating_add(prompts).saturating_add(gradients).min(MOST_HELD);
        let parts = [
            ("weights", in_f32, Phases::Always),
            ("weights in bf16", in_bf16, Phases::Always),
            (IN_F32[0], f32_of(parameters.adapters == 0), Phases::Always),
            ("adapters", 4 * parameters.adapters, Phases::Always),
            ("their packed copies", 4 * parameters.packed_adapters, Phases::Always),
            (MOMENTS[0], 8 * parameters.trained(), Phases::Always),
            ("reference model", if reference { of_reference } else { 0 }, Phases::Always),
            ("critic", critic * of_critic, Phases::Always),
            (IN_F32[1], critic * f32_of(parameters.adapters == 0), Phases::Always),
            (MOMENTS[1], critic * 8 * parameters.trained(), Phases::Always),
            ("weights before rounding", if is_half { PROGRAM + 4 * parameters.model } else { 0 }, Phases::Loading),
            ("program and tokenizer", PROGRAM + shape.tokenizer() as u64, Phases::Always),
            ("problems", work.problem_bytes, Phases::Always),
            ("completions of a step", work.completion_bytes, Phases::Always),
            ("activations of rollouts", from_rollouts.bytes as u64, Phases::Always),
            // Blocks nearly fill the sizes that an allocator has.
            ("gaps between them", from_rollouts.bytes as u64 / 16, Phases::Always),
            // Batches shrink as completions end, and gradients come and go: what is freed does not always fit what is needed
            // next.
            ("freed, held for reuse", held, Phases::Always),
            ("evaluated completions", work.evaluation_bytes, Phases::RollOut),
            ("keys and values", keys_and_values, Phases::RollOut),
            ("prompts and logits", prompts, Phases::RollOut),
            ("gradients", gradients, Phases::Update),
            ("sums of shards", gradients.saturating_mul(sums_of_shards(config.train.shards)), Phases::Update),
            ("critic's gradients", critic * gradients, Phases::Update),
            ("activations", activations, Phases::Update),
            ("head, a chunk of rows", head, Phases::Update),
        ];
        let parts = parts.into_iter().map(|(name, bytes, phases)| Part { name, bytes, phases });
        Self { gpu: false, parts: parts.filter(|part| part.bytes > 0).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_its_share_of_moments_and_f32_values() {
        let part = |name, bytes| Part { name, bytes, phases: Phases::Always };
        let divided = [(MOMENTS[0], 201), (MOMENTS[1], 40), (IN_F32[0], 100), (IN_F32[1], 20)];
        let divided = divided.map(|(name, bytes)| part(name, bytes));
        let memory = Memory { gpu: false, parts: [&[part("weights", 100)], &divided[..]].concat() };
        let peaks = [1, 2, 4].map(|ranks| memory.of_rank(ranks).peak());
        assert_eq!(peaks, [461, 100 + 101 + 20 + 50 + 10, 100 + 51 + 10 + 25 + 5]);
        let on_gpu = Memory { gpu: true, ..memory };
        assert_eq!(on_gpu.of_rank(4), on_gpu);
    }
}
