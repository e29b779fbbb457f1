//! What a run will do, before it does anything: its data, and how many steps it makes.

use crate::estimate::DataSizes;
use crate::model::ModelSource;
use crate::problems::{Folder, ProblemCounts, Problems, load_problems};
use crate::run_error::RunError;
use crate::settings::RunConfig;
use crate::trust::Trust;
use crate::unanswered::Unanswered;
use dapo_policy::{ModelConfig, Tokenizer};
use dapo_reward::RewardSum;

/// A run that could be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The settings, with the steps that the run makes in `train.steps`.
    pub config: RunConfig,
    /// The sizes of the model.
    pub model: ModelConfig,
    /// The sizes of the data; unknown where they are on the hub.
    pub data: DataSizes,
    /// How many problems there are, and how many are left out.
    pub counts: ProblemCounts,
    /// The problems without a gold answer, where a reward may miss it.
    pub unanswered: Option<Unanswered>,
    /// The folders among the data.
    pub folders: Vec<Folder>,
}

/// Reads all that a run reads before its first step, but the model's weights and data on the hub. A model from a run's
/// checkpoint is verified as `trust` says.
///
/// # Errors
/// Whatever [`Run::create`](crate::Run::create) refuses for its settings, data and lengths.
pub fn plan(config: &RunConfig, trust: Trust) -> Result<Plan, RunError> {
    config.validate()?;
    let source = ModelSource::outline(&config.model.path, &config.model.revision, trust)?;
    let model = source.config()?;
    if config.data.train.iter().chain(&config.data.validation).any(|name| name.starts_with("hf://")) {
        let (data, counts) = (DataSizes::default(), ProblemCounts::default());
        return Ok(Plan { config: config.clone(), model, data, counts, unanswered: None, folders: Vec::new() });
    }
    let (config, problems) =
        prepare(config, &config.reward_sum()?, model.max_position_embeddings, &source.tokenizer()?)?;
    let longest_prompt = problems.train.iter().map(|prompt| prompt.token_ids.len()).max();
    let data = DataSizes { problems: Some(problems.train.len()), longest_prompt };
    let Problems { counts, unanswered, folders, .. } = problems;
    Ok(Plan { config, model, data, counts, unanswered, folders })
}

/// The problems of a run with a model of this context, and its settings with the steps that it makes on them.
pub(crate) fn prepare(
    config: &RunConfig,
    rewards: &RewardSum,
    context: usize,
    tokenizer: &Tokenizer,
) -> Result<(RunConfig, Problems), RunError> {
    let longest = config.rollout.max_new_tokens.max(config.eval.max_new_tokens.unwrap_or(0));
    if longest >= context {
        let key = if longest == config.rollout.max_new_tokens { "rollout" } else { "eval" };
        let expected = format!("less than the model's context of {context} tokens");
        return Err(RunError::setting(&format!("{key}.max_new_tokens"), longest, expected));
    }
    let others = config.env.as_ref().map_or(0, |env| env.max_context_tokens);
    if longest.saturating_add(others) >= context {
        let expected = format!("less than the model's context of {context} tokens with {longest} generated ones");
        return Err(RunError::setting("env.max_context_tokens", others, expected));
    }
    let limit = config.data.max_prompt_tokens.min(context - longest - others);
    let problems = load_problems(config, rewards, tokenizer, limit)?;
    if let Some(every) = config.eval.every.filter(|_| problems.validation.is_empty()) {
        let expected = "unset, or problems in data.validation or data.validation_split";
        return Err(RunError::setting("eval.every", every, expected));
    }
    let mut config = config.clone();
    config.train.steps = config.steps_on(problems.train.len());
    Ok((config, problems))
}
