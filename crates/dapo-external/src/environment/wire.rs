//! The JSON of an environment's requests and replies. A public contract: `docs/environments.md` describes it.

use std::collections::BTreeMap;

use dapo_reward::{EnvProblem, EnvStart, EnvStep, EnvTurn, Said};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::reply::ReplyId;
use crate::wire::{check_id, number, numbers, object, quoted, to_json};

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    method: &'static str,
    step: u64,
    draw: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    seed: u64,
    prompt: &'a str,
    messages: &'a [Value],
    answer: Option<&'a str>,
    #[serde(serialize_with = "object")]
    columns: &'a Value,
    #[serde(flatten)]
    turn: Option<OfTurn<'a>>,
}

#[derive(Serialize)]
struct OfTurn<'a> {
    /// That of [`reset`](dapo_reward::Environment::reset), so that an episode can be begun again.
    reset_seed: u64,
    turn: usize,
    text: &'a str,
    truncated: bool,
    last: bool,
    history: &'a [Said],
    state: &'a Value,
}

impl<'a> Request<'a> {
    fn new(id: u64, method: &'static str, problem: &EnvProblem<'a>) -> Self {
        Self {
            id,
            method,
            step: problem.step,
            draw: problem.draw,
            sample: None,
            seed: problem.seed,
            prompt: problem.prompt,
            messages: problem.messages,
            answer: Some(problem.answer).filter(|answer| !answer.is_empty()),
            columns: problem.columns,
            turn: None,
        }
    }

    fn line(&self) -> Vec<u8> {
        let mut line = to_json(self);
        line.push(b'\n');
        line
    }
}

/// A request to begin, as one line.
pub(super) fn reset(id: u64, problem: &EnvProblem<'_>) -> Vec<u8> {
    Request::new(id, "reset", problem).line()
}

/// A request to answer a turn, as one line.
pub(super) fn step(id: u64, turn: &EnvTurn<'_>) -> Vec<u8> {
    let of_turn = OfTurn {
        reset_seed: turn.problem.seed,
        turn: turn.turn,
        text: turn.text,
        truncated: turn.is_truncated,
        last: turn.is_last,
        history: turn.history,
        state: turn.state,
    };
    let request = Request::new(id, "step", &turn.problem);
    Request { sample: Some(turn.sample), seed: turn.seed, turn: Some(of_turn), ..request }.line()
}

/// Which reply is read.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) reply_id: ReplyId,
}

/// Misspelt fields would be silently left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartReply {
    id: Option<u64>,
    #[serde(default)]
    messages: Vec<Said>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    state: Value,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepReply<'a> {
    id: Option<u64>,
    #[serde(default)]
    messages: Vec<Said>,
    #[serde(default)]
    done: bool,
    #[serde(borrow)]
    reward: Option<&'a RawValue>,
    correct: Option<bool>,
    #[serde(borrow)]
    log: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(default)]
    state: Value,
    error: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8], expected: &str) -> Result<T, Fault> {
    serde_json::from_slice(text)
        .map_err(|error| Fault::Json { found: format!("{} ({error})", quoted(text)), expected: expected.to_owned() })
}

fn check(id: Option<u64>, error: Option<String>, expected: Expected) -> Result<(), Fault> {
    check_id(id, expected.id, expected.reply_id)?;
    error.map_or(Ok(()), |message| Err(Fault::Reported { message }))
}

/// How episodes begin, as a reply says.
///
/// # Errors
/// [`Fault::Json`], [`Fault::Id`] and [`Fault::Reported`].
pub(super) fn start(text: &[u8], expected: Expected) -> Result<EnvStart, Fault> {
    let reply: StartReply = read(text, "a JSON object of id, messages, tools and state")?;
    check(reply.id, reply.error, expected)?;
    Ok(EnvStart { messages: reply.messages, tools: reply.tools, state: reply.state, fault: None })
}

