//! Whose settings a file holds, and how they are written down.

use std::path::Path;

use super::{
    command::{self, Further, Invocation},
    entry::Entry,
    error::ImportError,
    format::ConfigFormat,
    python, yaml,
};

/// First words of verl's keys.
const VERL: [&str; 5] = ["actor_rollout_ref", "algorithm", "reward_model", "trainer", "data"];

/// Keys that TRL or open-r1 has and ms-swift has not.
const TRL: [&str; 11] = [
    "model_name_or_path",
    "dataset_name",
    "dataset_mixture",
    "mask_truncated_completions",
    "max_prompt_length",
    "system_prompt",
    "soft_punish_cache",
    "max_completion_len",
    "use_peft",
    "sft_model_path",
    "reward_model_path",
];

/// Keys that ms-swift has and TRL has not.
const SWIFT: [&str; 9] = [
    "rlhf_type",
    "dynamic_sample",
    "max_resample_times",
    "overlong_filter",
    "soft_cache_length",
    "soft_max_length",
    "tuner_type",
    "train_type",
    "lora_rank",
];

/// The file's settings and whose they are.
pub(super) fn read(
    text: &str,
    file: &Path,
    format: Option<ConfigFormat>,
) -> Result<(ConfigFormat, Invocation), ImportError> {
    let invocation = if is_python(file) {
        command::read(&python::commands(text), file, format, Further::LeftOut)?
    } else if is_yaml(text, file) {
        Invocation { entries: yaml::read(text, file)?, ..Invocation::default() }
    } else {
        command::read(text, file, format, Further::Refused)?
    };
    let found = match format.or(invocation.format) {
        Some(format) => format,
        None => from_keys(&invocation.entries, file)?,
    };
    Ok((found, invocation))
}

fn is_python(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "py")
}

fn is_yaml(text: &str, file: &Path) -> bool {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml" | "json") => return true,
        Some("sh" | "bash" | "slurm") => return false,
        _ => {}
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "---");
    let Some(first) = lines.find(|line| !line.starts_with('#')) else { return true };
    let key = first.split(':').next().unwrap_or_default().trim_matches(['"', '\'']);
    let is_key = key.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
    first.starts_with('{') || (first.contains(':') && !key.is_empty() && is_key)
}

fn from_keys(entries: &[Entry], file: &Path) -> Result<ConfigFormat, ImportError> {
    let first = |entry: &Entry| entry.key.split(['.', '[']).next().unwrap_or_default().to_owned();
    let count = |keys: &[&str]| entries.iter().filter(|entry| keys.contains(&first(entry).as_str())).count();
    let nested = |entry: &&Entry| entry.key.contains('.') && VERL.contains(&first(entry).as_str());
    let counts = [
        (ConfigFormat::Verl, entries.iter().filter(nested).count()),
        (ConfigFormat::Trl, count(&TRL)),
        (ConfigFormat::Swift, count(&SWIFT)),
    ];
    let most = counts.iter().map(|&(_, count)| count).max().unwrap_or_default();
    let best: Vec<ConfigFormat> =
        counts.iter().filter(|&&(_, count)| count == most).map(|&(format, _)| format).collect();
    match best.as_slice() {
        [format] if most > 0 => Ok(*format),
        _ => Err(ImportError::Format {
            file: file.to_owned(),
            found: if most == 0 {
                "no key tells whose settings these are".into()
            } else {
                "the keys of two formats in equal number".into()
            },
            looked_for: format!(
                "keys below {} (verl), {} (trl), {} (ms-swift); name the format instead",
                VERL.join(", "),
                TRL.join(", "),
                SWIFT.join(", ")
            ),
        }),
    }
}
