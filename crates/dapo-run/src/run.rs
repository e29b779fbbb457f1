//! A run from its first step to its last, with everything it writes on the way.

use crate::best::Scores;
use crate::completions::CompletionLog;
use crate::external::{Externals, faults};
use crate::folder::{Lock, RunFolder};
use crate::guards::{Alarm, Figures, Guards};
use crate::logs::Logs;
use crate::placement::Placed;
use crate::problems::{Folder, ProblemCounts};
use crate::progress::{Mastered, Progress, RunStep};
use crate::ranks::Ranks;
use crate::run_error::{Rescue, RunError, Stage};
use crate::settings::RunConfig;
use crate::trackers::Trackers;
use crate::unanswered::Unanswered;
use crate::watch::Watcher;
use dapo_data::Prompt;
use dapo_eval::{EvalReport, Evaluation, evaluate_together};
use dapo_external::Counters;
use dapo_policy::{GenerationConfig, PolicyError, Purpose, SamplingConfig, StopStrings, StopTokens};
use dapo_reward::RewardSum;
use dapo_trainer::{Activity, NoSignal, StepOutcome, StepTimings, Trainer, TrainerError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// A run in its folder.
#[derive(Debug)]
pub struct Run {
    pub(crate) folder: RunFolder,
    pub(crate) logs: Logs,
    pub(crate) trackers: Trackers,
    /// How good the policies were that were evaluated.
    pub(crate) scores: Scores,
    /// The settings, with the steps that the run makes in `train.steps`.
    pub(crate) config: RunConfig,
    /// The settings as their file has them.
    pub(crate) written: RunConfig,
    /// Of the settings that the run cannot change.
    pub(crate) settings_hash: String,
    pub(crate) trainer: Trainer,
    /// Of the problems to train on.
    pub(crate) data_fingerprint: String,
    pub(crate) validation: Vec<Prompt>,
    /// Of all validation problems, `eval.limit` or not.
    pub(crate) validation_fingerprint: String,
    /// Texts that end a completion of an evaluation.
    pub(crate) eval_stop: StopStrings,
    /// The rewards that are computed elsewhere.
    pub(crate) externals: Externals,
    /// What evaluations are judged by where it is not the trainer's rewards.
    pub(crate) judge: Option<RewardSum>,
    pub(crate) counts: ProblemCounts,
    pub(crate) unreadable: Vec<String>,
    pub(crate) unanswered: Option<Unanswered>,
    pub(crate) folders: Vec<Folder>,
    /// What an adapter's folder names as its model.
    pub(crate) base_model: String,
    pub(crate) placed: Placed,
    pub(crate) guards: Guards,
    /// What the run may need more of than this machine has.
    pub(crate) too_much: Option<String>,
    /// Whether the policy has mastered its data.
    pub(crate) mastered: bool,
    /// Whether an evaluation that was due is missing from the log of a resumed run.
    pub(crate) owes_evaluation: bool,
    /// When the last checkpoint was made, or the run began.
    pub(crate) saved: Instant,
    /// Held for as long as the run is.
    pub(crate) lock: Option<Lock>,
    /// The ranks that train the run together.
    pub(crate) ranks: Ranks,
    pub(crate) watcher: Watcher,
}

/// A line of the evaluations' log.
#[derive(Serialize)]
struct EvaluationLine<'a> {
    /// Steps made before it.
    step: u64,
    #[serde(flatten)]
    report: &'a EvalReport,
}

/// A line of the timings.
#[derive(Serialize)]
struct TimingLine<'a> {
    #[serde(flatten)]
    timings: &'a StepTimings,
    /// The requests for rewards that are computed elsewhere.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rewards: &'a BTreeMap<String, Counters>,
}

impl Run {
    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Where its policy computes.
    pub fn device(&self) -> &Placed {
        &self.placed
    }

    /// The run's settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// How many problems there are, and how many were left out.
    pub fn counts(&self) -> ProblemCounts {
        self.counts
    }

    /// The first gold answers that the grader cannot read, at most three; [`Run::counts`] has their number.
    pub fn unreadable_golds(&self) -> &[String] {
        &self.unreadable
    }

    /// The problems without a gold answer, where a reward may miss it.
    pub fn unanswered(&self) -> Option<&Unanswered> {
        self.unanswered.as_ref()
    }

