//! What `dapo train` says of a step that failed.

use crate::talk::Talk;
use crate::terminal::excerpt;
use dapo_run::{OwnKind, Rescue, Run, RunError, RunFolder};
use dapo_trainer::{GroupRecord, TrainerError};

/// An error that names its step itself is said without what failed.
pub(crate) fn once(error: RunError) -> anyhow::Error {
    match error {
        RunError::Step { source, .. } if is_not_finite(&source) => (*source).into(),
        error => error.into(),
    }
}

fn is_not_finite(error: &RunError) -> bool {
    use TrainerError::{Diverged, NotFinite};
    matches!(error, RunError::Trainer(source) if matches!(**source, NotFinite { .. } | Diverged { .. }))
}

/// Says what a failed step leaves behind, and where no group carried a signal, what its completions look like.
pub(crate) fn explain(error: &RunError, run: &Run, talk: Talk) {
    let RunError::Step { step, rescue, dump, source, .. } = error else { return };
    if let RunError::Trainer(source) = &**source
        && let TrainerError::NoSignal(end) = &**source
    {
        show_samples(&end.groups, run, talk);
        if let Some(silent) = silent_judge(&end.groups, run) {
            talk.note(silent);
        } else if !end.is_mastered() {
            advise(&end.groups, run, talk);
        }
        let file = run.folder().completions_file(*step);
        talk.note(format_args!("every completion of step {step}: {}", file.display()));
    }
    if let Some(dump) = dump {
        talk.note(format_args!("what it computed with, sample by sample: {}", dump.display()));
    }
    if is_not_finite(source) {
        let lr = run.config().optimizer.lr;
        talk.note(format_args!(
            "a learning rate that is too high is the usual cause: optimizer.lr is {lr:e}; see grad_norm in {}",
            run.folder().path().join(RunFolder::METRICS).display()
        ));
    }
    let (steps, folder) = (run.trainer().steps(), run.folder().path().display());
    match rescue {
        Rescue::Nothing => {}
        Rescue::Saved(path) => {
            talk.note(format_args!("the {steps} finished steps are saved in {}", path.display()));
            talk.note(format_args!(
                "to continue from there with other settings: dapo train --resume {folder} KEY=VALUE"
            ));
            if matches!(&**source, RunError::Model { .. }) {
                talk.warning(
                    "the saved weights may be what is wrong: move that checkpoint away to resume from an older one",
                );
            }
        }
        Rescue::Torn => {
            talk.note(format_args!(
                "the step failed after an update; `dapo train --resume {folder}` uses the last checkpoint"
            ));
        }
        Rescue::Failed(why) => talk.warning(format_args!("the {steps} finished steps could not be saved: {why}")),
    }
}

/// Three completions with what was extracted from them.
fn show_samples(groups: &[GroupRecord], run: &Run, talk: Talk) {
    let accuracy = run.config().accuracy();
    let firsts = groups.iter().filter_map(|record| Some((record, &record.group.samples.first()?.text)));
    for (record, text) in firsts.take(3) {
        let gold = &record.group.prompt.answer;
        let found = accuracy.grader.answer(text).map_or("no answer found".to_owned(), |found| excerpt(found, 80));
        talk.note(format_args!("  prompt      {}", excerpt(&record.group.prompt.text, 160)));
        talk.note(format_args!("  completion  {}", excerpt(text, 320)));
        talk.note(format_args!("  extracted   {found}"));
        talk.note(format_args!("  gold        {}", excerpt(gold, 80)));
        talk.note("");
    }
}

/// What a reward must say that is to say what is correct, and never did.
fn silent_judge(groups: &[GroupRecord], run: &Run) -> Option<String> {
    let rewards = &run.config().rewards;
    let name = rewards.correct.as_deref()?;
    let form = match &rewards.own.0.get(name)?.kind {
        OwnKind::Command(_) | OwnKind::Url(_) => "reply {\"value\": NUMBER, \"correct\": true or false}",
        OwnKind::Python(_) => "return {\"score\": NUMBER, \"acc\": True or False}",
        OwnKind::Judge(_) | OwnKind::Rule(_) | OwnKind::Code(_) => return None,
    };
    let mut samples = groups.iter().flat_map(|record| &record.group.samples);
    samples.all(|sample| sample.reward.correct.is_none()).then(|| {
        format!(
            "rewards.{name}, which rewards.correct names, never said what is correct: it must {form} for each completion; \
             without rewards.correct, groups are chosen by their total reward"
        )
    })
}

/// What to look at first where no group carries a signal.
fn advise(groups: &[GroupRecord], run: &Run, talk: Talk) {
    let accuracy = run.config().accuracy();
    let samples = || groups.iter().flat_map(|record| &record.group.samples);
    let all = samples().count();
    let truncated = samples().filter(|sample| sample.is_truncated()).count();
    let silent = samples().filter(|sample| accuracy.grader.answer(&sample.text).is_none()).count();
    talk.note(format_args!(
        "of {all} completions, {truncated} were cut off and {silent} have no answer that can be found:"
    ));
    talk.note("  - cut off: raise rollout.max_new_tokens, or ask for shorter answers in data.suffix");
    talk.note("  - no answer, or the wrong part, extracted: set rewards.accuracy.grader, or its profile");
    talk.note("  - otherwise the problems are too hard for the model: easier ones, a larger rollout.group_size");
    talk.note(
        "  `dapo eval --model MODEL --data FILE --completions OUT.jsonl` shows what is extracted from each completion",
    );
}
