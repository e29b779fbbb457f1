//! Environments: whoever answers a model between its turns, and says what an episode is worth.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why an environment could not answer: any error. Text converts to it.
pub type EnvFault = Box<dyn Error + Send + Sync>;

/// What somebody says in an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who says it, in the words of the model's chat template: `user`, `tool` or another.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Said {
    /// What this role says.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A problem of which episodes begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnvProblem<'a> {
    /// The prompt's text, as the chat template renders it.
    pub prompt: &'a str,
    /// The conversation that the prompt was rendered from: objects with `role` and `content`. Empty for a plain prompt.
    pub messages: &'a [Value],
    /// The gold answer, the first where several are accepted; empty where the problem has none.
    pub answer: &'a str,
    /// Further gold answers.
    pub alternatives: &'a [String],
    /// The problem's columns as its data file has them: an object, or null without columns.
    pub columns: &'a Value,
    /// Draw index: the episodes of one draw are a group, and begin alike.
    pub draw: u64,
    /// Seed of what is random in how the episodes begin: a function of the run's seed and the draw, below 2⁵³.
    pub seed: u64,
    /// The training step, from 1 on; 0 outside training.
    pub step: u64,
}

/// How the episodes of a draw begin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EnvStart {
    /// What is said beyond the problem's own messages, before the model's first turn.
    pub messages: Vec<Said>,
    /// Function descriptions for chat templates that know tools.
    pub tools: Vec<Value>,
    /// The state in which each episode begins.
    pub state: Value,
    /// The kind of fault for which the episodes cannot begin: their samples abstain.
    pub fault: Option<String>,
}

/// A turn of the model that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnvTurn<'a> {
    /// The problem, as [`reset`](Environment::reset) saw it.
    pub problem: EnvProblem<'a>,
    /// Position of the episode in its group.
    pub sample: usize,
    /// Seed of what is random in this episode: a function of the run's seed, the draw and the sample, below 2⁵³.
    pub seed: u64,
    /// Number of the turn, from 1.
    pub turn: usize,
    /// What the model says in this turn, without special tokens.
    pub text: &'a str,
    /// Whether the turn was cut off by a limit of tokens.
    pub is_truncated: bool,
    /// Whether a limit makes this the episode's last turn: of the answer only the score counts.
    pub is_last: bool,
    /// What was said since the prompt, by the model and by the environment, before this turn.
    pub history: &'a [Said],
    /// The state after the turn before.
    pub state: &'a Value,
}

/// An environment's answer to a turn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EnvStep {
    /// What the environment says before the model's next turn.
    pub messages: Vec<Said>,
    /// Whether the episode ends here.
    pub is_done: bool,
    /// The reward of this turn. That of an episode is the sum of its turns'.
    pub reward: Option<f64>,
    /// Whether the episode's answer is correct, where that is known; the last one that was said counts.
    pub correct: Option<bool>,
    /// Further numbers to log under their names; of each the last one that was said.
    pub log: BTreeMap<String, f64>,
    /// The state before the next turn.
    pub state: Value,
    /// The kind of fault for which there is no answer: the episode ends and its sample abstains.
    pub fault: Option<String>,
}

impl EnvStep {
    /// The environment says something, and the episode continues.
    pub fn says(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { messages: vec![Said::new(role, content)], ..Self::default() }
    }

    /// The episode ends with this reward.
    pub fn done(reward: f64) -> Self {
        Self { is_done: true, reward: Some(reward), ..Self::default() }
    }

    /// Sets whether the answer is correct.
    #[must_use]
    pub fn with_correct(self, correct: bool) -> Self {
        Self { correct: Some(correct), ..self }
    }

    /// Sets the state before the next turn.
    #[must_use]
    pub fn with_state(self, state: Value) -> Self {
        Self { state, ..self }
    }
}

/// An environment, callable from any thread.
///
/// It keeps no state of its own: the state of an episode is a value that it gives with each answer and is given with the
/// next turn. So episodes can be continued after a crash, in another process, and from a checkpoint. Answers must depend on
/// what is given alone; what is random comes from the seeds.
///
/// # Errors
/// One that cannot answer fails, which ends the step and names the environment.
///
/// # Example
/// ```
/// use dapo_reward::{EnvFault, EnvProblem, EnvStart, EnvStep, EnvTurn, Environment};
/// use serde_json::json;
///
/// /// Guess a number from 1 to 100; the state is the number.
/// struct Guess;
/// impl Environment for Guess {
///     fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
///         Ok(EnvStart { state: json!(problem.seed % 100 + 1), ..EnvStart::default() })
///     }
///     fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
///         let number = turn.state.as_u64().ok_or("the state is no number")?;
///         let step = match turn.text.trim().parse::<u64>() {
///             Ok(guess) if guess == number => EnvStep::done(1.0).with_correct(true),
///             Ok(guess) if guess < number => EnvStep::says("user", "higher"),
///             Ok(_) => EnvStep::says("user", "lower"),
///             Err(_) => EnvStep::says("user", "a number, please"),
///         };
///         Ok(step.with_state(turn.state.clone()))
///     }
/// }
/// ```
pub trait Environment: Send + Sync {
    /// Begins the episodes of a draw. They share their prompt, and so what is said before the first turn.
    ///
    /// # Errors
    /// When it cannot.
    fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault>;

    /// Answers a turn.
    ///
    /// # Errors
    /// When it cannot.
    fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault>;

    /// Turns that are answered side by side, each on a thread of its own.
    fn lanes(&self) -> usize {
        1
    }
}

impl<E: Environment + ?Sized> Environment for Arc<E> {
    fn reset(&self, problem: &EnvProblem<'_>) -> Result<EnvStart, EnvFault> {
        (**self).reset(problem)
    }
    fn step(&self, turn: &EnvTurn<'_>) -> Result<EnvStep, EnvFault> {
        (**self).step(turn)
    }
    fn lanes(&self) -> usize {
        (**self).lanes()
    }
}

/// How what an environment says becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TurnTemplate {
    /// By the model's chat template: the difference that the messages make to the whole conversation. A template that shows
    /// earlier turns otherwise than they were generated is an error. Without a chat template as `raw`.
    #[default]
    Exact,
    /// By the model's chat template, for each turn by itself: earlier turns stay as they were generated, whatever the template
    /// would make of them, such as leaving out what was thought.
    Turns,
    /// The messages' contents as they are, one after another.
    Raw,
}

/// Limits of episodes, beside that of all generated tokens, which is a completion's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvLimits {
    /// Turns of the model.
    pub max_turns: usize,
    /// Tokens that the model may generate in a turn; `None`: as many as in all.
    pub max_turn_tokens: Option<usize>,
    /// Tokens of the environment in an episode, between the model's turns.
    pub max_context_tokens: usize,
}

impl Default for EnvLimits {
    fn default() -> Self {
        Self { max_turns: 8, max_turn_tokens: None, max_context_tokens: 512 }
    }
}

/// An environment, with the limits of its episodes.
#[derive(Clone)]
pub struct Episodes {
    /// The environment.
    pub environment: Arc<dyn Environment>,
    /// The limits.
    pub limits: EnvLimits,
    /// How what it says becomes tokens.
    pub template: TurnTemplate,
}

impl fmt::Debug for Episodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, template, .. } = self;
        f.debug_struct("Episodes").field("limits", limits).field("template", template).finish_non_exhaustive()
    }
}
