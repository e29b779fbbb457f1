//! `dapo show`: the completions of a run, readable.

use crate::talk::Talk;
use crate::terminal::{Stdout, columns};
use crate::wrap::{shorten, wrap};
use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use dapo_console::visible;
use dapo_report::{Row, RunCompletions};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use unicode_width::UnicodeWidthStr;

/// Show completions of a run, with what was extracted from them and how they were rewarded.
///
/// Each is shown with its prompt, gold answer, extracted answer, extraction rule, rewards and advantage, and with the
/// outcome of its group. A completion's number is that of its line in completions/step-N.jsonl.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo show runs/mine
  dapo show runs/mine --step 12 --wrong --limit 3
  dapo show runs/mine --truncated --full | less
  dapo show runs/mine --fate trained --json | jq .extracted")]
pub(crate) struct Show {
    /// A run folder; the run may be in progress.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The step [default: the last one that left completions]
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    #[command(flatten)]
    filters: Filters,
    /// How many to show at most, 0 for all [default: 10; with --json all]
    #[arg(long, value_name = "K")]
    limit: Option<usize>,
    /// Show long texts in full.
    #[arg(long)]
    full: bool,
    /// Show only completions logged with their tokens and log-probs (output.token_logprobs), and print
    /// each token with its log-prob.
    #[arg(long)]
    tokens: bool,
    /// Print the lines of the completions file, which are JSON objects.
    #[arg(long, conflicts_with = "full")]
    json: bool,
}

/// Which completions of the step.
#[derive(clap::Args)]
struct Filters {
    /// Only incorrect completions.
    #[arg(long, alias = "incorrect", conflicts_with = "correct")]
    wrong: bool,
    /// Only correct completions.
    #[arg(long)]
    correct: bool,
    /// Only completions that reached the token limit.
    #[arg(long)]
    truncated: bool,
    /// Only completions of groups with this outcome.
    #[arg(long, value_name = "F", value_parser = fates())]
    fate: Option<String>,
    /// Only completions of the prompt with this id.
    #[arg(long, value_name = "ID")]
    prompt: Option<String>,
}

fn fates() -> PossibleValuesParser {
    PossibleValuesParser::new([
        "trained",
        "filled",
        "all_correct",
        "all_wrong",
        "other",
        "discarded",
        "expired",
        "carried_out",
        "kept",
    ])
}

/// Completions that are shown unless `--limit` says how many.
const LIMIT: usize = 10;

