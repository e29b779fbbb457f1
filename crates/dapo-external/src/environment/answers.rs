//! The answers of an environment that are known.

use std::collections::BTreeMap;

use dapo_reward::{EnvProblem, EnvStart, EnvStep, EnvTurn, Said};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::Entry;
use crate::wire::to_json;

/// What an answer is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    draw: u64,
    /// 0 for how the episodes of a draw begin.
    sample: usize,
    /// 0 for how they begin.
    turn: usize,
    hash: [u8; 32],
}

/// The hash of texts, none of which can stand in for a part of another.
fn hash<'a>(seed: u64, texts: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

impl Key {
    /// The key of how episodes begin. The seed tells draws of training from those of evaluations.
    pub(super) fn of_start(problem: &EnvProblem<'_>) -> Self {
        Self { draw: problem.draw, sample: 0, turn: 0, hash: hash(problem.seed, [problem.prompt].into_iter()) }
    }

    /// The key of a turn: all that was said before it and in it.
    pub(super) fn of_turn(turn: &EnvTurn<'_>) -> Self {
        let said = turn.history.iter().flat_map(|said| [said.role.as_str(), said.content.as_str()]);
        let limits = if turn.is_last { "last" } else { "" };
        let texts = [turn.problem.prompt].into_iter().chain(said).chain([turn.text, limits]);
        Self { draw: turn.problem.draw, sample: turn.sample, turn: turn.turn, hash: hash(turn.seed, texts) }
    }
}

/// What was said, and in which training step.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) step: u64,
    pub(super) answer: Answer,
}

/// What was said.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Start(EnvStart),
    Step(EnvStep),
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    draw: u64,
    sample: usize,
    turn: usize,
    blake3: String,
    step: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Said>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reward: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correct: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    log: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    state: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// The answers of an environment, as a file keeps them.
#[derive(Debug)]
pub(super) struct Answers;

impl Entry for Answers {
    type Key = Key;
    type Answer = Known;

    fn step(known: &Known) -> u64 {
        known.step
    }

    fn write(key: &Key, known: &Known) -> Vec<u8> {
        let (start, step) = match known.answer.clone() {
            Answer::Start(start) => (start, EnvStep::default()),
            Answer::Step(step) => (EnvStart::default(), step),
        };
        to_json(&Line {
            draw: key.draw,
            sample: key.sample,
            turn: key.turn,
            blake3: blake3::Hash::from_bytes(key.hash).to_hex().to_string(),
            step: known.step,
            messages: [start.messages, step.messages].concat(),
            tools: start.tools,
            done: step.is_done,
            reward: step.reward,
            correct: step.correct,
            log: step.log,
            state: if key.turn == 0 { start.state } else { step.state },
            fault: start.fault.or(step.fault),
        })
    }

    fn read(text: &[u8]) -> Result<(Key, Known), String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let Line { draw, sample, turn, blake3, step, messages, tools, done, reward, correct, log, state, fault } = line;
        let hash = blake3::Hash::from_hex(&blake3).map_err(|error| error.to_string())?;
        let answer = if turn == 0 {
            Answer::Start(EnvStart { messages, tools, state, fault })
        } else {
            Answer::Step(EnvStep { messages, is_done: done, reward, correct, log, state, fault })
        };
        Ok((Key { draw, sample, turn, hash: hash.into() }, Known { step, answer }))
    }
}
