//! A completion and all that becomes known of it, from the rollout to the log.

use dapo_data::Prompt;
use dapo_policy::{Completion, FinishReason};
use dapo_reward::{Reward, Said};
use serde::{Deserialize, Serialize};

/// A prompt that was drawn, and the samples that were drawn for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Index of the draw; it keys the random numbers of the completions.
    pub draw: u64,
    /// The prompt.
    pub prompt: Prompt,
    /// G samples; a sample's place is its number within the draw.
    pub samples: Vec<Sample>,
}

impl Group {
    /// A draw without samples yet.
    pub fn new(draw: u64, prompt: Prompt) -> Self {
        Self { draw, prompt, samples: Vec::new() }
    }

    /// Number of correct samples; an abstention of the judge counts as incorrect.
    pub fn correct(&self) -> usize {
        self.samples.iter().filter(|sample| sample.reward.correct == Some(true)).count()
    }
}

/// One completion of a prompt: what was generated, how it was judged, and what training made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The tokens that were generated, which are those that are trained, with their log-probs in the rollout, and why
    /// the completion ended.
    pub completion: Completion,
    /// Log-probs of the tokens as training computes them, under the policy that generated them, in nats; `None` where they
    /// are those of the rollout to the bit (on a CPU), or nothing needed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_logprobs: Option<Vec<f32>>,
    /// The completion's text, without special tokens; of an episode the model's turns, a line break between them.
    pub text: String,
    /// What was said, where an environment answered the model's turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
    /// The rewards and their sum.
    pub reward: Reward,
    /// What KL in the reward adds, −β·Σ k1, at most a little above 0; `None` where it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_term: Option<f64>,
    /// The advantage A over the group; `None` outside the group's baseline, and before the group is trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advantage: Option<f32>,
    /// What training made of it.
    #[serde(default, skip_serializing_if = "SampleOutcome::is_not_trained")]
    pub outcome: SampleOutcome,
}

impl Sample {
    /// A judged completion that no step has trained on.
    pub fn new(completion: Completion, text: String, reward: Reward) -> Self {
        let (kl_term, advantage, outcome) = (None, None, SampleOutcome::NotTrained);
        Self { completion, old_logprobs: None, text, episode: None, reward, kl_term, advantage, outcome }
    }

    /// Sets what was said in its episode.
    #[must_use]
    pub fn with_episode(self, episode: Option<Episode>) -> Self {
        Self { episode, ..self }
    }

    /// Old log-probs: the denominator of the importance ratio, in nats.
    pub fn old_logprobs(&self) -> &[f32] {
        self.old_logprobs.as_deref().unwrap_or(&self.completion.logprobs)
    }

    /// 1 for a correct completion and 0 for an incorrect one, the filter metric `acc`; `None` where no reward judged it.
    pub fn accuracy(&self) -> Option<f64> {
        self.reward.correct.map(|correct| if correct { 1.0 } else { 0.0 })
    }

    /// Whether the completion used up its tokens.
    pub fn is_truncated(&self) -> bool {
        self.completion.finish_reason == FinishReason::Length
    }

    /// The reward with its KL term; `None` where a component abstained.
    pub fn final_reward(&self) -> Option<f64> {
        Some(self.reward.total? + self.kl_term.unwrap_or(0.0))
    }

    /// Whether the completion's tokens were in the loss.
    pub fn in_loss(&self) -> bool {
        self.outcome == SampleOutcome::InLoss
    }
}

/// What was said in an episode, by the model and by the environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Everything after the prompt, in order; the model's turns have the role `assistant`.
    pub turns: Vec<Said>,
    /// The reward of each of the model's turns, 0 where the environment gave none.
    pub rewards: Vec<f64>,
    /// Whether the environment ended it, and not a limit.
    pub is_done: bool,
}

impl Episode {
    /// What the model said, a line break between its turns.
    pub fn model_text(&self) -> String {
        let turns: Vec<&str> =
            self.turns.iter().filter(|said| said.role == MODEL).map(|said| said.content.as_str()).collect();
        turns.join("\n")
    }
}

/// The role of the model in an episode.
pub(crate) const MODEL: &str = "assistant";

/// What training made of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleOutcome {
    /// Its group was not trained on, or has not been yet.
    #[default]
    NotTrained,
    /// It has no place in its group's baseline, and no advantage: a reward abstained, or it was dropped as overlong.
    OutsideBaseline,
    /// It has an advantage, but its tokens are left out of the loss: it was truncated.
    Masked,
    /// It has an advantage, but its tokens are left out of the loss: the rollout correction rejected it.
    Rejected,
    /// Its tokens were in the loss.
    InLoss,
}

impl SampleOutcome {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_not_trained(&self) -> bool {
        *self == Self::NotTrained
    }
}

/// Names a sample of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleId {
    /// Index of the draw.
    pub draw: u64,
    /// Number of the sample within the draw, from 0.
    pub sample: usize,
}
