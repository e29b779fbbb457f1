//! Rewards of the settings that are computed elsewhere, as a run has them: with its folder, once it has one.

use crate::ranks::Ranks;
use crate::run_error::RunError;
use crate::settings::{CODE, OwnKind, OwnReward};
use dapo_code::{CodeError, Launcher};
use dapo_dist::DistError;
use dapo_external::{
    BuiltinReward, Counters, EnvConfig, ExternalConfig, ExternalEnvironment, ExternalError, ExternalReward, open,
};
use dapo_reward::{
    EnvFault, EnvProblem, EnvReward, EnvStart, EnvStep, EnvTurn, Environment, FoundAnswer, RewardError, RewardFault,
    RewardFn, RewardInput, Round, Score,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The name of an environment's reward.
pub(crate) const ENV: &str = "env";

/// The external rewards of a run, and its environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Externals {
    rewards: Vec<Arc<External>>,
    environment: Option<Arc<ExternalEnv>>,
}

/// An environment whose answers are kept in a folder as soon as it is known.
#[derive(Debug)]
struct ExternalEnv {
    config: EnvConfig,
    /// Without a folder; nothing is started before it is asked.
    loose: ExternalEnvironment,
    kept: OnceLock<ExternalEnvironment>,
}

impl ExternalEnv {
    fn open(config: &EnvConfig, folder: Option<&Path>) -> Result<ExternalEnvironment, RunError> {
        let dir = config.dir.as_deref().unwrap_or(".");
        ExternalEnvironment::open(config, dir.as_ref(), folder).map_err(of_env)
    }

    fn environment(&self) -> &ExternalEnvironment {
        self.kept.get().unwrap_or(&self.loose)
    }
}

impl Environment for ExternalEnv {
    fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
        self.environment().reset(problem)
    }
    fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
        self.environment().step(turn)
    }
    fn lanes(&self) -> usize {
        self.environment().lanes()
    }
}

/// A reward whose answers are kept in a folder as soon as it is known.
#[derive(Debug)]
struct External {
    config: ExternalConfig,
    dir: PathBuf,
    /// Without a folder; nothing is started before it is asked.
    loose: ExternalReward,
    kept: OnceLock<ExternalReward>,
}

impl External {
    fn reward(&self) -> &ExternalReward {
        self.kept.get().unwrap_or(&self.loose)
    }
}

impl Externals {
    /// Keeps answers in a run's folder from now on, and takes over those that are there.
    pub(crate) fn attach(&self, folder: &Path) -> Result<(), RunError> {
        for external in &self.rewards {
            let name = external.loose.name();
            let kept = open(name, &external.config, &external.dir, Some(folder)).map_err(|e| of_external(name, e))?;
            // The folder of a run does not change.
            let _ = external.kept.set(kept);
        }
        if let Some(external) = &self.environment {
            let _ = external.kept.set(ExternalEnv::open(&external.config, Some(folder))?);
        }
        Ok(())
    }

    /// How many answers of each reward are known.
    pub(crate) fn known_answers(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rewards.iter().map(|external| (external.reward().name(), external.reward().known_answers()))
    }

    /// Puts the answers up to a step in order.
    pub(crate) fn checkpoint(&self, step: u64) -> Result<(), RunError> {
        let mut rewards = self.rewards.iter().map(|external| external.reward());
        rewards.try_for_each(|reward| reward.checkpoint(step).map_err(|error| of_external(reward.name(), error)))?;
        let environment = self.environment.as_ref().map(|external| external.environment());
        environment.map_or(Ok(()), |environment| environment.checkpoint(step).map_err(of_env))
    }

    /// Gives the rank that keeps the run the answers that the others have got.
    ///
    /// # Errors
    /// When a file of answers cannot be read or written, and [`RunError::Dist`].
    pub(crate) fn collect(&self, ranks: &Ranks) -> Result<(), RunError> {
        if !ranks.are_several() || (self.rewards.is_empty() && self.environment.is_none()) {
            return Ok(());
        }
        let news = ranks.agree(if ranks.keeps() { Ok(Vec::new()) } else { self.news() })?;
        let news = serde_json::to_vec(&news).map_err(|error| RunError::io(Path::new("new answers"))(error.into()))?;
        let all = ranks.gather(&news)?;
        for (rank, news) in all.iter().enumerate().filter(|_| ranks.keeps()) {
            let unreadable = |error: serde_json::Error| {
                let (found, expected) = (error.to_string(), "a list of answers".to_owned());
                DistError::Content { rank, found, expected }
            };
            self.take_over(&serde_json::from_slice::<Vec<String>>(news).map_err(unreadable)?)?;
        }
        Ok(())
    }

    /// The lines of new answers, by reward, those of the environment last.
    fn news(&self) -> Result<Vec<String>, RunError> {
        let text = |lines: Vec<u8>| String::from_utf8_lossy(&lines).into_owned();
        let rewards = self.rewards.iter().map(|external| external.reward());
        let rewards = rewards.map(|reward| reward.news().map(text).map_err(|error| of_external(reward.name(), error)));
        let environment =
            self.environment.iter().map(|external| external.environment().news().map(text).map_err(of_env));
        rewards.chain(environment).collect()
    }

    fn take_over(&self, news: &[String]) -> Result<(), RunError> {
        for (external, lines) in self.rewards.iter().zip(news) {
            let reward = external.reward();
            reward.take_over(lines.as_bytes()).map_err(|error| of_external(reward.name(), error))?;
        }
        let environment = self.environment.iter().zip(news.get(self.rewards.len()));
        environment
            .into_iter()
            .try_for_each(|(external, lines)| external.environment().take_over(lines.as_bytes()).map_err(of_env))
    }

