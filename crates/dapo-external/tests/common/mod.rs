//! Children, samples and folders that several tests share.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod server;

use std::fs;
use std::path::{Path, PathBuf};

use dapo_external::{CommandReward, ExternalReward, open};
use dapo_reward::{RewardFn, RewardInput, Score};

/// Answers each sample with its completion as a number, and appends every request to the file `$1`.
pub(crate) const ECHO: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"$1"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  rewards=$(printf '%s' "$line" | grep -o '"completion":"[^"]*"' | sed 's/.*:"\(.*\)"/\1/' | paste -sd, -)
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

/// A command that runs a shell script with these arguments.
pub(crate) fn shell(script: &str, args: &[&Path]) -> CommandReward {
    let mut command: Vec<_> = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    command.extend(args.iter().map(|arg| arg.to_str().unwrap().to_owned()));
    CommandReward { command, timeout_s: 20.0, ..CommandReward::default() }
}

pub(crate) fn open_command(config: CommandReward, dir: &Path) -> ExternalReward {
    open("mine", &config.into(), dir, Some(dir)).unwrap()
}

/// Samples of one draw and step.
pub(crate) fn inputs<'a>(completions: &[&'a str], draw: u64, step: u64) -> Vec<RewardInput<'a>> {
    let input = |(sample, completion): (usize, &&'a str)| {
        RewardInput::new("1+1?", completion, "2").with_num_tokens(3).with_place(draw, sample, step)
    };
    completions.iter().enumerate().map(input).collect()
}

pub(crate) fn values(reward: &ExternalReward, completions: &[&str]) -> Vec<Option<f64>> {
    let scores = reward.score_batch(&inputs(completions, 0, 3)).unwrap();
    scores.into_iter().map(|score: Score| score.value).collect()
}

pub(crate) fn message(reward: &ExternalReward, completions: &[&str]) -> String {
    reward.score_batch(&inputs(completions, 0, 3)).unwrap_err().to_string()
}

/// The completions of every request in the log, one request a row.
pub(crate) fn asked(log: &Path) -> Vec<Vec<String>> {
    let Ok(text) = fs::read_to_string(log) else { return Vec::new() };
    let row = |line: &str| {
        let request: serde_json::Value = serde_json::from_str(line).unwrap();
        let samples = request["samples"].as_array().unwrap();
        samples.iter().map(|sample| sample["completion"].as_str().unwrap().to_owned()).collect()
    };
    text.lines().map(row).collect()
}

pub(crate) fn all_asked(log: &Path) -> Vec<String> {
    let mut all: Vec<_> = asked(log).into_iter().flatten().collect();
    all.sort();
    all
}

pub(crate) fn cache_file(dir: &Path) -> PathBuf {
    dir.join("reward_cache/mine.jsonl")
}
