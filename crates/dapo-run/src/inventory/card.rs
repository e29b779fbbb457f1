//! The model card of an exported model: `README.md` with metadata, as the Hugging Face hub reads them.
//!
//! It names models, data and files by their last names alone: where they were on the machine that trained is nobody's
//! business.

use super::files::{Line, RunFiles, step};
use crate::folder::RunFolder;
use crate::keys::keys;
use crate::model::TINY;
use dapo_trainer::step_of_name;
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The card of a model that was exported under a name. `model` is what was exported: where it is a run or one of its
/// checkpoints, the card says how it was trained and what its evaluations came to.
pub fn model_card(model: &str, name: &str) -> String {
    let trained = Trained::find(Path::new(model));
    let base = trained.as_ref().map_or_else(|| label(model), Trained::base);
    let mut card = metadata(trained.as_ref(), name, &base);
    let title = line_of(name);
    // Writing to a string cannot fail.
    let _ = writeln!(card, "\n# {title}\n");
    match &trained {
        Some(trained) => trained.describe(&mut card, &base),
        None => {
            let _ =
                writeln!(card, "Exported from {} by [dapo](https://arxiv.org/abs/2503.14476) {VERSION}.", code(&base));
        }
    }
    card += LOADING;
    card
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

const LOADING: &str = r#"
## How to load it

In this folder, with transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
messages = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=256)[0]))
```

or `vllm serve .`, or `dapo chat --model .`.
"#;

/// A checkpoint of a run.
struct Trained {
    files: RunFiles,
    steps: u64,
}

impl Trained {
    /// The run and checkpoint that a path is in.
    fn find(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let run = path.ancestors().take(4).find(|dir| dir.join(RunFolder::CONFIG).is_file())?;
        let folder = RunFolder::at(run);
        let steps = match path.strip_prefix(run.join(RunFolder::CHECKPOINTS)) {
            Ok(inside) => step_of_name(inside.iter().next()?.to_str()?)?,
            Err(_) => folder.last_checkpoint().ok()??.0,
        };
        Some(Self { files: RunFiles::read(&folder), steps })
    }

    fn base(&self) -> String {
        self.files.setting("model.path").map_or_else(|| "unknown".into(), label)
    }

    /// The values of a list of strings.
    fn list(&self, key: &str) -> Vec<String> {
        let value = self.files.settings.get(key).and_then(|text| parsed(text));
        let texts = |values: &Vec<toml::Value>| values.iter().filter_map(toml::Value::as_str).map(label).collect();
        value.as_ref().and_then(toml::Value::as_array).map(texts).unwrap_or_default()
    }

    /// The evaluation of this checkpoint.
    fn evaluation(&self) -> Option<&Line> {
        self.files.evaluations.iter().rev().find(|line| step(line) == Some(self.steps))
    }

    fn describe(&self, card: &mut String, base: &str) {
        let _ = writeln!(
            card,
            "{} trained with [DAPO](https://arxiv.org/abs/2503.14476) by dapo {VERSION}, after {} steps.\n",
            code(base),
            self.steps
        );
        let _ = writeln!(card, "| | |\n|---|---|\n| base model | {} |", code(base));
        for (name, key) in [("training data", "data.train"), ("validation data", "data.validation")] {
            let names: Vec<String> = self.list(key).iter().map(|name| code(name)).collect();
            if !names.is_empty() {
                let _ = writeln!(card, "| {name} | {} |", names.join(", "));
            }
        }
        let tokens = self.files.metrics.iter().find(|line| step(line) == Some(self.steps));
        if let Some(tokens) = tokens.and_then(|line| line.get("num_tokens")?.as_u64()) {
            let _ = writeln!(card, "| generated tokens | {tokens} |");
        }
        card.push_str("\n## Results\n\n");
        match self.evaluation() {
            Some(line) => results(card, line),
            None => card.push_str("This checkpoint was not evaluated.\n"),
        }
        card.push_str("\n## Settings\n\nThose that are not the defaults:\n\n```toml\n");
        for (key, value) in self.changed() {
            let _ = writeln!(card, "{key} = {value}");
        }
        card.push_str("```\n");
    }

    /// The settings that are not the defaults, but those of rewards of one's own, which may hold addresses and commands.
    fn changed(&self) -> Vec<(&'static str, String)> {
        let setting = |(key, text): (&'static str, &String)| {
            let value = parsed(text)?;
            let default = key_default(key).and_then(|default| parsed(&default));
            (default.as_ref() != Some(&value)).then(|| (key, without_paths(value).to_string()))
        };
        let known = |key: &'static str| Some((key, self.files.settings.get(key)?));
        keys().iter().filter_map(|key| known(&key.path)).filter_map(setting).collect()
    }
}

fn key_default(path: &str) -> Option<String> {
    keys().iter().find(|key| key.path == path)?.default.clone()
}

/// A TOML value.
fn parsed(text: &str) -> Option<toml::Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// A value whose paths are the last names alone.
fn without_paths(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) if Path::new(&text).is_absolute() => label(&text).into(),
        toml::Value::Array(values) => values.into_iter().map(without_paths).collect::<Vec<_>>().into(),
        value => value,
    }
}

