//! The JSON of requests and replies. A public contract: `docs/rewards.md` describes it.

use std::collections::BTreeMap;

use dapo_reward::{RewardInput, Score};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::reply::ReplyId;
use crate::transport::Batch;

/// Most characters of a faulty reply that are quoted.
const QUOTED: usize = 120;

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    step: u64,
    samples: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    messages: &'a [Value],
    completion: &'a str,
    answer: Option<&'a str>,
    #[serde(serialize_with = "object")]
    columns: &'a Value,
    num_tokens: usize,
    truncated: bool,
    draw: u64,
    sample: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<&'a [u32]>,
}

impl<'a> Row<'a> {
    fn new(input: &RewardInput<'a>, ids: TokenIds) -> Self {
        Self {
            prompt: input.prompt,
            messages: input.messages,
            completion: input.completion,
            answer: Some(input.answer).filter(|answer| !answer.is_empty()),
            columns: input.columns,
            num_tokens: input.num_tokens,
            truncated: input.is_truncated(),
            draw: input.draw,
            sample: input.sample,
            token_ids: (ids == TokenIds::Present).then_some(input.token_ids),
        }
    }
}

/// The columns; an empty object for null.
pub(crate) fn object<S: Serializer>(columns: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match columns {
        Value::Null => serializer.serialize_map(Some(0))?.end(),
        columns => columns.serialize(serializer),
    }
}

/// What a request carries beyond its public form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenIds {
    Absent,
    Present,
}

/// A request as one line of JSON, line feed included.
pub(crate) fn request(batch: &Batch<'_, '_>, ids: TokenIds) -> Vec<u8> {
    let samples = batch.samples.iter().map(|input| Row::new(input, ids)).collect();
    let request = Request { id: batch.id, step: batch.step, samples };
    let mut line = to_json(&request);
    line.push(b'\n');
    line
}

/// Texts, numbers and JSON values always have a form in JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Deserialize)]
struct Reply<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    rewards: Option<Vec<&'a RawValue>>,
    error: Option<String>,
}

/// A reward with more than its value. Misspelt fields would be silent abstentions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail<'a> {
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    correct: Option<bool>,
    #[serde(borrow, default)]
    log: Option<BTreeMap<String, &'a RawValue>>,
}

/// The scores in a reply.
///
/// # Errors
/// [`Fault::Json`], [`Fault::Id`], [`Fault::Reported`], [`Fault::Count`] and [`Fault::NotFinite`].
pub(crate) fn scores(text: &[u8], batch: &Batch<'_, '_>, id: ReplyId) -> Result<Vec<Score>, Fault> {
    let reply: Reply<'_> = from_json(text)?;
    check_id(reply.id, batch.id, id)?;
    if let Some(message) = reply.error {
        return Err(Fault::Reported { message });
    }
    let rewards = reply.rewards.ok_or_else(|| unexpected(text, "an object with \"rewards\""))?;
    counted("rewards", rewards.len(), batch)?;
    rewards.into_iter().enumerate().map(|(index, raw)| score(index, raw)).collect()
}

/// # Errors
/// [`Fault::Id`] when a reply belongs to another request, or must say so and does not.
pub(crate) fn check_id(got: Option<u64>, expected: u64, id: ReplyId) -> Result<(), Fault> {
    let is_other = match got {
        Some(got) => got != expected,
        None => id == ReplyId::Required,
    };
    if is_other {
        let got = got.map_or_else(|| "missing".to_owned(), |got| got.to_string());
        return Err(Fault::Id { got, expected });
    }
    Ok(())
}

fn score(index: usize, raw: &RawValue) -> Result<Score, Fault> {
    let place = format!("rewards[{index}]");
    if !raw.get().starts_with('{') {
        return Ok(Score { value: number(&place, raw)?, ..Score::default() });
    }
    let detail: Detail<'_> = serde_json::from_str(raw.get()).map_err(|error| Fault::Json {
        found: format!("at {place} {} ({error})", quoted(raw.get().as_bytes())),
        expected: "an object of value, correct and log".to_owned(),
    })?;
    let value = detail.value.map(|raw| number(&format!("{place}.value"), raw)).transpose()?.flatten();
    let log = numbers(&format!("{place}.log"), detail.log.unwrap_or_default())?;
    Ok(Score { value, correct: detail.correct, log })
}

/// Finite numbers by their names.
pub(crate) fn numbers(place: &str, raw: BTreeMap<String, &RawValue>) -> Result<BTreeMap<String, f64>, Fault> {
    let named = |(name, raw): (String, &RawValue)| {
        let place = format!("{place}.{name}");
        let value = number(&place, raw)?.ok_or_else(|| not_a_number(&place, raw, "a number"))?;
        Ok((name, value))
    };
    raw.into_iter().map(named).collect()
}

/// A finite number, or none for null.
pub(crate) fn number(place: &str, raw: &RawValue) -> Result<Option<f64>, Fault> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'-' | b'0'..=b'9') => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(Fault::NotFinite { place: place.to_owned(), value: quoted(text.as_bytes()) }),
        },
        _ => Err(not_a_number(place, raw, "a number or null")),
    }
}

fn not_a_number(place: &str, raw: &RawValue, expected: &str) -> Fault {
    Fault::Json { found: format!("at {place} {}", quoted(raw.get().as_bytes())), expected: expected.to_owned() }
}

