//! Language models that judge completions, behind an OpenAI-compatible server.

mod chat;
mod config;
mod mode;
mod reading;
mod template;

use dapo_reward::{RewardInput, Score};

use crate::address;
use crate::client::{Client, Target};
use crate::counters::Tally;
use crate::error::ExternalError;
use crate::fault::Fault;
use crate::transport::{Batch, Transport};
use crate::wire::quoted;

pub use config::JudgeReward;
pub use mode::JudgeMode;
use template::{Subject, Template};

/// A judge.
pub(crate) struct JudgeTransport {
    client: Client,
    config: JudgeReward,
    template: Template,
}

impl JudgeTransport {
    /// The judge of a configuration. Nothing is sent.
    ///
    /// # Errors
    /// [`ExternalError::Config`], [`ExternalError::Key`] and [`ExternalError::Tls`].
    pub(crate) fn open(config: &JudgeReward) -> Result<Self, ExternalError> {
        let template = config.checked_template()?;
        let client = Client::open(Target {
            url: address::with_path(&config.judge_url, "/chat/completions"),
            api_key_env: config.api_key_env.as_deref(),
            timeout_s: config.timeout_s,
            deadline_s: config.deadline_s,
            retries: config.retries,
            backoff_s: config.backoff_s,
            concurrency: config.concurrency,
        })?;
        Ok(Self { client, config: config.clone(), template })
    }

    /// What the judge says.
    fn say(&self, question: &str, tally: &Tally) -> Result<String, Fault> {
        let reply = self.client.post(&chat::request(&self.config, question), tally)?;
        let said = chat::reply(&reply)?;
        tally.tokens(said.prompt_tokens, said.completion_tokens);
        if said.is_cut_off {
            let expected = format!("an answer of at most max_tokens = {} tokens", self.config.max_tokens);
            return Err(Fault::Judgement { found: end(&said.text), expected });
        }
        Ok(said.text)
    }

    /// One completion by itself.
    fn rate(&self, input: &RewardInput<'_>, tally: &Tally) -> Result<Score, Fault> {
        let Some(question) = self.template.render(&Subject::One(input), self.config.scale()) else {
            return Ok(Score::abstain());
        };
        let text = self.say(&question, tally)?;
        let (min, max) = (self.config.scale_min, self.config.scale_max);
        let score = reading::score(&text, min, max).ok_or_else(|| {
            let expected = format!("a number from {min} to {max} at the end, or a JSON object with a \"score\" in it");
            Fault::Judgement { found: end(&text), expected }
        })?;
        let rated = Score::value((score - min) / (max - min)).with_log("score", score);
        Ok(match self.config.correct_from {
            Some(least) => rated.with_correct(score >= least),
            None => rated,
        })
    }

    /// Completions of one draw among themselves. Equal texts are one to the judge.
    fn rank(&self, group: &[&RewardInput<'_>], tally: &Tally) -> Result<Vec<Score>, Fault> {
        let mut texts: Vec<&str> = Vec::new();
        let mut place = |text| {
            texts.iter().position(|known| *known == text).unwrap_or_else(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let places: Vec<usize> = group.iter().map(|input| place(input.completion)).collect();
        let Some(first) = group.first() else { return Ok(Vec::new()) };
        if texts.len() == 1 {
            // None is better than another.
            return Ok(vec![Score::value(0.5); group.len()]);
        }
        let Some(question) = self.template.render(&Subject::Many(first, &texts), self.config.scale()) else {
            return Ok(vec![Score::abstain(); group.len()]);
        };
        let text = self.say(&question, tally)?;
        let order = reading::ranking(&text, texts.len()).ok_or_else(|| {
            let expected = format!("the numbers 1 to {} in a list, the best first", texts.len());
            Fault::Judgement { found: end(&text), expected }
        })?;
        let mut values = vec![0.0; texts.len()];
        for (rank, text) in order.into_iter().enumerate() {
            values[text] = 1.0 - rank as f64 / (texts.len() - 1) as f64;
        }
        Ok(places.into_iter().map(|place| Score::value(values[place])).collect())
    }
}

impl Transport for JudgeTransport {
    fn lanes(&self) -> usize {
        self.config.concurrency
    }

    fn compares(&self) -> bool {
        self.config.mode == JudgeMode::Ranking
    }

    fn ask(&self, _: usize, batch: &Batch<'_, '_>, tally: &Tally) -> Result<Vec<Score>, Fault> {
        let scores = match self.config.mode {
            JudgeMode::Absolute => batch.samples.iter().map(|input| self.rate(input, tally)).collect(),
            JudgeMode::Ranking => self.rank(&batch.samples, tally),
        };
        scores.map_err(|fault| self.client.fault_without_key(fault))
    }
}

/// The end of an answer, where the judgement should be, in quotes and escaped.
fn end(text: &str) -> String {
    const SHOWN: usize = 100;
    let text = text.trim();
    match text.char_indices().nth_back(SHOWN - 1) {
        Some((start, _)) if start > 0 => format!("…{}", quoted(&text.as_bytes()[start..])),
        _ => quoted(text.as_bytes()),
    }
}