    /// What the run may need more of than this machine has, in words.
    pub fn too_much(&self) -> Option<&str> {
        self.too_much.as_deref()
    }

    /// The folders of data, with the files that were read.
    pub fn data_folders(&self) -> &[Folder] {
        &self.folders
    }

    /// Shows `observer` what the run is doing from here on.
    pub fn observe(&mut self, observer: impl FnMut(Activity) + Send + 'static) {
        self.watcher = Watcher::new(observer);
    }

    /// Whether all steps are made, or the policy has mastered its data.
    pub fn is_finished(&self) -> bool {
        self.mastered || self.trainer.steps() >= self.config.train.steps
    }

    /// The evaluation that is due before the next step, where evaluations are asked for: at the start of a run unless
    /// `eval.at_start` is off, and when a resumed run's last evaluation failed.
    ///
    /// # Errors
    /// When it fails, or cannot be written.
    pub fn evaluate_at_start(&mut self) -> Result<Option<EvalReport>, RunError> {
        let eval = &self.config.eval;
        let is_due = if self.trainer.steps() == 0 { eval.at_start } else { self.owes_evaluation };
        if eval.every.is_none() || !is_due {
            return Ok(None);
        }
        let report = self.evaluate()?;
        if std::mem::take(&mut self.owes_evaluation) && self.is_scheduled(self.trainer.steps()) {
            self.save()?;
        }
        Ok(report)
    }

    /// A step: trains, logs, and evaluates and writes a checkpoint where these are due. Where the policy has mastered its data,
    /// and the settings say that training then stops, the run is finished instead: evaluated and saved.
    ///
    /// # Errors
    /// [`RunError::Step`] when training fails, or after a finished step its logs, its evaluation or its checkpoint. All
    /// finished steps are then saved in a checkpoint, unless the failed one had made an update already ([`Rescue`]). The
    /// completions of a step in which too few groups carried a signal are written, and of any other failed one all that it
    /// computed with ([`RunFolder::failed_step_file`]).
    pub fn step(&mut self) -> Result<Progress, RunError> {
        let written = self.logs.write_pending();
        self.after(Stage::Logs, written)?;
        let (watcher, ranks) = (&mut self.watcher, &self.ranks);
        let mut observer = |activity| {
            ranks.world().heartbeat();
            watcher.see(activity);
        };
        match self.trainer.step_observed(&mut observer) {
            Ok(outcome) => Ok(Progress::Step(Box::new(self.log(outcome)?))),
            Err(TrainerError::NoSignal(end)) if end.ends_well => {
                self.finish(&end).map(|end| Progress::Mastered(Box::new(end)))
            }
            Err(error) => {
                let are_together = !matches!(error, TrainerError::Dist(_));
                let (rescue, step) = (self.rescue(are_together), self.trainer.steps() + 1);
                let dump = if self.ranks.keeps() { self.log_failed(step, &error) } else { None };
                self.ranks.phase(&format!("{} {step} failed", Stage::Training));
                let error = self.ranks.whose(self.of_model(error));
                Err(self.failed(Stage::Training, step, rescue, dump, error))
            }
        }
    }

    /// Writes what a failed step computed with; gives the file of its own that this has, but for the completions of a step
    /// in which too few groups carried a signal.
    fn log_failed(&mut self, step: u64, error: &TrainerError) -> Option<PathBuf> {
        // What the groups look like is the first thing to be asked; the error matters more than these files.
        let log = CompletionLog::of(&self.trainer, &self.config);
        if let TrainerError::NoSignal(end) = error {
            let lines = log.lines(end.step, &end.groups);
            let _ = self.logs.write_completions(end.step, lines);
            return None;
        }
        self.logs.dump(step, log.failed_lines(step, self.trainer.failed_groups()))
    }

    /// The end of a run that has nothing left to learn.
    fn finish(&mut self, end: &NoSignal) -> Result<Mastered, RunError> {
        let steps = self.trainer.steps();
        let checkpoint = self.save();
        let checkpoint = self.after(Stage::Checkpoint, checkpoint)?;
        let evaluation = self.final_evaluation();
        let evaluation = self.after(Stage::Evaluation, evaluation)?;
        self.mastered = true;
        let marked = if self.ranks.keeps() { self.mark_ended() } else { Ok(()) };
        self.after(Stage::Checkpoint, marked)?;
        Ok(Mastered { steps, outcomes: end.outcomes(), evaluation, checkpoint })
    }

