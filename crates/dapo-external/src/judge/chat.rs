//! Chat completions as OpenAI's servers have them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::JudgeReward;
use crate::fault::Fault;
use crate::wire::{quoted, to_json, unexpected};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    temperature: f64,
    max_tokens: usize,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// A request's body.
pub(super) fn request(config: &JudgeReward, question: &str) -> Vec<u8> {
    let system = config.system.as_deref().map(|content| Message { role: "system", content });
    let user = Message { role: "user", content: question };
    to_json(&Request {
        model: &config.model,
        messages: system.into_iter().chain([user]).collect(),
        temperature: config.temperature,
        max_tokens: config.max_tokens,
    })
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

/// What a judge said, and what it took.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Whether the tokens ran out.
    pub(super) is_cut_off: bool,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// The answer in a reply.
///
/// # Errors
/// [`Fault::Json`] and [`Fault::Reported`].
pub(super) fn reply(text: &[u8]) -> Result<Answer, Fault> {
    const EXPECTED: &str = "a chat completion with choices[0].message.content";
    let reply: Reply = serde_json::from_slice(text)
        .map_err(|error| Fault::Json { found: format!("{} ({error})", quoted(text)), expected: EXPECTED.to_owned() })?;
    if !reply.error.is_null() {
        let message = reply.error["message"].as_str().map_or_else(|| reply.error.to_string(), str::to_owned);
        return Err(Fault::Reported { message: quoted(message.as_bytes()) });
    }
    let choice = reply.choices.into_iter().next();
    let is_cut_off = choice.as_ref().is_some_and(|choice| choice.finish_reason.as_deref() == Some("length"));
    // A model whose reasoning took all tokens has said nothing.
    let text = match choice.and_then(|choice| choice.message.content) {
        Some(text) => text,
        None if is_cut_off => String::new(),
        None => return Err(unexpected(text, EXPECTED)),
    };
    let tokens = |name: &str| reply.usage[name].as_u64().unwrap_or_default();
    Ok(Answer {
        text,
        is_cut_off,
        prompt_tokens: tokens("prompt_tokens"),
        completion_tokens: tokens("completion_tokens"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_openais_form() {
        let config = JudgeReward { model: "m".to_owned(), system: Some("Judge.".to_owned()), ..JudgeReward::default() };
        let expected = concat!(
            r#"{"model":"m","messages":[{"role":"system","content":"Judge."},{"role":"user","content":"x\n"}],"#,
            r#""temperature":0.0,"max_tokens":1024}"#
        );
        assert_eq!(String::from_utf8(request(&config, "x\n")).unwrap(), expected);
    }

    #[test]
    fn replies_are_read_with_their_tokens() {
        let text =
            br#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"7"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":40,"completion_tokens":2,"total_tokens":42}}"#;
        let answer = Answer { text: "7".to_owned(), is_cut_off: false, prompt_tokens: 40, completion_tokens: 2 };
        assert_eq!(reply(text), Ok(answer));
        let cut = br#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#;
        assert!(reply(cut).unwrap().is_cut_off);
    }

    #[test]
    fn faults_have_their_kind() {
        for (text, kind) in [
            ("", "json"),
            ("<html>", "json"),
            (r#"{"choices":[]}"#, "json"),
            (r#"{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}"#, "json"),
            (r#"{"choices":[{"message":{"content":7}}]}"#, "json"),
            (r#"{"error":{"message":"no model","code":404}}"#, "reported"),
            (r#"{"error":"no model"}"#, "reported"),
        ] {
            assert_eq!(reply(text.as_bytes()).unwrap_err().kind(), kind, "{text}");
        }
    }
}