pub(crate) fn run(args: &Show, talk: Talk) -> Result<()> {
    let completions = RunCompletions::open(&args.run)?;
    let shown = args.run.display();
    for warning in &completions.warnings {
        talk.warning(warning);
    }
    let Some(step) = args.step.or(completions.last_step()) else { bail!("{shown} holds no completions") };
    let Some(found) = completions.step(step)? else {
        bail!("--step is {step}, expected a step of {shown} that left completions: {}", completions.steps_in_words());
    };
    for warning in &found.warnings {
        talk.warning(warning);
    }
    let total = found.lines.len();
    let mut lines: Vec<_> = found
        .lines
        .iter()
        .filter(|(_, row)| args.filters.take(row) && (!args.tokens || row.contains_key("token_texts")))
        .collect();
    let matching = lines.len();
    match args.limit {
        Some(0) => {}
        None if args.json => {}
        limit => lines.truncate(limit.unwrap_or(LIMIT)),
    }
    if args.json {
        let mut out = BufWriter::new(Stdout::new());
        for (_, row) in lines {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        return Ok(out.flush()?);
    }
    let page = Page { width: columns(), color: talk.colors_stdout(), full: args.full, tokens: args.tokens };
    // Texts are escaped in the page; the colours are its own.
    let mut out = BufWriter::new(io::stdout().lock());
    let count = match (matching == total, lines.len() == matching) {
        (true, true) => String::new(),
        (true, false) => format!(", {} shown", lines.len()),
        (false, true) => format!(", {matching} match"),
        (false, false) => format!(", {matching} match, {} shown", lines.len()),
    };
    writeln!(out, "step {step}: {total} completions{count}")?;
    if args.tokens {
        writeln!(out, "{}", wrap(LEGEND, page.width).join("\n"))?;
    }
    for (number, row) in lines {
        write!(out, "\n{}", page.completion(*number, row))?;
    }
    Ok(out.flush()?)
}

impl Filters {
    fn take(&self, row: &Row) -> bool {
        let text = |key: &str| row.get(key).and_then(Value::as_str);
        let correct = row.get("correct").and_then(Value::as_bool);
        (!self.wrong || correct == Some(false))
            && (!self.correct || correct == Some(true))
            && (!self.truncated || text("finish_reason") == Some("length"))
            && self.fate.as_deref().is_none_or(|fate| text("fate") == Some(fate))
            && self.prompt.as_deref().is_none_or(|id| text("prompt_id") == Some(id))
    }
}

/// How completions are written.
struct Page {
    /// Columns of the terminal; `None` where the output is none.
    width: Option<usize>,
    color: bool,
    full: bool,
    tokens: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Columns of the names before the texts.
const INDENT: usize = 14;

/// What is shown in places of its own, or says nothing to a reader.
const KNOWN: [&str; 21] = [
    "step",
    "prompt_id",
    "draw",
    "sample",
    "prompt",
    "completion",
    "answer",
    "alternatives",
    "extracted",
    "rule",
    "tokens",
    "finish_reason",
    "rewards",
    "reward",
    "correct",
    "advantage",
    "in_loss",
    "fate",
    "age",
    "token_texts",
    "token_logprobs",
];

impl Page {
    /// A completion, as lines.
    fn completion(&self, number: usize, row: &Row) -> String {
        let text = |key: &str| row.get(key).and_then(Value::as_str);
        let mut shown = self.head(number, row);
        self.part(&mut shown, "prompt", &self.cut(text("prompt").unwrap_or("").trim_end(), 200, 400), "");
        self.part(&mut shown, "completion", &self.cut(text("completion").unwrap_or(""), 500, 1000), "");
        if self.tokens && row.contains_key("token_texts") {
            self.tokens(&mut shown, row);
        }
        if row.contains_key("answer") {
            self.part(&mut shown, "gold", &gold(row), "");
        }
        if row.contains_key("extracted") {
            let style = style_of(row.get("correct"));
            let rule = text("rule").map(|rule| format!(" (by {rule})")).unwrap_or_default();
            let found = text("extracted").map_or("–".to_owned(), |found| self.cut(found, 200, 200) + &rule);
            self.part(&mut shown, "extracted", &found, style);
        }
        let rewards = row.get("rewards").and_then(Value::as_object).into_iter().flatten();
        let rewards: Vec<_> = rewards.map(|(name, value)| format!("{name} {}", number_of(value))).collect();
        self.part(&mut shown, "rewards", &rewards.join(", "), "");
        if let Some(advantage) = row.get("advantage") {
            self.part(&mut shown, "advantage", &number_of(advantage), "");
        }
        // What a file has beyond that, as other versions may write it.
        for (name, value) in row.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.part(&mut shown, name, &self.cut(&value, 200, 200), "");
        }
        shown
    }

    fn head(&self, number: usize, row: &Row) -> String {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("–");
        let correct = row.get("correct");
        let verdict = match correct.and_then(Value::as_bool) {
            Some(true) => "correct",
            Some(false) => "incorrect",
            None => "not judged",
        };
        let reward = row.get("reward").map_or("–".to_owned(), number_of);
        let tokens = row.get("tokens").map_or("–".to_owned(), number_of);
        let ended = match text("finish_reason") {
            "length" => (format!("{tokens} tokens, truncated"), YELLOW),
            reason => (format!("{tokens} tokens, ended by {reason}"), ""),
        };
        let fate = text("fate").replace('_', " ");
        let age = match row.get("age").and_then(Value::as_u64) {
            None | Some(0) => String::new(),
            Some(1) => ", generated 1 step earlier".to_owned(),
            Some(age) => format!(", generated {age} steps earlier"),
        };
        let in_loss = match row.get("in_loss").and_then(Value::as_bool) {
            Some(true) => ", in the loss",
            _ if matches!(text("fate"), "trained" | "filled") => ", not in the loss",
            _ => "",
        };
        let parts = [
            (format!("#{number}"), BOLD),
            (verdict.to_owned(), style_of(correct)),
            (format!("reward {reward}"), ""),
            (format!("{fate}{in_loss}{age}"), ""),
            ended,
            (format!("prompt {}", text("prompt_id")), DIM),
        ];
        let parts = parts.map(|(text, style)| (self.cut(&text, 60, 60), style));
        self.flow(&parts, 0, 2)
    }

    /// Parts beside each other, and in further lines from column `indent` on where they do not fit; the first one starts at
    /// `start`.
    fn flow(&self, parts: &[(String, &str)], start: usize, indent: usize) -> String {
        let (mut shown, mut columns) = (String::new(), start);
        let width = self.width.map(|width| width.saturating_sub(indent).max(10));
        for (text, style) in parts {
            for text in wrap(&visible(text), width) {
                let wide = text.width();
                if columns > start || !shown.is_empty() {
                    let fits = self.width.is_none_or(|width| columns + 2 + wide <= width);
                    let _ = if fits { write!(shown, "  ") } else { write!(shown, "\n{:indent$}", "") };
                    columns = if fits { columns + 2 } else { indent };
                }
                shown.push_str(&self.styled(&text, style));
                columns += wide;
            }
        }
        shown.push('\n');
        shown
    }

    /// The tokens with their log-probs.
    fn tokens(&self, shown: &mut String, row: &Row) {
        let list = |key: &str| row.get(key).and_then(Value::as_array).into_iter().flatten();
        let tokens = list("token_texts").zip(list("token_logprobs"));
        let cells = tokens.map(|(text, logprob)| {
            // On one line, with every space visible.
            let text = format!("{:?}", text.as_str().unwrap_or_default()).replace("\\u{1b}", "\\x1b");
            let logprob = logprob.as_f64();
            let number = logprob.map_or("–".to_owned(), |logprob| format!("{logprob:.2}"));
            (format!("{text} {number}"), logprob.map_or("", style_of_token))
        });
        let cells: Vec<_> = cells.collect();
        let name = self.styled(&format!("  {:<1$}", "tokens", INDENT - 2), DIM);
        let _ = write!(shown, "{name}{}", self.flow(&cells, INDENT, INDENT));
    }

    /// A text behind its name, or below it where the name is long.
    fn part(&self, shown: &mut String, name: &str, text: &str, style: &str) {
        let columns = |indent: usize| self.width.map(|width| width.saturating_sub(indent).max(10));
        let mut names = wrap(&visible(&self.cut(name, 60, 60)), columns(2));
        let beside = if names.len() == 1 && names[0].width() + 3 < INDENT { names.pop() } else { None };
        for name in names {
            let _ = writeln!(shown, "  {}", self.styled(&name, DIM));
        }
        let mut name = beside.unwrap_or_default();
        for line in wrap(&visible(text), columns(INDENT)) {
            let name = self.styled(&format!("  {:<1$}", std::mem::take(&mut name), INDENT - 2), DIM);
            let line = format!("{name}{}", self.styled(&line, style));
            let _ = writeln!(shown, "{}", line.trim_end());
        }
    }

    fn cut(&self, text: &str, head: usize, tail: usize) -> String {
        if self.full { text.to_owned() } else { shorten(text, head, tail) }
    }

    fn styled(&self, text: &str, style: &str) -> String {
        if self.color && !style.is_empty() && !text.trim().is_empty() {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn style_of(correct: Option<&Value>) -> &'static str {
    match correct.and_then(Value::as_bool) {
        Some(true) => GREEN,
        Some(false) => RED,
        None => "",
    }
}

/// The colour of a token by its log-prob.
fn style_of_token(logprob: f64) -> &'static str {
    match logprob.exp() {
        0.9.. => "",
        0.5.. => CYAN,
        0.1.. => YELLOW,
        _ => RED,
    }
}

/// What the colours of tokens mean.
const LEGEND: &str =
    "tokens with their log-probs in the rollout; probability below 0.9 cyan, below 0.5 yellow, below 0.1 red";

/// The gold answers: any one is enough.
fn gold(row: &Row) -> String {
    let others = row.get("alternatives").and_then(Value::as_array).into_iter().flatten();
    let all: Vec<_> = row.get("answer").into_iter().chain(others).filter_map(Value::as_str).collect();
    if all.is_empty() { "–".to_owned() } else { all.join(" or ") }
}

/// A number with four significant digits at most; anything else as JSON.
fn number_of(value: &Value) -> String {
    match value.as_f64() {
        _ if value.is_null() => "–".to_owned(),
        Some(number) if value.is_f64() && number != 0.0 && number.abs() < 1e-4 => format!("{number:.2e}"),
        Some(number) if value.is_f64() && number.fract() != 0.0 => {
            let digits = (3.0 - number.abs().log10().floor()).clamp(0.0, 8.0) as usize;
            let text = format!("{number:.digits$}");
            if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
        }
        Some(number) if value.is_f64() => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Page, number_of};
    use serde_json::json;
    use unicode_width::UnicodeWidthStr;

    const PLAIN: Page = Page { width: None, color: false, full: false, tokens: true };

    fn shown(page: &Page, row: &serde_json::Value) -> String {
        page.completion(7, row.as_object().unwrap())
    }

    #[test]
    fn a_completion_explains_itself() {
        let row = json!({
            "step": 2, "prompt_id": "p1", "prompt": "17+4=", "completion": "It is\n#### 22", "answer": "21",
            "alternatives": ["21.0"], "extracted": "22", "rule": "hash", "tokens": 5, "finish_reason": "length",
            "rewards": {"accuracy": -1.0, "length": null}, "reward": -1.0, "correct": false, "advantage": -0.577_350_3,
            "in_loss": false, "fate": "trained", "age": 2, "own": {"x": 1}, "token_texts": ["It", " is", "\n#"],
            "token_logprobs": [-0.001, -2.5, null],
        });
        let expected = "\
#7  incorrect  reward -1  trained, not in the loss, generated 2 steps earlier  5 tokens, truncated  prompt p1
  prompt      17+4=
  completion  It is
              #### 22
  tokens      \"It\" -0.00  \" is\" -2.50  \"\\n#\" –
  gold        21 or 21.0
  extracted   22 (by hash)
  rewards     accuracy -1, length –
  advantage   -0.5774
  own         {\"x\":1}
";
        assert_eq!(shown(&PLAIN, &row), expected);
    }

    #[test]
    fn lines_of_older_and_damaged_runs_are_shown_too() {
        let text = shown(&PLAIN, &json!({ "completion": 5, "correct": "no" }));
        assert_eq!(
            text,
            "#7  not judged  reward –  –  – tokens, ended by –  prompt –\n  prompt\n  completion\n  rewards\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_controls_it() {
        let evil = "\u{1b}[2J\u{202e}\r".repeat(5_000) + &"word ".repeat(5_000);
        let row = json!({ "prompt": evil, "completion": evil, "extracted": evil, "rule": evil, "fate": evil, evil.clone(): evil,
            "token_texts": [evil, "\u{1b}[2J"], "token_logprobs": [-0.5, -0.2] });
        for width in [40, 80, 200] {
            for full in [true, false] {
                let page = Page { width: Some(width), color: true, full, tokens: true };
                let text = shown(&page, &row);
                let plain = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"]
                    .iter()
                    .fold(text, |text, code| text.replace(code, ""));
                assert!(!plain.chars().any(|c| c.is_control() && c != '\n'), "{full}");
                let name = plain.lines().map(UnicodeWidthStr::width).filter(|columns| *columns > width).count();
                assert_eq!(name, 0, "{width}");
            }
        }
    }

    #[test]
    fn numbers_have_four_digits() {
        for (value, text) in [
            (json!(0.123_456), "0.1235"),
            (json!(-1.0), "-1"),
            (json!(12345), "12345"),
            (json!(1.0e-20), "1.00e-20"),
            (json!(1234.56), "1235"),
            (json!(null), "–"),
            (json!("x"), "\"x\""),
        ] {
            assert_eq!(number_of(&value), text);
        }
    }
}
