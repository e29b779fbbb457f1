//! Runs of the DAPO trainer: settings in layers, recipes, run folders, exact resume.
//!
//! [`RunConfig`] is all that a run is told; it is what a settings file spells out.

mod settings;

pub use settings::{
    AccuracyReward, AdvantageSection, DataSection, EvalSection, FormatReward, GenBatchSize, GraderName, KlSection,
    LayerMemoryName, LengthReward, LoraSection, LossSection, LrSchedule, ModelSection, OptimizerSection, OutputSection,
    OverlongSection, PolicyLossName, ProportionalOverlongReward, RepetitionReward, RewardsSection, RolloutSection,
    RunConfig, SamplerSection, SoftOverlongReward, SurplusName, TagCountReward, TrainSection,
};