/// # Errors
/// [`Fault::Count`] when a list has not one element per sample.
pub(crate) fn counted(what: &str, got: usize, batch: &Batch<'_, '_>) -> Result<(), Fault> {
    let expected = batch.samples.len();
    if got == expected { Ok(()) } else { Err(Fault::Count { what: what.to_owned(), got, expected }) }
}

/// # Errors
/// [`Fault::Json`] when the text is not JSON of this form.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(text).map_err(|error| Fault::Json {
        found: format!("{} ({error})", quoted(text)),
        expected: "a JSON object with \"rewards\"".to_owned(),
    })
}

pub(crate) fn unexpected(text: &[u8], expected: &str) -> Fault {
    Fault::Json { found: quoted(text), expected: expected.to_owned() }
}

/// The beginning of a text from outside, in quotes and escaped.
pub(crate) fn quoted(text: &[u8]) -> String {
    // Four bytes are the longest character.
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * QUOTED + 4)]);
    let text = text.trim_end();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(reply: &str, samples: usize) -> Result<Vec<Score>, Fault> {
        let input = RewardInput::new("", "", "");
        let batch = Batch { id: 7, step: 0, samples: vec![&input; samples] };
        scores(reply.as_bytes(), &batch, ReplyId::Required)
    }

    #[test]
    fn requests_have_the_documented_form() {
        let columns = json!({"level": 3});
        let messages = [json!({"role": "user", "content": "1+1?"})];
        let full = RewardInput::new("1+1?", "2\n", "2").with_messages(&messages).with_columns(&columns);
        let full = full.with_num_tokens(2).with_place(4, 1, 3);
        let bare = RewardInput::new("", "", "").with_token_ids(&[5]).with_ending(dapo_reward::Ending::Length);
        let batch = Batch { id: 1, step: 3, samples: vec![&full, &bare] };
        let line = String::from_utf8(request(&batch, TokenIds::Absent)).unwrap();
        let expected = concat!(
            r#"{"id":1,"step":3,"samples":[{"prompt":"1+1?","messages":[{"role":"user","content":"1+1?"}],"#,
            r#""completion":"2\n","answer":"2","columns":{"level":3},"num_tokens":2,"truncated":false,"#,
            r#""draw":4,"sample":1},{"prompt":"","messages":[],"completion":"","answer":null,"columns":{},"#,
            r#""num_tokens":1,"truncated":true,"draw":0,"sample":0}]}"#,
            "\n"
        );
        assert_eq!(line, expected);
        let with_ids = String::from_utf8(request(&batch, TokenIds::Present)).unwrap();
        assert!(with_ids.ends_with("\"token_ids\":[5]}]}\n"), "{with_ids}");
    }

    #[test]
    fn every_form_of_a_reward_is_read() {
        let reply = r#"{"id": 7, "note": 1, "rewards": [0.5, null, {"value": 1, "correct": true, "log": {"steps": 3}},
            {"correct": false}, {"value": null}]}"#;
        let expected = vec![
            Score::value(0.5),
            Score::abstain(),
            Score::value(1.0).with_correct(true).with_log("steps", 3.0),
            Score::abstain().with_correct(false),
            Score::abstain(),
        ];
        assert_eq!(read(reply, 5).unwrap(), expected);
    }

    #[test]
    fn every_fault_has_its_kind_and_words() {
        for (reply, kind, message) in [
            (
                "hello",
                "json",
                r#"the reply is "hello" (expected value at line 1 column 1), expected a JSON object with "rewards""#,
            ),
            (r#"{"id":7,"rewards":[NaN]}"#, "json", ""),
            (r#"{"id":7,"rewards":[Infinity]}"#, "json", ""),
            (r#"{"id":7,"rewards":[1]"#, "json", ""),
            (r#"{"id":7}"#, "json", r#"the reply is "{\"id\":7}", expected an object with "rewards""#),
            (r#"{"id":7,"rewards":["1"]}"#, "json", r#"the reply is at rewards[0] "\"1\"", expected a number or null"#),
            (r#"{"id":7,"rewards":[true]}"#, "json", ""),
            (r#"{"id":7,"rewards":[{"reward":1}]}"#, "json", ""),
            (r#"{"id":7,"rewards":[{"value":1,"log":{"a":null}}]}"#, "json", ""),
            (r#"{"id":7,"rewards":[1,2]}"#, "count", "the reply has 2 rewards, expected 1"),
            (r#"{"id":7,"rewards":[]}"#, "count", ""),
            (r#"{"id":7,"rewards":[1e999]}"#, "not-finite", r#"rewards[0] is "1e999", expected a finite number"#),
            (r#"{"id":7,"rewards":[{"value":-1e999}]}"#, "not-finite", ""),
            (r#"{"id":7,"rewards":[{"value":1,"log":{"a":1e999}}]}"#, "not-finite", ""),
            (r#"{"id":8,"rewards":[1]}"#, "id", "the reply's id is 8, expected 7"),
            (r#"{"rewards":[1]}"#, "id", "the reply's id is missing, expected 7"),
            (r#"{"id":7,"error":"no model"}"#, "reported", "it reports: no model"),
        ] {
            let fault = read(reply, 1).unwrap_err();
            assert_eq!(fault.kind(), kind, "{reply}");
            assert!(message.is_empty() || fault.to_string() == message, "{fault}");
        }
    }

    #[test]
    fn long_replies_are_quoted_in_part() {
        assert_eq!(quoted(&"é".repeat(1000).into_bytes()), format!("{:?}…", "é".repeat(QUOTED)));
        assert_eq!(quoted(b"\xff\n"), "\"\u{fffd}\"");
    }
}
