//! What `dapo train` says before it trains.

use crate::args::{say_unanswered, say_where, warn_if_none};
use crate::talk::Talk;
use crate::terminal::excerpt;
use dapo_policy::StopTokens;
use dapo_run::{Folder, ProblemCounts, Run, RunConfig, Unanswered};
use std::path::Path;

/// Says what is trained, on what, and what may not be as meant.
pub(super) fn announce(run: &Run, dir: &Path, talk: Talk) {
    let (config, counts) = (run.config(), run.counts());
    let policy = run.trainer().policy();
    talk.note(format_args!(
        "{}: {:.2} M trainable parameters, into {}",
        config.model.path,
        policy.num_parameters() as f64 / 1e6,
        dir.display()
    ));
    let left_out = [(counts.duplicates, "duplicates"), (counts.too_long, "too long")];
    let left_out: Vec<String> =
        left_out.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {}", left_out.join(", ")) };
    let source = source_of_validation(config);
    talk.note(format_args!(
        "{} problems to train on, {} for evaluation{source}{left_out}",
        counts.train, counts.validation
    ));
    say_of_data(counts, run.data_folders(), run.unanswered(), talk);
    if counts.conflicting > 0 {
        talk.warning(format_args!(
            "{} duplicates have another answer than the problem that was kept",
            counts.conflicting
        ));
    }
    if counts.unreadable > 0 {
        let examples: Vec<String> =
            run.unreadable_golds().iter().map(|gold| format!("{:?}", excerpt(gold, 60))).collect();
        talk.warning(format_args!(
            "the grader cannot read {} of {} gold answers, such as {}: completions count as correct only with the same text, \
             and are left out of their group otherwise (rewards.accuracy.grader = \"text\" compares texts)",
            counts.unreadable,
            counts.train + counts.validation,
            examples.join(", ")
        ));
    }
    if let Some(too_much) = run.too_much() {
        talk.warning(too_much);
    }
    warn_if_none(&StopTokens::of(policy.config(), run.trainer().tokenizer()), talk);
    say_where(run.device(), talk);
    let made = run.trainer().steps();
    if made > 0 {
        talk.note(format_args!("continuing after step {made}"));
    }
}

/// From where the problems for evaluation are.
fn source_of_validation(config: &RunConfig) -> String {
    let name = |name: &String| match Path::new(name).file_name() {
        Some(file) if !name.starts_with("hf://") => file.to_string_lossy().into_owned(),
        _ => name.clone(),
    };
    let mut sources: Vec<String> = config.data.validation.iter().map(name).collect();
    if config.data.validation_split > 0.0 {
        sources.push("data.validation_split".to_owned());
    }
    if sources.is_empty() { String::new() } else { format!(" from {}", sources.join(" and ")) }
}

/// Says which files of folders were read, which entries were left out or have no answer, and which problems are on both
/// sides.
pub(super) fn say_of_data(counts: ProblemCounts, folders: &[Folder], unanswered: Option<&Unanswered>, talk: Talk) {
    for Folder { name, files } in folders {
        talk.note(format_args!("{name}: {}", files.join(", ")));
    }
    if counts.left_out.total() > 0 {
        talk.note(format_args!("{} entries of the data left out: {}", counts.left_out.total(), counts.left_out));
    }
    if let Some(found) = unanswered {
        say_unanswered(found, "where they have one, data.fields.answer names its column", talk);
    }
    if counts.overlap > 0 {
        talk.note(format_args!(
            "{} of {} problems for evaluation are also trained on",
            counts.overlap, counts.validation
        ));
    }
}

/// Says from where a run continues, and which answers of rewards are known.
pub(super) fn say_what_is_resumed(run: &Run, from_step: Option<u64>, talk: Talk) {
    if run.trainer().steps() == 0 {
        let why = if from_step.is_some() { "from step 0" } else { "there is no checkpoint yet" };
        talk.note(format_args!("{why}: starting again"));
    }
    for (name, answers) in run.known_answers().filter(|(_, answers)| *answers > 0) {
        talk.note(format_args!(
            "rewards.{name}: {answers} answers are known from reward_cache/{name}.jsonl and not asked for again; if the \
             reward has changed, remove that file first"
        ));
    }
}