/// The name of a model or of data: what leads to it anywhere, such as a hub's id, or a file's last name.
fn label(name: &str) -> String {
    let path = Path::new(name);
    if !path.is_absolute() && (is_hub_id(name) || name.contains("://") || name.starts_with("builtin:")) {
        return name.to_owned();
    }
    let last = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let checkpoint = path.ancestors().find(|dir| step_of_name(&last(dir)).is_some());
    match checkpoint.and_then(|dir| Some((dir, dir.parent()?.parent()?))) {
        Some((checkpoint, run)) if !last(run).is_empty() => format!("{}, {}", last(run), last(checkpoint)),
        // `.` and `..` have no name of their own.
        _ if last(path).is_empty() => {
            path.canonicalize().map_or_else(|_| "unnamed".into(), |whole: PathBuf| last(&whole))
        }
        _ => last(path),
    }
}

/// Whether a name is `ORG/NAME`, and no file.
fn is_hub_id(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let (org, rest) = name.split_once('/').unwrap_or_default();
    is_part(org) && is_part(rest) && !Path::new(name).exists()
}

/// The front matter. JSON's strings are YAML's.
fn metadata(trained: Option<&Trained>, name: &str, base: &str) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = String::from("---\nlibrary_name: transformers\npipeline_tag: text-generation\n");
    if base != TINY && is_hub_id(base) {
        let _ = writeln!(text, "base_model: {}", quoted(base));
    }
    text += "tags:\n- dapo\n- reinforcement-learning\n";
    let Some(trained) = trained else { return text + "---\n" };
    let hub = |name: &String| {
        name.strip_prefix("hf://datasets/").map(|id| id.split('/').take(2).collect::<Vec<_>>().join("/"))
    };
    let mut datasets: Vec<String> = trained.list("data.train").iter().filter_map(hub).collect();
    datasets.dedup();
    if !datasets.is_empty() {
        text += "datasets:\n";
        for id in &datasets {
            let _ = writeln!(text, "- {}", quoted(id));
        }
    }
    if let Some(line) = trained.evaluation() {
        let data = trained.list("data.validation").join(", ");
        let data = if data.is_empty() { "validation split".to_owned() } else { data };
        let _ = writeln!(
            text,
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-generation",
            quoted(name)
        );
        let _ = writeln!(text, "    dataset:\n      name: {0}\n      type: {0}\n    metrics:", quoted(&data));
        for (figure, mean, _) in figures(line) {
            let _ = writeln!(text, "    - type: {0}\n      name: {0}\n      value: {mean}", quoted(&figure));
        }
    }
    text + "---\n"
}

/// The figures of an evaluation that have intervals: avg@k, pass@k, maj@k and rewards.
fn figures(line: &Line) -> Vec<(String, f64, [f64; 2])> {
    let k = line.get("samples").and_then(Value::as_u64).unwrap_or(0);
    let found = crate::figures::of_evaluation(line);
    let value = |name: &str| found.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
    let shown = |name: &str| {
        let plain = name.strip_prefix(crate::figures::EVAL).unwrap_or(name);
        match plain.strip_suffix("_at_k") {
            Some(figure) => format!("{figure}@{k}"),
            None => plain.replace("pass_at_", "pass@"),
        }
    };
    let with_ends = |(name, mean): &(String, f64)| {
        Some((shown(name), *mean, [value(&format!("{name}/low"))?, value(&format!("{name}/high"))?]))
    };
    // Of one completion each, all three are the same.
    let is_repeated = |name: &str| k == 1 && ["eval/pass_at_1", "eval/maj_at_k"].contains(&name);
    found.iter().filter(|(name, _)| !is_repeated(name)).filter_map(with_ends).collect()
}

fn results(card: &mut String, line: &Line) {
    let count = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(card, "{} problems, {} completions each:\n", count("problems"), count("samples"));
    card.push_str("| figure | mean | 95 % interval |\n|---|---|---|\n");
    for (figure, mean, [low, high]) in figures(line) {
        let _ = writeln!(card, "| {} | {mean:.4} | {low:.4} to {high:.4} |", figure.replace('|', "\\|"));
    }
}

/// Text on one line.
fn line_of(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Text in a cell that is shown as it is.
fn code(text: &str) -> String {
    format!("`{}`", line_of(text).replace('`', "'").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_say_where_files_were() {
        for (name, expected) in [
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
            ("builtin:tiny", "builtin:tiny"),
            ("hf://datasets/openai/gsm8k/train.parquet", "hf://datasets/openai/gsm8k/train.parquet"),
            ("/home/me/models/mine", "mine"),
            ("/home/me/data/train.jsonl", "train.jsonl"),
            ("/home/me/runs/first/checkpoints/step-50/model", "first, step-50"),
            ("../../me/some.gguf", "some.gguf"),
        ] {
            assert_eq!(label(name), expected);
        }
        let value = parsed("[\"/home/me/a.jsonl\", \"b\", 3]").map(without_paths);
        assert_eq!(value.map(|value| value.to_string()).as_deref(), Some("[\"a.jsonl\", \"b\", 3]"));
        assert_eq!(code("a`b|c\n"), "`a'b\\|c `");
    }
}