    /// Requests since the last call, by the rewards' names.
    pub(crate) fn take_counters(&self) -> BTreeMap<String, Counters> {
        let rewards = self.rewards.iter().map(|external| external.reward());
        let rewards = rewards.map(|reward| (reward.name().to_owned(), reward.take_counters()));
        let environment = self.environment.iter().map(|external| external.environment().take_counters());
        rewards.chain(environment.map(|counters| (ENV.to_owned(), counters))).collect()
    }

    /// The first requests that failed since the last call, in words, each with its reward.
    pub(crate) fn take_faults(&self) -> Vec<String> {
        faults(&self.take_counters())
    }
}

/// The first requests that failed, in words, each with its reward.
pub(crate) fn faults(counters: &BTreeMap<String, Counters>) -> Vec<String> {
    let of_reward = |(name, counters): (&String, &Counters)| {
        counters.events.iter().map(|event| format!("rewards.{name}: {event}")).collect::<Vec<_>>()
    };
    counters.iter().flat_map(of_reward).collect()
}

/// A reward under a name of the settings; whether it judges is what the settings say.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) judges: bool,
    scorer: Scorer,
}

enum Scorer {
    External(Arc<External>),
    Other(Box<dyn RewardFn>),
    /// Checked and not opened.
    Unopened,
}

impl Scorer {
    fn function(&self) -> Result<&dyn RewardFn, RewardFault> {
        match self {
            Self::External(external) => Ok(external.reward()),
            Self::Other(function) => Ok(&**function),
            Self::Unopened => Err("the reward is not open".into()),
        }
    }
}

impl RewardFn for Named {
    fn name(&self) -> &str {
        &self.name
    }
    fn judges(&self) -> bool {
        self.judges
    }
    fn compared<'a>(&self, input: &RewardInput<'a>) -> Option<FoundAnswer<'a>> {
        self.scorer.function().ok()?.compared(input)
    }
    fn waits(&self) -> bool {
        self.scorer.function().is_ok_and(RewardFn::waits)
    }
    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        self.scorer.function()?.score(input)
    }
    fn score_group(&self, group: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        self.scorer.function()?.score_group(group)
    }
    fn score_batch(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Score>, RewardFault> {
        self.scorer.function()?.score_batch(inputs)
    }
    fn score_part(&self, part: &[RewardInput<'_>], round: &Round) -> Result<Vec<Score>, RewardFault> {
        self.scorer.function()?.score_part(part, round)
    }
}

/// What becomes of the rewards of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Their values are checked. Files and programs are not looked at.
    Checked,
    /// They can score.
    Opened,
}

/// Checks or opens a reward of the settings; one that is opened is added to the external ones where it is one.
pub(crate) fn open_own(
    name: &str,
    own: &OwnReward,
    judges: bool,
    opening: Opening,
    externals: &mut Externals,
) -> Result<Named, RunError> {
    let mut external = |config: ExternalConfig| -> Result<Scorer, RunError> {
        if opening == Opening::Checked {
            config.validate().map_err(|error| of_external(name, error.into()))?;
            return Ok(Scorer::Unopened);
        }
        let dir = PathBuf::from(own.dir.as_deref().unwrap_or("."));
        let loose = open(name, &config, &dir, None).map_err(|error| of_external(name, error))?;
        let external = Arc::new(External { config, dir, loose, kept: OnceLock::new() });
        externals.rewards.push(Arc::clone(&external));
        Ok(Scorer::External(external))
    };
    let scorer = match &own.kind {
        OwnKind::Command(config) => external(config.clone().into())?,
        OwnKind::Url(config) => external(config.clone().into())?,
        OwnKind::Python(config) => external(config.clone().into())?,
        OwnKind::Judge(config) => external(config.clone().into())?,
        OwnKind::Rule(config) => {
            let rule = BuiltinReward::new(name, config).map_err(|error| of_external(name, error.into()))?;
            Scorer::Other(Box::new(rule))
        }
        OwnKind::Code(config) if opening == Opening::Opened => {
            let opened = Launcher::current_exe().and_then(|launcher| config.open(CODE, launcher));
            Scorer::Other(Box::new(opened.map_err(|error| of_code(name, error))?))
        }
        OwnKind::Code(config) => {
            config.validate().map_err(|error| of_code(name, error))?;
            Scorer::Unopened
        }
    };
    Ok(Named { name: name.to_owned(), judges, scorer })
}

/// The reward of an environment of the settings.
pub(crate) fn open_env(config: &EnvConfig, externals: &mut Externals) -> Result<EnvReward, RunError> {
    let loose = ExternalEnv::open(config, None)?;
    let environment = Arc::new(ExternalEnv { config: config.clone(), loose, kept: OnceLock::new() });
    externals.environment = Some(Arc::clone(&environment));
    Ok(EnvReward::new(environment).with_limits(config.limits()).with_template(config.template))
}

fn of_env(error: ExternalError) -> RunError {
    match error {
        ExternalError::Config(RewardError::Config { field, value, allowed, .. }) => {
            RunError::setting(&format!("{ENV}.{field}"), value, allowed)
        }
        error => RunError::Reward { name: ENV.to_owned(), source: error.into() },
    }
}

fn of_external(name: &str, error: ExternalError) -> RunError {
    match error {
        ExternalError::Config(RewardError::Config { field, value, allowed, .. }) => {
            RunError::setting(&format!("rewards.{name}.{field}"), value, allowed)
        }
        error => RunError::Reward { name: name.to_owned(), source: error.into() },
    }
}

fn of_code(name: &str, error: CodeError) -> RunError {
    match error {
        CodeError::Config { field, value, allowed } => {
            RunError::setting(&format!("rewards.{name}.{field}"), value, allowed)
        }
        error => RunError::Reward { name: name.to_owned(), source: error.into() },
    }
}
