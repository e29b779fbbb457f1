//! Problems with checkable answers, from JSON-lines files.

use crate::TrainerError;
use dapo_policy::{ChatOptions, Message, Tokenizer};
use serde_json::Value;
use std::path::Path;

/// A problem as a data file states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Identifies the problem in logs: the file's `id`, or the line number.
    pub id: String,
    /// The conversation so far; one user message where the file has a plain question.
    pub messages: Vec<Message>,
    /// The gold answer.
    pub answer: String,
}

/// A problem as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Identifies the problem.
    pub id: String,
    /// The rendered prompt.
    pub text: String,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The gold answer.
    pub answer: String,
}

const FORMS: &str = "question/answer, problem/answer, input/target, or prompt with reward_model.ground_truth";

/// Reads problems from a JSON-lines file, one object a line.
///
/// Known forms: `question` and `answer` (GSM8K: what follows `####` is the answer), `problem` and `answer`, `input` and
/// `target`, and `prompt` (text, or chat messages) with `reward_model.ground_truth` (DAPO-Math-17k).
///
/// # Errors
/// Names the file and line, what was found and what was expected.
pub fn read_jsonl(path: &Path) -> Result<Vec<Problem>, TrainerError> {
    let text = std::fs::read_to_string(path).map_err(|source| TrainerError::Io { path: path.into(), source })?;
    let mut problems = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let problem = serde_json::from_str(line)
            .map_err(|error| (format!("invalid JSON ({error})"), "one object".to_owned()))
            .and_then(|value: Value| problem(&value, i + 1));
        let at = |(found, expected)| TrainerError::Data { path: path.into(), line: i + 1, found, expected };
        problems.push(problem.map_err(at)?);
    }
    if problems.is_empty() {
        let (found, expected) = ("no problems".into(), FORMS.into());
        return Err(TrainerError::Data { path: path.into(), line: 1, found, expected });
    }
    Ok(problems)
}

fn problem(value: &Value, line: usize) -> Result<Problem, (String, String)> {
    let get = |name: &str| value.get(name).filter(|v| !v.is_null());
    let pairs = [("question", "answer"), ("problem", "answer"), ("input", "target")];
    let pair = pairs.iter().find_map(|(q, a)| Some((get(q)?, get(a)?)));
    let pair = pair.or_else(|| Some((get("prompt")?, value.pointer("/reward_model/ground_truth")?)));
    let Some((question, answer)) = pair else {
        let keys = value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", "));
        let found = keys.map_or_else(|| value.to_string(), |keys| format!("an object with {keys}"));
        return Err((found, FORMS.into()));
    };
    let answer = scalar(answer).ok_or_else(|| (format!("the answer {answer}"), "a string or a number".to_owned()))?;
    let answer = answer.rsplit("####").next().unwrap_or_default().trim().to_owned();
    if answer.is_empty() {
        return Err(("an empty answer".into(), "a gold answer".into()));
    }
    let id = ["id", "idx", "unique_id"].iter().find_map(|name| scalar(get(name)?));
    Ok(Problem { id: id.unwrap_or_else(|| line.to_string()), messages: messages(question)?, answer })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // 43.0 in a file is the integer 43.
        Value::Number(n) => Some(match n.as_f64() {
            Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
            _ => n.to_string(),
        }),
        _ => None,
    }
}

fn messages(question: &Value) -> Result<Vec<Message>, (String, String)> {
    let expected = || "text, or chat messages with role and content".to_owned();
    match question {
        Value::String(text) => Ok(vec![Message::user(text)]),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|m| {
                let field = |name| m.get(name).and_then(Value::as_str).map(str::to_owned);
                match (field("role"), field("content")) {
                    (Some(role), Some(content)) => Ok(Message { role, content }),
                    _ => Err((format!("the message {m}"), expected())),
                }
            })
            .collect(),
        other => Err((format!("the prompt {other}"), expected())),
    }
}

/// What is put around a problem's question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptStyle {
    /// A system message before the conversation.
    pub system: Option<String>,
    /// Text added to the end of the last user message.
    pub suffix: String,
    /// For templates that know it: whether the model is to think first.
    pub enable_thinking: Option<bool>,
}

/// Renders problems with the model's chat template, or as plain text where it has none, and encodes them. Prompts
/// longer than `max_tokens` are left out; the second value says how many.
///
/// # Errors
/// When a template or the tokenizer fails.
pub fn encode_prompts(
    problems: &[Problem],
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    max_tokens: usize,
) -> Result<(Vec<Prompt>, usize), TrainerError> {
    let mut prompts = Vec::with_capacity(problems.len());
    for problem in problems {
        let mut messages = problem.messages.clone();
        if let Some(last) = messages.iter_mut().rfind(|m| m.role == "user") {
            last.content.push_str(&style.suffix);
        }
        if let Some(system) = &style.system {
            messages.insert(0, Message { role: "system".into(), content: system.clone() });
        }
        let (text, special) = if tokenizer.has_chat_template() {
            let options = ChatOptions {
                add_generation_prompt: true,
                enable_thinking: style.enable_thinking,
                ..ChatOptions::default()
            };
            (tokenizer.apply_chat_template(&messages, &options)?, false)
        } else {
            let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            (contents.join("\n"), true)
        };
        let token_ids = tokenizer.encode(&text, special)?;
        if (1..=max_tokens).contains(&token_ids.len()) {
            prompts.push(Prompt { id: problem.id.clone(), text, token_ids, answer: problem.answer.clone() });
        }
    }
    let skipped = problems.len() - prompts.len();
    Ok((prompts, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(lines: &str) -> Result<Vec<Problem>, TrainerError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        read_jsonl(file.path())
    }

    #[test]
    fn reads_all_four_forms() {
        let problems = read(concat!(
            "{\"question\": \"q1\", \"answer\": \"2+2=<<2+2=4>>4\\n#### 4\"}\n",
            "{\"problem\": \"q2\", \"answer\": \"\\\\frac12\", \"unique_id\": \"u\"}\n\n",
            "{\"input\": \"q3\", \"target\": 43.0}\n",
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"q4\"}], \"reward_model\": {\"ground_truth\": \"34\"}}\n",
        ))
        .unwrap();
        let found: Vec<_> = problems.iter().map(|p| (p.messages[0].content.as_str(), p.answer.as_str())).collect();
        assert_eq!(found, [("q1", "4"), ("q2", "\\frac12"), ("q3", "43"), ("q4", "34")]);
        assert_eq!((problems[1].id.as_str(), problems[2].id.as_str()), ("u", "4"));
    }

    #[test]
    fn errors_name_file_and_line_and_what_was_found() {
        let error = read("{\"question\": \"q\", \"answer\": \"1\"}\n{\"text\": \"q\"}\n").unwrap_err().to_string();
        assert!(error.contains(":2: an object with text, expected question/answer"), "{error}");
        let error = read("{\"input\": \"q\", \"target\": [1]}").unwrap_err().to_string();
        assert!(error.contains(":1: the answer [1], expected a string or a number"), "{error}");
        assert!(read("nonsense").unwrap_err().to_string().contains("invalid JSON"));
        assert!(read("").unwrap_err().to_string().contains("no problems"));
        let missing = read_jsonl(Path::new("no/such/file.jsonl")).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/file.jsonl: "), "{missing}");
    }
}
