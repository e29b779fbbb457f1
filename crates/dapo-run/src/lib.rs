//! Runs of the DAPO trainer: settings in layers, recipes, run folders, exact resume.
//!
//! [`RunConfig`] has all settings of a run; a settings file spells it out. [`resolve`] merges it from
//! [`Layer`]s: recipes, files and single values, of which later ones win ([`resolve_words`] from their names);
//! [`estimate`](estimate()) says what it will need.
//!
//! ```
//! let resolved = dapo_run::resolve_words(["tiny", "clip-higher", "train.steps=5"])?;
//! assert_eq!((resolved.config.train.steps, resolved.config.sampler.enabled), (5, false));
//! assert_eq!(resolved.source_of("train.mini_batches").to_string(), "recipe tiny");
//! # Ok::<(), dapo_run::SettingsError>(())
//! ```

mod best;
mod build;
mod checkpoints;
mod completions;
mod downloads;
mod error;
mod estimate;
mod external;
mod figures;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod guards;
mod identity;
mod inputs;
mod inventory;
mod keys;
mod layers;
mod logs;
mod lookup;
mod machine;
mod model;
mod own_rewards;
mod placement;
mod plan;
mod problems;
mod progress;
mod ranks;
mod recipes;
mod resume;
mod run;
mod run_error;
mod rust_problems;
mod saving;
mod scratch;
mod settings;
mod source;
mod start;
mod token_logprobs;
mod trackers;
mod trial;
mod trust;
mod unanswered;
mod watch;
mod write;

pub use downloads::{Download, watch_downloads};
pub use error::{KeyError, KeyFault, SettingsError};
pub use estimate::{CostEstimate, DataSizes, Disk, Memory, Part, Phases, Work, estimate};
pub use folder::RunFolder;
pub use guards::Alarm;
pub use inventory::{
    BestAccuracy, Difference, Leftover, LeftoverKind, RunStatus, RunSummary, clean, difference, find_runs,
    interrupted_starts, leftovers, model_card, summarize,
};
pub use keys::{Key, Kind, Variant, is_own_reward, key_table, keys, own_keys, own_kinds, schema, tables, zero};
pub use layers::{Layer, Resolved, resolve, resolve_text, resolve_words};
pub use lookup::describe_key;
pub use machine::{Machine, fits};
pub use model::{ModelSource, TINY};
pub use placement::{DeviceChoice, Placed, place};
pub use plan::{Plan, plan};
pub use problems::{ADDITION, Folder, ProblemCounts, ProblemFiles, Problems, load_problems, read_files};
pub use progress::{Mastered, Progress, RunStep};
pub use ranks::share_settings;
pub use recipes::{Recipe, recipes};
pub use resume::Resume;
pub use run::Run;
pub use run_error::{Rescue, RunError, Stage};
pub use rust_problems::RUST;
pub use settings::{
    Algorithm, DataSection, DistSection, EvalSection, GuardAction, GuardsSection, Judging, ModelSection, OutputSection,
    OverlongSection, OwnKind, OwnReward, OwnRewards, RewardsSection, RolloutSection, RunConfig, TagCountReward,
    Tracker, TrainSection, Weighted,
};
pub use source::Source;
pub use start::settings_of;
pub use trial::{RunRewards, Trial};
pub use trust::Trust;
pub use unanswered::Unanswered;
