//! OpenRLHF's remote reward model: `query`, `prompts` and `labels`, answered by `rewards`, `scores` and `extra_logs`
//! (`remote_rm_fn_ray` in `openrlhf/utils/remote_rm_utils.py`).

use std::collections::BTreeMap;

use dapo_reward::Score;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::transport::Batch;
use crate::wire::{counted, from_json, number, to_json, unexpected};

#[derive(Serialize)]
struct Request<'a> {
    /// Prompts with their completions.
    query: Vec<String>,
    prompts: Vec<&'a str>,
    labels: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    rewards: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    scores: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    extra_logs: Option<BTreeMap<String, &'a RawValue>>,
}

/// A request's body.
pub(crate) fn request(batch: &Batch<'_, '_>) -> Vec<u8> {
    let samples = &batch.samples;
    to_json(&Request {
        query: samples.iter().map(|input| format!("{}{}", input.prompt, input.completion)).collect(),
        prompts: samples.iter().map(|input| input.prompt).collect(),
        labels: samples.iter().map(|input| input.answer).collect(),
    })
}

/// The scores in a reply: `rewards` are the values; `scores` and the lists of `extra_logs` are logged. Numbers of
/// `extra_logs` that are not lists describe the batch, not a sample, and are passed over.
///
/// # Errors
/// [`Fault::Json`], [`Fault::Count`] and [`Fault::NotFinite`].
pub(crate) fn scores(text: &[u8], batch: &Batch<'_, '_>) -> Result<Vec<Score>, Fault> {
    let reply: Reply<'_> = from_json(text)?;
    let rewards = reply.rewards.ok_or_else(|| unexpected(text, "an object with \"rewards\""))?;
    let values = numbers("rewards", &rewards, batch)?;
    let mut scores: Vec<_> = values.into_iter().map(|value| Score { value, ..Score::default() }).collect();
    let mut log = |name: &str, place: &str, list: &[&RawValue]| {
        for (score, value) in scores.iter_mut().zip(numbers(place, list, batch)?) {
            score.log.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(())
    };
    if let Some(list) = reply.scores {
        log("score", "scores", &list)?;
    }
    for (name, raw) in reply.extra_logs.unwrap_or_default() {
        if raw.get().starts_with('[') {
            let list: Vec<&RawValue> = from_json(raw.get().as_bytes())?;
            log(&name, &format!("extra_logs.{name}"), &list)?;
        }
    }
    Ok(scores)
}

/// One number per sample. Reward models often give each in a list of its own.
fn numbers(what: &str, list: &[&RawValue], batch: &Batch<'_, '_>) -> Result<Vec<Option<f64>>, Fault> {
    counted(what, list.len(), batch)?;
    let one = |(index, raw): (usize, &&RawValue)| {
        let place = format!("{what}[{index}]");
        match serde_json::from_str::<[&RawValue; 1]>(raw.get()) {
            Ok([inner]) => number(&place, inner),
            Err(_) => number(&place, raw),
        }
    };
    list.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_reward::RewardInput;

    fn read(reply: &str) -> Result<Vec<Score>, Fault> {
        let input = RewardInput::new("", "", "");
        scores(reply.as_bytes(), &Batch { id: 1, step: 1, samples: vec![&input; 2] })
    }

    #[test]
    fn requests_are_openrlhfs() {
        let inputs = [RewardInput::new("1+1?", " 2", "2"), RewardInput::new("Hi", "", "")];
        let body = request(&Batch { id: 1, step: 1, samples: inputs.iter().collect() });
        let expected = r#"{"query":["1+1? 2","Hi"],"prompts":["1+1?","Hi"],"labels":["2",""]}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn rewards_scores_and_logs_are_read() {
        assert_eq!(read(r#"{"rewards":[[0.5],[-1]]}"#).unwrap(), [Score::value(0.5), Score::value(-1.0)]);
        let reply = r#"{"rewards":[0.5,null],"scores":[1,0],"extra_logs":{"a":[2,3],"mean":7}}"#;
        let expected = [
            Score::value(0.5).with_log("score", 1.0).with_log("a", 2.0),
            Score::abstain().with_log("score", 0.0).with_log("a", 3.0),
        ];
        assert_eq!(read(reply).unwrap(), expected);
    }

    #[test]
    fn faults_are_named() {
        for (reply, message) in [
            (r#"{"reward":[1,2]}"#, r#"the reply is "{\"reward\":[1,2]}", expected an object with "rewards""#),
            (r#"{"rewards":[1]}"#, "the reply has 1 rewards, expected 2"),
            (r#"{"rewards":[1,2],"extra_logs":{"a":[1]}}"#, "the reply has 1 extra_logs.a, expected 2"),
            (r#"{"rewards":[1,[1,2]]}"#, r#"the reply is at rewards[1] "[1,2]", expected a number or null"#),
            (r#"{"rewards":[1,[1e999]]}"#, r#"rewards[1] is "1e999", expected a finite number"#),
        ] {
            assert_eq!(read(reply).unwrap_err().to_string(), message);
        }
    }
}