    /// Has the last checkpoint say that the run has ended.
    fn mark_ended(&self) -> Result<(), RunError> {
        let steps = self.trainer.steps();
        self.externals.checkpoint(steps)?;
        self.folder.make_scheduled(steps, self.state(false))
    }

    /// The evaluation of the present policy, where the run evaluates and its log does not have it.
    fn final_evaluation(&mut self) -> Result<Option<EvalReport>, RunError> {
        let is_missing = self.config.eval.every.is_some() && !self.logs.has_evaluation(self.trainer.steps())?;
        if is_missing { self.evaluate() } else { Ok(None) }
    }

    fn failed(&self, stage: Stage, step: u64, rescue: Rescue, dump: Option<PathBuf>, source: RunError) -> RunError {
        RunError::Step { stage, step, steps: self.config.train.steps, rescue, dump, source: Box::new(source) }
    }

    /// An error of the trainer, with the model's name where its numbers are at fault.
    fn of_model(&self, error: TrainerError) -> RunError {
        match error {
            TrainerError::Policy(source @ PolicyError::Logits { .. }) => {
                RunError::Model { model: self.config.model.path.clone(), source: Box::new(source) }
            }
            other => other.into(),
        }
    }

    /// The outcome of what follows a finished step, on all ranks; a failure saves the step first.
    fn after<T>(&mut self, stage: Stage, outcome: Result<T, RunError>) -> Result<T, RunError> {
        self.ranks.phase(&format!("{stage} {}", self.trainer.steps()));
        self.ranks.agree(outcome).map_err(|error| {
            let rescue = self.rescue(!error.is_of_ranks());
            self.failed(stage, self.trainer.steps(), rescue, None, error)
        })
    }

    /// Writes what a step did, evaluates and saves where these are due.
    fn log(&mut self, outcome: StepOutcome) -> Result<RunStep, RunError> {
        let steps = self.trainer.steps();
        let counters = self.externals.take_counters();
        self.ranks.phase(&format!("{} {steps}", Stage::Logs));
        let written = self.externals.collect(&self.ranks).and_then(|()| self.write_logs(&outcome, &counters));
        self.after(Stage::Logs, written)?;
        self.trackers.add_step(steps, &outcome.metrics, &outcome.timings);
        let alarms = self.guards.observe(&Figures::from(&outcome.metrics), &self.config.guards);
        if let Some(Alarm { key, message, .. }) = alarms.iter().find(|alarm| alarm.stops).cloned() {
            return self.after(Stage::Guards, Err(RunError::Guard { key, message }));
        }
        let evaluation = self.is_evaluated(steps).then(|| self.evaluate()).transpose();
        let evaluation = self.after(Stage::Evaluation, evaluation)?.flatten();
        let checkpoint =
            if self.is_scheduled(steps) { Some(self.save()) } else { self.is_due()?.then(|| self.save_unscheduled()) };
        let checkpoint = self.after(Stage::Checkpoint, checkpoint.transpose())?;
        let faults = faults(&counters).into_iter().chain(self.trackers.take_warnings()).collect();
        let StepOutcome { metrics, timings, groups } = outcome;
        Ok(RunStep { metrics, timings, alarms, groups, faults, evaluation, checkpoint })
    }

    fn write_logs(&mut self, outcome: &StepOutcome, rewards: &BTreeMap<String, Counters>) -> Result<(), RunError> {
        let mut completions = Ok(());
        if self.config.output.completions && self.ranks.keeps() {
            let step = outcome.metrics.step;
            let lines = CompletionLog::of(&self.trainer, &self.config).lines(step, &outcome.groups);
            completions = self.logs.write_completions(step, lines);
        }
        // Each is tried: what cannot be written goes into the checkpoint that saves the step.
        let metrics = self.logs.append_or_keep(RunFolder::METRICS, &outcome.metrics);
        let timings = TimingLine { timings: &outcome.timings, rewards };
        let timings = self.logs.append_or_keep(RunFolder::TIMINGS, &timings);
        completions.and(metrics).and(timings)
    }