/// The answer in a reply.
///
/// # Errors
/// As [`start`], and [`Fault::NotFinite`].
pub(super) fn answer(text: &[u8], expected: Expected) -> Result<EnvStep, Fault> {
    let reply: StepReply<'_> = read(text, "a JSON object of id, messages, done, reward, correct, log and state")?;
    check(reply.id, reply.error, expected)?;
    Ok(EnvStep {
        messages: reply.messages,
        is_done: reply.done,
        reward: reply.reward.map(|raw| number("reward", raw)).transpose()?.flatten(),
        correct: reply.correct,
        log: numbers("log", reply.log.unwrap_or_default())?,
        state: reply.state,
        fault: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXPECTED: Expected = Expected { id: 7, reply_id: ReplyId::Required };

    #[test]
    fn requests_have_the_documented_form() {
        let (columns, messages) = (json!({"level": 3}), [json!({"role": "user", "content": "1+1?"})]);
        let problem = EnvProblem {
            prompt: "1+1?",
            messages: &messages,
            answer: "2",
            alternatives: &[],
            columns: &columns,
            draw: 4,
            seed: 5,
            step: 3,
        };
        let head = r#""step":3,"draw":4,"#;
        let tail =
            r#""prompt":"1+1?","messages":[{"role":"user","content":"1+1?"}],"answer":"2","columns":{"level":3}"#;
        let line = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(line(reset(1, &problem)), format!("{{\"id\":1,\"method\":\"reset\",{head}\"seed\":5,{tail}}}\n"));
        let history = [Said::new("assistant", "1+1="), Said::new("tool", "2")];
        let (text, state) = ("2\n", json!([1]));
        let turn = EnvTurn {
            problem: EnvProblem { answer: "", columns: &Value::Null, messages: &[], ..problem },
            sample: 2,
            seed: 6,
            turn: 2,
            text,
            is_truncated: false,
            is_last: true,
            history: &history,
            state: &state,
        };
        let expected = concat!(
            r#"{"id":2,"method":"step","step":3,"draw":4,"sample":2,"seed":6,"prompt":"1+1?","messages":[],"#,
            r#""answer":null,"columns":{},"reset_seed":5,"turn":2,"text":"2\n","truncated":false,"last":true,"#,
            r#""history":[{"role":"assistant","content":"1+1="},{"role":"tool","content":"2"}],"state":[1]}"#,
            "\n"
        );
        assert_eq!(line(step(2, &turn)), expected);
    }

    #[test]
    fn every_form_of_an_answer_is_read() {
        let start =
            start(br#"{"id":7,"messages":[{"role":"user","content":"guess"}],"state":{"n":3}}"#, EXPECTED).unwrap();
        assert_eq!((start.messages, start.state), (vec![Said::new("user", "guess")], json!({"n": 3})));
        let said = answer(br#"{"id":7,"messages":[{"role":"tool","content":"2"}],"reward":0.5}"#, EXPECTED).unwrap();
        assert_eq!(said, EnvStep { reward: Some(0.5), ..EnvStep::says("tool", "2") });
        let done = answer(br#"{"id":7,"done":true,"reward":1,"correct":true,"log":{"calls":2}}"#, EXPECTED).unwrap();
        let log = BTreeMap::from([("calls".to_owned(), 2.0)]);
        assert_eq!(done, EnvStep { log, ..EnvStep::done(1.0).with_correct(true) });
    }

    #[test]
    fn every_fault_has_its_kind() {
        for (reply, kind) in [
            ("hello", "json"),
            (r#"{"id":7,"done":true,"reward":NaN}"#, "json"),
            (r#"{"id":7,"done":true,"reward":"1"}"#, "json"),
            (r#"{"id":7,"done":true,"rewards":1}"#, "json"),
            (r#"{"id":7,"messages":[{"role":"user"}]}"#, "json"),
            (r#"{"id":7,"done":true,"reward":1e999}"#, "not-finite"),
            (r#"{"id":7,"log":{"a":1e999}}"#, "not-finite"),
            (r#"{"id":8,"done":true}"#, "id"),
            (r#"{"done":true}"#, "id"),
            (r#"{"id":7,"error":"no calculator"}"#, "reported"),
        ] {
            assert_eq!(answer(reply.as_bytes(), EXPECTED).unwrap_err().kind(), kind, "{reply}");
        }
        assert_eq!(start(br#"{"id":7,"message":[]}"#, EXPECTED).unwrap_err().kind(), "json");
    }
}