    /// How many answers of each reward that is computed elsewhere are known from the run folder, and so not asked for again.
    pub fn known_answers(&self) -> impl Iterator<Item = (&str, usize)> {
        self.externals.known_answers()
    }

    /// Whether an evaluation is due after this number of steps.
    pub(crate) fn is_evaluated(&self, steps: u64) -> bool {
        let is_last = steps == self.config.train.steps;
        self.config.eval.every.is_some_and(|every| is_last || steps.is_multiple_of(every))
    }

    /// Whether a checkpoint is due after this number of steps: by the schedule, at the end, or because the policy is the best
    /// so far.
    pub(crate) fn is_scheduled(&self, steps: u64) -> bool {
        let every = self.config.output.checkpoint_every;
        (every > 0 && steps.is_multiple_of(every)) || self.is_finished() || self.scores.is_new_best(steps)
    }

    /// Evaluates the present policy, together. The rank that keeps the run has the report, and the others learn what their
    /// decisions rest on.
    fn evaluate(&mut self) -> Result<Option<EvalReport>, RunError> {
        let steps = self.trainer.steps();
        self.ranks.phase(&format!("{} {steps}", Stage::Evaluation));
        let report = self.report();
        let report = self.ranks.agree(report);
        // Answers that were paid for are kept where the evaluation failed, too.
        if !report.as_ref().is_err_and(RunError::is_of_ranks) {
            self.externals.collect(&self.ranks)?;
        }
        let report = report?;
        let line = report.as_ref().map(|report| EvaluationLine { step: steps, report });
        let file = self.folder.path().join(RunFolder::EVALUATIONS);
        let unwritten = |error: serde_json::Error| RunError::io(&file)(error.into());
        let text = line.as_ref().map(serde_json::to_vec).transpose().map_err(unwritten)?;
        let text = self.ranks.send(text.unwrap_or_default())?;
        if let Some(line) = &line {
            self.logs.append(RunFolder::EVALUATIONS, line)?;
            self.trackers.add_evaluation(steps, line);
            self.scores.add(steps, line)?;
        } else {
            let line = serde_json::from_slice(&text).map_err(unwritten)?;
            self.logs.append(RunFolder::EVALUATIONS, &line)?;
            self.scores.add_line(&line)?;
        }
        Ok(report)
    }

    /// Completes every validation problem `samples` times with the present policy, and judges the completions as the run's
    /// own evaluations do. Nothing is logged. Several ranks divide the problems: each calls it, and has the whole evaluation.
    ///
    /// # Errors
    /// When `sampling` is out of its range, or generating or judging fails, on any rank.
    pub fn evaluate_with(&mut self, samples: usize, sampling: SamplingConfig) -> Result<Evaluation, RunError> {
        let generation = GenerationConfig {
            max_new_tokens: self.config.eval.max_new_tokens.unwrap_or(self.config.rollout.max_new_tokens),
            sampling,
            stop: StopTokens::of(self.trainer.policy().config(), self.trainer.tokenizer()),
            stop_strings: self.eval_stop.clone(),
            seed: self.config.seed,
            purpose: Purpose::Evaluation,
            cache_bytes: self.trainer.config().cache_bytes,
            keep_activations_bytes: 0,
            draft_tokens: self.trainer.config().draft_tokens,
            turns: None,
        };
        let judge = self.judge.as_ref().unwrap_or(self.trainer.rewards());
        let (ranks, watcher) = (&self.ranks, &mut self.watcher);
        let observer = &mut |activity| {
            ranks.world().heartbeat();
            watcher.see(activity);
        };
        evaluate_together(&self.trainer, &self.validation, samples, &generation, judge, observer)
            .map_err(|error| self.of_model(error))
    }

    /// The report of an evaluation, on the rank that keeps the run.
    fn report(&mut self) -> Result<Option<EvalReport>, RunError> {
        let evaluation = self.evaluate_with(self.config.eval.samples, self.config.eval.sampling())?;
        Ok(self.ranks.keeps().then(|| {
            let mut report = evaluation.report(&self.config.accuracy().grader);
            report.per_problem.clear();
            report
        }))
    }
}
